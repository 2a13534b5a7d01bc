"""The encoder-decoder: Vaswani et al. 2017; T5 (Raffel et al. 2020, 2.1)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import masks
from models.block import Branches, Context, empty_cache
from models.config import TransformerConfig
from models.embed import Embed
from models.heads import Classes, Pooler, Values, Vocabulary, last
from models.stack import Stack, places_of, repeated


class EncoderDecoder(nn.Module):
  """Reads a source, predicts a target.

  Dropout acts only if `apply` has a 'dropout' rng. Segments number the examples
  packed into a row from 1; 0 is padding.

  With `model.shared_stacks` (T5, 3.2.2) the encoder is the decoder without its
  cross-attention: 'decoder' has the weights of both. As in T5's published code
  (bi_v1_shared.gin) they share the table of the relative bias too, of which the
  encoder reads buckets of both directions, and the decoder of one.
  """

  config: TransformerConfig
  loss_chunk: int = 0  # not 0: logits of many tokens are `ChunkedLogits`

  @property
  def INPUTS(self) -> tuple[str, ...]:
    """The arrays of a batch that the model reads."""
    names = ('encoder_inputs', 'inputs', 'encoder_segments', 'segments')
    if self.config.reads_positions:
      names += ('encoder_positions', 'positions')
    return names

  def setup(self):
    c = self.config
    self.embed = Embed(c)
    if not c.shared_stacks:
      self.encoder = Stack(c, c.encoder_layers, causal=False)
    self.decoder = Stack(c, c.decoder_layers, causal=True, cross=True)
    if c.head == 'sequence':
      if c.pooler:
        self.pooler = Pooler(c, dropout=True)
      self.classes = Classes(c, c.classes or 1)
    else:
      self.vocabulary = Vocabulary(c, self.loss_chunk)
    if c.head == 'lm_value':
      self.value = Values()

  def __call__(
    self,
    encoder_inputs: jax.Array,
    inputs: jax.Array,
    encoder_segments: jax.Array,
    segments: jax.Array,
    encoder_positions: jax.Array | None = None,
    positions: jax.Array | None = None,
  ) -> jax.Array | dict[str, jax.Array]:
    """int [B,S], [B,T] and so on -> logits, float32 [B,T,V].

    `inputs` are the targets shifted right, so that token t is predicted from
    those before it. Without positions, the row's first token has position 0.
    With the head lm_value it is a dict of 'logits' and of 'values' [B,T], what
    the tokens after each place are expected to bring (PPO). With the head
    'sequence' the result is float32 [B,C], at the last token of the decoder's
    row; `model.pooler` puts a dense layer and tanh before, as transformers'
    T5ForSequenceClassification has them.
    """
    encoded = self.encode(encoder_inputs, encoder_segments, encoder_positions)
    context = Context(
      seen=masks.Rules(segments, segments, causal=True),
      positions=positions,
      source=encoded,
      source_seen=masks.Rules(segments, encoder_segments),
    )
    x, _ = self.decoder(self.embed(inputs, positions), context)
    if self.config.head == 'sequence':
      x = last(x, segments)
      return self.classes(self.pooler(x[:, None]) if self.config.pooler else x)
    logits = self.vocabulary(x, self.embed.table)
    if self.config.head == 'lm_value':
      return {'logits': logits, 'values': self.value(x)}
    return logits

  def encode(
    self,
    encoder_inputs: jax.Array,
    encoder_segments: jax.Array,
    encoder_positions: jax.Array | None = None,
  ) -> jax.Array:
    """int [B,S] each -> [B,S,D]."""
    rules = masks.Rules(encoder_segments, encoder_segments)
    context = Context(seen=rules, positions=encoder_positions)
    x = self.embed(encoder_inputs, encoder_positions)
    if self.config.shared_stacks:
      return self.decoder(x, context, encodes=True)[0]
    return self.encoder(x, context)[0]

  def start_cache(self, batch: int, length: int) -> dict:
    """An empty cache for `batch` rows of `length` target tokens."""
    c = self.config
    return repeated(c, c.decoder_layers, empty_cache(c, batch, length))

  def decode_step(
    self,
    tokens: jax.Array,
    cache: dict,
    index: jax.Array,
    encoder_segments: jax.Array,
    encoded: jax.Array | None = None,
    branches: Branches | None = None,
  ) -> tuple[jax.Array, dict]:
    """Reads further tokens of the target, usually one.

    Args:
      tokens: int [B,T], the tokens from `index` on (the start token is at 0).
      cache: from the step before, or from `start_cache`.
      index: int, the position of the first of `tokens`.
      encoder_segments: int [B,S], above 0 where the source has a token.
      encoded: [B,S,D] from `encode`, for the first step, which keeps its keys
        and values in the cache; later steps leave it out.
      branches: `tokens` are the next ones of T texts, not of one.

    Returns:
      Logits of the next token after each, float32 [B,T,V], and the new cache.
    """
    if branches is not None:
      positions, _, seen = branches
    else:
      positions = index + jnp.arange(tokens.shape[1])
      seen = (jnp.arange(places_of(cache)) <= positions[:, None])[None]
    context = Context(
      seen=seen,
      positions=positions[None],
      source=encoded,
      source_seen=masks.padding(encoder_segments),
      index=index,
      branches=branches,
    )
    x = self.embed(tokens, positions[None])
    x, cache = self.decoder(x, context, cache)
    few = branches is not None or x.shape[1] == 1
    return self.vocabulary(x, self.embed.table, few), cache

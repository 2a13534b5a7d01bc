"""The decoder: GPT (Radford et al. 2018) and all that followed it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import masks
from models.block import Branches, Context, empty_cache
from models.config import TransformerConfig
from models.embed import Embed
from models.heads import Classes, Values, Vocabulary, last
from models.lstm import BiLstm
from models.stack import Stack, places_of, repeated


class Decoder(nn.Module):
  """Predicts each token from the tokens before it.

  Dropout acts only if `apply` has a 'dropout' rng. Segments number the examples
  packed into a row from 1; 0 is padding.
  """

  config: TransformerConfig
  loss_chunk: int = 0  # not 0: logits of many tokens are `ChunkedLogits`

  @property
  def INPUTS(self) -> tuple[str, ...]:
    """The arrays of a batch that the model reads."""
    c = self.config
    positions = ('positions',) if c.reads_positions else ()
    return (
      'inputs',
      'segments',
      *positions,
      *(('prefix',) if c.prefix else ()),
    )

  def setup(self):
    c = self.config
    self.embed = Embed(c)
    causal = not c.prefix or c.causal_bias
    self.decoder = Stack(c, c.decoder_layers, causal=causal)
    if c.head in ('lm', 'lm_value', 'sequence_lm'):
      self.vocabulary = Vocabulary(c, self.loss_chunk)
    if c.features:  # the last layer alone
      self.lstm = BiLstm(c.embed_dim)
    if c.head == 'span':
      self.span = Classes(c, 2, dropout=False)
    elif c.head == 'lm_value':
      self.value = Values()
    elif c.head != 'lm':
      # GPT-1's published code has a bias; those that came later have none.
      self.classes = Classes(c, c.classes or 1, bias=c.head == 'sequence_lm')

  def __call__(
    self,
    inputs: jax.Array,
    segments: jax.Array,
    positions: jax.Array | None = None,
    prefix: jax.Array | None = None,
  ) -> jax.Array | dict[str, jax.Array]:
    """int [B,T] each -> float32.

    With `model.input_dim` the inputs are vectors, float32 [B,T,input_dim].

    With the heads sequence and sequence_lm, int [B,2,T] are two texts an
    example: their last vectors are added before the classes (Radford et al.
    2018, 3.3: a pair in both orders), and B above counts the texts of 'logits'.

    With `model.prefix` all of a segment sees the positions where `prefix` is 1
    (T5, Raffel et al. 2020, 3.2.1); no `prefix` means none. The relative bias
    then has buckets of both directions (T5's), or with `model.causal_bias` the
    buckets of a model without prefix: this is that model with another mask
    (Wang et al. 2022).

    Returns:
      By `model.head`: lm: logits [B,T,V]. lm_value: a dict of them, 'logits',
      and of 'values' [B,T], what the tokens after each place are expected to
      bring (PPO). tokens: classes [B,T,C]. sequence:
      classes [B,C], at the last token of each row; choice: the same, of one
      class. sequence_lm: a dict of both 'classes' [B,C] and 'logits' [B,T,V]
      (GPT-1: Radford et al. 2018, 3.2). span: a dict of 'start' and 'end'
      [B,T], logits (BERT's left-to-right model: Devlin et al. 2019, 5.1). With
      `model.features` heads of labels read a bidirectional LSTM on the stack.
    """
    texts = () if self.config.input_dim else inputs.shape[1:-1]
    if texts:
      rows = (-1, inputs.shape[-1])
      inputs, segments = inputs.reshape(rows), segments.reshape(rows)
      positions = None if positions is None else positions.reshape(rows)
    if not self.config.prefix:
      prefix = None
    rules = masks.Rules(segments, segments, prefix, causal=True)
    context = Context(seen=rules, positions=positions)
    x, _ = self.decoder(self.embed(inputs, positions), context)
    if self.config.head == 'lm':
      return self.vocabulary(x, self.embed.table)
    if self.config.head == 'lm_value':
      logits = self.vocabulary(x, self.embed.table)
      return {'logits': logits, 'values': self.value(x)}
    if self.config.features:
      x = self.lstm(x, segments > 0)
    if self.config.head == 'span':
      both = self.span(x)
      return {'start': both[..., 0], 'end': both[..., 1]}
    if self.config.head != 'tokens':
      whole = x
      x = last(x, segments)
      if texts:
        x = x.reshape(-1, *texts, x.shape[-1]).sum(axis=1)
      if self.config.head == 'sequence_lm':
        logits = self.vocabulary(whole, self.embed.table)
        return {'classes': self.classes(x), 'logits': logits}
    return self.classes(x)

  def start_cache(self, batch: int, length: int) -> dict:
    """An empty cache for `batch` rows of `length` tokens."""
    c = self.config
    return repeated(c, c.decoder_layers, empty_cache(c, batch, length))

  def decode_step(
    self,
    tokens: jax.Array,
    cache: dict,
    index: jax.Array,
    positions: jax.Array | None = None,
    hidden: jax.Array | None = None,
    last_only: bool = False,
    branches: Branches | None = None,
  ) -> tuple[jax.Array, dict]:
    """Reads further tokens: one, or a whole prompt at once.

    With `model.prefix` the tokens of a prompt see one another.

    Args:
      tokens: int [B,T], the tokens from `index` on.
      cache: from the step before, or from `start_cache`.
      index: int, the place in the cache of the first of `tokens`.
      positions: int [B,T]; None: the places in the cache. A prompt that is
        padded on the left counts from its first token.
      hidden: bool [B,S], places in the cache that no token may see (padding).
      last_only: return the logits after the last of `tokens` alone, [B,1,V].
      branches: `tokens` are the next ones of T texts, not of one.

    Returns:
      Logits of the next token after each, float32 [B,T,V], and the new cache.
    """
    places = index + jnp.arange(tokens.shape[1])
    if positions is None:
      positions = places[None]
    if branches is not None:
      mask = branches.seen
    else:
      last = places[-1:] if self.config.prefix else places
      mask = (jnp.arange(places_of(cache)) <= last[:, None])[None]
    if hidden is not None:
      mask = mask & ~hidden[:, None]
    context = Context(
      seen=mask, positions=positions, index=index, branches=branches
    )
    x, cache = self.decoder(self.embed(tokens, positions), context, cache)
    x = x[:, -1:] if last_only else x
    few = branches is not None or x.shape[1] == 1
    return self.vocabulary(x, self.embed.table, few), cache

"""ELECTRA (Clark et al. 2020): a generator and a discriminator in one model.

  model.generator          what fills the masked positions
    mlm                    an encoder that learns masked tokens (2)
    unigram                one distribution for all places (3.2)
    adversarial            an encoder that learns to mislead (appendix F)
  model.generator_shares   its weights that are the discriminator's too (3.2)
    none, tokens, tables   none, the table of tokens, all tables
    all                    all but the heads: one stack does both
  model.head               what the discriminator says of the result
    rtd, rtd_masked        which tokens were replaced (2)
    replace_mlm            the original tokens at the masked positions (table 5)
    all_tokens_mlm         the original tokens at all positions (table 5)

train/learning/electra.py has the losses.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import masks
from models.block import Context
from models.config import TransformerConfig
from models.embed import Embed
from models.families.encoder import gather
from models.heads import Classes, Replaced, Unigram, Vocabulary
from models.logits import ChunkedLogits
from models.stack import Stack

# Parameters of the generator alone; the discriminator is all others.
GENERATOR = 'generator', 'generator_embed', 'vocabulary', 'unigram', 'baseline'
_NO_GENERATOR = {
  field.name: field.default
  for field in dataclasses.fields(TransformerConfig)
  if field.name.startswith('generator')
}


def generator_config(config: TransformerConfig) -> TransformerConfig:
  """The generator's config, of an encoder: `config.generator_sizes`.

  Its heads have the same width, and its tables that of the discriminator's.
  """
  c = config
  sizes = c.generator_sizes
  narrow = c.table_width != sizes['embed_dim']
  own = {'table_dim': c.table_width if narrow else 0} | sizes
  own |= {'family': 'encoder', 'head': 'mlm'}
  return dataclasses.replace(c, **_NO_GENERATOR | own)


def discriminator_config(config: TransformerConfig) -> TransformerConfig:
  """The discriminator's config, of an encoder.

  A discriminator that predicts original tokens has the head 'mlm'.
  """
  head = 'rtd' if config.head.startswith('rtd') else 'mlm'
  own = {'family': 'encoder', 'head': head}
  return dataclasses.replace(config, **_NO_GENERATOR | own)


def discriminator_params(params: dict) -> dict:
  """The parameters, or a tree like them, of `discriminator_config`."""
  names = {'originals': 'vocabulary'}
  return {
    names.get(name, name): x
    for name, x in params.items()
    if name not in (*GENERATOR, 'copied')
  }


class Electra(nn.Module):
  """Two encoders, trained side by side.

  The generator fills the masked positions; the discriminator predicts which
  tokens of the result differ from the text, or what the text was.
  `discriminator_params` are those of an `Encoder`.

  Dropout acts only if `apply` has a 'dropout' rng. With a 'sample' rng
  the fillings are drawn; without one they are the likeliest tokens.
  """

  config: TransformerConfig
  loss_chunk: int = 0  # not 0: logits of many tokens are `ChunkedLogits`
  # Which one learns: 'generator' (the other is not computed: its logits are 0),
  # 'discriminator' (no gradient reaches the generator), '' both.
  learner: str = ''

  @property
  def INPUTS(self) -> tuple[str, ...]:
    """The arrays of a batch that the model reads."""
    c = self.config
    return (
      'inputs',
      'segments',
      'predict_at',
      'targets',
      'weights',
      *(('positions',) if c.reads_positions else ()),
      *(('types',) if c.token_types > 1 else ()),
    )

  def setup(self):
    c = self.config
    self.embed = Embed(c)
    self.encoder = Stack(c, c.encoder_layers, causal=False)
    if c.generator == 'unigram':
      self.unigram = Unigram(c, self.loss_chunk)
    else:
      own = generator_config(c)
      if c.generator_shares in ('none', 'tokens'):
        self.generator_embed = Embed(own, tokens=c.generator_shares == 'none')
      if c.generator_shares != 'all':
        self.generator = Stack(own, own.encoder_layers, causal=False)
      self.vocabulary = Vocabulary(own, self.loss_chunk)
    if c.generator == 'adversarial':  # its logit is linear in the output: F
      self.baseline = Classes(own, 1, bias=False, dropout=False)
    if c.head in ('rtd', 'rtd_masked'):
      self.replaced = Replaced(c)
    else:
      self.originals = Vocabulary(c, self.loss_chunk)
    if c.head == 'all_tokens_mlm':
      self.copied = Classes(c, 1, dropout=False)

  def __call__(
    self,
    inputs: jax.Array,
    segments: jax.Array,
    predict_at: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    positions: jax.Array | None = None,
    types: jax.Array | None = None,
  ) -> dict[str, jax.Array]:
    """Masked tokens -> the outputs of both encoders.

    No gradient flows through the sampling (3.1).

    Args:
      inputs: int [B,T], masked.
      segments: int [B,T]; 0 is padding.
      predict_at: int [B,P], the chosen positions. One may be chosen twice.
      targets: int [B,P], the tokens of the text there.
      weights: float32 [B,P], 0 where nothing was chosen.
      positions: int [B,T].
      types: int [B,T].

    Returns:
      'logits' of the generator, float32 [B,P,V]; 'sampled' from them, int
      [B,P]; 'text', int [B,T], without masks; 'corrupted', int [B,T], the text
      with the samples in it; 'labels', bool [B,T], whether a token differs from
      the text. By `model.head`:
      rtd, rtd_masked: 'replaced' of the discriminator, logits [B,T].
      replace_mlm: 'originals', logits [B,P,V] at `predict_at`.
      all_tokens_mlm: 'originals' [B,T,V], and 'copied' [B,T], the logits of
      the probability that the token is the original.
      An adversarial generator adds 'baseline' [B,P], logits of the probability
      that the discriminator will give the truth.
    """
    context = Context(seen=masks.Rules(segments, segments), positions=positions)
    read = positions, types, context
    logits, hidden = self._generate(inputs, predict_at, *read)
    sampled = self._sample(jax.lax.stop_gradient(logits))
    text = fill(inputs, predict_at, targets, weights)
    corrupted = fill(inputs, predict_at, sampled, weights)
    # A position that was chosen twice has one sample.
    sampled = jnp.take_along_axis(corrupted, predict_at, axis=1)
    found = {
      'logits': logits,
      'sampled': sampled,
      'text': text,
      'corrupted': corrupted,
      'labels': corrupted != text,
    }
    if self.config.generator == 'adversarial':
      # It learns to judge the generator, and does not change it.
      hidden = jax.lax.stop_gradient(hidden)
      found['baseline'] = self.baseline(hidden)[..., 0]
    return found | self._discriminate(corrupted, predict_at, *read)

  def _generate(self, inputs, predict_at, positions, types, context):
    """The generator's logits at `predict_at`, and what they are made of."""
    c = self.config
    if c.generator == 'unigram':
      return self.unigram(predict_at), None
    embed, table = self.embed, None
    if c.generator_shares in ('none', 'tokens'):
      embed = self.generator_embed
      table = None if c.generator_shares == 'none' else self.embed.table
    stack = self.encoder if c.generator_shares == 'all' else self.generator
    x, _ = stack(embed(inputs, positions, types, table), context)
    hidden = gather(x, predict_at)
    table = embed.table if table is None else table
    logits = self.vocabulary(hidden, table)
    if self.learner == 'discriminator':
      logits = jax.lax.stop_gradient(logits)
    return logits, hidden

  def _discriminate(self, corrupted, predict_at, positions, types, context):
    c = self.config
    if self.learner == 'generator':
      return {'replaced': jnp.zeros(corrupted.shape)}
    x, _ = self.encoder(self.embed(corrupted, positions, types), context)
    match c.head:
      case 'replace_mlm':
        hidden = gather(x, predict_at)
        return {'originals': self.originals(hidden, self.embed.table)}
      case 'all_tokens_mlm':
        return {
          'originals': self.originals(x, self.embed.table),
          'copied': self.copied(x)[..., 0],
        }
    return {'replaced': self.replaced(x)}

  def _sample(self, logits: jax.Array | ChunkedLogits) -> jax.Array:
    """One token from each distribution: logits [B,P,V] -> int32 [B,P].

    The largest of logits + Gumbel noise is distributed as the softmax. Each
    token has noise of its own key, however many are drawn together.
    """
    rng = self.make_rng('sample') if self.has_rng('sample') else None

    def noise(number):
      key = jax.random.fold_in(rng, number)
      return jax.random.gumbel(key, (self.config.vocab_size,))

    def draw(logits, numbers):
      if rng is not None:
        logits += jax.vmap(jax.vmap(noise))(numbers)
      return jnp.argmax(logits, axis=-1).astype('int32')

    chunked = isinstance(logits, ChunkedLogits)
    B, P = (logits.x if chunked else logits).shape[:2]
    numbers = jnp.arange(B * P).reshape(B, P)
    return logits.map(draw, numbers) if chunked else draw(logits, numbers)


def fill(
  tokens: jax.Array, at: jax.Array, values: jax.Array, weights: jax.Array
) -> jax.Array:
  """Tokens with `values` at the positions `at`: [B,T], [B,P] each -> [B,T].

  Positions of weight 0 keep their token. If a position has several values, the
  last one counts.
  """
  B, P = at.shape
  order = jnp.where(weights > 0, jnp.arange(1, P + 1), 0)
  last = jnp.zeros(tokens.shape, 'int32')
  last = last.at[jnp.arange(B)[:, None], at].max(order)
  filled = jnp.take_along_axis(values, jnp.maximum(last - 1, 0), axis=1)
  return jnp.where(last > 0, filled, tokens)

"""The encoder: BERT (Devlin et al. 2019), RoBERTa, ELECTRA's discriminator."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from models import masks
from models.block import Context
from models.config import TransformerConfig
from models.embed import Embed
from models.heads import Classes, JointSpan, Pooler, Replaced, Vocabulary
from models.lstm import BiLstm, Features
from models.stack import Stack


def gather(x: jax.Array, at: jax.Array) -> jax.Array:
  """The vectors at some positions of each row: [B,T,D], [B,P] -> [B,P,D]."""
  return jnp.take_along_axis(x, at[..., None], axis=1)


class Encoder(nn.Module):
  """Reads a text in both directions, for what `model.head` names.

  Dropout acts only if `apply` has a 'dropout' rng. Segments number the examples
  packed into a row from 1; 0 is padding.
  """

  config: TransformerConfig
  loss_chunk: int = 0  # not 0: logits of many tokens are `ChunkedLogits`

  @property
  def INPUTS(self) -> tuple[str, ...]:
    """The arrays of a batch that the model reads."""
    c = self.config
    return (
      'inputs',
      'segments',
      *(('positions',) if c.reads_positions else ()),
      *(('types',) if c.token_types > 1 else ()),
      *(('predict_at',) if c.head in ('mlm', 'mlm_nsp') else ()),
    )

  def setup(self):
    c = self.config
    self.embed = Embed(c)
    keep = bool(c.features)
    self.encoder = Stack(c, c.encoder_layers, causal=False, keep=keep)
    if c.features:
      self.features = Features(c)
      self.lstm = BiLstm(c.embed_dim)
    if c.head in ('mlm', 'mlm_nsp'):
      self.vocabulary = Vocabulary(c, self.loss_chunk)
    if c.head in ('mlm_nsp', 'pooler'):
      self.pooler = Pooler(c)
    elif c.head in ('sequence', 'choice') and c.pooler:
      self.pooler = Pooler(c, c.pooler_dropout)
    if c.head == 'mlm_nsp':
      self.next_sentence = Classes(c, 2, dropout=False)
    elif c.head == 'rtd':
      self.replaced = Replaced(c)
    elif c.head in ('sequence', 'choice', 'tokens'):
      self.classes = Classes(c, c.classes or 1)
    elif c.head == 'span_joint':
      self.span = JointSpan(c)
    elif c.head == 'span':
      self.span = Classes(c, 2, dropout=False)

  def __call__(
    self,
    inputs: jax.Array,
    segments: jax.Array,
    positions: jax.Array | None = None,
    types: jax.Array | None = None,
    predict_at: jax.Array | None = None,
    start: jax.Array | None = None,
  ) -> dict[str, jax.Array] | jax.Array:
    """int [B,T] each, `predict_at` [B,P] -> float32 outputs of the head.

    `start` [B] is the right start of the answer, for the head span_joint.

    Returns:
      By `model.head`:
      mlm: 'logits' [B,P,V] at `predict_at`, or [B,T,V] without it.
      mlm_nsp: the same, and 'next_sentence' [B,2], logits (class 0: the second
      sentence comes next).
      rtd: 'replaced' [B,T], logits.
      sequence: 'classes' [B,C]. tokens: 'classes' [B,T,C], with
      `model.features` of an LSTM that reads these layers.
      choice: 'classes' [B,1], how right the row is among those of its example.
      span: 'start', 'end' [B,T], logits. span_joint: what heads.JointSpan says,
      an array without `start`; answers are in the second text, or [CLS].
      none: 'hidden' [B,T,D]. pooler: the same, and 'pooled' [B,D].
    """
    x, states = self.encode(inputs, segments, positions, types)
    match self.config.head:
      case 'none':
        return {'hidden': x}
      case 'pooler':
        return {'hidden': x, 'pooled': self.pooler(x)}
      case 'rtd':
        return {'replaced': self.replaced(x)}
      case 'sequence' | 'choice':
        # ELECTRA's code reads [CLS] itself.
        first = self.pooler(x) if self.config.pooler else x[:, 0]
        return {'classes': self.classes(first)}
      case 'tokens':
        if self.config.features:
          x = self.lstm(self.features(states), segments > 0)
        return {'classes': self.classes(x)}
      case 'span_joint':
        first = jnp.arange(inputs.shape[1]) == 0
        allowed = (segments > 0) & ((types > 0) | first)
        return self.span(x, allowed, start)
      case 'span':
        both = self.span(x)
        return {'start': both[..., 0], 'end': both[..., 1]}
    predicted = x if predict_at is None else gather(x, predict_at)
    outputs = {'logits': self.vocabulary(predicted, self.embed.table)}
    if self.config.head == 'mlm_nsp':
      outputs['next_sentence'] = self.next_sentence(self.pooler(x))
    return outputs

  def encode(
    self,
    inputs: jax.Array,
    segments: jax.Array,
    positions: jax.Array | None = None,
    types: jax.Array | None = None,
  ) -> tuple[jax.Array, jax.Array | None]:
    """int [B,T] each -> the last layer's output, [B,T,D], and all layers'.

    They are [1+L,B,T,D], the embeddings first; None without `model.features`.
    """
    rules = masks.Rules(segments, segments)
    context = Context(seen=rules, positions=positions)
    return self.encoder(self.embed(inputs, positions, types), context)

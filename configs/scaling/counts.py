"""Parameters of a config's model, in plain Python.

Ladders need them before JAX is there. A model is anything with the fields of
config.model: a ConfigDict, or models.config.TransformerConfig. The letters are
those of models/__init__.py.
"""

from typing import Any

from ml_collections import ConfigDict


def params(model: Any) -> int:
  """All parameters of a model, with embeddings and heads."""
  c, count = model, embedding_params(model)
  count += c.embed_norm * _norm(c, c.table_dim or c.embed_dim)
  match c.family:
    case 'decoder':
      count += _stack_params(c, c.decoder_layers, False)
    case 'encoder':
      count += _stack_params(c, c.encoder_layers, False)
    case 'encoder_decoder':
      shared = c.shared_stacks
      count += _stack_params(c, c.encoder_layers, False)
      count += _stack_params(c, c.decoder_layers, True) if not shared else (
        c.decoder_layers * _cross_params(c)
      )  # fmt: skip
    case 'rwkv':
      D, F = c.embed_dim, c.mlp_dim
      layer = 5 * D * D + 2 * D * F + 7 * D + 2 * _norm(c, D)
      return count + c.decoder_layers * layer + _norm(c, D)
    case 'electra':
      D = c.embed_dim
      count += _stack_params(c, c.encoder_layers, False)
      count += D * D + D + D + 1  # the head of the discriminator
      if c.generator != 'unigram':
        g = generator(c)
        count += _stack_params(g, g.encoder_layers, False)
  return count + _head_params(c)


def embedding_params(model: Any) -> int:
  """Parameters that Kaplan et al. (2020, 2.1) leave out of N.

  They are the tables of tokens, positions and token types, and the output
  projection where it is not tied to the tokens.
  """
  c = model
  width = c.table_dim or c.embed_dim
  rows = c.vocab_size + c.token_types
  if c.position == 'learned':
    rows += c.max_length
  with_output = 'lm', 'lm_value', 'mlm', 'mlm_nsp'
  has_output = c.head in with_output and not c.tie_embeddings
  return rows * width + has_output * c.vocab_size * width


def generator(model: Any) -> ConfigDict:
  """The config of ELECTRA's generator.

  As models.config.TransformerConfig.generator_sizes has it, from which it is
  taken where the model is one.
  """
  c = model
  if hasattr(c, 'generator_sizes'):
    sizes = c.generator_sizes
  else:
    D = c.generator_dim or c.embed_dim // c.generator_divisor
    heads = max(1, c.generator_heads or c.heads * D // c.embed_dim)
    sizes = {
      'embed_dim': D,
      'mlp_dim': c.mlp_dim * D // c.embed_dim,
      'heads': heads,
      'kv_heads': max(1, c.kv_heads * heads // c.heads),
      'encoder_layers': c.generator_layers or c.encoder_layers,
    }
  fields = c.items() if isinstance(c, ConfigDict) else vars(c).items()
  return ConfigDict({**dict(fields), 'table_dim': c.table_dim or c.embed_dim,
                     **sizes})  # fmt: skip


def _norm(c, width):
  return width * (2 if c.norm == 'layer_norm' else 1)


def _attention_params(c):
  count = 2 * c.embed_dim * c.head_dim * (c.heads + c.kv_heads)
  if c.bias == 'all':
    count += c.head_dim * (c.heads + 2 * c.kv_heads) + c.embed_dim
  return count


def _cross_params(c):
  return _attention_params(c) + _norm(c, c.embed_dim)


def _stack_params(c, layers, crossed):
  """A stack: its layers, its last norm, and its projected tables."""
  D, F = c.embed_dim, c.mlp_dim
  mlp = (3 if c.gated else 2) * D * F
  if c.bias != 'none':
    mlp += (2 if c.gated else 1) * F + D
  norms = 1 if c.parallel == 'one_norm' else 2
  layer = _attention_params(c) + mlp + norms * _norm(c, D)
  if c.adapter_dim:
    layer += 2 * D * c.adapter_dim + D + c.adapter_dim
  if c.position == 'transformer_xl':
    layer += c.heads * c.head_dim * (D + 2)
  layer += crossed * _cross_params(c)
  count = layers * layer + (c.norm_placement == 'pre') * _norm(c, D)
  if c.position == 'relative_bias':
    count += c.relative_buckets * c.heads
  if c.table_dim and c.table_dim != D:
    count += c.table_dim * D + D
  return count


def _head_params(c):
  """What the head adds to the output projection."""
  D, width = c.embed_dim, c.table_dim or c.embed_dim
  if c.family == 'electra':
    D = generator(c).embed_dim if c.generator != 'unigram' else D
  count = 0
  if c.output_transform:
    count += D * width + width + _norm(c, width)
  if c.output_bias:
    count += c.vocab_size
  if c.head == 'mlm_nsp':
    count += D * D + D + 2 * D + 2
  return count

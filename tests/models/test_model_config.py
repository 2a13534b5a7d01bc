"""Configs of models that are refused, and where the ranges of fields end."""

import dataclasses

import pytest

from models.config import TransformerConfig
from tests.helpers.decoders import BASE, tiny_decoder
from tests.helpers.t5_reference import tiny_config
from tests.models.families import test_electra as electra
from tests.models.families.test_rwkv import FIELDS as RWKV
from tests.models.test_models import small_config

ROPE = {'position': 'rope', 'rope_theta': 1e4}
NARROW = {'table_dim': 12}
WIDE = {'generator_divisor': 0, 'generator_dim': 16}
UNIGRAM = {'generator_divisor': 0, 'generator': 'unigram'}
LLAMA = (8.0, 1.0, 4.0, 8192.0)


def decoder(**changes):
  return TransformerConfig(**BASE | {'position': 'none'} | changes)


def encoder(**changes):
  return TransformerConfig(**electra.ENCODER | {'head': 'mlm'} | changes)


def pair(**changes):
  return TransformerConfig(**electra.FIELDS | changes)


def rwkv(**changes):
  return TransformerConfig(**RWKV | changes)


def scaled(*scaling):
  return {**ROPE, 'rope_dim': 10, 'rope_scaling': scaling}


# make, a valid change at the edge, an invalid one, the field it names.
EDGES = [
  (decoder, {'embed_dim': 1}, {'embed_dim': 0}, 'embed_dim'),
  (decoder, {'vocab_size': 1}, {'vocab_size': 0}, 'vocab_size'),
  (decoder, {'mlp_dim': 1}, {'mlp_dim': 0}, 'mlp_dim'),
  (decoder, {'head_dim': 1}, {'head_dim': 0}, 'head_dim'),
  (decoder, {'kv_heads': 3}, {'kv_heads': 4}, 'kv_heads'),
  (decoder, {'dropout': 0.99}, {'dropout': 1.0}, 'dropout'),
  (
    decoder,
    {'attention_dropout': 0.99},
    {'attention_dropout': 1.0},
    'attention_dropout',
  ),
  (decoder, {'norm_epsilon': 0.99}, {'norm_epsilon': 1.0}, 'norm_epsilon'),
  (decoder, {'norm_epsilon': 1e-12}, {'norm_epsilon': 0.0}, 'norm_epsilon'),
  (decoder, {}, {'table_dim': -1}, 'table_dim'),
  (encoder, {'token_types': 0}, {'token_types': -1}, 'token_types'),
  (decoder, ROPE | {'rope_dim': 10}, ROPE | {'rope_dim': 9}, 'rope_dim'),
  (decoder, ROPE | {'rope_dim': 10}, ROPE | {'rope_dim': 12}, 'rope_dim'),
  (decoder, scaled(*LLAMA), scaled(*LLAMA[:3]), 'rope_scaling'),
  (decoder, scaled(1.0, 1, 4, 8), scaled(0.9, 1, 4, 8), 'rope_scaling'),
  (decoder, scaled(2, 3.9, 4, 8), scaled(2, 4, 4, 8), 'rope_scaling'),
  (decoder, scaled(2, 0.1, 4, 8), scaled(2, 0, 4, 8), 'rope_scaling'),
  (decoder, scaled(2, 1, 4, 1), scaled(2, 1, 4, 0), 'rope_scaling'),
  (decoder, {}, {'rope_scaling': LLAMA}, 'rope_scaling'),
  (
    tiny_config,
    {'relative_buckets': 4, 'relative_max_distance': 3},
    {'relative_buckets': 4, 'relative_max_distance': 2},
    'relative_max_distance',
  ),
  (
    tiny_config,
    {'relative_buckets': 8},
    {'relative_buckets': 10},
    'relative_buckets',
  ),
  (
    tiny_decoder,
    {'max_length': 5, 'position_offset': 4},
    {'max_length': 5, 'position_offset': 5},
    'position_offset',
  ),
  (decoder, {}, {'position_offset': 2}, 'position_offset'),
  (
    decoder,
    {'window': 3, 'window_every': 3},
    {'window': 3, 'window_every': 4},
    'window_every',
  ),
  (decoder, {}, {'window_every': 1}, 'window'),
  (
    encoder,
    {},
    {'window': 3, 'window_every': 1, 'decoder_layers': 1},
    'decoder_layers',
  ),
  (decoder, {'prefix': True}, {'prefix': True, 'family': 'x'}, 'family'),
  (encoder, {}, {'prefix': True}, 'prefix'),
  (
    decoder,
    {'parallel': 'one_norm'},
    {'parallel': 'one_norm', 'norm_placement': 'post'},
    'parallel',
  ),
  (
    decoder,
    NARROW | {'tie_embeddings': False},
    NARROW | {'tie_embeddings': True},
    'tie_embeddings',
  ),
  (decoder, NARROW | {'output_transform': True}, NARROW, 'tie_embeddings'),
  (pair, {'generator_divisor': 12}, {'generator_divisor': 5}, 'embed_dim'),
  (pair, {'generator_divisor': 4}, {'generator_divisor': 8}, 'mlp_dim'),
  (pair, {'generator_divisor': 1}, {'generator_divisor': 0}, 'generator_div'),
  (
    pair,
    WIDE,
    WIDE | {'generator_divisor': 3},
    'set one of them, not 3 and 16',
  ),
  (pair, WIDE, WIDE | {'generator_dim': 5}, 'dim is 5; .* a whole number'),
  (pair, {}, {'generator_layers': -1}, 'generator_layers is -1'),
  (pair, {'generator_heads': 2}, {'generator_heads': -1}, 'heads is -1'),
  (
    pair,
    {'kv_heads': 2, 'generator_heads': 8},
    {'kv_heads': 2, 'generator_heads': 5},
    'change model.generator_heads',
  ),
  (
    pair,
    {'generator_divisor': 1, 'generator_shares': 'all'},
    {'generator_divisor': 3, 'generator_shares': 'all'},
    'must be as large as .* embed_dim, mlp_dim, heads, kv_heads',
  ),
  (
    pair,
    {'generator_divisor': 1, 'generator_layers': 2, 'generator_shares': 'all'},
    {'generator_divisor': 1, 'generator_layers': 1, 'generator_shares': 'all'},
    'must be as large as .* encoder_layers',
  ),
  (
    pair,
    UNIGRAM,
    UNIGRAM | {'generator_layers': 2},
    "generator_layers is 2, but model.generator='unigram'",
  ),
  (pair, UNIGRAM, UNIGRAM | {'generator_divisor': 3}, 'divisor is 3, but'),
  (
    pair,
    UNIGRAM,
    UNIGRAM | {'generator_shares': 'all'},
    "shares is 'all', but",
  ),
  (pair, {}, {'generator': 'bigram'}, "model.generator is 'bigram'"),
  (
    pair,
    {'generator': 'adversarial', 'head': 'rtd_masked'},
    {'generator': 'adversarial', 'head': 'replace_mlm'},
    "'rtd' or 'rtd_masked', not 'replace_mlm'",
  ),
  (
    pair,
    {'head': 'all_tokens_mlm'},
    {'head': 'all_tokens_mlm', 'output_transform': False},
    'tie_embeddings',
  ),
  (encoder, {}, {'generator': 'unigram'}, "'encoder' has no generator"),
  (encoder, {}, {'generator_dim': 8}, "'encoder' has no generator"),
  (encoder, {}, {'head': 'rtd_masked'}, "model.head is 'rtd_masked'"),
  (
    decoder,
    {'head': 'tokens', 'classes': 1, 'tie_embeddings': False},
    {'head': 'tokens', 'classes': 0, 'tie_embeddings': False},
    'classes',
  ),
  (decoder, {}, {'classes': 3}, 'classes'),
  (decoder, {}, {'head': 'mlm'}, "model.head is 'mlm'"),
  (decoder, {}, {'pooler_dropout': True}, 'pooler_dropout'),
  (decoder, {}, {'features': 'last'}, 'model.features'),
  (
    decoder,
    {'head': 'span', 'features': 'last', 'tie_embeddings': False},
    {'head': 'span', 'features': 'sum_all', 'tie_embeddings': False},
    'model.features',
  ),
  (
    encoder,
    {'head': 'mlm_nsp'},
    {'head': 'mlm_nsp', 'output_transform': False},
    'tie_embeddings',
  ),
  (tiny_config, {}, {'window': 3, 'window_every': 1}, 'bands causal attention'),
  (decoder, {}, {'window': -1, 'window_every': 1}, 'window is -1'),
  (tiny_decoder, {}, {'position_offset': -1}, 'position_offset'),
  (decoder, {'init_std': 1e-9}, {'init_std': 0.0}, 'init_std'),
  (decoder, {'position': 'sinusoidal'}, {'position': 'learned'}, 'max_length'),
  (rwkv, {}, {'attention_dropout': 0.1}, 'attention'),
  (rwkv, {}, {'scale_attention': True}, 'attention'),
  (rwkv, {}, {'kv_heads': 1}, 'attention'),
  (rwkv, {}, {'head_dim': 1}, 'attention'),
  (rwkv, {}, {'remat': 'attention'}, 'recomputes nothing'),
  (rwkv, {}, {'position': 'alibi'}, 'attention'),
  (rwkv, {}, {'parallel': 'one_norm'}, 'block of its own'),
  (rwkv, {}, {'table_dim': 6}, 'block of its own'),
  (rwkv, {'tie_embeddings': True}, {'family': 'decoder'}, 'heads'),
]


@pytest.mark.parametrize(('make', 'good', 'bad', 'name'), EDGES)
def test_ranges_end_where_they_should(make, good, bad, name):
  make(**good)
  with pytest.raises(ValueError, match=name):
    make(**bad)


def test_reads_positions_and_table_width():
  for position, reads in (
    ('none', False),
    ('alibi', False),
    ('transformer_xl', False),
    ('relative_bias', False),
    ('sinusoidal', True),
    ('learned', True),
    ('rope', True),
  ):
    assert tiny_decoder(position).reads_positions == reads
  assert decoder().table_width == 24
  assert decoder(tie_embeddings=False, **NARROW).table_width == 12


NO_BUCKETS = {'relative_buckets': 0, 'relative_max_distance': 0}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'family': 'encoders'}, "model.family is 'encoders'; it must be one of"),
    ({'family': 'encoder'}, 'model.decoder_layers is 2, but model.family='),
    ({'activation': 'gelu2'}, "model.activation is 'gelu2'; it must be one of"),
    ({'norm': 'layer'}, 'model.norm is'),
    ({'position': 'ropes'}, 'model.position is'),
    ({'position': 'rope'}, "model.position='rope' needs model.rope_theta"),
    ({'max_length': 9}, "model.position='relative_bias' does not read it"),
    ({'position': 'none'}, 'model.relative_.* does not read it: set it to 0'),
    ({'head': 'mlm'}, "model.head is 'mlm'; model.family='encoder_decoder'"),
    ({'window': 4}, 'model.window=4 and model.window_every=0 go together'),
    ({'parallel': 'one_norm'}, 'has no place for cross-attention'),
    ({'token_types': 2}, 'reads no token types'),
    (
      {'token_types': 2, 'family': 'decoder', 'encoder_layers': 0},
      "'decoder' reads no token types",
    ),
    ({'init': 'rwkv'}, "RWKV's own weights"),
    ({'init': 'zero'}, 'model.init is'),
    ({'remat': 'some'}, 'model.remat is'),
    ({'dtype': 'float16'}, 'model.dtype is'),
    ({'embed_dim': 0}, 'model.embed_dim is 0; it must be at least 1'),
    ({'decoder_layers': 0}, 'model.decoder_layers, which is 0'),
    ({'kv_heads': 3}, 'model.kv_heads is 3; it must divide model.heads'),
    ({'dropout': 1.0}, 'model.dropout is 1.0; it must be at least 0 and below'),
    ({'dropout': -0.1}, 'model.dropout is -0.1'),
    ({'norm_epsilon': 0.0}, 'model.norm_epsilon is 0.0'),
    ({'relative_buckets': 6}, 'model.relative_buckets is 6'),
    ({'relative_max_distance': 16}, 'model.relative_max_distance is 16'),
    (NO_BUCKETS | {'position': 'sinusoidal', 'embed_dim': 31}, '31, must be e'),
    (NO_BUCKETS | {'position': 'transformer_xl', 'embed_dim': 31}, 'model, 31'),
  ],
)
def test_impossible_models(change, message):
  with pytest.raises(ValueError, match=message):
    small_config(**change)


def test_a_model_needs_every_choice_made():
  fields = dataclasses.asdict(small_config())
  del fields['activation']
  with pytest.raises(TypeError, match='activation'):
    TransformerConfig(**fields)

"""Tiny decoders of odd sizes, one for each scheme of positions."""

import jax
import jax.numpy as jnp

from models.config import TransformerConfig

POSITIONS = {
  'none': {},
  'sinusoidal': {},
  'learned': {'max_length': 40},
  'relative_bias': {'relative_buckets': 8, 'relative_max_distance': 12},
  'transformer_xl': {},
  'rope': {'rope_theta': 10_000.0, 'rope_dim': 6},
  'alibi': {},
}
BASE = {
  'family': 'decoder',
  'vocab_size': 50,
  'embed_dim': 24,
  'mlp_dim': 40,
  'heads': 6,
  'kv_heads': 2,
  'head_dim': 10,
  'decoder_layers': 3,
  'norm': 'layer_norm',
  'norm_epsilon': 1e-5,
  'norm_placement': 'pre',
  'parallel': 'none',
  'activation': 'gelu',
  'gated': False,
  'bias': 'all',
  'scale_attention': True,
  'embed_norm': False,
  'scale_embed': False,
  'tie_embeddings': True,
  'scale_output': False,
  'output_transform': False,
  'output_bias': False,
  'head': 'lm',
  'init': 'normal',
  'init_std': 0.2,
  'dropout': 0.0,
  'attention_dropout': 0.0,
  'dropout_kind': 'residual',
  'dtype': 'float32',
  'scan': True,
  'remat': 'none',
}


def tiny_decoder(position: str = 'learned', **changes) -> TransformerConfig:
  own = {'position': position} | POSITIONS[position]
  return TransformerConfig(**BASE | own | changes)


def decoded(model, params, tokens, prompt: int):
  """Logits [1,T,V] through a cache: a prompt at once, then token by token."""
  step = jax.jit(
    lambda tokens, cache, index: model.apply(
      {'params': params}, tokens, cache, index, method='decode_step'
    )
  )
  length = tokens.shape[1]
  logits, cache = step(tokens[:, :prompt], model.start_cache(1, length), 0)
  found = [logits]
  for i in range(prompt, length):
    logits, cache = step(tokens[:, i : i + 1], cache, jnp.int32(i))
    found.append(logits)
  return jnp.concatenate(found, axis=1)

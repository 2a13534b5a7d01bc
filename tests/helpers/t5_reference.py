"""transformers' torch T5 with our weights, for the parity tests."""

import flax.linen as nn
import jax
import numpy as np
import torch
from transformers import T5Config, T5ForConditionalGeneration

from models.config import TransformerConfig

BASE = {
  'family': 'encoder_decoder',
  'vocab_size': 96,
  'embed_dim': 24,
  'mlp_dim': 40,
  'heads': 3,
  'kv_heads': 3,
  'head_dim': 10,
  'encoder_layers': 2,
  'decoder_layers': 3,
  'position': 'relative_bias',
  'relative_buckets': 32,
  'relative_max_distance': 128,
  'norm': 'rms_norm',
  'norm_epsilon': 1e-6,
  'norm_placement': 'pre',
  'parallel': 'none',
  'activation': 'relu',
  'gated': False,
  'bias': 'none',
  'scale_attention': False,
  'embed_norm': False,
  'scale_embed': False,
  'tie_embeddings': True,
  'scale_output': True,
  'output_transform': False,
  'output_bias': False,
  'head': 'lm',
  'init': 't5',
  'dropout': 0.0,
  'attention_dropout': 0.0,
  'dropout_kind': 't5',
  'dtype': 'float32',
  'scan': True,
  'remat': 'none',
}
VERSION_1_1 = {
  'activation': 'gelu_tanh',
  'gated': True,
  'tie_embeddings': False,
  'scale_output': False,
}


def tiny_config(version: str = '1.0', **changes) -> TransformerConfig:
  """A T5 of odd sizes; H is not D / N, the decoder is the deeper."""
  own = VERSION_1_1 if version == '1.1' else {}
  return TransformerConfig(**BASE | own | changes)


def init_params(model, seed: int = 0):
  """A model's initial parameters."""
  inputs = {name: np.ones((1, 4), 'int32') for name in model.INPUTS}

  def init(rng):
    return nn.unbox(model.init(rng, **inputs)['params'])

  return jax.jit(init)(jax.random.key(seed))


def random_params(model, seed: int = 0):
  """Parameters that are nonzero everywhere, so that every weight shows."""
  params = init_params(model, seed)
  rng = np.random.default_rng(seed)

  def jitter(x):
    noise = rng.normal(size=x.shape).astype('float32')
    return np.asarray(x) + 0.2 * np.std(x) * noise + 0.05 * noise

  return jax.tree.map(jitter, params)


def torch_model(config: TransformerConfig) -> T5ForConditionalGeneration:
  """The torch class with our sizes."""
  c = config
  model = T5ForConditionalGeneration(
    T5Config(
      vocab_size=c.vocab_size,
      d_model=c.embed_dim,
      d_kv=c.head_dim,
      d_ff=c.mlp_dim,
      num_layers=c.encoder_layers,
      num_decoder_layers=c.decoder_layers,
      num_heads=c.heads,
      relative_attention_num_buckets=c.relative_buckets,
      relative_attention_max_distance=c.relative_max_distance,
      dropout_rate=0.0,
      feed_forward_proj='gated-gelu' if c.gated else 'relu',
      tie_word_embeddings=c.tie_embeddings,
      decoder_start_token_id=0,
    )
  )
  if not c.tie_embeddings:  # transformers 5 ties them in its constructor
    shape = (c.vocab_size, c.embed_dim)
    model.lm_head.weight = torch.nn.Parameter(torch.zeros(shape))
  return model.eval()


def to_torch(tree, config: TransformerConfig) -> dict[str, np.ndarray]:
  """Our parameters (or their gradients) under torch's names."""
  out = {'shared.weight': tree['embed']['table']}
  if not config.tie_embeddings:
    out['lm_head.weight'] = tree['vocabulary']['output'].T
  short = {'query': 'q', 'key': 'k', 'value': 'v', 'output': 'o'}
  for side, layers in (
    ('encoder', config.encoder_layers),
    ('decoder', config.decoder_layers),
  ):
    stack = tree[side]
    out[f'{side}.final_layer_norm.weight'] = stack['norm']['scale']
    bias = 'layer.0.SelfAttention.relative_attention_bias.weight'
    out[f'{side}.block.0.{bias}'] = stack['relative_bias']['table']
    for i in range(layers):
      layer = jax.tree.map(lambda x, i=i: x[i], stack['layers'])
      block = f'{side}.block.{i}.layer'
      kinds = [('attention', 'SelfAttention')]
      if side == 'decoder':
        kinds.append(('cross_attention', 'EncDecAttention'))
      for n, (ours, theirs) in enumerate(kinds):
        scale = layer[f'{ours}_norm']['scale']
        out[f'{block}.{n}.layer_norm.weight'] = scale
        for name, letter in short.items():
          kernel = layer[ours][name]['kernel']
          out[f'{block}.{n}.{theirs}.{letter}.weight'] = kernel.T
      n = len(kinds)
      mlp = {k: v['kernel'].T for k, v in layer['mlp'].items()}
      out[f'{block}.{n}.layer_norm.weight'] = layer['mlp_norm']['scale']
      dense = f'{block}.{n}.DenseReluDense'
      out[f'{dense}.wo.weight'] = mlp['output']
      if config.gated:
        out[f'{dense}.wi_0.weight'] = mlp['gate']
        out[f'{dense}.wi_1.weight'] = mlp['input']
      else:
        out[f'{dense}.wi.weight'] = mlp['input']
  return {name: np.asarray(x) for name, x in out.items()}


def load(model: T5ForConditionalGeneration, weights: dict) -> None:
  """Sets all parameters of the torch model, and checks that none is left."""
  own = dict(model.named_parameters())
  assert own.keys() == weights.keys(), own.keys() ^ weights.keys()
  with torch.no_grad():
    for name, value in weights.items():
      own[name].copy_(torch.from_numpy(np.array(value)))


def torch_logits(model, batch: dict) -> torch.Tensor:
  """Logits of the torch model under our masks: causal, and by segment."""
  t = {name: torch.from_numpy(np.array(x)).long() for name, x in batch.items()}

  def seen(queries, keys):
    same = queries[:, :, None] == keys[:, None, :]
    return (same & (keys > 0)[:, None, :])[:, None]

  def additive(mask):
    return torch.where(mask, 0.0, -1e9)

  T = t['inputs'].shape[1]
  own = seen(t['segments'], t['segments']) & torch.ones(T, T).tril().bool()
  encoded = model.encoder(
    input_ids=t['encoder_inputs'],
    attention_mask=additive(seen(t['encoder_segments'], t['encoder_segments'])),
  ).last_hidden_state
  return model(
    encoder_outputs=(encoded,),
    attention_mask=additive(seen(t['segments'], t['encoder_segments'])),
    decoder_input_ids=t['inputs'],
    decoder_attention_mask=additive(own),
  ).logits

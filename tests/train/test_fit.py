"""`python -m train.fit`: what a step of a config takes, before it runs."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest

from configs import t5
from input_pipeline.config import DataConfig
from models.build import build
from models.config import TransformerConfig
from tests.helpers import REPOSITORY
from tests.helpers.decoders import BASE
from tests.helpers.jaxprs import products
from tests.helpers.slices import NEEDS_COMPILER
from tests.helpers.t5_reference import BASE as T5
from tests.models.families import test_electra as electra
from tests.models.families.test_rwkv import FIELDS as RWKV
from train import fit
from train.fitting import measure, meshes
from train.fitting.chips import chip_named
from train.fitting.measure import NeedsMoreError
from train.learning.criteria import criterion_for
from train.learning.state import abstract_params, abstract_state
from train.learning.step import DoesNotFitError, compile_train_step, train_step
from train.parallel import sharding
from train.parallel.mesh import make_mesh
from train.reporting.flops import step_flops

B, T, S, P = 2, 24, 40, 5
SIZES = {
  'vocab_size': 96,
  'embed_dim': 32,
  'mlp_dim': 80,
  'heads': 4,
  'kv_heads': 2,
  'head_dim': 16,
}
ROPE = {'position': 'rope', 'rope_theta': 1e4, 'rope_dim': 16}
ENCODER = electra.ENCODER | SIZES | {'max_length': T}
MODELS = {
  'decoder': BASE | SIZES | ROPE | {'gated': True},
  'transformer_xl': BASE | SIZES | {'position': 'transformer_xl'},
  'prefix': BASE | SIZES | {'position': 'transformer_xl', 'prefix': True},
  'narrow table': BASE
  | SIZES
  | {'position': 'none', 'table_dim': 24, 'tie_embeddings': False},
  'encoder_decoder': T5 | SIZES | {'decoder_layers': 3},
  'shared stacks': T5
  | SIZES
  | {'shared_stacks': True, 'encoder_layers': 3, 'decoder_layers': 3},
  'masked': ENCODER | {'head': 'mlm', 'table_dim': 24},
  'pairs': ENCODER | {'head': 'mlm_nsp', 'table_dim': 0},
  'electra': electra.FIELDS
  | SIZES
  | {'generator_divisor': 2, 'table_dim': 24, 'max_length': T},
  'electra, all tokens': electra.FIELDS
  | SIZES
  | {'table_dim': 24, 'max_length': T, 'head': 'all_tokens_mlm'}
  | {'generator': 'unigram', 'generator_divisor': 0},
  'electra, replaced': electra.FIELDS
  | SIZES
  | {'max_length': T, 'head': 'replace_mlm', 'table_dim': 24}
  | {'generator_divisor': 0, 'generator_dim': 16, 'generator_layers': 1},
  'electra, adversarial': electra.FIELDS
  | SIZES
  | {'generator_divisor': 2, 'table_dim': 24, 'max_length': T}
  | {'generator': 'adversarial'},
  'rwkv': RWKV | {'vocab_size': 96, 'embed_dim': 32, 'mlp_dim': 80},
}


def batch_of(model, rows=B, length=T):
  masked = model.config.head != 'lm'
  lengths = dict.fromkeys(('targets', 'weights', 'predict_at'), P)
  names = dict.fromkeys([*model.INPUTS, 'targets', 'weights', 'segments'])
  batch = {}
  for name in names:
    size = S if name.startswith('encoder') else length
    size = lengths.get(name, size) if masked else size
    kind = 'float32' if name == 'weights' else 'int32'
    batch[name] = jax.ShapeDtypeStruct((rows, size), kind)
  if model.config.head == 'mlm_nsp':
    batch['is_next'] = jax.ShapeDtypeStruct((rows,), 'int32')
  return batch


@pytest.mark.parametrize('name', MODELS)
def test_operations_are_the_products_of_the_loss(name):
  """Each traced product counts once forward and twice backward."""
  config = TransformerConfig(**MODELS[name] | {'scan': False})
  model = build(config)
  params, _ = abstract_params(model)
  batch = batch_of(model)
  criterion = criterion_for(config)

  def loss(params, batch):
    return criterion.means(criterion.sums(model, params, batch))['loss']

  counted = products(jax.make_jaxpr(loss)(params, batch).jaxpr)
  if config.family == 'encoder_decoder':  # buckets are looked up by a product
    heads, buckets = config.heads, config.relative_buckets
    counted -= 2 * heads * buckets * (S**2 + T**2)
  # So are token types, by the generator and by the discriminator.
  pair = config.family == 'electra' and config.generator != 'unigram'
  times = 2 if pair else 1
  counted -= 2 * times * B * T * config.token_types * config.table_width
  assert step_flops(config, batch) == 3 * counted


def test_operations_are_palms_formula():
  """PaLM counts 6 N + 12 L H Q T a token (Chowdhery et al. 2022, B)."""
  config = TransformerConfig(**BASE | SIZES | ROPE | {'kv_heads': 4})
  model = build(config)
  params, _ = abstract_params(model)
  matrices = [x for x in jax.tree.leaves(params['decoder']) if x.ndim == 3]
  N = sum(x.size for x in matrices) + params['embed']['table'].size
  L, H, Q = config.decoder_layers, config.heads, config.head_dim
  expected = B * T * (6 * N + 12 * L * H * Q * T)
  assert step_flops(config, batch_of(model)) == expected


def test_operations_beside_xlas_count():
  """XLA's count of one unrolled step includes what is no product."""
  sizes = {'embed_dim': 128, 'mlp_dim': 512, 'head_dim': 32, 'vocab_size': 512}
  fields = BASE | SIZES | sizes | {'position': 'none', 'decoder_layers': 2}
  config = TransformerConfig(**fields | {'scan': False})
  model, optimizer = build(config), optax.identity()
  one = dict.fromkeys(sharding.AXES, 1)
  mesh = make_mesh(one, 'replicated', jax.devices()[:1])
  rules = sharding.make_rules('replicated')
  state = abstract_state(model, optimizer, (1, 4), mesh, rules)
  batch = batch_of(model, 8, 64)
  batch['cursor'] = jax.ShapeDtypeStruct((8, 4), 'int32')
  everywhere = jax.sharding.NamedSharding(mesh, sharding.BATCH)
  batch = {
    name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere)
    for name, x in batch.items()
  }

  def step(state, batch):
    return train_step(
      state,
      batch,
      model=model,
      optimizer=optimizer,
      schedule=lambda step: step,
      seed=0,
    )

  compiled = compile_train_step(step, state, batch)
  ours = step_flops(config, batch)
  assert 1 < compiled.cost_analysis()['flops'] / ours < 1.1


def tiny():
  config = t5.get_config('tiny')
  config.data.source = 'synthetic'
  return config


def test_a_tiny_step_here():
  config = tiny()
  found = fit.fit(config, jax.devices()[:1])
  assert found['devices'] == 1
  m = config.model
  D, F, A = m.embed_dim, m.mlp_dim, m.heads * m.head_dim
  V, L = m.vocab_size, m.encoder_layers
  assert (m.kv_heads, m.decoder_layers, m.gated) == (m.heads, L, False)
  assert (m.tie_embeddings, config.optimizer.factor_from) == (True, 128)
  assert min(D, F, A) >= 128
  attention, mlp = 4 * D * A, 2 * D * F
  weights = L * (3 * attention + 2 * mlp) + V * D
  small = (5 * L + 2) * D + 2 * m.relative_buckets * m.heads
  assert found['parameters'] == weights + small
  # Rows and columns of what is factored: matrices of 128 and more each way.
  moments = L * (12 * (D + A) + 4 * (D + F)) + V + D + small
  data = DataConfig(**config.data)
  shapes = fit.pipeline.batch_shapes(data, m.family)
  read = [name for name in shapes if not name.endswith('positions')]  # not T5
  batch = sum(np.prod(shapes[name][0], dtype=int) for name in read)
  numbers = weights + small + moments + data.batch * batch
  numbers += 2  # the step, and the updates made; the old cursor is not read
  assert found['arguments'] == 4 * numbers
  # The new state takes the old one's place; the rest are a few scalars.
  taken = found['arguments'] + found['temporary']
  assert found['peak'] == pytest.approx(taken, abs=100_000)
  assert found['temporary'] > found['parameters']
  rows = data.batch
  S, T = (shapes[x][0][0] for x in ('encoder_inputs', 'targets'))
  # By PaLM's formula; the decoder's cross-attention reads S keys.
  products = L * (S * (attention + mlp) + 2 * S * S * A)
  products += L * (T * (attention + mlp) + 2 * T * T * A)
  products += L * (2 * (T + S) * D * A + 2 * T * S * A) + T * D * V
  assert found['flops'] == 6 * rows * products


def test_a_step_that_does_not_fit(monkeypatch):
  """The message is that of TPU's compiler."""

  def refuse(self, *_, **__):
    raise jax.errors.JaxRuntimeError(
      'RESOURCE_EXHAUSTED: Ran out of memory on HBM, 338.22G of 95.74G.\nMore.'
    )

  monkeypatch.setattr(jax.stages.Lowered, 'compile', refuse)
  with pytest.raises(NeedsMoreError) as error:
    fit.fit(tiny(), jax.devices()[:1])
  assert 'needs 338.22 GiB of 95.74 GiB a device' in str(error.value)
  assert 'Not tried yet: --config.model.remat=dots' in str(error.value)
  assert isinstance(error.value, DoesNotFitError)
  plain = error.value.__cause__.__cause__  # what training itself says
  assert 'on HBM, 338.22G of 95.74G. Raise train.accumulate' in str(plain)
  assert '`python -m train.fit` with the same --config' in str(plain)


@pytest.mark.parametrize('bound', [False, True])
def test_a_step_larger_than_its_chip(bound):
  """It is an error too where no compiler says so."""
  chip = dataclasses.replace(chip_named('h100'), memory=2**20)
  found, error = fit._measured(tiny(), jax.devices()[:1], chip, bound)
  assert found['fits'] is False
  assert found['peak'] > found['limit'] == 2**20
  assert 'of 1.0 MiB a device' in str(error)
  chip = dataclasses.replace(chip, memory=2**34)
  found, error = fit._measured(tiny(), jax.devices()[:1], chip, bound)
  assert (found['fits'], error) == (None if bound else True, None)


def run(*arguments):
  """`python -m train.fit` of the tiny T5: status, output, errors."""
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'train.fit', '--config=configs/t5.py:tiny'),
      *('--config.data.source=synthetic', *arguments),
    ],
    cwd=REPOSITORY, text=True, capture_output=True, timeout=300,
  )  # fmt: skip
  return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_the_command(tmp_path):
  drawn = tmp_path / 'a.png'
  status, output, errors = run('--json', f'--plot={drawn}')
  assert (status, errors) == (0, '')
  found = json.loads(output)  # and nothing else
  assert found['fits']
  assert sum(found['memory'].values()) == found['peak']
  assert drawn.stat().st_size > 10_000
  status, output, _ = run('--topology=h100:2x8', '--mesh=data=4,fsdp=4')
  assert status == 0
  assert 'May fit' in output


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--topology=v5p-100'], 'does not exist: there are v5p:2x2x1 (v5p-8)'),
    (['--topology=h100:8', '--mesh=fsdp=3'], '--mesh=fsdp=8 or'),
    (['--topology=h100:8', '--mesh=fsdp=8', '--search=many'], 'search'),
    (['--topology=h100:0'], '--topology=h100:0 has no GPUs'),
    (['--topology=h100:8', '--search'], 'no compiler for --topology=h100:8'),
    (['--search=-1'], '--search=-1 must be 1 or more'),
    (['--sweep', '--plot=a.png'], 'without --search, --plot and --mesh'),
    (['--plot=nowhere/a.png'], 'there is no folder nowhere'),
    (['--config.sharding.topology=v5p-100'], 'sharding.topology=v5p-100 does'),
  ],
)
def test_mistakes_are_one_line(arguments, message):
  status, output, errors = run(*arguments)
  assert (status, output) == (1, '')
  assert errors.startswith('Error: ')
  assert errors.count('\n') == 1
  assert message in errors


@pytest.mark.slow
@NEEDS_COMPILER
def test_a_slice_that_is_not_here():
  config = tiny()
  meshes.apply(config, {'fsdp': 4})
  config.model.attention, config.model.remat = 'xla', 'none'  # nothing twice
  found = fit.fit(config, fit.topology('v5e-4'))
  assert (found['fits'], found['chip']) == (True, 'v5e')
  assert found['memory_from'] == 'buffer assignment'
  assert sum(found['memory'].values()) == found['peak'] < found['limit']
  assert found['executed_over_model'] == pytest.approx(1, abs=0.15)
  assert 'fsdp' in {x['axes'] for x in found['collectives']}
  assert found['estimated_by_compiler'] > 0.3
  assert 0 < found['mfu'] < 1


@pytest.mark.slow
@NEEDS_COMPILER
def test_a_slice_that_is_too_small():
  """The compiler writes its buffers all the same."""
  config = tiny()
  config.data.batch = config.data.streams = 2**15
  config.model.attention = 'xla'
  with pytest.raises(NeedsMoreError) as error:
    fit.fit(config, fit.topology('v5e:2x2'))
  found = error.value.found
  assert found['peak'] > found['limit'] == 15.75 * 2**30
  assert sum(found['memory'].values()) == found['peak']
  assert found['memory']['activations'] > found['peak'] / 2
  assert found['largest'][0]['source'].startswith('models/')
  assert '--config.model.attention=auto' in str(error.value)


@pytest.mark.parametrize(
  ('platform', 'peak'), [('tpu', 70), ('cpu', 50 + 40 - 30 + 20)]
)
def test_peak_memory(platform, peak):
  """A TPU's compiler reports it; elsewhere donated bytes count once."""

  class Memory:
    argument_size_in_bytes = 50
    output_size_in_bytes = 40
    alias_size_in_bytes = 30
    temp_size_in_bytes = 20
    peak_memory_in_bytes = 70

  assert measure.peak(Memory, platform) == peak

"""Runs that begin with another's parameters: configs, checkpoints, origins."""

import json

import jax
import numpy as np

from input_pipeline import pipeline, tokenizing
from input_pipeline.config import DataConfig
from models.build import build
from models.config import TransformerConfig
from tests.helpers import runs
from train.learning.optimizer import make_optimizer
from train.learning.schedules import make_schedule
from train.learning.state import abstract_params, abstract_state, create_state
from train.parallel import sharding
from train.parallel.mesh import make_mesh
from train.runs import folders, warm_start, workdir
from train.runs.checkpoint import Checkpoints

BYTES = {
  'data.tokenizer_kind': 'bytes',
  'data.lowercase': False,
  'model.vocab_size': 300,
}
SHORT = {'train.steps': 4, 'checkpoint.every': 2, 'eval.batches': 1}
PALM = runs.SMALL | {
  'model.kv_heads': 1,
  'model.rope_dim': 8,
  'model.decoder_layers': 1,
}


def config_of(file, arg, *changes):
  config = file.get_config(arg).unlock()
  for some in (runs.CONFIG, SHORT, *changes):
    config.update_from_flattened_dict(some)
  return config.lock()


def parts(config, devices=None):
  """Model, optimizer, abstract state."""
  model = build(TransformerConfig(**config.model))
  schedule = make_schedule(config.schedule, config.train.steps)
  optimizer = make_optimizer(
    config.optimizer, schedule, abstract_params(model)[1]
  )
  shape = abstract_state(
    model,
    optimizer,
    DataConfig(**config.data).cursor_shape,
    make_mesh(config.sharding.mesh, config.sharding.rules, devices),
    sharding.make_rules(config.sharding.rules),
  )
  return model, optimizer, shape


def new_run(folder, config, step=0):
  """Makes a workdir with a checkpoint of a new state; returns the state."""
  model, optimizer, shape = parts(config)
  data_config = DataConfig(**config.data)
  arguments = data_config, config.seed, config.model.vocab_size
  folders.make(str(folder))
  tokenizing.prepare(*arguments, str(folder))
  data = pipeline.open_data(
    *arguments, config.eval.source, str(folder), family=config.model.family
  )
  state = create_state(model, optimizer, shape, data.start(), config.seed + 1)
  state = state.replace(step=state.step + step)
  run = {'config': json.loads(config.to_json()), 'data': data.fingerprint}
  with Checkpoints(str(folder)) as checkpoints:
    checkpoints.save(state, step, run)
  workdir.claim(str(folder), config)
  return jax.device_get(state)


def begun(tmp_path, config, source, **flags):
  """The origin of a run, and the state it begins with."""
  model, optimizer, shape = parts(config)
  origin = warm_start.find(str(tmp_path), config, shape, str(source), **flags)
  cursor = np.zeros(DataConfig(**config.data).cursor_shape, 'int32')
  state = warm_start.create(
    origin, model, optimizer, shape, cursor, config.seed
  )
  return origin, state

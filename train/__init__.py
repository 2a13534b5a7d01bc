"""Everything that runs on the mesh: state, steps, the loop, its programs.

From Python (see examples/):

  from train import open_run, train
  train(config, 'W')                  # a config from configs/, a workdir
  run = open_run('W')                 # its newest checkpoint
  run.model, run.params, run.tokenizer
  run.apply(['A text.'])['logits']
  open_published('bert-base')         # the same of a published checkpoint
  make_writer(run).answers(['Once'])  # what the model writes
  evaluate_run('W')                   # {'step': ..., 'loss': ...}
"""

import importlib
from typing import Any

# What a program needs, and the module that has it. They are imported on first
# use: importing jax takes seconds.
_FOUND_IN = {
  'evaluate_run': 'train.evaluate',
  'make_writer': 'train.generation.making',
  'open_published': 'train.applying',
  'open_run': 'train.runs.opening',
  'train': 'train.loop',
}
__all__ = sorted(_FOUND_IN)


def __getattr__(name: str) -> Any:
  if name in _FOUND_IN:
    return getattr(importlib.import_module(_FOUND_IN[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

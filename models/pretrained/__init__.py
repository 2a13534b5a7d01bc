"""Published checkpoints in Hugging Face layout <-> our parameters.

  config, params = models.pretrained.load(folder)
  models.pretrained.save(config, params, folder)

layout.py says what a layout is and lists them; layouts/ has one file for each.
"""

import importlib
from typing import Any

# Function -> the module that has it. They are imported on first use: `python -m
# models.pretrained` imports this file first, and importing jax takes seconds.
_FOUND_IN = {
  'check': 'models.pretrained.loading',
  'check_save': 'models.pretrained.saving',
  'kept_fields': 'models.pretrained.loading',
  'load': 'models.pretrained.loading',
  'read_config': 'models.pretrained.loading',
  'save': 'models.pretrained.saving',
  'start_token': 'models.pretrained.loading',
}
__all__ = sorted(_FOUND_IN)


def __getattr__(name: str) -> Any:
  if name in _FOUND_IN:
    return getattr(importlib.import_module(_FOUND_IN[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

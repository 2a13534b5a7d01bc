"""Published checkpoints in Hugging Face layout <-> our parameters.

  config, params = models.pretrained.load(folder)
  models.pretrained.save(config, params, folder)

layout.py says what a layout is and lists them; layouts/ has one file for each.
"""

from models.pretrained.loading import (
  check,
  kept_fields,
  load,
  read_config,
  start_token,
)
from models.pretrained.saving import check_save, save

__all__ = [
  'check',
  'check_save',
  'kept_fields',
  'load',
  'read_config',
  'save',
  'start_token',
]

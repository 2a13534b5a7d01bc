"""The config of a run that has begun: `--config=train/begun.py:WORKDIR`.

What commands read where keys are overridden without a --config.
"""

from train.workdir import read_config as get_config

__all__ = ['get_config']

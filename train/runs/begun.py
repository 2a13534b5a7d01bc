"""The config of a run that has begun: `--config=train/runs/begun.py:WORKDIR`.

What commands read where keys are overridden without a --config.
"""

from train.runs.workdir import read_config as get_config

__all__ = ['get_config']

"""The config of a workdir, as a config file: train/runs/begun.py:WORKDIR.

Commands use it when keys are overridden without --config.
"""

from train.runs.workdir import read_config as get_config

__all__ = ['get_config']

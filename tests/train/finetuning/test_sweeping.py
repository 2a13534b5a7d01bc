"""Flags that the processes of `train.finetune --jobs` get."""

import pytest

from train.finetuning import sweeping

OURS = {
  'grid': 'schedule.learning_rate=1e-3,1e-4',
  'jobs': '2',
  'seeds': '3',
  'workdir': '/tmp/runs',
}


@pytest.mark.parametrize('dash', ['-', '--'])
@pytest.mark.parametrize('spaced', [False, True])
def test_flags_that_say_what_to_run_are_left_out(dash, spaced):
  """In both spellings that absl reads, with their values."""
  shared = ['--config', 'finetune/bert.py:task=glue/rte', '--from=/tmp/run',
            '--config.data.batch', '8', '--noscratch']  # fmt: skip
  args = []
  for name, value in OURS.items():
    flag = f'{dash}{name}'
    args += [flag, value] if spaced else [f'{flag}={value}']
  args += shared
  args += ['--grid', 'data.batch=8,16']  # a flag may be given twice
  assert sweeping.shared_flags(args) == shared


def test_flags_whose_names_only_begin_alike_are_kept():
  args = ['--workdirs=a', '--config.data.jobs', '--gridded', 'x']
  assert sweeping.shared_flags(args) == args

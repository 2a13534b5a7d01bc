"""Parts of the devices: none in two parts, none left out."""

import pytest

from configs.commands.command import UserError
from train.sweeping import partition

GPUS = {
  'platform': 'gpu', 'devices': 8, 'processes': 1,
  'version': 'PJRT C API\ncuda 12090',
}  # fmt: skip
TPUS = {'platform': 'tpu', 'devices': 4, 'processes': 1, 'version': 'libtpu'}


def test_gpus():
  assert partition.divided(2, GPUS) == [
    {'CUDA_VISIBLE_DEVICES': '0,1,2,3'},
    {'CUDA_VISIBLE_DEVICES': '4,5,6,7'},
  ]
  # Of those that this process may use.
  assert partition.divided(2, GPUS | {'devices': 2}, '5,GPU-ab') == [
    {'CUDA_VISIBLE_DEVICES': '5'},
    {'CUDA_VISIBLE_DEVICES': 'GPU-ab'},
  ]


def test_tpus():
  one, two = partition.divided(2, TPUS)
  assert one['TPU_VISIBLE_CHIPS'] == '0,1'
  assert two['TPU_VISIBLE_CHIPS'] == '2,3'
  assert one['TPU_CHIPS_PER_PROCESS_BOUNDS'] == '1,2,1'
  assert one['TPU_PROCESS_BOUNDS'] == two['TPU_PROCESS_BOUNDS'] == '1,1,1'
  assert one['TPU_PROCESS_PORT'] != two['TPU_PROCESS_PORT']
  four = partition.divided(4, TPUS)
  assert [x['TPU_VISIBLE_CHIPS'] for x in four] == ['0', '1', '2', '3']


def test_cpus(monkeypatch):
  """Each run has what it would have alone; a process says what there is."""
  assert partition.parts(1) == [{}]
  monkeypatch.setenv('XLA_FLAGS', '--xla_force_host_platform_device_count=2')
  found = partition.look()
  assert (found['platform'], found['devices']) == ('cpu', 2)
  assert partition.divided(3, found) == [{}, {}, {}]


@pytest.mark.parametrize(
  ('name', 'value'),
  [('TPU_WORKER_HOSTNAMES', 'a,b'), ('SLURM_STEP_NUM_TASKS', '2')],
)
def test_several_hosts(monkeypatch, name, value):
  monkeypatch.setenv(name, value)
  with pytest.raises(UserError, match='one of 2 hosts .* --print=slurm'):
    partition.parts(1)


@pytest.mark.parametrize(
  ('jobs', 'found', 'message'),
  [
    (3, GPUS, 'no equal parts of the 8 GPUs here: take 1, 2, 4, 8'),
    (16, GPUS, 'take 1, 2, 4, 8'),
    (3, TPUS, 'the 4 TPU chips here: take 1, 2, 4'),
    (2, GPUS | {'version': 'rocm 6'}, 'no parts are known of gpu devices'),
    (2, TPUS | {'processes': 4}, 'of 4 hosts. Use --jobs=1'),
  ],
)
def test_no_such_parts(jobs, found, message):
  with pytest.raises(ValueError, match=message):
    partition.divided(jobs, found)
  with pytest.raises(ValueError, match='--jobs=0 must be at least 1'):
    partition.parts(0)

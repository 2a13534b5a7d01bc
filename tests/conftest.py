"""Eight devices on any machine. This runs before anything imports jax."""

import gc
import os
import signal
from importlib import import_module, metadata, util

os.environ['JAX_PLATFORMS'] = 'cpu'
# Threads of XLA. Devices that wait for one another in a collective hold one
# each; with as many as there are devices or cores, all may wait for ever.
os.environ['NPROC'] = '64'
os.environ['XLA_FLAGS'] = ' '.join(
  (
    os.environ.get('XLA_FLAGS', ''),
    '--xla_force_host_platform_device_count=8',
    # Tests compile much and compute little. XLA's own passes run all the same;
    # only the machine code is less polished.
    '--xla_backend_optimization_level=0',
    # A third of the time to compile; later versions end at an unknown flag.
    '--xla_cpu_use_fusion_emitters=false'
    if metadata.version('jaxlib').startswith('0.10.')
    else '',
  )
).strip()

import jax
import pytest

# As commands do: TensorFlow does not log errors that are raised anyway.
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'
# As commands do: it does not remember what it has seen in a bucket.
os.environ['GCS_STAT_CACHE_MAX_AGE'] = '0'

# A shell's background jobs ignore Ctrl-C; programs that tests start would too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

# A part of torch's builds for GPUs, which imports it late: after TensorFlow
# that ends the process.
if util.find_spec('triton'):
  import_module('triton')

# Tracing makes many objects and little garbage, and jax has a callback at each
# collection: with Python's own thresholds they take a fifth of the time.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True, scope='module')
def clear_caches():
  """Drops jax's compiled programs after each module: the next has others."""
  yield
  jax.clear_caches()

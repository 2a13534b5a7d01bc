"""What a measurement ran on: the machine, the versions, the day."""

import datetime
import importlib.metadata
import os
import platform

PACKAGES = (
  'jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy', 'tensorflow',
  'tensorflow-cpu', 'sentencepiece', 'torch', 'transformers',
)  # fmt: skip


def describe():
  """Processor, cores, memory, system, versions, date and load, JSON-able."""
  versions = {'python': platform.python_version()}
  for package in PACKAGES:
    try:
      versions[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      continue
  return {
    'processor': _processor(),
    'cores': len(os.sched_getaffinity(0)),
    'memory_gib': round(_memory() / 2**30, 1),
    'system': f'{platform.system()} {platform.machine()}',
    'load': round(os.getloadavg()[0], 2),
    'versions': versions,
    'date': datetime.datetime.now(datetime.UTC).date().isoformat(),
  }


def _processor():
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      names = [line for line in file if line.startswith('model name')]
  except OSError:
    names = []
  return names[0].split(':')[1].strip() if names else platform.processor()


def _memory():
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')

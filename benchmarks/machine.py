"""What a measurement ran on: the machine, the versions, the day."""

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path

from input_pipeline.sources import paths

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


def write(out: Path, known: list[str], results: dict[str, dict]) -> None:
  """Puts results and what they ran on into a file of results by name.

  Those of other `known` names that the file holds stay as they are.
  """
  out.parent.mkdir(parents=True, exist_ok=True)
  old = json.loads(out.read_text()) if out.exists() else {}
  for found in results.values():
    found['machine'] = describe()
  runs = {name: results.get(name, old.get(name)) for name in known}
  runs = {name: found for name, found in runs.items() if found}
  paths.write(out, (json.dumps(runs, indent=2) + '\n').encode())
  print(f'Wrote {out}')


def _processor():
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      names = [line for line in file if line.startswith('model name')]
  except OSError:
    names = []
  return names[0].split(':')[1].strip() if names else platform.processor()


def _memory():
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')

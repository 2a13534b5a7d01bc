"""The reference's log-probabilities of all answers, computed once.

The reference of a run is the model that it begins with. Before the first step
it gives each answer of the training and of the evaluation split a number. They
are in WORKDIR/reference/, beside what they belong to; a run that resumes reads
them again, to the bit.
"""

import io
import json
import os
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from configs.commands import terminal
from configs.differences import differences
from input_pipeline import pipeline
from input_pipeline.objectives import features, preferences
from input_pipeline.sources import paths
from input_pipeline.sources.preferences import Preferences
from train.aligning import criteria
from train.aligning.methods import METHODS
from train.learning.state import TrainState
from train.parallel import compilation, processes
from train.parallel.sharding import padded
from train.setup import Setup

FOLDER = 'reference'
NAME = 'fingerprint.json'
# Keys of the data that decide which tokens an answer has.
KEYS = 'objective', 'length', 'target_length', 'start', 'bos'
BLOCK = 1024  # examples that are encoded together


def needed(config: ConfigDict) -> bool:
  """Whether the run's method reads a reference."""
  method = config.align.method
  return bool(method) and METHODS[method].reference


def prepare(
  setup: Setup, data: pipeline.Data, folder: str, state: TrainState | None
) -> None:
  """Gives the data the reference's numbers; computes them if they are missing.

  Args:
    setup: of the run.
    data: its data, whose rows have the numbers from then on.
    folder: the workdir.
    state: the one that the run begins with, whose parameters are those of the
      reference. None: the run has trained.

  Raises:
    ValueError: a run that has trained lacks its numbers, or they belong to
      other data.
  """
  if not needed(setup.config):
    return
  sources = _sources(data)
  place, wanted = os.path.join(folder, FOLDER), _fingerprint(data)
  if state is not None:
    processes.doing('computing the log-probabilities of the reference')
    with setup.on_mesh():
      params = setup.tuning.applied(state.params)
      found = [_compute(setup, data, params, source) for source in sources]
    if jax.process_index() == 0:
      _write(place, found, wanted)
      count = sum(np.isfinite(x[:, 0]).sum() for x in found)
      terminal.say(f'{place}: the reference has read {count:,} examples.')
  else:
    found = _read(place, wanted, len(sources))
  _give(data, sources, found)


def attach(data: pipeline.Data, folder: str, config: ConfigDict) -> None:
  """Gives the data of a run the numbers that lie in its workdir.

  Raises:
    ValueError: they are missing, or belong to other data.
  """
  if needed(config):
    sources, place = _sources(data), os.path.join(folder, FOLDER)
    _give(data, sources, _read(place, _fingerprint(data), len(sources)))


def _sources(data: pipeline.Data) -> list[Preferences]:
  """Those of both splits, each once: what is held out has the same one."""
  found = {id(x.source): x.source for x in (*data.corpora, *data.evaluated)}
  return list(found.values())


def _give(data, sources, found):
  numbers = {
    id(source): own for source, own in zip(sources, found, strict=True)
  }
  for corpus in (*data.corpora, *data.evaluated):
    corpus.answers.reference = numbers[id(corpus.source)]


def _fingerprint(data: pipeline.Data) -> dict:
  """What decides the numbers, beside the parameters."""
  found = {
    'data': {key: getattr(data.config, key) for key in KEYS},
    'tokenizer': data.tokenizer.fingerprint,
    'sources': [source.fingerprint for source in _sources(data)],
  }
  if data.config.objective == 'desirable':
    # Which answer stands beside another: see sources/preferences.py.
    found['data']['answers_beside'] = 'of both kinds'
  if data.template:
    found['data']['chat_template'] = data.template.fingerprint
  return json.loads(json.dumps(found))


def _compute(setup, data, params, source):
  """float32 [N,2] of the examples of a source; NaN: a skipped one."""
  found = np.full([len(source.examples), 2], np.nan, np.float32)
  model = setup.model.clone(loss_chunk=setup.config.train.loss_chunk)
  everywhere = NamedSharding(setup.mesh, PartitionSpec())
  step = compilation.jit(
    lambda params, batch: criteria.log_probs(model, params, batch)[0],
    setup.mesh,
    out_shardings=everywhere,
  )
  rows = padded([setup.data.batch], setup.least_rows)[0]
  for numbers, batch in _batches(data, source, rows):
    own = {name: x[setup.rows_of(rows)] for name, x in batch.items()}
    (placed,) = setup.place([own], rows)
    found[numbers] = jax.device_get(step(params, placed))[: len(numbers)]
  return found


def _batches(
  data: pipeline.Data, source: Preferences, size: int
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
  """(numbers of the examples, their batch of `size` rows), in order."""
  good = [x for x in source.examples if not isinstance(x, ValueError)]
  answers = preferences.Answers(
    data.config, data.family, template=data.template
  )
  shapes, rows, numbers = data.shapes, [], []
  for first in range(0, len(good), BLOCK):
    block = good[first : first + BLOCK]
    encoded = answers.encode(block, data.tokenizer).rows
    for example, own in zip(block, encoded, strict=True):
      rows += own
      numbers += [example.number] * len(own)
  for first in range(0, len(rows), size):
    own = rows[first : first + size]
    whole = preferences.lay_out(own, shapes)
    padding = features.padding(shapes, size - len(own))
    batch = features.split(np.concatenate([whole, padding]), shapes)
    yield numbers[first : first + size], batch


def _write(place, found, fingerprint):
  """Writes the numbers, and what they belong to last."""
  paths.make_folder(place)
  for n, numbers in enumerate(found):
    file = io.BytesIO()
    np.save(file, numbers)
    paths.write(os.path.join(place, f'{n}.npy'), file.getvalue())
  text = json.dumps(fingerprint, indent=1, sort_keys=True)
  paths.write(os.path.join(place, NAME), f'{text}\n'.encode())


def _read(place, fingerprint, count):
  """The numbers, if they belong to the data of this fingerprint."""
  names = [NAME, *(f'{n}.npy' for n in range(count))]
  missing = [x for x in names if not paths.exists(os.path.join(place, x))]
  if missing:
    raise ValueError(
      f'{place} lacks {", ".join(missing)}: the log-probabilities of the '
      'reference, which the run computed before its first step. Bring the '
      'folder back, or begin another run in another --workdir.'
    )
  there = json.loads(paths.read(os.path.join(place, NAME)))
  changed = [key for key, *_ in differences(there, fingerprint)]
  if changed:
    raise ValueError(
      f'{place} has log-probabilities of other data: {", ".join(changed)} '
      'differ. Put the old data back, or begin another run in another '
      '--workdir.'
    )
  read = [paths.read(os.path.join(place, name)) for name in names[1:]]
  return [np.load(io.BytesIO(x)) for x in read]

"""Mixtures of sources: shares, places, evaluation, caches."""

import dataclasses
import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from input_pipeline import choices, pipeline, prepare
from input_pipeline.streams import cursors, fingerprints, mixture
from input_pipeline.tasks import catalog
from tests.helpers import labelled
from tests.helpers.caches import settings
from tests.helpers.corpora import assert_same
from tests.helpers.mixtures import (
  COUNTS,
  RATES,
  ROWS,
  VOCABULARY,
  counted,
  last_cursor,
  mixed,
  take,
  whole_evaluation,
)
from tests.helpers.objectives import PAIRS, masked_config, pairs_config


def sources_of(cursors):
  """Which source each row is of: the one whose place moved."""
  moved = np.diff(cursors[:, 1:].reshape(len(cursors), -1, 4), axis=0)
  moved = moved.any(axis=2)
  assert (moved.sum(axis=1) == 1).all()
  return moved.argmax(axis=1)


def test_shares_against_the_binomial():
  """A wrong rate of 1% is seen; a right one fails once in a million seeds."""
  rates = [0.6, 0.3, 0.0999, 0.0001]
  count = 2000 * mixture.DRAWN
  drawn = np.concatenate(
    [mixture.draw(7, n % 2, rates, n // 2) for n in range(2000)]
  )
  for source, rate in enumerate(rates):
    z = ((drawn == source).sum() - count * rate) / np.sqrt(
      count * rate * (1 - rate)
    )
    assert abs(z) < 4.9, (source, z)
  # No row depends on the one before: runs are as long as by chance.
  same = (drawn[1:] == drawn[:-1]).mean()
  expected = np.square(rates).sum()
  assert abs(same - expected) < 4.9 * np.sqrt(expected / count)
  first, second = drawn.reshape(-1, 2, mixture.DRAWN).swapaxes(0, 1)
  assert (first != second).any()


def test_rows_of_each_source_in_turn(open_mixture):
  """A source's rows in a mixture are its own stream, in order, none lost."""
  data = open_mixture()
  readers = [part.reader(8) for part in data.corpora]
  mixed_rows = data._padded(readers, 2, data.start()[2], [])
  rows = np.concatenate(list(itertools.islice(mixed_rows, 5)))
  parts = pipeline.features.split(rows, data.shapes)
  passed = np.concatenate([data.start()[2:3], parts['cursor']])
  np.testing.assert_array_equal(passed[:, 0], np.arange(len(passed)))
  which = sources_of(passed)
  np.testing.assert_array_equal(
    which,
    np.concatenate(
      [mixture.draw(5, 2, list(RATES.values()), n) for n in range(5)]
    ),
  )
  for source, share in enumerate(RATES.values()):
    own = rows[which == source]
    assert abs(len(own) - share * len(rows)) < 5 * np.sqrt(len(rows)) / 2
    alone = data._source_rows(readers, source, 2, cursors.START)
    alone = list(itertools.islice(alone, 200))
    expected = np.concatenate(alone)[: len(own)]
    width = np.prod(data.shapes['cursor'][0])
    np.testing.assert_array_equal(own[:, :-width], expected[:, :-width])
    places = pipeline.features.split(expected, data.shapes)['cursor'][:, :4]
    columns = slice(1 + 4 * source, 5 + 4 * source)
    np.testing.assert_array_equal(
      parts['cursor'][which == source][:, columns], places
    )


def test_each_kind_of_draw_has_a_seed_of_its_own(open_mixture, monkeypatch):
  """Documents, places, shards, chunks and sources draw by different seeds.

  Evaluation draws differently again.
  """
  found, own = {}, np.random.default_rng

  def recorded(seed=None):
    if isinstance(seed, list):  # the frame between is seeds.generator
      place = sys._getframe(2).f_code
      found.setdefault((place.co_filename, place.co_name), set()).add(
        tuple(seed)
      )
    return own(seed)

  monkeypatch.setattr(np.random, 'default_rng', recorded)
  synthetic = {'source': 'synthetic', 'tokenizer': '', 'holdout': 10}
  for data in open_mixture(), open_mixture(**synthetic):
    take(data, 2)
    next(data.evaluation(ROWS, 16))
  kinds = {name: {x[1] for x in drawn} for (_, name), drawn in found.items()}
  assert len(kinds) == len(found) == 5
  # One place draws a chunk's rows and how its tasks are put into words.
  assert sorted(kinds.values(), key=min) == [{0}, {1}, {2}, {3, 5}, {4}]
  # Each stream's sources, each epoch's shards, each chunk's rows.
  assert {seed[0] for drawn in found.values() for seed in drawn} == {5}
  drawn = {name: drawn for (_, name), drawn in found.items()}
  assert {seed[2] for seed in drawn['draw']} == {0, 1, 2, 3}
  assert {seed[2] for seed in drawn['_rows']} == {0, 1}


def test_resuming_anywhere(open_mixture):
  data = open_mixture()
  whole = take(data, 60)
  assert whole[0]['cursor'].shape == (16, 13)
  assert last_cursor(whole[-1])[:, 1::4].max() > 0  # an epoch is over
  for done in 1, 2, 31, 32, 33, 50:
    rest = take(data, 3, last_cursor(whole[done - 1]))
    for first, second in zip(whole[done : done + 3], rest, strict=True):
      assert_same(first, second)


def test_resuming_from_every_row(open_mixture):
  data, rows = open_mixture(), np.arange(4)
  whole = take(data, 70, rows=rows)
  flat = {n: np.concatenate([b[n] for b in whole]) for n in whole[0]}
  cursor = data.start()
  for row in [*range(6), *range(120, 136), *range(254, 258)]:
    cursor[0] = flat['cursor'][row]
    (batch,) = take(data, 1, cursor, rows)
    assert_same(batch, {n: v[row + 1 : row + 5] for n, v in flat.items()})


ONE_OF_EACH_FAMILY = (
  ('sentence_pairs', 'encoder'),
  ('mlm', 'electra'),
  ('ul2', 'encoder_decoder'),
  ('causal', 'decoder'),
  ('causal', 'rwkv'),
)


@pytest.mark.parametrize(
  ('objective', 'family'),
  [
    *((o, 'encoder_decoder') for o in PAIRS),
    *((o, 'decoder') for o in ('causal', *PAIRS)),
    ('causal', 'rwkv'),
    *((o, 'encoder') for o in choices.MASKED),
    ('mlm', 'electra'),
  ],
)
def test_every_objective_on_hosts(sources, objective, family):
  """Hosts see the same rows, from the start and resumed.

  One objective of each family runs on all hosts of 1, 2 and 4; the others run
  on one host of 4.
  """
  make = pairs_config if objective in PAIRS else masked_config
  settings = make(
    objective, source='', mixture=mixed(sources), tokenizer_kind='bytes',
    holdout=10, length=48 if objective != 'ul2' else 64,
  )  # fmt: skip
  if objective == 'ul2':
    settings = dataclasses.replace(settings, sentinels=30)
  data = pipeline.open_data(settings, 5, VOCABULARY, family=family)
  hosts = [ROWS[8:12]]
  if (objective, family) in ONE_OF_EACH_FAMILY:
    hosts = [ROWS, *np.split(ROWS, 2), *np.split(ROWS, 4)]
  whole = take(data, 3)
  names = {'targets', 'weights', 'segments'}
  assert all(batch[name].any() for batch in whole for name in names)
  for rows in hosts:
    for start, expected in (
      (data.start(), whole[:2]),
      (last_cursor(whole[0]), whole[1:]),
    ):
      for batch, every in zip(
        take(data, 2, start, rows), expected, strict=True
      ):
        assert_same(batch, {n: v[rows] for n, v in every.items()})


def test_a_mixture_of_one(open_mixture, sources):
  """A mixture of one has the source's documents; only its cursor differs."""
  data = open_mixture(mixture=((f'json:{sources}/b*.gz', 1.0),))
  assert take(data, 1)[0]['cursor'].shape == (16, 5)
  assert data.report()['documents_0'] == data.report()['documents']


def test_evaluation_of_all_sources(open_mixture, sources):
  """Evaluation reads each held-out document of each source once."""
  data = open_mixture()
  alone = [open_mixture(source=name) for name, _ in mixed(sources)]
  expected = sum(counted(whole_evaluation(other)) for other in alone)
  found = counted(whole_evaluation(data))
  np.testing.assert_array_equal(found, expected)
  held_out = sum(n // 10 for counts in COUNTS.values() for n in counts)
  assert found[data.tokenizer.eos] == held_out
  other = open_mixture(f'json:{sources}/c*.gz')
  found = counted(whole_evaluation(other))[data.tokenizer.eos]
  assert found == sum(COUNTS['c'])


def test_reports_and_fingerprint(open_mixture, sources):
  data = open_mixture()
  take(data, 20)
  report = data.report()
  own = [report[f'documents_{n}'] for n in range(3)]
  assert min(own) > 0
  assert sum(own) == report['documents']
  assert json.loads(json.dumps(data.fingerprint)) == data.fingerprint
  other = open_mixture(mixture=mixed(sources, RATES | {'a': 0.375, 'b': 0.5}))
  changes = fingerprints.changes(data.fingerprint, other.fingerprint)
  assert changes == [
    'data.mixture[0][1]: 0.5, now 0.375',
    'data.mixture[1][1]: 0.375, now 0.5',
  ]


def test_caches_mix(open_mixture, sources, tokenizer, tmp_path):
  """Caches that are prepared and trained on together have the texts' rows."""
  config = settings('', data__tokenizer=tokenizer)
  config.data.mixture = mixed(sources)
  made = prepare.prepare(config, str(tmp_path), jobs=1)
  assert made == [f'cache:{tmp_path}/{n}' for n in range(3)]
  rates = RATES.values()
  cached = open_mixture(
    mixture=tuple(zip(made, rates, strict=True)), tokenizer=''
  )
  for first, second in zip(
    take(open_mixture(), 20), take(cached, 20), strict=True
  ):
    assert_same(first, second)
  # A cache and a text, and the cache's tokenizer.
  pairs = ((made[0], 0.5), (f'json:{sources}/b*.gz', 0.5))
  take(open_mixture(mixture=pairs, tokenizer=''), 2)


def test_tasks_of_one_name_are_refused(tmp_path):
  """Scores are kept by the name of a task."""
  names = [labelled.write_task(tmp_path / x) for x in ('a', 'b')]
  corpora = [
    SimpleNamespace(
      key=f'data.mixture[{n}]', name=name,
      source=SimpleNamespace(task=catalog.find(name.removeprefix('task:'))),
    )
    for n, name in enumerate(names)
  ]  # fmt: skip
  with pytest.raises(ValueError, match='are both named tsv/praise'):
    mixture.check_names(corpora)
  mixture.check_names(corpora[:1])


def test_missing_source(open_mixture, sources):
  pairs = ((f'json:{sources}/a*.gz', 0.5), ('text:/nothing/*', 0.5))
  with pytest.raises(ValueError, match=r"mixture\[1\]='text:/nothing/\*' m"):
    open_mixture(mixture=pairs)
  with pytest.raises(ValueError, match=r'leave nothing of data\.mixture\[0\]='):
    open_mixture(holdout=0)

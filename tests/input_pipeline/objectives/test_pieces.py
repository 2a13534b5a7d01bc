"""Documents cut into pieces."""

import itertools

import numpy as np
import pytest

from input_pipeline.objectives import pieces
from tests.helpers.objectives import piece


@pytest.mark.parametrize('concatenate', [True, False])
def test_cut(concatenate):
  documents = [piece(n, rows=1)[0] + 1000 * n for n in (5, 12, 3, 8, 4, 5)]
  found = pieces.cut(documents, 4, concatenate)
  assert [p.shape[1] for p in found] == sorted(p.shape[1] for p in found)
  assert all(p.shape[1] <= 4 for p in found)
  flat = sorted(np.concatenate([p.ravel() for p in found]).tolist())
  assert flat == sorted(np.concatenate(documents).tolist())
  short = sum(len(p) for p in found if p.shape[1] < 4)
  assert short == (1 if concatenate else 3)
  if not concatenate:
    for row in itertools.chain(*found):
      assert len({token // 1000 for token in row.tolist()}) == 1
  assert pieces.cut([], 4, concatenate) == []


def test_random_part():
  tokens = np.arange(10)
  rng = np.random.default_rng(0)
  parts = {tuple(pieces.random_part(tokens, rng, 4)) for _ in range(50)}
  assert parts == {(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)}
  assert pieces.random_part(tokens, rng, 10) is tokens

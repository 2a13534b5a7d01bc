"""Who is hung, by what each process last reported."""

import math

import pytest

from train.parallel.verdicts import PATIENCE, Report, hung

LIMIT = 60.0


def at(count, idle=0.0, long=False, silent=0.0, longest=0.0):
  return Report(count, f'step {count}', long, idle, longest, silent)


def guilty(*reports, limit=LIMIT):
  return hung(dict(enumerate(reports)), limit)[0]


def test_who_is_behind_is_hung():
  assert guilty(at(8, 70), at(7, 70), at(8, 70)) == [1]
  assert guilty(at(8, 70), at(7, 70), at(7, 70)) == [1, 2]
  assert guilty(at(9, 70), at(8, 70), at(7, 70)) == [2]


def test_others_have_time():
  assert guilty(at(8, 59), at(7, 59)) == []
  assert guilty(at(8, 70), at(7, 59)) == []  # it came there not long ago
  assert guilty(at(8, 70), at(7, 70), at(7, 5)) == []
  assert guilty(at(8, 700), at(7, 700), limit=0) == []


def test_others_have_waited_for_it():
  """All compiled for long, and some are ready now."""
  long = 2 * PATIENCE * LIMIT
  assert guilty(at(8, 1), at(7, long, long=True)) == []
  assert guilty(at(8, 5), at(7, 70), at(8, 59)) == []
  assert guilty(at(8, 5), at(7, 70), at(8, 61)) == [1]
  end = Report(math.inf, 'the end', True, 3)
  assert guilty(end, at(7, long, long=True)) == []


def test_long_work_has_more():
  long = PATIENCE * LIMIT
  assert guilty(at(8, long + 1), at(7, long - 1, long=True)) == []
  assert guilty(at(8, long + 1), at(7, long + 1, long=True)) == [1]


def test_a_long_step_of_all_is_none():
  assert guilty(at(8, 500), at(8, 500)) == []
  both = hung({0: at(8, 601), 1: at(8, 605)}, LIMIT)
  assert both[0] == [0, 1]
  assert 'in step 8 for 10m01s, and none is behind' in both[1]
  # Some models have such steps.
  assert guilty(at(8, 601), at(8, 605, longest=61)) == []
  assert guilty(at(8, 615), at(8, 615, longest=61)) == [0, 1]
  # Compiling for hours is no hang of all.
  assert guilty(at(8, 9e9, long=True), at(8, 9e9, long=True)) == []


@pytest.mark.parametrize('long', [True, False])
def test_silence(long):
  """Though it is not behind: it may have stopped within a step."""
  factor = PATIENCE if long else 1
  quiet = at(8, silent=factor * LIMIT + 1, long=long)
  assert guilty(at(8), quiet) == [1]
  assert guilty(at(8), at(8, silent=factor * LIMIT - 1, long=long)) == []


def test_one_that_has_ended_waits_for_the_rest():
  end = Report(math.inf, 'the end', True, 9e9)
  assert guilty(end, at(7, 61)) == [1]
  assert guilty(end, at(7, 59)) == []
  assert guilty(end, end) == []

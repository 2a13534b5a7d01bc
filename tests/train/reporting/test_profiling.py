"""Which steps `--profile` asks for, and which of them are left."""

import pytest

from train.reporting import profiling


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('5', 'must be FROM:TO'),
    ('5:x', 'must be FROM:TO'),
    ('0:3', 'counted from 1'),
    ('8:5', 'must not come after'),
    ('8:21', r'train\.steps is 20'),
  ],
)
def test_ranges_to_profile_that_are_none(text, message):
  with pytest.raises(ValueError, match=message):
    profiling.parse(text, 20)


def test_ranges_to_profile():
  assert profiling.parse('', 20) is None
  asked = profiling.parse('5:20', 20)
  assert asked == (5, 20)
  assert profiling.left(asked, 4) == (5, 20)
  assert profiling.describe(asked, 4) == ''
  assert profiling.left(asked, 9) == (10, 20)
  assert profiling.describe(asked, 9).endswith('10 to 20 are profiled.')
  assert profiling.left(asked, 20) is None
  assert 'past, and nothing is profiled' in profiling.describe(asked, 20)

"""Rewards: rules, functions and unit tests, and what goes wrong in them."""

import numpy as np
import pytest

from train.reinforcing import rules

SECONDS, SIZE = 3.0, 2**30
OWN = """
import os, time

def length(prompt, answer, target):
  print('noise that must not reach the replies')
  return len(answer)

def odd(prompt, answer, target):
  match answer:
    case 'hang': time.sleep(60)
    case 'raise': raise KeyError('missing')
    case 'nan': return float('nan')
    case 'two': return [1.0, 2.0]
    case 'text': return 'high'
    case 'exit': os._exit(3)
    case 'memory': return len(bytearray(2**32))
  return 1

number = 7
"""


@pytest.fixture(scope='module')
def own(tmp_path_factory):
  path = tmp_path_factory.mktemp('rewards') / 'own.py'
  path.write_text(OWN)
  return path


def scored(name, answers, seconds=SECONDS):
  rule = rules.open_rule(name, seconds, SIZE)
  try:
    return rule.score(answers)
  finally:
    rule.close()


def test_rules():
  answers = [('Q', ' 12 ', '12'), ('Q', '12.0', '12'), ('Q', 'no', '12')]
  assert scored('exact', answers) == ([1.0, 0.0, 0.0], [])
  more = [*answers, ('Q', '1+2=3. The answer is 1,204.', '1204')]
  assert scored('number', more) == ([1.0, 1.0, 0.0, 1.0], [])


def test_a_pattern_may_hang():
  answers = [('Q', 'a cat', r'\bcat\b'), ('Q', 'concat', r'\bcat\b')]
  hangs = 'Q', 'a' * 40 + 'b', r'^(a+)+$'
  broken = 'Q', 'x', '('
  found, failures = scored('regex', [*answers, hangs, broken, *answers], 1.0)
  np.testing.assert_array_equal(found, [1, 0, np.nan, np.nan, 1, 0])
  assert 'more than 1 s' in failures[0]
  assert 'unterminated' in failures[1]
  assert scored('regex', [('Q', 'x', '')])[1] == ['its prompt has no target']


def test_a_function_of_the_users(own):
  assert scored(f'{own}:length', [('Q', 'four', '')]) == ([4.0], [])


def test_failures_are_counted_and_the_rest_goes_on(own):
  names = 'raise', 'nan', 'two', 'text', 'exit', 'memory', 'hang', 'fine'
  answers = [('Q', name, '') for name in names]
  found, failures = scored(f'{own}:odd', answers, 1.0)
  np.testing.assert_array_equal(found, [*[np.nan] * 7, 1])
  for part, why in zip(
    ('KeyError', 'returned nan', 'list of 2', 'a str of 4', 'status 3',
     'MemoryError', 'more than 1 s'),
    failures, strict=True,
  ):  # fmt: skip
    assert part in why


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('exakt', "'exakt' is unknown. Did you mean 'exact'"),
    ('/none.py:f', 'there is no file /none.py'),
    ('OWN:missing', 'defines no function missing'),
    ('OWN:number', 'defines no function number'),
  ],
)
def test_a_rule_that_cannot_be(own, name, message):
  with pytest.raises(ValueError, match=message):
    rules.open_rule(name.replace('OWN', str(own)), SECONDS, SIZE)


def test_unit_tests():
  tests = 'assert add(1, 2) == 3\nassert add(-1, 1) == 0'
  programs = {
    'def add(a, b):\n  return a + b': 1,
    'def add(a, b):\n  return a - b': 0,
    'def add(a, b) return': 0,
    'while True: pass': 0,
    'x = bytearray(2**33)\ndef add(a, b):\n  return a + b': 0,
    # A program that ends before the tests has not passed them.
    'raise SystemExit(0)': 0,
    'import os\nos._exit(0)': 0,
    'So:\n```python\ndef add(a, b):\n  return a + b\n```\nDone.': 1,
  }
  answers = [('Q', program, tests) for program in programs]
  found, failures = scored('tests', answers, 2.0)
  assert found == [*programs.values()]
  assert not failures
  found, failures = scored('tests', [('Q', 'x = 1', ' ')])
  assert np.isnan(found).all()
  assert failures == ['its prompt has no target']


def test_rewards_are_checked():
  found = rules.checked([1, np.nan, np.inf], ['why'], 3, 'x')
  np.testing.assert_array_equal(found, np.float32([1, np.nan, np.nan]))
  with pytest.raises(rules.RewardError, match='shape .2. for 3 answers'):
    rules.checked([1, 2], [], 3, 'x')
  with pytest.raises(rules.RewardError, match='none of 2 .* reason: it sle'):
    rules.checked([np.nan] * 2, ['it slept', 'b'], 2, 'x')

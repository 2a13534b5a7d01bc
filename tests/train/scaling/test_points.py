"""Tables of runs, and what is wrong with them."""

import numpy as np
import pytest

from train.scaling.points import read_csv


@pytest.fixture
def table(tmp_path):
  def write(text):
    path = tmp_path / 'runs.csv'
    path.write_text(text, encoding='utf-8')
    return str(path)

  return write


def test_the_third_size_is_computed(table):
  found = read_csv(table('N,C,loss\n1e6,6e13,4.0\n2e6,6e13,3.9\n'))
  np.testing.assert_allclose(found.tokens, [1e7, 5e6])
  found = read_csv(table('params,tokens,Loss\n1e6,1e7,4.0\n'))
  np.testing.assert_allclose(found.flops, [6e13])
  assert found.notes == ('FLOPs are 6 N D.',)
  found = read_csv(table('flops,tokens,loss\n6e13,1e7,4.0\n'))
  np.testing.assert_allclose(found.params, [1e6])


def test_units_of_the_header_are_read_and_noted(table):
  text = 'Model Size (M),Training tokens (billion),loss (nats)\n70,1.4,3.0\n'
  found = read_csv(table(text))
  assert found.params[0] == 70e6
  assert found.tokens[0] == 1.4e9
  assert "'Model Size (M)' is read in units of 1e+06." in found.notes


def test_losses_in_bits(table):
  found = read_csv(table('N,D,loss (bits per token)\n1e6,1e7,3.0\n'))
  assert found.loss[0] == pytest.approx(3 * np.log(2))


def test_columns_and_units_may_be_named(table):
  path = table('size,seen,final\n70,1.4,3.0\n')
  names = {'params': 'size', 'tokens': 'seen', 'loss': 'final'}
  found = read_csv(path, names, {'params': 1e6, 'tokens': 1e9})
  assert found.flops[0] == pytest.approx(6 * 70e6 * 1.4e9)


def test_flops_by_another_convention_are_noted(table):
  text = 'N,D,C,loss\n1e6,1e7,7e13,4\n2e6,1e7,1.6e14,3.9\n'
  found = read_csv(table(text))
  assert found.per_pair == pytest.approx(7.5)
  assert 'FLOPs are 7.00 to 8.00 N D' in found.notes[0]


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'needs a column loss.*Its columns are none'),
    ('a,b\n1,2\n', 'Its columns are a, b'),
    ('N,loss\n1e6,4\n', 'two of params, tokens and flops'),
    ('N,D,loss\n', 'has no runs'),
    ('N,D,loss\n1e6,1e7,4\n1e6,,4\n', "line 3: tokens is ''; it must be a pos"),
    ('N,D,loss\n1e6,1e7,-4\n', 'it must be a positive number'),
    ('N,D,loss\n1e6,1e7,nan\n', 'it must be a positive number'),
    ('N,D,loss\n1e6,1e7,55.1\n', 'A perplexity must be turned'),
    ('N,D,loss\n1.5,1e7,3\n', r'1.5 params: .*such as params=1e6, tokens=1e9'),
    ('N,D,loss\n1e8,1.5,3\n', '1.5 tokens: the unit of a column differs'),
    ('N,C,loss\n1e8,0.4,3\n', 'such as params=1e6, flops=8.64e19'),
    ('N,D,loss (x)\n1e6,1e7,3\n', "unit of 'loss .x.' is unknown; .* nats, b"),
    ('N,D,loss (bits per byte)\n1e6,1e7,3\n', 'there are nats, bits'),
    ('N,D,C,loss\n70,1.4,5.9e17,3\n', 'the units of a column differ'),
    ('N (furlongs),D,loss\n70,1.4,3\n', "unit of 'N .furlongs.' is unknown"),
    ('N,params,D,loss\n1,1,1,3\n', 'two columns of params'),
  ],
)
def test_bad_tables(table, text, message):
  with pytest.raises(ValueError, match=message):
    read_csv(table(text))


def test_bad_names(table):
  path = table('N,D,loss\n1e6,1e7,4\n')
  with pytest.raises(ValueError, match='there are params, tokens'):
    read_csv(path, {'parms': 'N'})
  with pytest.raises(ValueError, match='the columns of .* are N, D, loss'):
    read_csv(path, {'params': 'M'})
  with pytest.raises(ValueError, match='has no column of flops'):
    read_csv(path, {}, {'flops': 1e6})


def test_epochs_give_the_unique_tokens(table):
  found = read_csv(table('N,D,epochs,loss\n1e6,1e7,4,4\n'))
  assert found.column('unique')[0] == 2.5e6
  with pytest.raises(ValueError, match="no column 'steps'"):
    found.column('steps')


def test_the_highest_losses_can_be_left_out(table):
  path = table('N,D,loss\n1e6,1e7,4\n1e6,2e7,9\n1e6,3e7,3\n')
  found = read_csv(path).without_highest(1)
  assert list(found.loss) == [4, 3]
  assert found.runs == ('row 1', 'row 3')
  assert 'left out' in found.notes[-1]

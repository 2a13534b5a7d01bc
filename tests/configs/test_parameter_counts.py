"""Every size of every system against the figure that was published for it.

A figure agrees if the count rounds to it. If not, REASONS says how far it is
off and why.
"""

import importlib
import re

import jax
import pytest

from configs import bert, chinchilla, tree
from configs.papers.parameters import PUBLISHED
from models.build import build
from models.config import TransformerConfig
from train.learning.state import abstract_params

# The parameters that a system's figures leave out: a pattern of their paths.
LEFT_OUT = {
  'gopher': r'norm/',
  'chinchilla': r'norm/',
  'palm': r'norm/',
  'lamda': r'^embed/',
  'electra': r'^(generator|vocabulary)/',
}

# How far a count is from a figure that it does not round to, and why.
TENS = 'Rounded to tens.'
RELEASE = 'The paper is wrong; its authors correct it in the release, to '
LLAMA = 'Named after its neighbours in size, or cut off, not rounded.'
REASONS = {
  'transformer:base': (
    '-3%',
    (
      'The paper does not say what it counts. 40,800 rows of the table would '
      'give 65M, but big 218M then: no vocabulary gives both figures.'
    ),
  ),
  'transformer:big': ('+0.55%', 'As base: 36,000 rows would fit.'),
  'bert:large': ('-1.1%', TENS),
  'bert:base,vocabulary=cased': ('-0.97%', 'The figure is of uncased.'),
  'bert:large,vocabulary=cased': ('-1.6%', 'The figure is of uncased.'),
  'gpt2:small': ('+6.4%', RELEASE + '124M.'),
  'gpt2:medium': ('+2.8%', RELEASE + '355M.'),
  'gpt2:large': ('+1.6%', RELEASE + '774M.'),
  'gpt2:xl': ('+1%', RELEASE + '1558M.'),
  't5:size=small,version=1.0': ('+0.84%', TENS),
  't5:size=base,version=1.0': ('+1.3%', TENS),
  't5:size=large,version=1.0': (
    '-4.2%',
    (
      'The checkpoint has 738M. With another table for the output, which no '
      'model of this version has, it would have 771M.'
    ),
  ),
  't5:size=3b,version=1.0': ('+1.8%', 'Cut off: the checkpoint has 2.85B.'),
  't5:size=base,version=1.1': ('-0.97%', TENS),
  't5:size=large,version=1.1': ('+0.4%', TENS),
  'electra:base': ('-0.47%', "BERT's figure. 109.5M without BERT's pooler."),
  'gpt3:medium': ('+1.7%', 'Rounded to fifties.'),
  'gpt3:13b': (
    '-1.1%',
    (
      'The table prints D = 5140 beside 40 heads of 128, which make 5120, as '
      'here. With square matrices of 5140 it would be 12.95B.'
    ),
  ),
  'lamda:8b': (
    '+7.4%',
    (
      'H and F are not published; they are those of 137b. H = 64 would make '
      '7.5B, which rounds to 8B as well.'
    ),
  ),
  'yalm:100b': ('+0.98%', 'A name more than a figure.'),
  'flan_t5:small': ('-3.8%', TENS),
  'flan_t5:base': ('-0.97%', TENS),
  'flan_t5:large': ('+0.4%', TENS),
  'llama:size=65b,version=1': ('+0.13%', LLAMA),
  'llama:size=70b,version=2': ('-1.5%', LLAMA),
  'llama:size=70b,version=3': ('+0.79%', LLAMA),
  'llama:size=70b,version=3.1': ('+0.79%', LLAMA),
  'llama:size=405b,version=3': ('+0.21%', LLAMA),
  'llama:size=405b,version=3.1': ('+0.21%', LLAMA),
}


def count(reference: str) -> int:
  """The number of parameters that a system's figure counts."""
  config = tree.config_of(reference)
  shapes, _ = abstract_params(build(TransformerConfig(**config.model)))
  left_out = LEFT_OUT.get(reference.partition(':')[0], r'^$')
  leaves = jax.tree_util.tree_leaves_with_path(shapes)
  paths = {'/'.join(key.key for key in path): x.size for path, x in leaves}
  return sum(n for path, n in paths.items() if not re.search(left_out, path))


def off(counted: int, published: str) -> str:
  """'' if the count rounds to '1.3B', otherwise how far it is off."""
  number, unit = published[:-1], {'M': 10**6, 'B': 10**9}[published[-1]]
  decimals = len(number.partition('.')[2])
  figure = float(number) * unit
  if abs(counted - figure) <= 0.5 * unit / 10**decimals:
    return ''
  return f'{100 * (counted / figure - 1):+.2g}%'


@pytest.mark.parametrize('reference', PUBLISHED)
def test_count_is_the_published_one(reference):
  published, expected = PUBLISHED[reference]
  assert count(reference) == expected
  difference, why = REASONS.get(reference, ('', ''))
  assert off(expected, published) == difference
  assert bool(difference) == bool(why)


@pytest.mark.parametrize('size', sorted({*chinchilla.SIZES} - {'70b', 'tiny'}))
def test_chinchillas_fifty_models(size):
  """Table A9: each printed figure is the count, rounded, without the norms.

  The figures settle what the papers do not say: biases everywhere, one table,
  and of Transformer-XL's positions a matrix and two biases in each layer. With
  the norms' scales eight of them would round to the next million.
  """
  D, H, N, L = chinchilla.SIZES[size]
  layer = 5 * D * N * H + 8 * D * D + 5 * N * H + 6 * D
  expected = 32_000 * D + L * layer
  assert count(f'chinchilla:{size}') == expected
  assert off(expected, size.upper()) == ''


@pytest.mark.parametrize('size', bert.GRID)
def test_berts_miniatures(size):
  """The counts are by the rule of Turc et al. (2019): F is 4 D."""
  layers, D = map(int, size.split('x'))
  V, F = 30_522, 4 * D
  norm = 2 * D
  tables = (V + 512 + 2) * D + norm
  layer = 4 * (D * D + D) + D * F + F + F * D + D + 2 * norm
  heads = (D * D + D) + (2 * D + 2) + (D * D + D + norm + V)
  assert count(f'bert:{size}') == tables + layers * layer + heads


def test_every_size_has_a_figure():
  sizes = set()
  for name in {key.partition(':')[0] for key in tree.SYSTEMS}:
    published = importlib.import_module(f'configs.{name}').SIZES
    for size, value in published.items():
      if isinstance(value, dict):
        sizes |= {f'{name}:size={s},version={size}' for s in value}
      else:
        sizes.add(f'{name}:{size}')
  tiny = {size for size in sizes if 'tiny' in size}
  fifty = {f'chinchilla:{size}' for size in chinchilla.SIZES}
  assert sizes - tiny - fifty <= set(PUBLISHED)
  assert set(REASONS) <= set(PUBLISHED)


@pytest.mark.parametrize(
  ('counted', 'published', 'expected'),
  [
    (124_500_000, '125M', ''),
    (124_400_000, '125M', '-0.48%'),
    (1_349_000_000, '1.3B', ''),
    (1_351_000_000, '1.3B', '+3.9%'),
  ],
)
def test_what_rounds_to_a_figure(counted, published, expected):
  assert off(counted, published) == expected

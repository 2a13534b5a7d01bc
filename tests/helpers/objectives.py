"""Configs of objectives, and what tests of several of them share."""

import numpy as np

from input_pipeline.objectives.pieces import NOTHING
from input_pipeline.tokenizers.numbers import Numbers
from tests.helpers.corpora import data_config

EOS = 1
UL2 = (
  ('[R]', 0.15, 3.0, 0.13),
  ('[R]', 0.15, 8.0, 0.13),
  ('[S]', 0.25, 0.0, 0.22),
  ('[X]', 0.5, 3.0, 0.13),
  ('[X]', 0.5, 8.0, 0.13),
  ('[X]', 0.15, 32.0, 0.13),
  ('[X]', 0.5, 32.0, 0.13),
)
# The paper's SCLM and UniLM.
SCLM = (('[L]', 1.0, 0.0, 0.5), ('[R]', 0.15, 3.0, 0.5))
UNILM = (
  ('[L]', 1.0, 0.0, 0.25),
  ('[P]', 0.0, 0.0, 0.25),
  ('[I]', 0.15, 'iid', 0.5),
)
# What each objective of inputs and targets needs.
PAIRS = {
  'span_corruption': {'noise_density': 0.15, 'mean_span_length': 3.0},
  'prefix': {'sentinels': 0},
  'iid_spans': {'noise_density': 0.15, 'target_length': 24},
  'drop_tokens': {'noise_density': 0.15, 'target_length': 16, 'sentinels': 0},
  'bert_style': {'noise_density': 0.15, 'random_share': 0.1},
  'mass_style': {'noise_density': 0.15},
  'deshuffling': {'sentinels': 0},
  'ul2': {'denoisers': UL2},
  # The S-denoiser of the paper's code, which has no sentinel.
  'ul2 code': {'denoisers': (*UL2[:2], ('[S]', 0.0, 0.0, 0.74))},
  'ul2 SCLM': {'denoisers': SCLM},
  'ul2 UniLM': {'denoisers': UNILM},
}


def masked_config(objective, **changes):
  values = {'sentinels': 0, 'mean_span_length': 0.0, 'document_tokens': 0}
  values |= {'objective': objective, 'noise_density': 0.0}
  if objective != 'causal':
    values |= {'noise_density': 0.15, 'predictions': 9, 'masking': 'bert'}
    values |= {'masked_share': 0.8, 'random_share': 0.1}
  if objective == 'sentence_pairs':
    values |= {'short_share': 0.1, 'pack': False}
  return data_config(**values | changes)


def rng(seed=0):
  return np.random.default_rng(seed)


def piece(length, rows=4):
  return np.arange(100, 100 + rows * length, dtype=np.int32).reshape(rows, -1)


def lists(array):
  """Rows as lists, without what fills the shorter ones."""
  rows = [row.tolist() for row in array]
  for row in rows:
    while row and row[-1] == NOTHING:
      row.pop()
    assert NOTHING not in row
  return rows


def restored(inputs, targets, sentinels):
  """The text of inputs and targets together, and the spans left over."""
  assert inputs[-1] == targets[-1] == EOS
  known = set(sentinels.tolist())
  hidden, text = {}, []
  for token in targets[:-1].tolist():
    if token in known:
      hidden[token] = span = []
    else:
      span.append(token)
  assert list(hidden) == sentinels[: len(hidden)].tolist()
  for token in inputs[:-1].tolist():
    text += hidden.pop(token) if token in known else [token]
  return text, hidden


def pairs_config(objective, **changes):
  values = {'noise_density': 0.0, 'mean_span_length': 0.0}
  return data_config(
    **values | {'objective': objective.split()[0]} | PAIRS[objective] | changes
  )


class NoSpaces(Numbers):
  """A byte is an id, except for spaces: blank text has no token."""

  def __init__(self):
    super().__init__(300, 20, specials=True)

  def encode_batch(self, texts, threads=1):
    return [
      np.frombuffer(t, np.uint8)[np.frombuffer(t, np.uint8) > 32].astype(
        np.int32
      )
      for t in texts
    ]

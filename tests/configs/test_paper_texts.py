"""What a table says of its paper's texts, and of a run's operations."""

import pytest

from configs.papers import __main__ as papers
from configs.papers import records


def test_corpora_and_operations_are_named():
  """Every table says what its paper read; a run, how much it computes."""
  text = papers.shown(papers.find('gpt1.glue'))
  assert 'BooksCorpus: its authors took it down' in text
  table = papers.find('gpt2.table2')
  (run,) = records.runs(papers.TABLES, table, table.rows[0])
  config = records.pretraining(run)
  tokens = config.train.steps * config.data.batch * config.data.length
  layer = 12 * 768**2 + 2 * 1024 * 768  # matrices, scores and their values
  expected = 6 * tokens * (12 * layer + 768 * 50257)
  assert papers.flops(run) == pytest.approx(expected, rel=1e-12)
  assert f'{expected:.3g} FLOPs' in papers.shown(table, 'small')

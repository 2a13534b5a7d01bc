"""What a table says of its paper's texts, and of a run's operations."""

import pytest

from configs.papers import __main__ as papers
from configs.papers import records


def test_corpora_and_operations_are_named():
  """Every table says what its paper read; a run, how much it computes."""
  text = papers.shown(papers.find('gpt1.glue'))
  assert 'BooksCorpus: its authors took it down' in text
  (run,) = (
    run
    for run in records.runs(
      papers.TABLES, papers.find('t5.table2'), papers.find('t5.table2').rows[0]
    )
    if not run.task
  )
  # 6 N D of T5 1.0's baseline, without attention: 2^35 tokens, and targets.
  assert papers.flops(run) == pytest.approx(6 * 220e6 * 2**34 * 1.3, rel=0.3)
  assert f'{papers.flops(run):.3g} FLOPs' in papers.shown(
    papers.find('t5.table2'), 'encoder-decoder-denoising'
  )

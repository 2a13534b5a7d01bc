"""What docs/scaling.md and the page say of our own law is what was measured."""

import json

import pytest

from benchmarks import pages, scaling_law, scaling_law_page

RESULTS = pages.ROOT / 'benchmarks' / 'results' / 'scaling_law.json'
FOUND = json.loads(RESULTS.read_text())


@pytest.mark.parametrize('branch', scaling_law.BRANCHES)
def test_the_documents_have_the_results(branch):
  one = FOUND[branch]
  value, low, high = one['prediction']['loss']
  row = (
    f'{value:.3f} ({low:.3f} to {high:.3f}) | {one["result"]:.3f} | '
    f'{one["result"] / value - 1:+.1%} | {one["largest"]:.3f} |'
  )
  text = (pages.ROOT / 'docs' / 'scaling.md').read_text()
  assert f'| {branch.replace("_", "-")} | ' in text
  assert row in text
  page = (pages.PLACE / 'scaling_law.html').read_text()
  for run in one['runs']:
    assert run['run'] in page
    assert f'>{run["loss"]:.4f}<' in page
  assert f'>{one["result"]:.4f}<' in page


def test_a_page_of_the_results(tmp_path):
  scaling_law_page.write(FOUND, tmp_path / 'made' / 'page.html')
  made = (tmp_path / 'made' / 'page.html').read_text()
  assert made.count('data:image/png') == len(FOUND)
  for table in (
    scaling_law_page.compared(FOUND),
    scaling_law_page.laws_of(FOUND),
  ):
    assert table.caption in made


def test_the_ladder_is_the_one_that_was_measured():
  """The command as it is now trains the runs of the results."""
  for branch, one in FOUND.items():
    assert scaling_law.argument(branch, 'TEXT') == one['ladder']

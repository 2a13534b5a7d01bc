"""docs/in_context.md has the measured numbers."""

import json

from benchmarks import in_context
from configs import in_context as recipes
from tests.helpers import REPOSITORY

RESULTS = REPOSITORY / 'benchmarks' / 'results' / 'in_context.json'
DOCUMENT = REPOSITORY / 'docs' / 'in_context.md'


def test_the_document_has_the_results():
  found, text = json.loads(RESULTS.read_text()), DOCUMENT.read_text()
  assert found
  for prompts, kind in found.items():
    measured = [(run['model'], run['layers']) for run in kind['runs']]
    assert measured == list(in_context.RUNS[prompts])
    assert {run['steps'] for run in kind['runs']} == {
      recipes.TASKS[prompts][-1]
    }
    assert in_context.table(prompts, kind['runs']) in text

"""Averages of benchmarks, beside the cells that papers print."""

import pytest

from input_pipeline.tasks import metrics
from input_pipeline.tasks.metrics import averages


def results(columns, cells):
  """Task -> metrics, from a table's cells in the order of the columns."""
  found = {}
  names = [pair for column in columns for pair in column]
  for (task, metric), value in zip(names, cells, strict=True):
    found.setdefault(task, {})[metric] = value
  return found


T5_11B = (
  *(71.6, 97.5, 92.8, 90.4, 93.1, 92.8, 75.1, 90.6),
  *(92.2, 91.9, 96.9, 92.8, 94.5),
)
T5_BASELINE = (
  *(53.84, 92.68, 92.07, 88.92, 88.02, 87.94, 88.67, 91.56),
  *(84.24, 84.57, 90.48, 76.28),
)
BERT_BASE = (84.6, 83.4, 71.2, 90.5, 93.5, 52.1, 85.8, 88.9, 66.4)
BERT_LARGE = (86.7, 85.9, 72.1, 92.7, 94.9, 60.5, 86.5, 89.3, 70.1)
ELECTRA_400K = (69.3, 96.0, 90.6, 92.1, 92.4, 90.5, 94.5, 86.8)


@pytest.mark.parametrize(
  ('convention', 'cells', 'printed'),
  [
    ('glue', T5_11B, 90.3),  # Raffel et al. 2020, table 14
    ('t5', T5_BASELINE, 83.28),  # table 16
    ('bert', BERT_BASE, 79.6),  # Devlin et al. 2019, table 1
    ('bert', BERT_LARGE, 82.1),
    ('electra', ELECTRA_400K, 89.0),  # Clark et al. 2020, table 2
  ],
)
def test_published_averages_of_glue(convention, cells, printed):
  found = results(averages.GLUE[convention], cells)
  average = metrics.glue_average(found, convention)['average']
  digits = len(str(printed).split('.')[1])
  assert abs(average - printed) <= 0.5 * 10**-digits + 1e-9


def test_published_average_of_superglue():
  """The average is that of T5's baseline (Raffel et al. 2020, table 16)."""
  cells = (
    *(76.62, 91.22, 91.96, 66.20, 66.13, 25.78),
    *(69.05, 68.16, 75.34, 68.04, 78.56),
  )
  found = results(averages.SUPERGLUE, cells)
  assert metrics.superglue_average(found) == {
    'average': pytest.approx(71.36, abs=0.005)
  }


def test_what_is_missing_or_undefined():
  found = results(averages.GLUE['t5'], T5_BASELINE)
  found['cola']['undefined'] = 1.0
  found['wnli'] = {'accuracy': 50.0, 'undefined': 7.0}  # not in this average
  assert metrics.glue_average(found, 't5')['undefined'] == 1
  del found['rte'], found['mnli_matched']
  with pytest.raises(ValueError, match='needs results of: mnli_matched, rte'):
    metrics.glue_average(found, 't5')
  with pytest.raises(ValueError, match="convention 'glu'"):
    metrics.glue_average(found, 'glu')

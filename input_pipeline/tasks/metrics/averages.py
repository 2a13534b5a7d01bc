"""The one number of a benchmark: the mean over its tasks."""

from collections.abc import Mapping

from input_pipeline.tasks.metrics.scores import Scores

# The numbers (task, metric) of a column are averaged first.
Columns = tuple[tuple[tuple[str, str], ...], ...]


def _one(task, *metrics):
  return tuple((task, metric) for metric in metrics)


_MNLI = (('mnli_matched', 'accuracy'), ('mnli_mismatched', 'accuracy'))
_T5: Columns = (
  _one('cola', 'matthews'),
  _one('sst2', 'accuracy'),
  _one('mrpc', 'f1', 'accuracy'),
  _one('stsb', 'pearson', 'spearman'),
  _one('qqp', 'f1', 'accuracy'),
  _MNLI,
  _one('qnli', 'accuracy'),
  _one('rte', 'accuracy'),
)
GLUE: dict[str, Columns] = {
  'glue': (*_T5, _one('wnli', 'accuracy')),
  't5': _T5,
  'bert': (
    *((cell,) for cell in _MNLI),
    _one('qqp', 'f1'),
    _one('qnli', 'accuracy'),
    _one('sst2', 'accuracy'),
    _one('cola', 'matthews'),
    _one('stsb', 'spearman'),
    _one('mrpc', 'f1'),
    _one('rte', 'accuracy'),
  ),
  'electra': (
    _one('cola', 'matthews'),
    _one('sst2', 'accuracy'),
    _one('mrpc', 'accuracy'),
    _one('stsb', 'spearman'),
    _one('qqp', 'accuracy'),
    _one('mnli_matched', 'accuracy'),
    _one('qnli', 'accuracy'),
    _one('rte', 'accuracy'),
  ),
}
SUPERGLUE: Columns = (
  _one('boolq', 'accuracy'),
  _one('cb', 'f1_macro', 'accuracy'),
  _one('copa', 'accuracy'),
  _one('multirc', 'f1', 'exact_match'),
  _one('record', 'f1', 'exact_match'),
  _one('rte', 'accuracy'),
  _one('wic', 'accuracy'),
  _one('wsc', 'accuracy'),
)


def glue_average(
  results: Mapping[str, Mapping[str, float]], convention: str = 'glue'
) -> Scores:
  """`average` of the tasks of GLUE, as one of the papers defines it.

  'glue'     that of the benchmark: 9 tasks; the metrics of a task, and the two
             sets of MNLI, are averaged first (Wang et al. 2018, 3).
  't5'       the same without WNLI, which T5 excludes on validation (Raffel et
             al. 2020, table 16 has the cells).
  'bert'     9 columns: both sets of MNLI, F1 of QQP and MRPC, Spearman of
             STS-B, no WNLI (Devlin et al. 2019, table 1).
  'electra'  8 tasks: accuracy, but Matthews of CoLA and Spearman of STS-B;
             MNLI matched, no WNLI (Clark et al. 2020, 3.1 and table 2).

  Args:
    results: task -> metrics, by the names of TFDS's configs ('cola',
      'mnli_matched'). Other tasks may be among them.
    convention: see above.

  Returns:
    `average`, and `undefined` if numbers of these tasks are undefined.

  Raises:
    ValueError: a task is missing, or the convention is unknown.
    KeyError: a metric is missing.
  """
  if convention not in GLUE:
    raise ValueError(
      f'The convention {convention!r} is unknown: it must be one of'
      f' {list(GLUE)}.'
    )
  return _average(results, GLUE[convention])


def superglue_average(
  results: Mapping[str, Mapping[str, float]],
) -> Scores:
  """`average` of the 8 tasks of SuperGLUE (Wang et al. 2019, 3).

  The two metrics of CB, MultiRC and ReCoRD are averaged first, as in T5 (Raffel
  et al. 2020, table 14). See glue_average.
  """
  return _average(results, SUPERGLUE)


def _average(results, columns):
  tasks = {task for column in columns for task, _ in column}
  if missing := sorted(tasks - set(results)):
    raise ValueError(f'The average needs results of: {", ".join(missing)}.')
  means = [
    sum(results[task][metric] for task, metric in column) / len(column)
    for column in columns
  ]
  undefined = sum(results[task].get('undefined', 0.0) for task in tasks)
  counts = {'undefined': undefined} if undefined else {}
  return {'average': sum(means) / len(means), **counts}

"""GLUE (Wang et al. 2019): nine tasks, and the diagnostic set AX.

Files are named as in GLUE's zips, or as the tasks' own authors publish them:
CoLA/in_domain_train.tsv and its two dev files, MRPC/msr_paraphrase_train.txt
(whose test file is then the validation split), STS-B/sts-train.tsv.
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from input_pipeline.tasks import files, formats, metrics, winograd
from input_pipeline.tasks.task import SPLITS, Example, Task

_LENGTHS = (512, 84)  # of T5's GLUE mixture
_PAIR = ('sentence1', 'sentence2')
_NLI = ('entailment', 'neutral', 'contradiction')
_RTE = ('entailment', 'not_entailment')
_COLA = ('unacceptable', 'acceptable')
_SST2 = ('negative', 'positive')
_MRPC = ('not_equivalent', 'equivalent')
_QQP = ('not_duplicate', 'duplicate')
_WNLI = ('not_entailment', 'entailment')


# ---- Files ----
def read(
  path: str,
  *,
  fields: Mapping[str, str],
  label: str = 'label',
  labels: Sequence[str] = (),
  columns: Sequence[str] = (),
  more: bool = False,
  broken: bool = False,
  most: float = math.inf,
) -> Iterator[Example]:
  """Examples of a TSV; test files have no column `label`.

  Args:
    path: the file.
    fields: our name of a text -> the column that has it.
    label: the column of the label.
    labels: the classes; none: the label is a number.
    columns, more, broken: see files.tsv.
    most: see files.number.
  """
  rows = files.tsv(
    path,
    tuple(fields.values()),
    columns=columns,
    more=more,
    broken=broken,
  )
  for n, (place, cells) in enumerate(rows):
    value = cells.get(label)
    if labels or value is None:
      value = files.class_name(place, value, labels, label)
    else:
      value = files.number(place, value, label, most)
    texts = {name: cells[column] for name, column in fields.items()}
    # The server knows a test example by the number that the file gives it.
    number = cells.get('index', cells.get('id')) if value is None else None
    idx = n if number is None else files.index(place, number, 'index')
    yield {**texts, 'label': value, 'idx': idx}


def _read_cola(path):
  """Only test files have a header: index, sentence."""
  columns = ('source', 'is_acceptable', 'mark', 'sentence')
  return read(
    path,
    fields={'sentence': 'sentence'},
    label='is_acceptable',
    labels=_COLA,
    columns=() if 'sentence' in files.header(path) else columns,
  )


def _read_mrpc(path):
  return read(
    path,
    fields={'sentence1': '#1 String', 'sentence2': '#2 String'},
    label='Quality',
    labels=_MRPC,
  )


def _read_stsb(path):
  """The authors' files have no header; some rows have two more columns."""
  columns = ('genre', 'file', 'year', 'old_index', 'score', *_PAIR)
  return read(
    path,
    fields={name: name for name in _PAIR},
    label='score',
    columns=() if 'sentence1' in files.header(path) else columns,
    more='sentence1' not in files.header(path),
    most=5.0,
  )


def _read_ax(path):
  """Reads the published file without labels, or the whole one with them."""
  whole = 'Premise' in files.header(path)
  names = ('Premise', 'Hypothesis') if whole else _PAIR
  return read(
    path,
    fields=dict(zip(('premise', 'hypothesis'), names, strict=True)),
    label='Label',
    labels=_NLI,
  )


def _reader(fields, labels, label='label', broken=False):
  return functools.partial(
    read, fields=fields, labels=labels, label=label, broken=broken
  )


def _files(folder, **own):
  """Our splits -> files of a folder; `own` are the authors' further names."""
  names = {'train': 'train.tsv', 'validation': 'dev.tsv', 'test': 'test.tsv'}
  return {
    split: (f'{folder}/{name}', *(f'{folder}/{x}' for x in own.get(split, ())))
    for split, name in names.items()
  }


# ---- Tasks ----
def _task(
  name: str,
  folder: str,
  fields: Sequence[str],
  labels: Sequence[str],
  **own: Any,
) -> Task:
  """A task of classes in GLUE's layout: all splits in one folder.

  An encoder reads the `fields`. A text-to-text model reads them too, in the
  same order and after the name of the task.
  """
  defaults = {
    'kind': 'classification',
    'tfds': (f'glue/{name}',),
    'splits': SPLITS,
    'files': _files(folder),
    'read': _reader({field: field for field in fields}, labels),
    'labels': labels,
    'texts': functools.partial(formats.texts, fields=fields),
    'text_to_text': _text(name, *fields),
    'decode': functools.partial(formats.as_class, labels=labels),
    'lengths': _LENGTHS,
    'metrics': metrics.accuracy,
  }
  return Task(name=f'glue/{name}', **{**defaults, **own})


def _text(prefix, *fields):
  return functools.partial(formats.classified, prefix=prefix, fields=fields)


COLA = _task(
  'cola',
  'CoLA',
  ('sentence',),
  _COLA,
  files=_files(
    'CoLA', train=('in_domain_train.tsv',), validation=('*_domain_dev.tsv',)
  ),
  read=_read_cola,
  metrics=metrics.matthews,
)
SST2 = _task('sst2', 'SST-2', ('sentence',), _SST2)
MRPC = _task(
  'mrpc',
  'MRPC',
  _PAIR,
  _MRPC,
  files=_files(
    'MRPC',
    train=('msr_paraphrase_train.txt',),
    validation=('msr_paraphrase_test.txt',),
    test=('msr_paraphrase_test.txt',),
  ),
  read=_read_mrpc,
  metrics=metrics.f1_accuracy,
  averaged=('f1', 'accuracy'),
)
STSB = _task(
  'stsb',
  'STS-B',
  _PAIR,
  (),
  kind='regression',
  files=_files(
    'STS-B',
    train=('sts-train.tsv',),
    validation=('sts-dev.tsv',),
    test=('sts-test.tsv',),
  ),
  read=_read_stsb,
  text_to_text=functools.partial(formats.scored, prefix='stsb', fields=_PAIR),
  decode=formats.as_number,
  metrics=metrics.pearson_spearman,
  averaged=('pearson', 'spearman'),
)
_QUESTIONS = ('question1', 'question2')
QQP = _task(
  'qqp',
  'QQP',
  _QUESTIONS,
  _QQP,
  read=_reader({x: x for x in _QUESTIONS}, _QQP, 'is_duplicate', broken=True),
  metrics=metrics.f1_accuracy,
  averaged=('f1', 'accuracy'),
)
_PREMISE = ('premise', 'hypothesis')
_MNLI_TEXT = _text('mnli', 'hypothesis', 'premise')


def _mnli(name, splits):
  """MNLI: `splits` are our names of splits -> a part of their files' names."""
  return _task(
    name,
    'MNLI',
    _PREMISE,
    _NLI,
    splits={split: split for split in splits},
    files={split: (f'MNLI/{file}.tsv',) for split, file in splits.items()},
    read=_reader(dict(zip(_PREMISE, _PAIR, strict=True)), _NLI, 'gold_label'),
    text_to_text=_MNLI_TEXT,
  )


MNLI = _mnli(
  'mnli',
  {
    'train': 'train',
    'validation_matched': 'dev_matched',
    'validation_mismatched': 'dev_mismatched',
    'test_matched': 'test_matched',
    'test_mismatched': 'test_mismatched',
  },
)
# The halves of MNLI's evaluation alone, as TFDS has them.
MNLI_MATCHED = _mnli(
  'mnli_matched', {'validation': 'dev_matched', 'test': 'test_matched'}
)
MNLI_MISMATCHED = _mnli(
  'mnli_mismatched', {'validation': 'dev_mismatched', 'test': 'test_mismatched'}
)
QNLI = _task('qnli', 'QNLI', ('question', 'sentence'), _RTE)
RTE = _task('rte', 'RTE', _PAIR, _RTE)
WNLI = _task(
  'wnli',
  'WNLI',
  _PAIR,
  _WNLI,
  text_to_text=winograd.wnli_trained,
  evaluated=winograd.wnli_evaluated,
  decode=winograd.wnli_decode,
  counted=False,  # T5 leaves it out; BERT and ELECTRA too
)
AX = _task(
  'ax',
  'AX',
  _PREMISE,
  _NLI,
  splits={'test': 'test'},
  files={
    'test': ('AX/diagnostic.tsv', 'diagnostic/diagnostic.tsv', 'AX/test.tsv')
  },
  read=_read_ax,
  text_to_text=_MNLI_TEXT,
  metrics=metrics.matthews,
  counted=False,
)

TASKS = (
  *(COLA, SST2, MRPC, STSB, QQP, MNLI, MNLI_MATCHED, MNLI_MISMATCHED),
  *(QNLI, RTE, WNLI, AX),
)

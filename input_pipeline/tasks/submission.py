"""Predictions in the files that benchmarks and their scripts read.

Each function writes a whole file, and raises FileExistsError if it exists.
`Written.replaced` counts predictions that the format cannot hold: GLUE's and
SuperGLUE's servers need a class for every example.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from input_pipeline.sources import paths
from input_pipeline.tasks.metrics.answers import NULL_BOUND, given
from input_pipeline.tasks.task import Example, Task

Examples = Sequence[Example]

_NLI = ('entailment', 'neutral', 'contradiction')
_CB = ('entailment', 'contradiction', 'neutral')
_RTE = ('entailment', 'not_entailment')
# GLUE's tasks by the names of TFDS's configs: the file, and the classes in
# TFDS's order. The server reads names for some and numbers for others.
GLUE: Mapping[str, tuple[str, tuple[str, ...]]] = {
  'cola': ('CoLA.tsv', ('unacceptable', 'acceptable')),
  'sst2': ('SST-2.tsv', ('negative', 'positive')),
  'mrpc': ('MRPC.tsv', ('not_equivalent', 'equivalent')),
  'stsb': ('STS-B.tsv', ()),
  'qqp': ('QQP.tsv', ('not_duplicate', 'duplicate')),
  'mnli_matched': ('MNLI-m.tsv', _NLI),
  'mnli_mismatched': ('MNLI-mm.tsv', _NLI),
  'qnli': ('QNLI.tsv', _RTE),
  'rte': ('RTE.tsv', _RTE),
  'wnli': ('WNLI.tsv', ('not_entailment', 'entailment')),
  'ax': ('AX.tsv', _NLI),
}
_NUMBERED = ('cola', 'sst2', 'mrpc', 'qqp', 'wnli')
# SuperGLUE's: the file, and class -> its label in the file.
_TRUTH = {'False': 'false', 'True': 'true'}
SUPERGLUE: Mapping[str, tuple[str, Mapping[str, Any]]] = {
  'boolq': ('BoolQ.jsonl', _TRUTH),
  'cb': ('CB.jsonl', {name: name for name in _CB}),
  'copa': ('COPA.jsonl', {'choice1': 0, 'choice2': 1}),
  'multirc': ('MultiRC.jsonl', {'False': 0, 'True': 1}),
  'record': ('ReCoRD.jsonl', {}),
  'rte': ('RTE.jsonl', {name: name for name in _RTE}),
  'wic': ('WiC.jsonl', _TRUTH),
  'wsc': ('WSC.jsonl', {'False': 'False', 'True': 'True'}),
  'axb': ('AX-b.jsonl', {name: name for name in _RTE}),
  'axg': ('AX-g.jsonl', {name: name for name in _RTE}),
}
STSB_BEST = 5.0  # the scores of STS-B begin at 0


class Written(NamedTuple):
  """The file that was written.

  Attributes:
    path: its path.
    rows: how many predictions it has.
    replaced: how many of them were replaced: None by the first class, a number
      that is not finite by 0, one outside 0 to 5 by the nearer end, a line end
      inside a text by a space.
  """

  path: str
  rows: int
  replaced: int


def write(
  task: Task,
  split: str,
  examples: Examples,
  predictions: Sequence[Any],
  folder: str,
  threshold: float = 0.0,
) -> Written:
  """Writes predictions in the format of a task's benchmark, or one a line.

  `threshold` counts where a task has questions without an answer.
  """
  group, _, name = task.name.partition('/')
  if (group, name) == ('glue', 'mnli'):
    name += split.removeprefix('validation').removeprefix('test')
  if group == 'glue' and name in GLUE:
    return write_glue(name, examples, predictions, folder)
  if group == 'super_glue' and name in SUPERGLUE:
    return write_superglue(name, examples, predictions, folder)
  path = os.path.join(folder, task.name.replace('/', '-'))
  limit = threshold if task.unanswerable else math.inf
  if group == 'squad':
    scored = all(hasattr(x, 'null') for x in predictions) and task.unanswerable
    odds = f'{path}-null_odds.json' * scored
    return write_squad(examples, predictions, f'{path}.json', 'id', limit, odds)
  key = 'question_id'  # TriviaQA's; a question of two files has it twice
  ids = {example[key] for example in examples if key in example}
  if group == 'trivia_qa' and len(ids) == len(examples):
    return write_squad(examples, predictions, f'{path}.json', key)
  if task.kind == 'tagging':
    return write_conll(examples, predictions, f'{path}.txt')
  found = (given(x, limit) for x in predictions)
  lines = [x if x is None else str(x) for x in found]
  return write_lines(lines, f'{path}.txt')


def write_glue(
  task: str, examples: Examples, predictions: Sequence[Any], folder: str
) -> Written:
  """Writes GLUE's file of a task: columns `index` and `prediction`.

  The server reads all eleven files from one zip.

  Args:
    task: the name of TFDS's config, such as 'cola', 'mnli_matched', 'ax'.
    examples: with `idx`.
    predictions: class names, and numbers for STS-B.
    folder: the file's folder, which is made if missing.

  Raises:
    ValueError: a task or class is unknown, or an index occurs twice.
    FileExistsError: the file exists.
  """
  name, classes = _of(GLUE, task, 'GLUE')
  indices = _indices(examples, predictions)
  if classes:
    texts = range(len(classes)) if task in _NUMBERED else classes
    written, replaced = _classes(
      predictions, dict(zip(classes, texts, strict=True))
    )
  else:
    valid = [
      p if p is not None and math.isfinite(p) else 0 for p in predictions
    ]
    numbers = [max(0.0, min(STSB_BEST, p)) for p in valid]
    replaced = sum(a != b for a, b in zip(predictions, numbers, strict=True))
    written = [f'{number:.6g}' for number in numbers]
  rows = [f'{i}\t{x}' for i, x in zip(indices, written, strict=True)]
  path = os.path.join(folder, name)
  _write(path, ['index\tprediction', *rows])
  return Written(path, len(rows), replaced)


def write_superglue(
  task: str, examples: Examples, predictions: Sequence[Any], folder: str
) -> Written:
  """Writes SuperGLUE's file of a task: {"idx": 0, "label": ...} in each line.

  MultiRC has a line for each paragraph, with its questions and their answers.
  ReCoRD's label is the text of an entity, and its idx is that of the query.

  Arguments and errors are those of `write_glue`; predictions of ReCoRD are
  texts, or objects with `text`.
  """
  name, classes = _of(SUPERGLUE, task, 'SuperGLUE')
  indices = _indices(examples, predictions)
  if classes:
    labels, replaced = _classes(predictions, classes)
  else:
    texts = [getattr(p, 'text', p) for p in predictions]  # an encoder's Answer
    labels = [text or '' for text in texts]
    replaced = texts.count(None)
  if task == 'multirc':
    lines = _paragraphs(indices, labels)
  else:
    lines = [
      {'idx': i[-1] if task == 'record' else i, 'label': label}
      for i, label in zip(indices, labels, strict=True)
    ]
  path = os.path.join(folder, name)
  _write(path, [json.dumps(line, ensure_ascii=False) for line in lines])
  return Written(path, len(labels), replaced)


def _paragraphs(indices, labels):
  """MultiRC's lines, from (paragraph, question, answer) and labels."""
  found = {}
  for (paragraph, question, answer), label in zip(indices, labels, strict=True):
    questions = found.setdefault(paragraph, {})
    answers = questions.setdefault(question, [])
    answers.append({'idx': answer, 'label': label})
  return [
    {
      'idx': paragraph,
      'passage': {
        'questions': [
          {'idx': question, 'answers': answers}
          for question, answers in questions.items()
        ]
      },
    }
    for paragraph, questions in found.items()
  ]


def write_squad(
  examples: Examples,
  predictions: Sequence[Any],
  path: str,
  key: str = 'id',
  threshold: float = 0.0,
  null_odds: str = '',
) -> Written:
  """Writes SQuAD's JSON for its scripts: id -> answer; '' is no answer.

  Args:
    examples: with `key`, the field of the id.
    predictions: texts, or objects with `text` and `null`: how much likelier no
      answer is (SQuAD 2.0).
    path: of the file.
    threshold: '' is written if `null` is above it.
    null_odds: the file of id -> `null`, for `--na-prob-file`; '': none.

  Raises:
    ValueError: an id occurs twice, or a prediction has no `null` for null_odds.
    FileExistsError: a file exists.
  """
  ids = _unique([example[key] for example in examples], predictions)
  nulls = [getattr(p, 'null', None) for p in predictions]
  if null_odds and None in nulls:
    raise ValueError(f'{null_odds}: a prediction has no score of no answer.')
  texts = [given(p, threshold) for p in predictions]
  found = {i: text or '' for i, text in zip(ids, texts, strict=True)}
  for name in filter(None, (path, null_odds)):
    _check_free(name)
  _write(path, [json.dumps(found, ensure_ascii=False)])
  if null_odds:
    bounded = [max(-NULL_BOUND, min(NULL_BOUND, null)) for null in nulls]
    _write(null_odds, [json.dumps(dict(zip(ids, bounded, strict=True)))])
  return Written(path, len(ids), sum(text is None for text in texts))


def write_conll(
  examples: Examples,
  predictions: Sequence[Sequence[str | None]],
  path: str,
  *,
  words: str = 'tokens',
  tags: str = 'ner',
) -> Written:
  """Writes CoNLL's columns for its script: word, tag, predicted tag.

  A word is a line, and an empty line ends a sentence. A secret tag is left out.
  A word without a predicted tag gets 'O', which counts as replaced. `words` and
  `tags` are fields of an example; a prediction has a tag for each word.

  Raises:
    ValueError: there are more tags than words, or a word has a space.
    FileExistsError: the file exists.
  """
  _check_length(examples, predictions)
  lines, rows, replaced = [], 0, 0
  for i, (example, found) in enumerate(zip(examples, predictions, strict=True)):
    missing = len(example[words]) - len(found)
    if missing < 0:
      raise ValueError(f'Example {i} has more predicted tags than words.')
    found = [*found, *[None] * missing]
    replaced += found.count(None)
    columns = [example[words], [tag or 'O' for tag in found]]
    if example[tags] is not None:  # they are secret in a test file
      columns.insert(1, example[tags])
    for row in zip(*columns, strict=True):
      if any(text.split() != [text] for text in row):
        raise ValueError(
          f'Example {i}: {row} cannot be columns of a line: no column may be'
          ' empty or have a space.'
        )
      lines.append(' '.join(row))
      rows += 1
    lines.append('')
  _write(path, lines)
  return Written(path, rows, replaced)


def write_lines(predictions: Sequence[str | None], path: str) -> Written:
  """Writes a text in each line: summaries, or translations.

  Line ends inside a text become spaces, and None becomes an empty line.

  Raises:
    FileExistsError: the file exists.
  """
  lines = [' '.join((text or '').splitlines()) for text in predictions]
  changed = [a != b for a, b in zip(lines, predictions, strict=True)]
  _write(path, lines)
  return Written(path, len(lines), sum(changed))


# ---- Checks and writing ----


def _of(files, task, benchmark):
  """The entry of a task."""
  if task not in files:
    raise ValueError(
      f'{benchmark} has no file for {task!r}, only for {", ".join(files)}.'
    )
  return files[task]


def _classes(predictions, classes):
  """Each prediction's label in the file, and how many predictions are None."""
  if unknown := set(predictions) - {None, *classes}:
    raise ValueError(
      f'{sorted(map(str, unknown))} are not among the classes {list(classes)}.'
    )
  first = next(iter(classes.values()))
  written = [first if p is None else classes[p] for p in predictions]
  return written, sum(p is None for p in predictions)


def _indices(examples, predictions):
  """The `idx` of each example: a number, or a tuple of those of its parts."""
  found = []
  for example in examples:
    index = example['idx']
    if isinstance(index, Mapping):
      parts = ('paragraph', 'question', 'answer', 'passage', 'query')
      found.append(tuple(int(index[p]) for p in parts if p in index))
    else:
      found.append(int(index))
  return _unique(found, predictions)


def _unique(indices, predictions):
  """Returns the indices; raises ValueError if one occurs twice."""
  _check_length(indices, predictions)
  seen = set()
  for index in indices:
    if index in seen:
      raise ValueError(f'The example {index} occurs twice.')
    seen.add(index)
  return indices


def _check_length(examples, predictions):
  if len(examples) != len(predictions):
    raise ValueError(
      f'There are {len(predictions)} predictions for {len(examples)} examples.'
    )


def _check_free(path):
  if paths.exists(path):
    raise FileExistsError(
      f'{path} exists, and predictions replace no file: name another folder.'
    )


def _write(path: str, lines: Iterable[str]) -> None:
  """Writes lines, in UTF-8, and makes the folder."""
  _check_free(path)
  paths.make_folder(os.path.dirname(path) or '.')
  paths.write(path, ''.join(f'{line}\n' for line in lines).encode())

"""A user's own task: a record in a Python file, or a table with named columns.

FILE.py:NAME is the Task called NAME in a Python file. A table (tsv, csv or
jsonl) is

  tsv:TRAIN,validation=FILE,text=COLUMN,text2=COLUMN,label=COLUMN,kind=KIND

(or csv:, jsonl:). Its classes are those of the training file, sorted. Kinds:

  classification  a class for one or two texts
  regression      a number for one or two texts
  text            a text that is written
  tagging         a tag for each word; words, and tags, are parted by spaces
  span            a question, text2 its context, the label the answer in it; an
                  empty one: there is none
"""

import functools
import os
import runpy
from collections.abc import Iterator, Mapping, Sequence

from input_pipeline.choices import FILE_LAST, either, unknown
from input_pipeline.sources import paths
from input_pipeline.tasks import files, formats, metrics, reading, tagging
from input_pipeline.tasks.task import Example, Task

READERS = {'tsv': files.tsv, 'csv': files.csv_rows, 'jsonl': files.jsonl}
KINDS = 'classification', 'regression', 'text', 'tagging', 'span'
# Metrics of texts.
_METRICS = {
  'rouge': functools.partial(metrics.rouge, field='label'),
  'bleu': functools.partial(metrics.bleu, language='label'),
  'entity_f1': metrics.entity_f1,
  'accuracy': metrics.tag_accuracy,
}
_METRICS_OF = {'text': ('rouge', 'bleu'), 'tagging': ('entity_f1', 'accuracy')}
_KEYS = {
  'validation': 'a file of examples to evaluate',
  'test': 'a file of examples to predict',
  'text': 'the column of the text',
  'text2': 'the column of a second text',
  'label': "the column of the label; 'label' if left out",
  'kind': f'{either(KINDS)}; classification if left out',
  'metric': (
    'of a text: rouge, if left out, or bleu; of tags: entity_f1, if left out,'
    ' or accuracy'
  ),
  'name': "what a text-to-text model reads first; the file's name if left out",
  'length': 'tokens of a row of an encoder; 128 if left out',
}


def is_own(name: str) -> bool:
  """Whether a name is of a user's own task."""
  return '.py:' in name or name.partition(':')[0] in READERS


def find(name: str) -> Task:
  """The task that FILE.py:NAME, or FORMAT:TRAIN,KEY=VALUE,..., describes.

  Raises:
    ValueError: the description or the training file is wrong.
  """
  if '.py:' in name:
    return _from_python(name)
  return _from_table(name)


# ---- A Python file ----
def _from_python(name):
  path, _, variable = name.rpartition(':')
  if not os.path.isfile(path):
    raise ValueError(f'task {name!r}: there is no file {path}.')
  found = runpy.run_path(path)
  tasks = {key: x for key, x in found.items() if isinstance(x, Task)}
  if variable not in tasks:
    raise ValueError(
      unknown(f'task {name!r}: the Task', variable, tasks)
      if tasks
      else f'task {name!r}: {path} defines no Task. See docs/tasks.md.'
    )
  return tasks[variable]


# ---- A table ----
def _from_table(name):
  layout, _, rest = name.partition(':')
  train, *pairs = rest.split(',')
  options = _options(name, pairs)
  kind = options.get('kind', 'classification')
  if kind not in KINDS:
    raise ValueError(f'task {name!r}: {unknown("kind", kind, KINDS)}')
  if not train or 'text' not in options:
    raise ValueError(
      f'task {name!r} names no {"column text" if train else "training file"}:'
      f' write {layout}:TRAIN,text=COLUMN,label=COLUMN,validation=FILE. The'
      f' keys are: {", ".join(_KEYS)}.'
    )
  fields = tuple(options[key] for key in ('text', 'text2') if key in options)
  label = options.get('label', 'label')
  _check(name, kind, fields, label, options)
  split_files = {'train': train, **options}
  splits = [x for x in ('train', 'validation', 'test') if x in split_files]
  read = functools.partial(
    read_table, layout=layout, fields=fields, label=label, kind=kind
  )
  labels, unanswerable = (), False
  if kind == 'span':
    examples = read(_absolute(train))
    answers = [example['answers'] for example in examples]
    unanswerable = not all(x is None or x['text'] for x in answers)
  if kind in ('classification', 'tagging'):
    labels = _classes(name, read, train)
    if kind == 'tagging' and options.get('metric') != 'accuracy':
      _check_entities(name, labels)
    read = functools.partial(read, labels=labels)
  stem = os.path.splitext(os.path.basename(train))[0]
  prefix = options.get('name', stem)
  return Task(
    name=f'{layout}/{prefix}',
    kind=kind,
    splits={split: split for split in splits},
    files={split: (_absolute(split_files[split]),) for split in splits},
    read=read,
    labels=labels,
    length=_length(name, options.get('length', '128')),
    unanswerable=unanswerable,
    **_formats(kind, prefix, fields, labels, options),
  )


def _check(name, kind, fields, label, options):
  """Columns and keys that the kind has."""
  if label in fields:
    raise ValueError(f'task {name!r}: column {label!r} is both text and label.')
  two = len(fields) == 2
  if (kind == 'span') != two and kind in ('span', 'tagging'):
    raise ValueError(
      f'task {name!r}: kind={kind} needs '
      + ('text2, the column of the context.' if not two else 'no text2.')
    )
  known = _METRICS_OF.get(kind, ())
  if 'metric' in options and options['metric'] not in known:
    metric = unknown(f'of kind={kind} metric', options['metric'], known)
    raise ValueError(f'task {name!r}: {metric}')


def _check_entities(name, labels):
  """Raises ValueError for a tag that marks no entity."""
  for tag in labels:
    try:
      metrics.entities([tag])
    except ValueError as error:
      raise ValueError(
        f'task {name!r}: {error} For other tags, such as parts of speech, give'
        ' metric=accuracy.'
      ) from error


def _formats(kind, prefix, fields, labels, options):
  """What of a Task depends on its kind."""
  text = {'prefix': prefix, 'fields': fields}
  texts = functools.partial(formats.texts, fields=fields)
  match kind:
    case 'classification':
      return {
        'texts': texts,
        'text_to_text': functools.partial(formats.classified, **text),
        'decode': functools.partial(formats.as_class, labels=labels),
        'metrics': metrics.accuracy,
      }
    case 'regression':
      return {
        'texts': texts,
        'text_to_text': functools.partial(formats.numbered, **text),
        'decode': formats.as_number,
        'metrics': metrics.pearson_spearman,
        'averaged': ('pearson', 'spearman'),
      }
    case 'text':
      return {
        'text_to_text': functools.partial(formats.classified, **text),
        'decode': formats.as_written,
        'metrics': _METRICS[options.get('metric', 'rouge')],
      }
    case 'tagging':
      write = functools.partial(_tags_text, prefix=prefix, field=fields[0])
      return {
        'label': 'ner',
        'texts': tagging.words,
        'text_to_text': write,
        'decode': functools.partial(_tags_decode, labels=labels),
        'metrics': _METRICS[options.get('metric', 'entity_f1')],
      }
  return {
    'label': 'answers',
    'texts': reading.squad_span,
    'text_to_text': reading.squad_text,
    'decode': reading.squad_decode,
    'metrics': _span_scores,
  }


def _tags_text(example, *, prefix, field):
  tags = example['ner']
  words = ' '.join(example['tokens'])
  target = formats.SECRET if tags is None else ' '.join(tags)
  return [(f'{prefix} {field}: {words}', target)]


def _tags_decode(text, example, *, labels):
  tags = text.split()[: len(example['tokens'])]
  return [tag if tag in labels else None for tag in tags]


def _span_scores(examples, predictions, threshold=0.0):
  """SQuAD 2.0's scores where some question has no answer, else SQuAD 1.1's."""
  if all(example['answers']['text'] for example in examples):
    return metrics.squad(examples, predictions)
  return metrics.squad2(examples, predictions, threshold)


def _options(name: str, pairs: Sequence[str]) -> Mapping[str, str]:
  options = {}
  for pair in pairs:
    key, equals, value = pair.partition('=')
    if key not in _KEYS:
      hint = unknown(f'task {name!r}: key', key, _KEYS)
      raise ValueError(f'{hint} {FILE_LAST}')
    if not equals or not value or key in options:
      raise ValueError(
        f'task {name!r}: {key!r} must have one value, {_KEYS[key]}. A file or'
        ' column whose name has a comma must be named in a Python file'
        ' (docs/tasks.md).'
      )
    options[key] = value
  return options


def _length(name, text):
  if not text.isdecimal() or not int(text):
    raise ValueError(
      f'task {name!r}: length={text} must be a whole number > 0.'
    )
  return int(text)


def _absolute(path):
  return path if paths.is_remote(path) else os.path.abspath(path)


def _classes(name, read, train):
  """The classes, or the tags, of the training file, sorted."""
  examples = list(read(_absolute(train)))
  if not examples:
    raise ValueError(
      f'task {name!r}: {train} is empty: it has no example, only a header.'
    )
  if 'ner' in examples[0]:
    found = {tag for x in examples for tag in x['ner'] or [None]}
  else:
    found = {example['label'] for example in examples}
  if None in found:
    raise ValueError(f'task {name!r}: {train} has examples without a label.')
  if len(found) < 2:
    raise ValueError(
      f'task {name!r}: {train} has only one class, {found.pop()!r}. There is'
      ' nothing to learn: check label=COLUMN.'
    )
  return tuple(sorted(found))


def read_table(
  path: str,
  *,
  layout: str,
  fields: Sequence[str],
  label: str,
  kind: str,
  labels: Sequence[str] = (),
) -> Iterator[Example]:
  """Examples of a table; without a column `label`, all labels are secret.

  `labels` are the classes of the training file; (): any label is accepted.

  Those of 'tagging' and 'span' have the fields of CoNLL-2003 and of SQuAD.

  Raises:
    ValueError: a column is missing or no text, a label is not among `labels`,
      a word has no tag, or an answer is not in its context.
  """
  for n, (place, row) in enumerate(READERS[layout](path, fields)):
    value = row.get(label)
    texts = {name: _text(place, name, row[name]) for name in fields}
    match kind:
      case 'regression':
        if value is not None:
          value = files.number(place, value, label)
      case 'tagging':
        yield _tagged(place, texts[fields[0]], value, label, labels)
        continue
      case 'span':
        # An empty answer, or a null of JSON, is none; no column is a secret.
        value = (value or '') if label in row else None
        yield _question(place, n, *texts.values(), value)
        continue
      case _:
        value = None if value is None else str(value) or None
        _known(place, label, value, labels)
    yield {**texts, 'label': value, 'idx': n}


def _text(place, name, value):
  if not isinstance(value, (str, int, float)):  # of JSON
    raise ValueError(
      f'{place}: {name} {str(value)[:40]} is not a text: write it in quotes.'
    )
  return str(value)


def _known(place, label, value, labels):
  if labels and value is not None and value not in labels:
    message = unknown(f'{place}: {label}', value, labels)
    raise ValueError(f'{message} These are those of the training file.')


def _tagged(place, text, value, label, labels):
  words, tags = text.split(), None
  if value:
    tags = str(value).split()
    if len(tags) != len(words):
      raise ValueError(
        f'{place} has {len(words)} words and {len(tags)} tags. There must be'
        ' one for each word; both are parted by spaces.'
      )
    for tag in tags:
      _known(place, label, tag, labels)
  return {'tokens': words, 'ner': tags}


def _question(place, n, question, context, value):
  own = {'id': str(n), 'question': question, 'context': context}
  if value is None:
    return own | {'answers': None}
  answer = str(value)
  start = context.find(answer)
  if start < 0:
    raise ValueError(
      f'{place}: the answer {answer!r} is not in the context, to the letter.'
    )
  answers = {'text': [answer], 'answer_start': [start]}
  if not answer:
    answers = {'text': [], 'answer_start': []}
  return own | {'answers': answers}

"""SuperGLUE (Wang et al. 2019): eight tasks, AX-b, AX-g, and DPR.

Files are named as in SuperGLUE's zips; DPR's are train.c.txt and test.c.txt of
Rahman and Ng (2012). AX-b and AX-g are read by a model of RTE.
"""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from input_pipeline.choices import either
from input_pipeline.tasks import files, formats, metrics, winograd
from input_pipeline.tasks.task import SPLITS, Example, Span, Task

_LENGTHS = (512, 62)  # of T5's SuperGLUE mixture
_RTE = ('entailment', 'not_entailment')
_TRUTH = ('False', 'True')
_COPA = ('choice1', 'choice2')
# COPA's kinds of question -> what an encoder reads.
_ASKED = {
  'cause': 'What was the cause of this?',
  'effect': 'What happened as a result?',
}
_MULTIRC = ('question', 'answer', 'paragraph')


# ---- Files ----
def read(
  path: str, *, fields: Sequence[str], labels: Sequence[str]
) -> Iterator[Example]:
  """Examples of a JSONL file; test files have no labels."""
  for place, row in files.jsonl(path, (*fields, 'idx')):
    label = files.class_name(place, row.get('label'), labels)
    own = {name: row[name] for name in fields}
    yield {**own, 'label': label, 'idx': files.index(place, row['idx'])}


def _read_copa(path):
  for place, row in files.jsonl(path, ('question',)):
    if row['question'] not in _ASKED:
      raise ValueError(
        f'{place}: question {row["question"]!r} must be'
        f' {either(map(repr, _ASKED))}: correct the line.'
      )
  return read(path, fields=('premise', *_COPA, 'question'), labels=_COPA)


def _read_multirc(path):
  """One example for each answer of each question of each paragraph."""
  for place, row in files.jsonl(path, ('passage', 'idx')):
    passage = files.checked(place, row['passage'], ('text', 'questions'))
    for question in passage['questions']:
      files.checked(place, question, ('question', 'answers', 'idx'))
      for answer in question['answers']:
        files.checked(place, answer, ('text', 'idx'))
        yield {
          'paragraph': passage['text'],
          'question': question['question'],
          'answer': answer['text'],
          'label': files.class_name(place, answer.get('label'), _TRUTH),
          'idx': {
            'paragraph': files.index(place, row['idx']),
            'question': files.index(place, question['idx']),
            'answer': files.index(place, answer['idx']),
          },
        }


def _read_record(path):
  """One example for each query, with its distinct entities and answers."""
  for place, row in files.jsonl(path, ('passage', 'qas', 'idx')):
    passage = files.checked(place, row['passage'], ('text', 'entities'))
    text = passage['text']
    entities = {text[x['start'] : x['end'] + 1] for x in passage['entities']}
    for query in row['qas']:
      files.checked(place, query, ('query', 'idx'))
      yield {
        'passage': text,
        'query': query['query'],
        'entities': sorted(entities),
        'answers': sorted({x['text'] for x in query.get('answers', ())})
        or None,
        'idx': {
          'passage': files.index(place, row['idx']),
          'query': files.index(place, query['idx']),
        },
      }


def _convert_record(record):
  """Makes secret answers None: TFDS has an empty list."""
  yield {**record, 'answers': record['answers'] or None}


# ---- Texts ----
def multirc_text(example: Example) -> list[tuple[str, str]]:
  """The joined fields without HTML tags."""
  text = formats.joined(example, 'multirc', _MULTIRC)
  text = re.sub('</?b>', '', text.replace('<br>', ' '))
  return [(text, example['label'] or formats.SECRET)]


def record_text(example: Example) -> list[tuple[str, str]]:
  """One pair for each right answer; the highlights become sentences."""
  passage = re.sub(
    r'([.?!"\'])\n@highlight\n', r'\1 ', example['passage']
  ).replace('\n@highlight\n', '. ')
  text = (
    f'record query: {example["query"]} entities:'
    f' {", ".join(example["entities"])} passage: {passage}'
  )
  return [(text, answer) for answer in example['answers'] or [formats.SECRET]]


def axb_text(example: Example) -> list[tuple[str, str]]:
  """AX-b as RTE: sentence1 is the premise."""
  renamed = {
    'premise': example['sentence1'],
    'hypothesis': example['sentence2'],
    'label': example['label'],
  }
  return formats.classified(
    renamed, prefix='rte', fields=('hypothesis', 'premise')
  )


def _multirc_texts(example):
  return example['paragraph'], f'{example["question"]} {example["answer"]}'


def _copa_texts(example):
  """Each choice beside the premise and COPA's question about it."""
  first = f'{example["premise"]} {_ASKED[example["question"]]}'
  return [(first, example[name]) for name in _COPA]


def _wic_texts(example):
  """The word stands before the first sentence."""
  return f'{example["word"]}: {example["sentence1"]}', example['sentence2']


def _record_span(example):
  """The query, and where the passage has the right entities."""
  passage, answers = example['passage'], example['answers'] or ()
  found = ((passage.find(answer), answer) for answer in answers)
  return Span(
    example['query'],
    passage,
    tuple((start, answer) for start, answer in found if start >= 0),
  )


# ---- Tasks ----
def _task(name: str, folder: str, **own: Any) -> Task:
  """A task with all splits in its zip's folder, read as classes."""
  defaults = {
    'kind': 'classification',
    'tfds': (f'super_glue/{name}',),
    'splits': SPLITS,
    'files': {
      'train': (f'{folder}/train.jsonl',),
      'validation': (f'{folder}/val.jsonl',),
      'test': (f'{folder}/test.jsonl',),
    },
    'decode': functools.partial(formats.as_class, labels=own.get('labels')),
    'lengths': _LENGTHS,
    'metrics': metrics.accuracy,
  }
  return Task(name=f'super_glue/{name}', **{**defaults, **own})


def _reader(labels, *fields):
  return functools.partial(read, fields=fields, labels=labels)


def _texts(*fields):
  return functools.partial(formats.texts, fields=fields)


def _text(prefix, *fields):
  return functools.partial(formats.classified, prefix=prefix, fields=fields)


BOOLQ = _task(
  'boolq',
  'BoolQ',
  read=_reader(_TRUTH, 'question', 'passage'),
  labels=_TRUTH,
  texts=_texts('passage', 'question'),
  length=256,
  text_to_text=_text('boolq', 'passage', 'question'),
)
_CB_LABELS = ('entailment', 'contradiction', 'neutral')
CB = _task(
  'cb',
  'CB',
  read=_reader(_CB_LABELS, 'premise', 'hypothesis'),
  labels=_CB_LABELS,
  texts=_texts('premise', 'hypothesis'),
  text_to_text=_text('cb', 'hypothesis', 'premise'),
  metrics=metrics.f1_macro_accuracy,
  averaged=('f1_macro', 'accuracy'),
)
COPA = _task(
  'copa',
  'COPA',
  kind='choice',
  read=_read_copa,
  labels=_COPA,
  texts=_copa_texts,
  text_to_text=_text('copa', *_COPA, 'premise', 'question'),
)
MULTIRC = _task(
  'multirc',
  'MultiRC',
  read=_read_multirc,
  labels=_TRUTH,
  texts=_multirc_texts,
  length=512,
  text_to_text=multirc_text,
  metrics=metrics.multirc,
  averaged=('f1', 'exact_match'),
)
RECORD = _task(
  'record',
  'ReCoRD',
  kind='span',
  read=_read_record,
  decode=formats.as_written,
  convert=_convert_record,
  label='answers',
  texts=_record_span,
  length=384,
  text_to_text=record_text,
  metrics=metrics.record,
  averaged=('f1', 'exact_match'),
)
RTE = _task(
  'rte',
  'RTE',
  read=_reader(_RTE, 'premise', 'hypothesis'),
  labels=_RTE,
  texts=_texts('premise', 'hypothesis'),
  text_to_text=_text('rte', 'hypothesis', 'premise'),
)
_WIC = ('word', 'sentence1', 'sentence2', 'start1', 'start2', 'end1', 'end2')
WIC = _task(
  'wic',
  'WiC',
  read=_reader(_TRUTH, *_WIC),
  labels=_TRUTH,
  texts=_wic_texts,
  text_to_text=_text('wic', 'sentence1', 'sentence2', 'word'),
)
WSC = _task(
  'wsc',
  'WSC',
  tfds=('super_glue/wsc.fixed',),
  read=winograd.read_wsc,
  labels=_TRUTH,
  texts=winograd.wsc_texts,
  text_to_text=winograd.wsc_trained,
  evaluated=winograd.wsc_evaluated,
  decode=winograd.wsc_decode,
  lengths=(512, 512),
)
AXB = _task(
  'axb',
  'AX-b',
  splits={'test': 'test'},
  files={'test': ('AX-b/AX-b.jsonl',)},
  read=_reader(_RTE, 'sentence1', 'sentence2'),
  labels=_RTE,
  texts=_texts('sentence1', 'sentence2'),
  text_to_text=axb_text,
  metrics=metrics.matthews,
  counted=False,
)
AXG = _task(
  'axg',
  'AX-g',
  splits={'test': 'test'},
  files={'test': ('AX-g/AX-g.jsonl',)},
  counted=False,
  read=_reader(_RTE, 'premise', 'hypothesis'),
  labels=_RTE,
  texts=_texts('premise', 'hypothesis'),
  text_to_text=_text('rte', 'hypothesis', 'premise'),
)
# The test split is evaluated: its labels are published.
DPR = _task(
  'dpr',
  'DPR',
  kind='choice',
  tfds=('definite_pronoun_resolution',),
  splits={'train': 'train', 'validation': 'test'},
  files={'train': ('DPR/train.c.txt',), 'validation': ('DPR/test.c.txt',)},
  read=winograd.read_dpr,
  labels=('0', '1'),
  texts=winograd.dpr_texts,
  text_to_text=winograd.dpr_trained,
  decode=winograd.dpr_decode,
  counted=False,  # trained on beside WSC
  lengths=(512, 512),
)

TASKS = (BOOLQ, CB, COPA, MULTIRC, RECORD, RTE, WIC, WSC, AXB, AXG, DPR)

"""Ranked choices: the zero-shot tasks of GPT-3 and LLaMA.

Prompts are those of Brown et al. 2020 (appendix G), where it has the task, or
plain questions. The norm of each task is LLaMA's (Touvron et al. 2023, 3.1):
by length, and OpenBookQA and BoolQ against 'Answer:', as in GPT-3.
"""

import os
import re
from collections.abc import Iterator, Sequence

from input_pipeline.prompted.task import Item, Prompted
from input_pipeline.tasks import choice, files

_LETTERS = 'ABCD'


def _item(context: str, choices: Sequence[str], right: int, group='') -> Item:
  """All choices after the same context, after a space."""
  return Item((*((context, f' {x}') for x in choices),), right, group)


def _number(place, value, count, first=0, field='label'):
  """The choice, from 0, that a field numbers from `first`."""
  if not str(value).isdecimal() or not 0 <= int(value) - first < count:
    raise ValueError(
      f'{place}: {field} is {value!r}; it must be {first} to '
      f'{first + count - 1}. A test split without labels cannot be scored.'
    )
  return int(value) - first


# ---- HellaSwag (Zellers et al. 2019) ----
def read_hellaswag(path: str) -> Iterator[Item]:
  needed = 'activity_label', 'ctx_a', 'ctx_b', 'endings', 'label'
  for place, row in files.jsonl(path, needed):
    context = f'{row["ctx_a"]} {_capital(row["ctx_b"])}'
    texts = [
      _article(text)
      for text in (f'{row["activity_label"]}: {context}', *row['endings'])
    ]
    right = _number(place, row['label'], len(row['endings']))
    yield _item(texts[0], texts[1:], right)


def _capital(text):
  return text[:1].upper() + text[1:].lower()


def _article(text):
  """Without the marks of WikiHow's articles."""
  text = re.sub(r'\[.*?\]', '', text.strip().replace(' [title]', '. '))
  return text.replace('  ', ' ').strip()


# ---- PIQA (Bisk et al. 2020), SIQA (Sap et al. 2019) ----
def read_piqa(path: str) -> Iterator[Item]:
  needed = 'goal', 'sol1', 'sol2'
  for place, row, label in _labelled(path, needed):
    choices = row['sol1'], row['sol2']
    context = f'Question: {row["goal"]}\nAnswer:'
    yield _item(context, choices, _number(place, label, 2))


def read_siqa(path: str) -> Iterator[Item]:
  names = 'answerA', 'answerB', 'answerC'
  for place, row, label in _labelled(path, ('context', 'question', *names)):
    context = f'{row["context"]}\nQuestion: {row["question"]}\nAnswer:'
    right = _number(place, label, 3, first=1)
    yield _item(context, [row[name] for name in names], right)


def _labelled(path, needed):
  """Rows of FILE.jsonl with the lines of FILE-labels.lst beside it."""
  beside = f'{os.path.splitext(path)[0]}-labels.lst'
  labels = [line.strip() for _, line in files.filled(beside)]
  rows = list(files.jsonl(path, needed))
  if len(labels) != len(rows):
    raise ValueError(
      f'{beside} has {len(labels)} labels for the {len(rows)} lines of {path}:'
      ' use the files as published.'
    )
  for (place, row), label in zip(rows, labels, strict=True):
    yield place, row, label


# ---- WinoGrande (Sakaguchi et al. 2020) ----
def read_winogrande(path: str) -> Iterator[Item]:
  """The rest of the sentence, after each of the two names in its gap."""
  for place, row in files.jsonl(path, ('sentence', 'option1', 'option2')):
    before, gap, after = row['sentence'].partition('_')
    if not gap:
      raise ValueError(f'{place}: the sentence has no gap, "_".')
    right = _number(place, row.get('answer'), 2, first=1, field='answer')
    names = row['option1'], row['option2']
    yield Item((*((before + name, after) for name in names),), right)


# ---- ARC (Clark et al. 2018), OpenBookQA (Mihaylov et al. 2018) ----
def read_arc(path: str) -> Iterator[Item]:
  for place, row in files.jsonl(path, ('question', 'answerKey')):
    question = files.checked(place, row['question'], ('stem', 'choices'))
    found = [
      files.checked(place, x, ('text', 'label')) for x in question['choices']
    ]
    keys = [x['label'] for x in found]
    if row['answerKey'] not in keys:
      raise ValueError(
        f'{place}: answerKey {row["answerKey"]!r} must be one of '
        f'{", ".join(keys)}.'
      )
    context = f'Question: {question["stem"]}\nAnswer:'
    texts = [x['text'] for x in found]
    yield _item(context, texts, keys.index(row['answerKey']))


# ---- BoolQ (Clark et al. 2019), COPA (Roemmele et al. 2011) ----
def read_boolq(path: str) -> Iterator[Item]:
  for place, row in files.jsonl(path, ('passage', 'question', 'label')):
    if not isinstance(row['label'], bool):
      raise ValueError(
        f'{place}: label {row["label"]!r} must be true or false.'
      )
    question = row['question'].rstrip('?')
    context = f'{row["passage"]}\nQuestion: {question}?\nAnswer:'
    yield _item(context, ('no', 'yes'), int(row['label']))


def read_copa(path: str) -> Iterator[Item]:
  words = {'cause': 'because', 'effect': 'so'}
  needed = 'premise', 'question', 'choice1', 'choice2', 'label'
  for place, row in files.jsonl(path, needed):
    if row['question'] not in words:
      raise ValueError(
        f'{place}: question {row["question"]!r} must be cause or effect.'
      )
    context = f'{row["premise"].strip().rstrip(".")} {words[row["question"]]}'
    choices = [row[name] for name in ('choice1', 'choice2')]
    choices = [text[:1].lower() + text[1:] for text in choices]
    yield _item(context, choices, _number(place, row['label'], 2))


# ---- StoryCloze (Mostafazadeh et al. 2016) ----
def read_storycloze(path: str) -> Iterator[Item]:
  sentences = [f'InputSentence{n}' for n in range(1, 5)]
  endings = [f'RandomFifthSentenceQuiz{n}' for n in (1, 2)]
  right = 'AnswerRightEnding'
  for place, row in files.csv_rows(path, (*sentences, *endings, right)):
    context = ' '.join(row[name] for name in sentences)
    number = _number(place, row[right], 2, first=1, field=right)
    yield _item(context, [row[name] for name in endings], number)


# ---- RACE (Lai et al. 2017) ----
def read_race(path: str) -> Iterator[Item]:
  for row in choice.read_race(path):
    context = f'{row["article"]}\nQuestion: {row["question"]}\nAnswer:'
    yield _item(context, row['options'], choice.LETTERS.index(row['label']))


# ---- MMLU (Hendrycks et al. 2021) ----
def read_mmlu(path: str) -> Iterator[Item]:
  """A subject's file: the question, four answers and a letter, no header."""
  name = os.path.basename(path).rsplit('_', 1)[0]
  for place, cells in files.csv_cells(path):
    if len(cells) != 6 or cells[5] not in tuple(_LETTERS):
      raise ValueError(
        f'{place} must have a question, four answers and a letter, A to D.'
      )
    answers = (f'{x}. {y}' for x, y in zip(_LETTERS, cells[1:5], strict=True))
    context = '\n'.join([cells[0], *answers, 'Answer:'])
    yield _item(context, _LETTERS, _LETTERS.index(cells[5]), name)


def _mmlu_lead(group: str) -> str:
  subject = group.replace('_', ' ')
  return (
    'The following are multiple choice questions (with answers) about '
    f'{subject}.\n\n'
  )


def _files(*folders, **names):
  """Our name of a split -> its file in each of the folders."""
  return {
    split: tuple(f'{folder}{name}' for folder in folders)
    for split, name in names.items()
  }


def _task(name, read, files, **more) -> Prompted:
  return Prompted(name=name, kind='choice', read=read, files=files, **more)


def _arc(name: str) -> Prompted:
  return _task(
    f'arc_{name.lower()}',
    read_arc,
    _files(
      *(f'ARC-{name}/ARC-{name}-', f'ARC-V1-Feb2018-2/ARC-{name}/ARC-{name}-'),
      train='Train.jsonl',
      validation='Dev.jsonl',
      test='Test.jsonl',
    ),
    asked='test',
    norm='byte',
  )


def _race(name: str) -> Prompted:
  return _task(
    f'race_{name}',
    read_race,
    {
      split: (f'RACE/{split}/{name}/*.txt', f'{split}/{name}/*.txt')
      for split in ('train', 'test')
    },
    asked='test',
    norm='byte',
  )


TASKS = (
  _task(
    'hellaswag',
    read_hellaswag,
    _files('hellaswag/', '', train='hellaswag_train.jsonl',
      validation='hellaswag_val.jsonl',
    ),
    norm='byte',
  ),
  _task(
    'piqa',
    read_piqa,
    _files(
      *('physicaliqa-train-dev/', 'piqa/'),
      train='train.jsonl', validation='dev.jsonl',
    ),
    norm='byte',
  ),
  _task(
    'siqa',
    read_siqa,
    _files(
      *('socialiqa-train-dev/', 'siqa/'),
      train='train.jsonl', validation='dev.jsonl',
    ),
    norm='byte',
  ),
  _task(
    'winogrande',
    read_winogrande,
    _files(
      *('winogrande_1.1/', 'winogrande/'),
      train='train_xl.jsonl', validation='dev.jsonl',
    ),
  ),
  _arc('Easy'),
  _arc('Challenge'),
  _task(
    'openbookqa',
    read_arc,
    _files(
      *('OpenBookQA-V1-Sep2018/Data/Main/', 'openbookqa/'),
      train='train.jsonl', validation='dev.jsonl', test='test.jsonl',
    ),
    asked='test',
    norm='neutral',
  ),
  _task(
    'boolq',
    read_boolq,
    _files('BoolQ/', '', train='train.jsonl', validation='val.jsonl'),
    norm='neutral',
  ),
  _task(
    'copa',
    read_copa,
    _files('COPA/', '', train='train.jsonl', validation='val.jsonl'),
    norm='byte',
  ),
  _task(
    'storycloze',
    read_storycloze,
    {
      'validation': ('cloze_test_val__spring2016 - cloze_test_ALL_val.csv',),
      'test': ('cloze_test_test__spring2016 - cloze_test_ALL_test.csv',),
    },
    asked='test',
    shots='validation',
    norm='byte',
  ),
  _race('high'),
  _race('middle'),
  _task(
    'mmlu',
    read_mmlu,
    {
      split: tuple(f'{folder}{split}/*_{split}.csv' for folder in ('', 'data/'))
      for split in ('dev', 'test')
    },
    asked='test',
    shots='dev',
    in_order=True,
    lead=_mmlu_lead,
  ),
)  # fmt: skip

"""Questions about a text: SQuAD 1.1 and 2.0, and TriviaQA.

Rajpurkar et al. 2016 and 2018; Joshi et al. 2017. RACE is in choice.py.
"""

import functools
import itertools
import os
import re
from collections.abc import Iterator
from typing import Any

from input_pipeline.sources import paths
from input_pipeline.tasks import files, formats, metrics
from input_pipeline.tasks.task import Example, Span, Task

NO_ANSWERS = {'text': [], 'answer_start': []}  # also of a secret
UNANSWERABLE = 'unanswerable'  # what a text-to-text model writes for no answer


# ---- SQuAD ----
def read_squad(path: str, *, unanswerable: bool) -> Iterator[Example]:
  """Questions of a SQuAD file; `unanswerable`: of version 2.0.

  The `data` of the file may also be the questions, each with its context.

  Raises:
    ValueError: a field is missing, or a question of version 1.1 has no answer.
  """
  place = path
  whole = files.checked(place, files.parsed(path), ('data',))
  misplaced = []
  for number, question in enumerate(_questions(place, whole['data']), 1):
    where = f'{path}, question {number}'
    files.checked(where, question, ('id', 'question', 'context', 'answers'))
    example = {
      'id': question['id'],
      'title': question['title'],
      'context': question['context'],
      'question': question['question'],
      'answers': _answers(where, question['answers']),
    }
    starts, texts = (example['answers'][x] for x in ('answer_start', 'text'))
    if unanswerable:
      example['is_impossible'] = question.get('is_impossible', not texts)
      plausible = question.get('plausible_answers', [])
      example['plausible_answers'] = _answers(where, plausible)
    elif not texts:
      raise ValueError(
        f'{where} ({question["id"]!r}) has no answer. Version 2.0 has such'
        ' questions: take the task squad/v2.0.'
      )
    context = example['context']
    if any(
      context[start : start + len(text)] != text
      for start, text in zip(starts, texts, strict=True)
    ):
      misplaced.append(question['id'])
    yield example
  if misplaced:
    print(
      f'{path}: in {len(misplaced)} questions an answer does not begin at its'
      f' answer_start, such as {misplaced[0]!r}.',
      flush=True,
    )


def _questions(place, data):
  """Each question with its title and context."""
  for article in data:
    if 'paragraphs' not in article:
      yield {'title': '', **article}
      continue
    for paragraph in article['paragraphs']:
      files.checked(place, paragraph, ('context', 'qas'))
      for question in paragraph['qas']:
        context = paragraph['context']
        title = article.get('title', '')
        yield {**question, 'title': title, 'context': context}


def _answers(place, answers):
  """Answers as TFDS has them, in two lists; the file has lists or pairs."""
  if isinstance(answers, dict):
    files.checked(place, answers, ('text', 'answer_start'))
    return {name: list(answers[name]) for name in ('text', 'answer_start')}
  for answer in answers:
    files.checked(place, answer, ('text', 'answer_start'))
  return {
    name: [answer[name] for answer in answers]
    for name in ('text', 'answer_start')
  }


def squad_span(example: Example) -> Span:
  """The question, context and answers, as an encoder reads them."""
  answers = example['answers'] or NO_ANSWERS
  return Span(
    example['question'],
    example['context'],
    tuple(zip(answers['answer_start'], answers['text'], strict=True)),
  )


def squad_text(example: Example) -> list[tuple[str, str]]:
  """Question and context, then the first answer, with padded punctuation."""
  question, context = (
    formats.pad_punctuation(example[name]) for name in ('question', 'context')
  )
  answers = (example['answers'] or NO_ANSWERS)['text']
  target = formats.pad_punctuation(answers[0]) if answers else UNANSWERABLE
  return [
    (formats.join_spaced('question:', question, 'context:', context), target)
  ]


def squad_decode(text: str, example: Example) -> str:
  """The answer as the context writes it, without padding; '' is no answer.

  An answer that the context does not have stays as the model wrote it.

  >>> squad_decode('J . S . Bach', {'context': 'It was J.S. Bach.'})
  'J.S. Bach'
  """
  words = text.split()
  if text.strip() == UNANSWERABLE or not words:
    return ''
  pattern = re.escape(words[0])
  for before, after in itertools.pairwise(words):
    apart = before[-1].isalnum() and after[0].isalnum()
    pattern += (r'\s+' if apart else r'\s*') + re.escape(after)
  context = example['context']
  # The score knows no case.
  found = re.search(pattern, context) or re.search(pattern, context, re.I)
  return found[0] if found else text


def _squad(version: str, unanswerable: bool, score: Any) -> Task:
  return Task(
    name=f'squad/{version}',
    kind='span',
    tfds=(f'squad/{version}',),
    splits={'train': 'train', 'validation': 'validation'},
    files={
      'train': (f'train-{version}.json', f'squad/train-{version}.json'),
      'validation': (f'dev-{version}.json', f'squad/dev-{version}.json'),
    },
    read=functools.partial(read_squad, unanswerable=unanswerable),
    label='answers',
    texts=squad_span,
    length=384,
    text_to_text=squad_text,
    decode=squad_decode,
    lengths=(512, 97),
    metrics=score,
    unanswerable=unanswerable,
  )


SQUAD1 = _squad('v1.1', False, metrics.squad)
SQUAD2 = _squad('v2.0', True, metrics.squad2)


# ---- TriviaQA ----
def read_trivia(path: str) -> Iterator[Example]:
  """Questions of a TriviaQA file, with their documents in ../evidence.

  Missing documents are left out and counted.
  """
  whole = files.checked(path, files.parsed(path), ('Data',))
  above = os.path.dirname(os.path.dirname(path))
  missing = []
  for number, row in enumerate(whole['Data'], 1):
    place = f'{path}, question {number}'
    files.checked(place, row, ('Question', 'QuestionId', 'QuestionSource'))
    pages = _documents(row.get('EntityPages', []), above, 'wikipedia', missing)
    results = _documents(row.get('SearchResults', []), above, 'web', missing)
    yield {
      'question': row['Question'].strip(),
      'question_id': row['QuestionId'],
      'question_source': row['QuestionSource'].strip(),
      'entity_pages': {
        'doc_source': [x.get('DocSource', '').strip() for x, _ in pages],
        'filename': [x['Filename'].strip() for x, _ in pages],
        'title': [x.get('Title', '').strip() for x, _ in pages],
        'wiki_context': [text for _, text in pages],
      },
      'search_results': {
        'description': [x.get('Description', '').strip() for x, _ in results],
        'filename': [x['Filename'].strip() for x, _ in results],
        'rank': [x.get('Rank', 0) for x, _ in results],
        'title': [x.get('Title', '').strip() for x, _ in results],
        'url': [x.get('Url', '').strip() for x, _ in results],
        'search_context': [text for _, text in results],
      },
      'answer': _trivia_answer(place, row),
    }
  if missing:
    print(
      f'{path}: {len(missing)} documents are missing and left out, such as'
      f' {missing[0]}.',
      flush=True,
    )


def _documents(rows, above, folder, missing):
  """(row, text) of the documents that exist."""
  found = []
  for row in rows:
    path = os.path.join(above, 'evidence', folder, row.get('Filename', ''))
    if 'Filename' in row and paths.exists(path):
      found.append((row, files.text(path).strip()))
    else:
      missing.append(path)
  return found


def _trivia_answer(place, row):
  """The answer's names; None if the answer is secret."""
  if 'Answer' not in row:
    return None
  needed = ('Aliases', 'NormalizedAliases', 'NormalizedValue', 'Type', 'Value')
  answer = files.checked(place, row['Answer'], needed)
  entity = 'MatchedWikiEntryName'
  return {
    'aliases': [x.strip() for x in answer['Aliases']],
    'normalized_aliases': [x.strip() for x in answer['NormalizedAliases']],
    'matched_wiki_entity_name': answer.get(entity, '').strip(),
    'normalized_matched_wiki_entity_name': answer.get(
      f'Normalized{entity}', ''
    ).strip(),
    'normalized_value': answer['NormalizedValue'].strip(),
    'type': answer['Type'].strip(),
    'value': answer['Value'].strip(),
  }


def _convert_trivia(record):
  """Makes a secret answer None: TFDS has one without names."""
  answer = record['answer']
  yield {**record, 'answer': answer if answer['aliases'] else None}


def _contexts(example):
  return [
    *example['entity_pages']['wiki_context'],
    *example['search_results']['search_context'],
  ]


def _trivia_input(question, context):
  return formats.join_spaced('question:', question, 'context:', context)


def trivia_text(example: Example) -> list[tuple[str, str]]:
  """A pair for each document and each of the answer's names found in it."""
  question = formats.pad_punctuation(example['question'])
  names = (example['answer'] or {}).get('normalized_aliases', [])
  pairs = []
  for context in map(formats.pad_punctuation, _contexts(example)):
    # As in TensorFlow, bytes are lowered: only ASCII letters change.
    lowered = context.encode().lower()
    for name in map(formats.pad_punctuation, names):
      if name.encode().lower() in lowered:
        pairs.append((_trivia_input(question, context), name))
  return pairs


def trivia_evaluated(example: Example) -> tuple[str, str]:
  """The first document with the answer, or else the first document."""
  if pairs := trivia_text(example):
    return pairs[0]
  question = formats.pad_punctuation(example['question'])
  context = formats.pad_punctuation(next(iter(_contexts(example)), ''))
  answer = example['answer']
  target = answer['normalized_value'] if answer else formats.SECRET
  return _trivia_input(question, context), target


TRIVIA_QA = Task(
  name='trivia_qa',
  kind='text',
  tfds=('trivia_qa/rc',),
  splits={'train': 'train', 'validation': 'validation', 'test': 'test'},
  files={
    'train': ('qa/*-train.json', 'triviaqa-rc/qa/*-train.json'),
    'validation': ('qa/*-dev.json', 'triviaqa-rc/qa/*-dev.json'),
    'test': (
      'qa/*test-without-answers.json',
      'triviaqa-rc/qa/*test-without-answers.json',
    ),
  },
  read=read_trivia,
  convert=_convert_trivia,
  label='answer',
  text_to_text=trivia_text,
  evaluated=trivia_evaluated,
  decode=formats.as_written,
  metrics=metrics.trivia,
)

TASKS = (SQUAD1, SQUAD2, TRIVIA_QA)

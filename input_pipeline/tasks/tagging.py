"""Named entities of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003).

It is not among T5's tasks: its text-to-text form is ours, a tag for each word.
"""

from collections.abc import Iterator, Sequence

from input_pipeline.tasks import files, metrics
from input_pipeline.tasks.task import Example, Task

_KINDS = ('PER', 'ORG', 'LOC', 'MISC')
_LABELS = ('O', *(f'{place}-{kind}' for kind in _KINDS for place in 'BI'))
_SPLITS = {
  'train': ('train.txt', 'eng.train', 'train.json'),
  'validation': ('valid.txt', 'eng.testa', 'valid.json'),
  'test': ('test.txt', 'eng.testb', 'test.json'),
}


def read_conll(path: str) -> Iterator[Example]:
  """Sentences of a file of columns (word, part of speech, chunk, entity).

  The file may also be JSONL, with `words` and `ner`. Tags become IOB2 as in
  TFDS: each entity begins with B. The authors' files have IOB1.

  Raises:
    ValueError: a tag is unknown.
  """
  if path.endswith('.json'):
    for place, row in files.jsonl(path, ('words', 'ner')):
      if len(row['words']) != len(row['ner']):
        raise ValueError(
          f'{place} has {len(row["words"])} words and {len(row["ner"])} tags.'
          ' There must be a tag for each word.'
        )
      yield _sentence(place, row['words'], row['ner'])
    return
  for place, rows in files.columns(path):
    if len(rows[0]) < 2:
      raise ValueError(
        f'{place} has one column. The first is the word, the last its tag.'
      )
    yield _sentence(place, [x[0] for x in rows], [x[-1] for x in rows])


def _sentence(place, words, tags):
  names = []
  for n, (word, tag) in enumerate(zip(words, tags, strict=True), 1):
    where = f'{place}, word {n} of its sentence ({word!r})'
    names.append(files.class_name(where, tag, _LABELS, 'tag'))
    if names[-1] is None:
      raise ValueError(f'{where} has no tag.')
  return {'tokens': list(words), 'ner': iob2(names)}


def iob2(tags: Sequence[str]) -> list[str]:
  """Tags in which each entity begins with B.

  >>> iob2(['I-PER', 'I-PER', 'B-PER', 'O', 'I-LOC'])
  ['B-PER', 'I-PER', 'B-PER', 'O', 'B-LOC']
  """
  found = []
  for n, tag in enumerate(tags):
    before = tags[n - 1][2:] if n else ''
    begins = tag.startswith('I-') and tag[2:] != before
    found.append(f'B-{tag[2:]}' if begins else tag)
  return found


def words(example: Example) -> list[str]:
  return example['tokens']


def tags_text(example: Example) -> list[tuple[str, str]]:
  text = f'conll2003 sentence: {" ".join(example["tokens"])}'
  return [(text, ' '.join(example['ner']))]


def tags_decode(text: str, example: Example) -> list[str | None]:
  """The tags that the model wrote for the words; None for an unknown one."""
  tags = text.split()[: len(example['tokens'])]
  return [tag if tag in _LABELS else None for tag in tags]


CONLL2003 = Task(
  name='conll2003',
  kind='tagging',
  tfds=('conll2003',),
  splits={'train': 'train', 'validation': 'dev', 'test': 'test'},
  files={
    split: tuple(f'{folder}{x}' for folder in ('conll2003/', '') for x in names)
    for split, names in _SPLITS.items()
  },
  read=read_conll,
  labels=_LABELS,
  label='ner',
  texts=words,
  text_to_text=tags_text,
  decode=tags_decode,
  metrics=metrics.entity_f1,
)

TASKS = (CONLL2003,)

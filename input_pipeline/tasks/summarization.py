"""Summaries: CNN/Daily Mail and XSum.

Hermann et al. 2015, See et al. 2017; Narayan et al. 2018.
"""

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence

from input_pipeline.sources import paths
from input_pipeline.tasks import files, formats, metrics
from input_pipeline.tasks.task import SPLITS, Example, Task

# Publisher -> the folder of its stories, beside the lists of addresses.
_STORIES = {'cnn': 'cnn/stories', 'dm': 'dailymail/stories'}
# The endings of a line that is a whole sentence.
_ENDS = ('.', '!', '?', '...', "'", '`', '"', '\u2019', '\u201d', ')')


def read_pairs(path: str, *, fields: Sequence[str]) -> Iterator[Example]:
  """Rows of a CSV or JSONL file with two fields."""
  rows = files.csv_rows if path.endswith('.csv') else files.jsonl
  for _, row in rows(path, fields):
    yield {name: row[name] for name in fields}


def read_cnn(path: str) -> Iterator[Example]:
  """Reads CSV or JSONL with `article` and `highlights`, or a list of addresses.

  A list (all_train.txt) names stories. As in TFDS, CNN's come first, then the
  Daily Mail's; stories without an article or a highlight are left out and
  counted.

  Raises:
    ValueError: a story is missing.
  """
  if not path.endswith('.txt'):
    yield from read_pairs(path, fields=('article', 'highlights'))
    return
  above, without = os.path.dirname(path), 0
  found = [_story(above, *line) for line in files.filled(path)]
  for publisher in _STORIES:
    for own, name, story in found:
      if own != publisher:
        continue
      article, highlights = story_parts(files.text(story))
      if article and highlights:
        yield {
          'article': article,
          'highlights': highlights,
          'publisher': publisher,
          'id': name,
        }
      else:
        without += 1
  if without:
    print(f'{path}: {without} stories without a text are left out.', flush=True)


def _story(above, place, address):
  """(publisher, hash, file) of an address; the hash is the file's name."""
  name = hashlib.sha1(address.strip().encode()).hexdigest()
  for publisher, folder in _STORIES.items():
    path = os.path.join(above, folder, f'{name}.story')
    if paths.exists(path):
      return publisher, name, path
  raise ValueError(
    f'{place}: {address!r} has no story {name}.story in'
    f' {" or ".join(_STORIES.values())} under {above}. Put both folders there.'
  )


def story_parts(text: str) -> tuple[str, str]:
  """The article and the highlights of a story; a period ends each line."""
  parts, part = ([], []), 0
  for line in (line.strip() for line in text.split('\n')):
    if line.startswith('@highlight'):
      part = 1
    elif line:
      whole = line.endswith(_ENDS) or '@highlight' in line
      parts[part].append(line if whole else f'{line}.')
  return ' '.join(parts[0]), '\n'.join(parts[1])


def summary_text(
  example: Example, *, source: str, target: str
) -> list[tuple[str, str]]:
  return [(f'summarize: {example[source]}', example[target])]


def _files(folder, *lists):
  names = {'train': 'train', 'validation': 'val*', 'test': 'test'}
  return {
    split: (
      *(f'{folder}/{name}.{ending}' for ending in ('csv', 'json*')),
      *(f'{x}_{name}.txt' for x in lists),
    )
    for split, name in names.items()
  }


CNN_DAILYMAIL = Task(
  name='cnn_dailymail',
  kind='text',
  tfds=('cnn_dailymail',),
  splits=SPLITS,
  files=_files('cnn_dailymail', 'all', 'cnn_dailymail/all'),
  read=read_cnn,
  label='highlights',
  text_to_text=functools.partial(
    summary_text, source='article', target='highlights'
  ),
  decode=formats.as_written,
  metrics=metrics.rouge,
  averaged=('rouge2',),
)
XSUM = Task(
  name='xsum',
  kind='text',
  tfds=('xsum',),
  splits=SPLITS,
  files=_files('xsum'),
  read=functools.partial(read_pairs, fields=('document', 'summary')),
  label='summary',
  text_to_text=functools.partial(
    summary_text, source='document', target='summary'
  ),
  decode=formats.as_written,
  metrics=functools.partial(metrics.rouge, field='summary'),
  averaged=('rouge2',),
)

TASKS = (CNN_DAILYMAIL, XSUM)

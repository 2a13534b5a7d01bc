"""The tasks of instruction tuning by name, beside all labelled tasks.

flan/NAME is the labelled task NAME in words, in several ways (wording.py): one
of tasks/, a word problem (arithmetic.py) or one that a program makes
(generated.py). messages:FILE and instructions:FILE are a user's own chats (see
chats.py).
"""

import dataclasses
import functools
import os

from input_pipeline.choices import IN_WORDS, unknown
from input_pipeline.instructions import (
  arithmetic,
  chats,
  generated,
  sentences,
  texts,
  wording,
)
from input_pipeline.tasks import catalog
from input_pipeline.tasks.task import Task

PREFIX = IN_WORDS.removeprefix('task:')
WORDINGS = {
  **sentences.WORDINGS,
  **texts.WORDINGS,
  **arithmetic.WORDINGS,
  **generated.WORDINGS,
}
# A group of tasks -> folders that its files may lie in, in data.task_folder.
FOLDERS = {
  'glue': ('glue', 'GLUE'),
  'super_glue': ('superglue', 'super_glue', 'SuperGLUE'),
  'mawps': ('svamp_mawps', 'svamp'),
  'asdiv': ('svamp_mawps', 'svamp'),
}


def find(name: str) -> Task:
  """The task with a name: see above, and tasks.catalog.find.

  Raises:
    ValueError: the name is unknown; the message has the nearest name.
  """
  if chats.is_own(name):
    return chats.find(name)
  if not name.startswith(PREFIX):
    return catalog.find(name)
  base = name.removeprefix(PREFIX)
  if base not in WORDINGS:
    raise ValueError(
      unknown('task', name, [f'{PREFIX}{known}' for known in WORDINGS])
    )
  own = WORDINGS[base]
  task = (
    arithmetic.TASKS.get(base)
    or generated.TASKS.get(base)
    or catalog.find(base)
  )
  return dataclasses.replace(
    task,
    name=name,
    files={split: _places(base, x) for split, x in task.files.items()},
    text_to_text=functools.partial(wording.pairs, wording=own),
    evaluated=None,
    chats=functools.partial(wording.chats, wording=own),
    options=lambda example: own.fields(example).options,
    decode=functools.partial(wording.read, wording=own),
  )


def _places(name, files):
  """Files of a task, in a folder of their group's or in the folder itself."""
  folders = FOLDERS.get(name.partition('/')[0], ())
  inside = (os.path.join(folder, x) for folder in folders for x in files)
  return (*inside, *files)

"""Writes the tree to a file."""

import os

from configs import lineage
from configs.plotting import layout, page, picture, vector
from configs.systems import SYSTEMS

FORMATS = ('.html', '.png', '.svg', '.pdf')


def write(path: str) -> None:
  """Writes the tree; it replaces `path` only when it is complete.

  Args:
    path: a .html, .png, .svg or .pdf file.

  Raises:
    ValueError: another kind of file.
    OSError: the file cannot be written.
  """
  ending = os.path.splitext(path)[1].lower()
  if ending not in FORMATS:
    raise ValueError(
      f'--plot={path}: the file must end in one of {", ".join(FORMATS)}.'
    )
  drawing = layout.lay_out(SYSTEMS, lineage.edges())
  # As input_pipeline.sources.paths.replacing, which configs must not import.
  part = f'{path}.{os.getpid()}.part'
  try:
    if ending in ('.png', '.pdf'):
      picture.save(drawing, part, ending[1:])
    else:
      make = vector.picture if ending == '.svg' else page.page
      with open(part, 'w', encoding='utf-8') as file:
        file.write(make(drawing))
    os.replace(part, path)
  finally:
    if os.path.exists(part):
      os.remove(part)

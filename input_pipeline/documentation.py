"""The embedded corpus: documentation found in the installed packages.

Docstrings of the standard library and of the installed packages, the language
reference that `help()` shows, and the packages' long descriptions. Modules are
read as text and never imported.
"""

import ast
import functools
import hashlib
import inspect
import os
import sysconfig

LIMIT = 7_000_000  # bytes of all documents
PACKAGE_LIMIT = 700_000  # of one package, so that none dominates
DOCUMENT = 2_000  # a document ends with the paragraph that passes this
SHORTEST = 200  # of a docstring worth reading
SKIPPED = {'__pycache__', 'site-packages', 'idlelib', 'lib2to3', 'test'}


@functools.cache
def documents():
  """UTF-8 documents of about 2 kB each, 7 MB at most, in a fixed order.

  The same installation gives the same documents; the order is that of their
  hashes, so that every part of the corpus is a sample of the whole. Raises
  ValueError when nothing is found.
  """
  library = sysconfig.get_path('stdlib')
  packages = sysconfig.get_path('purelib')
  seen, found, size = set(), [], 0
  for root in [library, *_packages(packages)]:
    limit = 4 * PACKAGE_LIMIT if root == library else PACKAGE_LIMIT
    limit = min(limit, LIMIT - size)
    for text in _collected(_passages(root), limit, seen):
      found.append(text)
      size += len(text)
  if not found:
    raise ValueError(
      f"data.source='docs' finds no documentation in {library} nor {packages};"
      ' give json:GLOB or text:GLOB.'
    )
  return sorted(found, key=lambda text: hashlib.sha256(text).digest())


def _packages(folder):
  """Installed packages and their descriptions, in order of their names."""
  names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
  return [os.path.join(folder, n) for n in names if n not in SKIPPED]


def _collected(passages, limit, seen):
  """Passages not seen before, joined to documents, up to `limit` bytes."""
  document = b''
  for passage in passages:
    if limit <= 0:
      return
    if len(passage) < SHORTEST or passage in seen:
      continue
    seen.add(passage)
    document += (b'\n' if document else b'') + passage
    if len(document) > DOCUMENT:
      yield document
      limit -= len(document)
      document = b''
  if document:
    yield document


def _passages(root):
  if root.endswith('.dist-info'):
    path = os.path.join(root, 'METADATA')
    if os.path.exists(path):  # headers, a blank line, the description
      yield from map(_clean, _read(path).split('\n\n')[1:])
    return
  for folder, folders, files in os.walk(root):
    folders[:] = sorted(f for f in folders if f not in SKIPPED)
    for name in sorted(files):
      path = os.path.join(folder, name)
      if path.endswith(os.path.join('pydoc_data', 'topics.py')):
        yield from map(_clean, _topics(_read(path)))
      elif name.endswith('.py'):
        yield from map(_clean, _read(path).split('"""')[1::2])


def _topics(source):
  """The sections of Python's language reference, from its module's text."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
      yield node.value


def _clean(text):
  """A docstring's prose: no code, no rules, one line a paragraph."""
  lines = ['']
  for line in inspect.cleandoc(text).splitlines():
    words = line.split()
    other = not words or words[0] in ('>>>', '...') or not words[0][0].isalnum()
    if other:
      lines.append('')
    else:
      lines[-1] += ' ' * bool(lines[-1]) + ' '.join(words)
  prose = [line for line in lines if line.count(' ') >= 4]
  return '\n'.join(prose).encode(errors='ignore')


def _read(path):
  try:
    with open(path, encoding='utf-8', errors='ignore') as file:
      return file.read()
  except OSError:
    return ''

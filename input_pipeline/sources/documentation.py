"""The embedded corpus: documentation found in the base install.

It has the docstrings of the standard library and of PACKAGES, the language
reference that `help()` shows, and the packages' long descriptions. Modules are
read as text and never imported. Other installed packages change nothing: only
the files in a package's own list (RECORD) are read.
"""

import ast
import functools
import importlib.metadata
import inspect
import itertools
import os
import platform
import sys
import sysconfig
from collections.abc import Iterator

from input_pipeline.sources.files import Source
from input_pipeline.sources.hashes import hash_bytes, sha256

# Dependencies of the base install on every platform, and theirs.
PACKAGES = (
  *('absl-py', 'etils', 'flax', 'jax', 'keras', 'matplotlib'),
  *('ml-collections', 'numpy', 'optax', 'orbax-checkpoint', 'pyarrow'),
  *('scipy', 'tensorboardX', 'tensorflow-datasets'),
)
PYTHON = 'Python'  # the standard library's name in the fingerprint
LIMIT = 800_000  # bytes of one package's documents: none dominates
DOCUMENT = 2_000  # bytes after which a document ends with its passage
SHORTEST = 200  # bytes of a docstring worth reading
SKIPPED = {'__pycache__', 'test', 'tests'}
# Parts of the standard library that some systems package separately.
OPTIONAL = {
  *('distutils', 'ensurepip', 'idlelib', 'lib2to3'),
  *('tkinter', 'turtle', 'turtledemo'),
}


class Documentation(Source):
  """The embedded corpus as a source of one file."""

  files, unit = ('docs',), 'document'

  def __init__(self):
    self.texts, self.fingerprint = documents(), []
    for name, version, texts in _collections():
      whole = hash_bytes(b''.join(len(t).to_bytes(8) + t for t in texts))
      entry = {'file': name, 'version': version, 'sha256': whole}
      self.fingerprint.append(entry)

  def records(self, file: int, start: int) -> Iterator[tuple[int, bytes]]:
    del file
    return enumerate(self.texts[start:], start + 1)

  def text(self, record: bytes) -> bytes:
    return record


def documents() -> list[bytes]:
  """UTF-8 documents of about 2 kB each, 7 MB in all, in a fixed order.

  The same versions give the same documents. Their order is that of their
  hashes, so that every part of the corpus is a sample of the whole. Raises
  ValueError naming the package when one of PACKAGES is missing or damaged.
  """
  found = [text for _, _, texts in _collections() for text in texts]
  return sorted(found, key=sha256)


@functools.cache
def _collections():
  """(name, version, documents) of the standard library and every package."""
  files = _python_files()
  version = platform.python_version()
  found = [(PYTHON, version, list(_collected(files, float('inf'))))]
  for name in PACKAGES:
    version, files = _package_files(name)
    found.append((name, version, list(_collected(files, LIMIT))))
  for name, _, texts in found:
    if not texts:
      raise ValueError(f"data.source='docs': {name} has no documentation.")
  return found


def _python_files():
  """Paths of the standard library's modules, sorted."""
  root, found = sysconfig.get_path('stdlib'), []
  for name in sorted(sys.stdlib_module_names - OPTIONAL):
    path = os.path.join(root, name)
    if os.path.isfile(f'{path}.py'):
      found.append(f'{path}.py')
    for folder, folders, files in os.walk(path):
      folders[:] = sorted(f for f in folders if f not in SKIPPED)
      names = sorted(file for file in files if file.endswith('.py'))
      found += [os.path.join(folder, file) for file in names]
  return found


def _package_files(name):
  """Version, and paths of the description and the modules, sorted."""
  again = 'Install it again: pip install -c constraints.txt -e .'
  try:
    package = importlib.metadata.distribution(name)
  except importlib.metadata.PackageNotFoundError:
    raise ValueError(
      f"data.source='docs' reads the package {name}, which is not installed."
      f' {again}'
    ) from None
  named = f"data.source='docs': the package {name} {package.version}"
  listed = {
    str(package.locate_file(file))
    for file in package.files or ()
    if file.parts[0] != '..'
    and not SKIPPED.intersection(file.parts)
    and (file.suffix == '.py' or file.name == 'METADATA')
  }
  if not listed:
    raise ValueError(f'{named} has no list of its files (RECORD). {again}')
  for path in sorted(listed):
    if not os.path.isfile(path):
      raise ValueError(f'{named} lacks {path}. {again}')
  return package.version, sorted(listed)


def _collected(files, limit):
  """Documents of about DOCUMENT bytes, `limit` in all; no passage is twice."""
  document, seen = b'', set()
  for passage in itertools.chain.from_iterable(map(_passages, files)):
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


def _passages(path):
  with open(path, encoding='utf-8', errors='ignore') as file:
    text = file.read()
  if path.endswith('METADATA'):  # headers, a blank line, the description
    return map(_clean, text.split('\n\n')[1:])
  if path.endswith(os.path.join('pydoc_data', 'topics.py')):
    # The language reference: a dict of its sections.
    nodes = ast.walk(ast.parse(text))
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    return map(_clean, [value for value in values if isinstance(value, str)])
  return map(_clean, text.split('"""')[1::2])


def _clean(text):
  """A docstring's prose: without code and rules, one line a paragraph."""
  lines = ['']
  for line in inspect.cleandoc(text).splitlines():
    words = line.split()
    if not words or not words[0][0].isalnum():
      lines.append('')
    else:
      lines[-1] += ' ' * bool(lines[-1]) + ' '.join(words)
  prose = [line for line in lines if line.count(' ') >= 4]
  return '\n'.join(prose).encode(errors='ignore')

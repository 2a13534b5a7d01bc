"""The house is in order: sizes, words, and paths that documents name."""

import ast
import re
import subprocess

import pytest

from tests.helpers import REPOSITORY

PACKAGES = ('configs', 'models', 'input_pipeline', 'train')
LINES = 355  # of a file, or about so many
FUNCTION = 100  # lines; a config's get_config lists a paper's numbers
SCRIPT = 150  # lines of the one function that is a script
# Words that are read twice, and plain ones in their place.
WORDS = {
  r'\banew\b': 'again, rebuilt',
  r'\b[Tt]old\b|\btells? of\b': 'is reported, asked for',
  r'\b[Bb]orn\b': 'initialised, new',
  r'\bbefell\b': 'happened to',
  r'\bin vain\b': 'is always allowed',
  r'looked at no more': 'skipped',
  r'\bmend(s|ed|ing)?\b': 'fix',
}


def files(*endings):
  """Tracked and new files of the repository, relative to it."""
  listed = subprocess.run(
    ['git', 'ls-files', '--cached', '--others', '--exclude-standard'],
    cwd=REPOSITORY, capture_output=True, text=True, check=True,
  ).stdout.split('\n')  # fmt: skip
  return [
    name
    for name in listed
    if name.endswith(endings) and (REPOSITORY / name).exists()
  ]


def read(name):
  return (REPOSITORY / name).read_text(encoding='utf-8')


def test_files_and_functions_are_short():
  wrong = []
  for name in files('.py'):
    text = read(name)
    count = text.count('\n')
    if count > LINES:
      wrong.append(f'{name} has {count} lines')
    if not name.startswith(PACKAGES):
      continue
    for node in ast.walk(ast.parse(text)):
      if isinstance(node, ast.FunctionDef) and node.name != 'get_config':
        lines = node.end_lineno - node.lineno + 1
        # train/loop.py:train is one script, read from top to bottom.
        script = name == 'train/loop.py' and node.name == 'train'
        if lines > (SCRIPT if script else FUNCTION):
          wrong.append(f'{name}: {node.name} has {lines} lines')
  assert not wrong, '\n'.join(wrong)


def test_every_folder_says_what_is_in_it():
  folders = {name.rpartition('/')[0] for name in files('.py')}
  for folder in folders - {'', 'benchmarks', 'examples'}:
    assert ast.get_docstring(ast.parse(read(f'{folder}/__init__.py'))), folder


@pytest.mark.parametrize('pattern', WORDS)
def test_words(pattern):
  found = [
    f'{name}: {line.strip()}'
    for name in files('.py', '.md', '.ipynb')
    if name != 'tests/test_house.py'
    for line in read(name).split('\n')
    if re.search(pattern, line)
  ]
  assert not found, f'write: {WORDS[pattern]}\n' + '\n'.join(found)


def test_documents_name_files_that_exist():
  """Paths in backticks, links, and modules that are run exist."""
  missing = []
  for document in files('.md'):
    if document == 'CHANGELOG.md':  # it also names what is gone
      continue
    text = read(document)
    folder = (REPOSITORY / document).parent
    for path in re.findall(r'`((?:[\w.-]+/)+[\w.-]*)`', text):
      top = path.split('/')[0]
      known = top in (*PACKAGES, 'tests', 'benchmarks', 'docs', 'examples')
      if known and not (REPOSITORY / path).exists():
        missing.append(f'{document}: {path}')
    for link in re.findall(r'\]\(([^)#:]+)(?:#[\w-]*)?\)', text):
      if not (folder / link).exists():
        missing.append(f'{document}: {link}')
    for module in re.findall(r'python -m ([\w.]+)', text):
      path = REPOSITORY.joinpath(*module.split('.'))
      if module.split('.')[0] in (*PACKAGES, 'benchmarks') and not (
        path.with_suffix('.py').exists() or (path / '__main__.py').exists()
      ):
        missing.append(f'{document}: python -m {module}')
  assert not missing, '\n'.join(missing)


def test_the_readme_is_one_page():
  assert read('README.md').count('\n') <= 120


def test_example_diffs_fit_the_files():
  """In docs/add_*.md the lines that a diff keeps or removes are in the file."""
  stale = []
  for document in files('.md'):
    for diff in re.findall(r'```diff\n(.*?)```', read(document), re.DOTALL):
      for part in re.split(r'^# (?=\S+\n@@)', diff, flags=re.MULTILINE)[1:]:
        name, *hunks = part.split('\n@@\n')
        for hunk in hunks:
          old = [x[1:] for x in hunk.split('\n') if x and x[0] in ' -']
          if old and '\n'.join(old) not in read(name):
            stale.append('\n'.join([f'{document}: {name}:', *old]))
  assert not stale, '\n'.join(stale)

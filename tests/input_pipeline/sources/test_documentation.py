"""The embedded corpus: a fixed list of packages, whatever else is installed."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

from input_pipeline.sources import documentation, opening
from input_pipeline.streams import fingerprints
from tests.helpers import REPOSITORY


def open_docs():
  return opening.open_source('docs', seed=0, vocab_size=512, sentinels=10)


def prose(package, number):
  """A paragraph that no other module has, long enough to be read."""
  return f'The module {package} {number} has one purpose to show. ' * 20


def install(folder, name, version, modules):
  """Writes a package as pip does: modules, METADATA and RECORD."""
  info = folder / f'{name}-{version}.dist-info'
  info.mkdir()
  files = {info / 'METADATA': f'Name: {name}\nVersion: {version}\n'}
  for number in range(modules):
    text = f'"""{prose(f"{name} {version}", number)}"""\n'
    files[folder / name / f'{number}.py'] = text
  listed = [str(path.relative_to(folder)) for path in files]
  listed.append(f'../../../bin/{name}.py')  # a command, outside of the folder
  files[info / 'RECORD'] = ''.join(f'{path},,\n' for path in listed)
  for path, text in files.items():
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
  return info


@pytest.fixture
def packages(tmp_path, monkeypatch):
  """A folder of two installed packages, the only ones in the corpus."""
  install(tmp_path, 'alpha', '1.0', 9)
  install(tmp_path, 'beta', '2.0', 9)
  monkeypatch.setattr(documentation, 'PACKAGES', ('alpha', 'beta'))
  monkeypatch.syspath_prepend(tmp_path)
  documentation._collections.cache_clear()
  yield tmp_path
  documentation._collections.cache_clear()


def project(name):
  """A project's name as indexes compare them."""
  return re.sub('[-_.]+', '-', name).lower()


def opened_again():
  documentation._collections.cache_clear()
  importlib.invalidate_caches()
  return open_docs()


def test_documents():
  texts = documentation.documents()
  assert 6_000_000 < sum(map(len, texts)) < 8_000_000
  assert len(set(texts)) == len(texts)
  assert max(map(len, texts)) < 200_000
  source = open_docs()
  read = [source.text(record) for _, record in source.records(0, 5)]
  assert read == texts[5:]
  again = (
    'from input_pipeline.sources import opening\n'
    'print(opening.open_source("docs", 0, 0, 0).fingerprint)'
  )
  again = subprocess.run(
    [sys.executable, '-c', again], cwd=REPOSITORY, check=True,
    capture_output=True, text=True,
  )  # fmt: skip
  assert again.stdout.strip() == str(source.fingerprint)


def test_packages_are_of_the_base_install():
  """All are dependencies of the project without its extras, or theirs."""
  with open(REPOSITORY / 'pyproject.toml', 'rb') as file:
    wanted = tomllib.load(file)['project']['dependencies']
  found = set()
  while wanted:
    requirement = wanted.pop()
    name = project(re.match(r'[\w.-]+', requirement)[0])
    if name in found or 'extra ==' in requirement:
      continue
    try:
      wanted += importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
      continue  # another platform's
    found.add(name)
  assert found >= {project(name) for name in documentation.PACKAGES}


def test_what_is_installed_later_changes_nothing(packages):
  before = open_docs()
  # Packages before, between and after those of the corpus; a plugin in the
  # folder of one of them; tests and caches beside its modules.
  for name in ('aaa', 'alpha_extras', 'gamma'):
    install(packages, name, '1.0', 9)
  for name in ('plugin', 'tests/test_it', '__pycache__/0'):
    path = packages / 'alpha' / f'{name}.py'
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'"""{prose("plugin", 0)}"""')
  after = opened_again()
  assert after.fingerprint == before.fingerprint
  assert list(after.records(0, 0)) == list(before.records(0, 0))


def test_an_upgraded_package_is_named(packages):
  before = open_docs()
  shutil.rmtree(packages / 'beta-2.0.dist-info')
  install(packages, 'beta', '2.1', 9)
  after = opened_again()
  lines = fingerprints.changes(before.fingerprint, after.fingerprint, 'source')
  assert lines[1] == "source[beta].version: '2.0', now '2.1'"
  assert len(lines) == 2
  assert lines[0].startswith('source[beta].sha256: ')


def test_text_decides_the_fingerprint(packages):
  before = open_docs().fingerprint
  path = packages / 'alpha' / '3.py'
  path.write_text(path.read_text().replace('purpose', 'use'))
  lines = fingerprints.changes(before, opened_again().fingerprint, 'source')
  assert [line.split(':')[0] for line in lines] == ['source[alpha].sha256']


def test_missing_packages_and_files_are_named(packages):
  info = packages / 'beta-2.0.dist-info'
  (packages / 'beta' / '4.py').unlink()
  with pytest.raises(ValueError, match=r'beta 2\.0 lacks .*beta/4\.py'):
    opened_again()
  (info / 'RECORD').unlink()
  with pytest.raises(ValueError, match=r'beta 2\.0 has no list of its files'):
    opened_again()
  shutil.rmtree(info)
  with pytest.raises(ValueError, match='package beta, which is not installed'):
    opened_again()

"""The page, parsed: its links, cards and differences, and their sources."""

import json
import re
from html.parser import HTMLParser

import pytest

from configs import lineage
from configs.papers.parameters import PUBLISHED
from configs.plotting import cards, layout, page
from configs.plotting.vector import name_of
from configs.systems import SYSTEMS, UNDISCLOSED
from tests.helpers import REPOSITORY

VOID = {'meta', 'br', 'link', 'img', 'hr', 'input'}
TEXTS = {'td', 'th', 'tr', 'caption', 'p', 'h2'}
TRAINED = [key for key, s in SYSTEMS.items() if s.changed != UNDISCLOSED]


class Page(HTMLParser):
  """Elements with their attributes, and the texts of each section's cells."""

  def __init__(self, text):
    super().__init__()
    self.elements, self.open, self.sections = [], [], {}
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.elements.append((tag, attrs))
    if tag not in VOID:
      self.open.append(tag)
    if tag == 'section':
      self.section = self.sections.setdefault(attrs['id'], [])
    if tag in TEXTS and 'section' in self.open:
      self.section.append([tag, ''])

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    folded = 'summary' in self.open  # the beginning of a long value
    if 'section' in self.open and self.section and not folded:
      self.section[-1][1] += data

  def rows(self, name):
    """The cells of each row of a section's tables."""
    rows = []
    for tag, text in self.sections[name]:
      if tag == 'tr':
        rows.append([])
      elif tag in ('td', 'th'):
        rows[-1].append(text.strip())
    return rows

  def text(self, name):
    return ' '.join(text for _, text in self.sections[name])


@pytest.fixture(scope='module')
def text():
  return page.page(layout.lay_out(SYSTEMS, lineage.edges()))


@pytest.fixture(scope='module')
def parsed(text):
  return Page(text)


def test_the_page_needs_no_network_and_is_small(text, parsed):
  assert len(text.encode()) < 500_000
  for tag, attrs in parsed.elements:
    assert tag not in ('link', 'img', 'iframe', 'object', 'audio', 'video')
    assert 'src' not in attrs
    assert 'style' not in attrs or 'url(' not in attrs['style']
    if tag == 'a' and not attrs['href'].startswith('#'):
      assert attrs['href'].startswith('https://arxiv.org/abs/')
  assert '@import' not in text
  assert 'url(' not in text
  assert 'fetch(' not in text


def test_links_lead_to_sections_and_names_are_unique(parsed):
  names = [attrs['id'] for _, attrs in parsed.elements if 'id' in attrs]
  assert len(names) == len(set(names))
  edges = lineage.edges()
  wanted = {name_of(key) for key in SYSTEMS}
  wanted |= {f'to-{name_of(key)}' for key in edges}
  assert set(parsed.sections) == wanted
  inside = [
    attrs['href'][1:]
    for tag, attrs in parsed.elements
    if tag == 'a' and attrs['href'].startswith('#')
  ]
  assert set(inside) == wanted | {'systems', 'closed'}


def test_the_page_can_be_heard(parsed):
  names = {attrs['id'] for _, attrs in parsed.elements if 'id' in attrs}
  drawn = [a for t, a in parsed.elements if t == 'a' and 'aria-label' in a]
  said = {a['href']: a['aria-label'] for a in drawn}
  assert said['#bert'] == 'BERT, Google, 2018, weights published'
  assert said['#gpt3'] == 'GPT-3, OpenAI, 2020, weights not published'
  assert said['#to-llama'].startswith('From PaLM to LLaMA: RMSNorm')
  divs = [attrs for tag, attrs in parsed.elements if tag == 'div']
  tables = [attrs for attrs in divs if attrs.get('class') == 'wide']
  assert all(a['role'] == 'group' and a['aria-label'] for a in tables)
  assert sum(t == 'caption' for t, _ in parsed.elements) == len(tables)
  for tag, attrs in parsed.elements:
    if tag == 'th':
      assert attrs['scope'] in ('row', 'col')
    if tag == 'section':
      assert attrs['aria-labelledby'] in names
  assert ('html', {'lang': 'en'}) in parsed.elements
  assert sum(tag == 'h1' for tag, _ in parsed.elements) == 1


@pytest.mark.parametrize('key', lineage.edges())
def test_an_edge_shows_the_whole_difference(parsed, key):
  name = f'to-{name_of(key)}'
  assert SYSTEMS[key].changed in parsed.text(name)
  if SYSTEMS[key].changed == UNDISCLOSED:
    assert 'was never published' in parsed.text(name)
    assert not parsed.rows(name)
    return
  old, new = lineage.compared(key)
  found = lineage.difference(*map(lineage.config_of, (old, new)))
  wanted = [
    [k.partition('.')[2] or k, lineage.shown(a), lineage.shown(b)]
    for k, (a, b) in found.items()
  ]
  rows = parsed.rows(name)
  assert [row for row in rows if row[0] != 'key'] == wanted
  groups = list(dict.fromkeys(k.split('.')[0] for k in found))
  captions = [text for tag, text in parsed.sections[name] if tag == 'caption']
  assert captions == groups
  assert [row for row in rows if row[0] == 'key'] == [['key', old, new]] * len(
    groups
  )


@pytest.mark.parametrize('key', SYSTEMS)
def test_a_card_has_the_config_files_words(parsed, key):
  said = ' '.join(parsed.text(name_of(key)).split())
  for word in lineage.module_of(key).__doc__.replace('`', '').split():
    assert word in said
  s = SYSTEMS[key]
  assert f'{s.organisation} · {s.year}-{s.month:02} · {s.branch}' in said


@pytest.mark.parametrize('key', TRAINED)
def test_a_card_has_sizes_recipe_and_proofs(parsed, key):
  rows = parsed.rows(name_of(key))
  own = [r for r in PUBLISHED if lineage.key_of(r) == key]
  assert own
  for reference in own:
    figure, counted = PUBLISHED[reference]
    c = lineage.config_of(reference)
    found = [r for r in rows if r[1:3] == [figure, f'{counted:,}']]
    row = next(r for r in found if r[7].startswith(f'{c.data.batch:,} x'))
    assert f'{c.train.steps:,}' in row
    assert f'{c.model.embed_dim:,}' in row
  recipe = {row[0]: row[1] for row in rows if len(row) == 2}
  c = lineage.config_of(key)
  assert recipe['objective'].startswith(c.data.objective)
  assert recipe['optimizer'].startswith(c.optimizer.name)
  assert recipe['steps'] == f'{c.train.steps:,}'
  proofs = [row for row in rows if len(row) == 3 and 'tests/' in row[2]]
  assert len(proofs) >= 3
  measured = (REPOSITORY / cards.PROOFS).read_text('utf-8').replace('`', '')
  for row in proofs:
    assert f'| {" | ".join(row)} |' in measured


def test_proofs_are_of_the_system():
  def said(key):
    return [row[0] for row in cards.proofs(key).rows]

  (parity,) = (x for x in said('llama') if 'logits' in x and 'LLaMA 1' in x)
  for key in ('bert', 'gpt2', 'bloom', 'llama:8b,version=3', 'rwkv', 'ul2'):
    assert parity in said(key)
  for key in ('t5', 'palm', 'yalm', 'jurassic', 'chinchilla'):
    assert parity not in said(key)
  assert any(x.startswith('T5 1.0 and 1.1: logits') for x in said('t5'))
  assert said('flan_t5') == said('t5')  # it is T5's model
  assert 'Adafactor' in ''.join(said('palm'))


def test_published_results_are_the_systems_own(parsed):
  rows = parsed.rows('bert')
  assert ['MNLI-m', '84.6', '86.7'] in rows  # table 1 of Devlin et al.
  assert ['GLUE', '77.4', '82.7', '86.4', '88.5', '90.3'] in parsed.rows('t5')
  assert ['GSM8K', '4.1m', '29.9m', '56.9', '74.4m'] in parsed.rows('palm')
  (table,) = (g for g in cards.published('bert') if 'bert.table8' in g.title)
  assert table.columns == ('', '80-10-10')  # no ablation
  for key in ('t5', 'electra', 'bert', 'roberta'):
    for grid in cards.published(key):
      for row in grid.rows:
        assert len(row) == len(grid.columns)


@pytest.mark.parametrize('key', TRAINED)
def test_our_results_are_those_of_the_benchmark(parsed, key):
  runs = json.loads((REPOSITORY / cards.RUNS).read_text('utf-8'))
  rows = parsed.rows(name_of(key))
  run = runs.get(key)
  if run is None:
    assert ':' in key
    assert not any(row[0] == 'loss' and len(row) == 3 for row in rows)
    return
  first, last = (f'{run[at]["loss"]:g}' for at in ('first', 'last'))
  assert ['loss', first, last] in rows
  assert run['machine']['date'] in parsed.text(name_of(key))


def test_an_installed_package_has_no_proofs_and_no_runs(tmp_path, monkeypatch):
  monkeypatch.setattr(cards, 'ROOT', tmp_path)
  cards._proven.cache_clear()
  assert cards.proofs('bert') is None
  assert cards.ours('bert') is None
  shown = Page(page.page(layout.lay_out(SYSTEMS, lineage.edges())))
  assert not re.search(r'Proven|Ours', shown.text('bert'))
  monkeypatch.undo()
  cards._proven.cache_clear()

"""The tree as a page: one HTML file that needs no network.

The drawing's systems and lines are links. A system's link shows its card, a
line's the whole difference between two configs.
"""

import re
from html import escape

from configs.plotting import cards, vector
from configs.plotting.cards import Grid
from configs.plotting.layout import BRANCHES, Drawing, Edge, role
from configs.plotting.style import CSS, JS
from configs.plotting.vector import TITLE, name_of
from configs.systems import SYSTEMS

INTRODUCTION = (
  'Choose a system to see its sizes, recipe, proofs and results. Choose a line '
  'to see every key in which two configs differ. × or Escape closes a card.'
)
LONG = 160  # characters of a value that is folded


def page(drawing: Drawing) -> str:
  """The whole page."""
  sections, said = [], {}
  edges = {edge.key: edge for edge in drawing.edges}
  for key, s in SYSTEMS.items():
    name = name_of(key)
    weights = 'weights published' if s.open else 'weights not published'
    said[name] = f'{s.name}, {s.organisation}, {s.year}, {weights}'
    sections.append(_card(key, edges))
    if key in edges:
      parent = SYSTEMS[edges[key].parent].name
      said[f'to-{name}'] = f'From {parent} to {s.name}: {s.changed}'
      sections.append(_change(edges[key]))
  return '\n'.join([
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    f'<title>{TITLE}</title>',
    f'<style>{vector.palette()}{vector.STYLE}{CSS}</style>',
    '</head>',
    '<body>',
    '<a class="skip" href="#systems">Skip the drawing</a>',
    f'<header><h1>{TITLE}</h1><p>{INTRODUCTION}</p></header>',
    '<main>',
    '<div class="drawing">',
    vector.element(drawing, said),
    '</div>',
    _index(),
    *sections,
    '</main>',
    f'<script>{JS}</script>',
    '</body>',
    '</html>\n',
  ])  # fmt: skip


def _index():
  """All systems by branch, for those who do not use the drawing."""
  lines = ['<nav id="systems" aria-label="All systems" tabindex="-1">']
  for branch in BRANCHES:
    lines.append(f'<h2 class="{branch}">{branch}</h2><ul>')
    lines += [
      f'<li>{_link(key)} <small>{s.year}</small></li>'
      for key, s in SYSTEMS.items()
      if s.branch == branch
    ]
    lines.append('</ul>')
  return '\n'.join([*lines, '</nav>'])


def _card(key: str, edges: dict[str, Edge]):
  """What the repository knows of a system."""
  s = SYSTEMS[key]
  weights = 'weights published' if s.open else 'weights not published'
  facts = s.organisation, f'{s.year}-{s.month:02}', s.branch, weights
  facts = ' · '.join([*map(escape, facts), _paper(s.paper)])
  lines = [f'<p class="facts">{facts}</p>']
  if key in edges:
    lines.append(
      f'<p>From {_link(edges[key].parent)}: '
      f'<a href="#to-{name_of(key)}">{escape(s.changed)}</a>.</p>'
    )
  below = [child for child, edge in edges.items() if edge.parent == key]
  if below:
    lines.append(f'<p>Led to {", ".join(map(_link, below))}.</p>')
  about = ''.join(f'<p>{_rich(text)}</p>' for text in cards.about(key))
  lines += ['<div class="grids">', f'<div>{about}</div>']
  if cards.is_trained(key):
    lines += [
      *_grids([cards.sizes(key)], 'numbers'),
      *_grids([cards.recipe(key), cards.proofs(key)], 'words'),
      *_grids([cards.ours(key), *cards.published(key)], 'numbers'),
    ]
  lines.append('</div>')
  return _section(name_of(key), role(s), s.name, lines)


def _change(edge: Edge):
  """Every key that separates a system from its ancestor."""
  s, change = SYSTEMS[edge.key], cards.change_of(edge.key)
  heading = f'{SYSTEMS[edge.parent].name} → {s.name}'
  lines = [
    f'<p class="facts">{escape(s.changed)}</p>',
    f'<p>Cards: {_link(edge.parent)}, {_link(edge.key)}.</p>',
  ]
  if change.why:
    lines.append(f'<p>{_rich(change.why)}</p>')
  else:
    lines.append(
      f'<p class="note"><code>python -m configs.tree --diff={change.new}</code>'
      '; - stands for a key without a value.</p>'
    )
  lines.append('<div class="grids">')
  for group, rows in change.groups.items():
    body = ''.join(
      f'<tr><th scope="row">{key}</th><td>{_folded(before)}</td>'
      f'<td class="new">{_folded(after)}</td></tr>'
      for key, before, after in rows
    )
    head = ''.join(
      f'<th scope="col">{escape(text)}</th>'
      for text in ('key', change.old, change.new)
    )
    lines.append(_table(group, head, body, 'difference'))
  lines.append('</div>')
  name = f'to-{name_of(edge.key)}'
  return _section(name, edge.role, heading, lines)


def _section(name, kind, heading, lines):
  opening = f'id="{name}" class="{kind}" aria-labelledby="{name}-heading"'
  return '\n'.join([
    f'<section {opening} tabindex="-1">',
    '<a class="close" href="#closed" aria-label="Close this card">×</a>',
    f'<h2 id="{name}-heading">{escape(heading)}</h2>',
    *lines,
    '</section>',
  ])  # fmt: skip


def _grids(grids: list[Grid | None], kind: str) -> list[str]:
  """Tables, without those for which the repository has nothing."""
  lines = []
  for grid in filter(None, grids):
    head = ''.join(f'<th scope="col">{escape(c)}</th>' for c in grid.columns)
    body = ''.join(
      f'<tr><th scope="row">{_rich(first)}</th>'
      + ''.join(f'<td>{_rich(cell)}</td>' for cell in cells)
      + '</tr>'
      for first, *cells in grid.rows
    )
    head *= any(grid.columns)
    lines.append(_table(grid.title, head, body, kind, grid.note))
  return lines


def _table(title, head, body, kind, note=''):
  head = f'<thead><tr>{head}</tr></thead>' * bool(head)
  note = f'<p class="note">{_rich(note)}</p>' * bool(note)
  return (
    f'<div class="wide" tabindex="0" role="group" aria-label="{escape(title)}">'
    f'<table class="{kind}"><caption>{_rich(title)}</caption>{head}'
    f'<tbody>{body}</tbody></table>{note}</div>'
  )


def _link(key):
  return f'<a href="#{name_of(key)}">{escape(SYSTEMS[key].name)}</a>'


def _paper(paper):
  if paper.startswith('arXiv:'):
    return f'<a href="https://arxiv.org/abs/{paper[6:]}">{paper}</a>'
  return escape(paper)


def _folded(text):
  if len(text) <= LONG:
    return escape(text)
  short = escape(f'{text[:60]} ... ({len(text):,} characters)')
  return f'<details><summary>{short}</summary>{escape(text)}</details>'


def _rich(text):
  """Escaped, with `code` as code."""
  return re.sub(r'`([^`]+)`', r'<code>\1</code>', escape(text))

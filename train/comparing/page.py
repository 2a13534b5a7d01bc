"""The report: one HTML page that needs no network, and PNGs beside it."""

import dataclasses
import datetime
import html
import re
from collections.abc import Sequence

from train.comparing import charts, results, tables
from train.comparing import groups as grouping
from train.comparing.cells import MINUS, NONE, Cell, Links, Table
from train.comparing.groups import Group
from train.comparing.runs import EMPTY, FAILED, UNREADABLE, Run
from train.comparing.series import AXES, window_of
from train.comparing.style import STYLE

OPEN = 6  # of so many runs the details are shown from the start
SAMPLE = 4000  # characters of samples that are shown
_NUMBER = re.compile(
  rf'|{NONE}|not finite|[{MINUS}<]? ?\d[\d.,e± {MINUS}]*[kMG%]?( GB)?'
)
_BREAKS = re.compile(r'((?:[/=_]|,(?=\D))(?=\w))')  # of long names
# Nothing is loaded and no script runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclasses.dataclass
class Report:
  """A page, and name -> bytes of the PNGs beside it."""

  html: str
  pngs: dict[str, bytes]


def build(
  runs: Sequence[Run], title: str, smooth: int = 0, refresh: int = 0
) -> Report:
  """The report of some runs.

  Args:
    runs: with distinct names; finished, under way or empty.
    title: of the page.
    smooth: steps over which the training loss is averaged; 0: see `window_of`.
    refresh: seconds after which a browser loads the page again; 0: never.

  Raises:
    NotComparableError: no number of the runs means the same in all of them.
  """
  groups = grouping.grouped(runs)
  names, notes = grouping.measured(runs)
  notes += [
    f'{run.name}: {run.note}.'
    for run in runs
    if run.state in (EMPTY, FAILED, UNREADABLE)
  ]
  notes += grouping.task_notes(groups)
  links, window = Links(runs), window_of(runs, smooth)
  per_token = not grouping.differing_tokenizers(runs)
  shown = [grouping.TRAIN] * per_token + names
  drawn = shown[: 1 + per_token] + grouping.of_alignment(runs)
  curves = _curves(groups, drawn, window)
  tests = results.of_tests(groups, names[0]) if names else None
  sections = [
    ('runs', 'Runs', table(tables.of_runs(runs, shown, links))),
    ('curves', 'Curves', _figures(curves, groups, links, window)),
    (
      'differences',
      'What differs',
      table(tables.of_differences(groups, runs)),
    ),
    ('results', 'Results', _results(groups, names, tests, links)),
    ('speed', 'Speed', table(tables.of_speed(runs, links))),
    ('samples', 'Samples', _samples(runs, links)),
    ('made-of', 'Made of', ''.join(map(table, tables.of_provenance(runs)))),
    ('details', 'Each run', _details(runs, shown, links)),
  ]
  body = _header(title, runs, notes, [(i, name) for i, name, _ in sections])
  for identity, name, content in sections:
    body += f'<section id="{identity}"><h2>{name}</h2>{content}</section>\n'
  pngs = {
    f'{one.name.replace("/", ".")}.png': charts.png(
      one, groups, f'{title}: {_described(one, window)}'
    )
    for one in curves
  }
  return Report(document(title, body, refresh), pngs)


def message(title: str, text: str, refresh: int = 0) -> str:
  """A page that only says why there is no report."""
  head = f'<h1>{html.escape(title)}</h1>'
  return document(title, f'{head}<pre>{html.escape(text)}</pre>', refresh)


def document(title: str, body: str, refresh: int = 0) -> str:
  """A page of a report's style; `body` is HTML."""
  again = f'<meta http-equiv="refresh" content="{refresh}">' * bool(refresh)
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">{again}'
    '<meta name="color-scheme" content="light dark">'
    f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title>'
    f'<style>{STYLE}</style></head>\n<body>{body}</body></html>\n'
  )


def _header(title, runs, notes, sections):
  now = datetime.datetime.now(datetime.UTC).strftime('%Y-%m-%d %H:%M UTC')
  links = ' '.join(f'<a href="#{i}">{name}</a>' for i, name in sections)
  items = ''.join(f'<li>{html.escape(note)}</li>' for note in notes)
  states = html.escape(tables.states(runs))
  count = f'{len(runs)} run{"s" * (len(runs) != 1)}'
  return (
    f'<header><h1>{html.escape(title)}</h1><p>{count}: {states}. Made {now}; '
    'every number links to its run and step.</p>'
    + f'<ul class="notes" aria-label="Notes">{items}</ul>' * bool(notes)
    + f'<nav aria-label="Sections">{links}</nav></header>\n'
  )


def _curves(groups, names, window):
  """Of each number; those of training are smoothed."""
  found = []
  for name in names:
    own = window if name.startswith('train/') else 0
    found.append(charts.curves_of(groups, name, grouping.title(name), own))
  return [one for one in found if one.axes()]


def _described(curves, window):
  name = grouping.title(curves.name)
  if not curves.name.startswith('train/') or window == 1:
    return f'{name}, not smoothed'
  return f'{name}, mean over the last {window:,} steps'


def _figures(curves: Sequence[charts.Curves], groups, links, window):
  if not curves:
    return '<p>No run has a number yet.</p>'
  found = _key(groups)
  for one in curves:
    found += (
      f'<h3>{html.escape(_described(one, window))}</h3><div class="grid">'
    )
    for axis in one.axes():
      words = f'{grouping.title(one.name)} by {AXES[axis]}'
      found += (
        f'<figure>{charts.svg(one, axis, links)}'
        f'<figcaption>{html.escape(words)}</figcaption></figure>'
      )
    found += '</div>'
  return found + (
    '<p class="note">A row of metrics.jsonl is a mean over train.log_every '
    'steps; the mean above is taken over rows. Losses are in nats per '
    'predicted token, of labelled data per label. The first twentieth of a run '
    'may lie above a chart. Tokens are without padding. FLOPs are counted from '
    "the config by PaLM's convention: matrix products, attention's too, three "
    'times those of a forward pass. Hours are those of all starts, without '
    'steps made again. Runs that differ in their seeds alone share a line '
    'style. The tables have the same numbers.</p>'
  )


def _key(groups: Sequence[Group]) -> str:
  items = ''
  for place, group in enumerate(groups):
    seeds = len(group.runs)
    more = f' ({seeds} seeds)' if seeds > 1 else ''
    colour = charts.style(place)[0]
    items += (
      '<li><svg width="38" height="8" aria-hidden="true"><line x1="1" x2="37" '
      f'y1="4" y2="4" stroke-width="2.5" stroke="var(--line{colour})" '
      f'stroke-dasharray="{charts.dash_array(place)}"/></svg> '
      f'{html.escape(group.name + more)}</li>'
    )
  return f'<ul class="key" aria-label="Lines of the charts">{items}</ul>'


def _results(groups, names, tests, links):
  if not names:
    return '<p>No run has been evaluated yet.</p>'
  return table(results.of_groups(groups, names, links)) + (
    table(tests) if tests else ''
  )


def _samples(runs, links):
  found = ''
  for run in runs:
    for step, text in run.samples.items():
      link = links(run, step)
      cut = '\n...' * (len(text) > SAMPLE)
      found += (
        f'<h3>{html.escape(run.name)}, <a href="{link}">step {step:,}</a></h3>'
        f'<pre tabindex="0">{html.escape(text[:SAMPLE].strip() + cut)}</pre>'
      )
  return found or '<p>No run has samples: eval.samples is 0.</p>'


def _details(runs, names, links):
  found = ''
  for run in runs:
    shown = ' open' * (len(runs) <= OPEN)
    began = run.history[0] if run.history else {}
    facts = [f'{run.note}.', f'Workdir: {run.folder}']
    if began:
      facts.append(f'Begun {began["time"]}: {began.get("command", "")}')
    facts += [
      f'{one["event"]} at step {one["step"]:,}, {one["time"]}'
      for one in run.history[1:]
    ]
    items = ''.join(f'<li>{html.escape(fact)}</li>' for fact in facts)
    content = f'<ul class="facts">{items}</ul>'
    if run.numbers:
      content += table(tables.of_run(run, names, links))
    found += (
      f'<details id="{links.run(run)}"{shown}><summary>{html.escape(run.name)}'
      f'</summary>{content}</details>'
    )
  return found


def table(found: Table) -> str:
  """A table of the page, which scrolls by itself where it is too wide."""
  caption, note = html.escape(found.caption), html.escape(found.note)
  columns = list(zip(*found.rows, strict=True)) or [()] * len(found.header)
  kinds = [
    ' class="n"' * all(_NUMBER.fullmatch(cell.text) for cell in column)
    for column in columns
  ]
  kinds[0] = ''  # names, on the left
  head = ''.join(
    f'<th scope="col"{kind}>{html.escape(x)}</th>'
    for x, kind in zip(found.header, kinds, strict=True)
  )
  anchors = found.anchors or [''] * len(found.rows)
  rows = ''
  for (first, *others), anchor in zip(found.rows, anchors, strict=True):
    mark = f' id="{anchor}"' if anchor else ''
    rows += f'<tr{mark}><th scope="row">{_cell(first)}</th>'
    cells = zip(others, kinds[1:], strict=True)
    rows += ''.join(f'<td{kind}>{_cell(x)}</td>' for x, kind in cells)
    rows += '</tr>\n'
  return (
    f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">'
    f'<table><caption><span>{caption}</span></caption>'
    f'<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    + f'<p class="note">{note}</p>'
    * bool(note)
  )


def _cell(cell: Cell) -> str:
  text = html.escape(cell.text)
  text = _BREAKS.sub(r'\1<wbr>', text)
  if cell.link:
    label = f' title="{html.escape(cell.title)}"' if cell.title else ''
    text = f'<a href="{html.escape(cell.link)}"{label}>{text}</a>'
  if cell.more:
    text += f'<small>{" ".join(map(_cell, cell.more))}</small>'
  return text

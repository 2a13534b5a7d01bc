"""The page of benchmarks/scaling_law.py: predictions, laws, profiles, runs."""

import base64
import html
import json
import tempfile
from pathlib import Path

import numpy as np

from input_pipeline.sources import paths
from train.comparing import cells, page
from train.comparing.cells import Cell, Table
from train.scaling import findings, plots, profiles
from train.scaling.points import make

HELD = 2.5  # the held-out run's budget over the largest of the ladder
COLUMNS = 'params', 'tokens', 'flops', 'loss'
SUMMARY = (
  'Each branch trained an isoFLOP ladder on the same books, read by bytes: '
  'three budgets, three to five sizes each. N counts the parameters outside of '
  "tables, D the bytes of the rows, C the products of matrices (PaLM's "
  'convention). A law was fitted to the ladder alone; then one larger run was '
  'predicted, and trained. python -m benchmarks.scaling_law does all of it '
  'again.'
)


def compared(results: dict) -> Table:
  """What was predicted, and what came."""
  rows = []
  for branch, one in results.items():
    asked, loss = one['prediction'], one['result']
    value, low, high = asked['loss']
    rows.append(
      [
        Cell(branch.replace('_', '-')),
        *(Cell(cells.large(asked[x])) for x in ('params', 'tokens', 'flops')),
        Cell(f'{value:.4f}', more=[Cell(f'{low:.4f} to {high:.4f}')]),
        Cell(f'{loss:.4f}'),
        Cell(f'{loss / value - 1:+.2%}'.replace('-', cells.MINUS)),
        Cell('yes' if low <= loss <= high else 'no'),
        Cell(f'{one["largest"]:.4f}'),
      ]
    )
  header = (
    *('branch', 'N', 'D', 'C', 'predicted', 'result', 'off'),
    *('in the interval', 'best of the largest budget'),
  )
  return Table(
    'The held-out run: predicted before it was trained, and its result',
    header,
    rows,
    f'Losses in nats per predicted byte. The run has {HELD:g} times the '
    "largest budget of its branch's ladder, and the size that the isoFLOP line "
    'says. '
    'Intervals hold the middle 80% of fits to 1,000 resampled ladders.',
  )


def laws_of(results: dict) -> Table:
  """The fitted constants."""
  names = 'E', 'A', 'B', 'alpha', 'beta', 'a'
  rows = []
  for branch, one in results.items():
    found = {law['law']: law['parameters'] for law in one['laws']}
    triples = [found['chinchilla'][x] for x in names] + [found['isoflop']['a']]
    rows.append(
      [Cell(branch.replace('_', '-'))]
      + [
        Cell(f'{x:.4g}', more=[Cell(f'{low:.3g} to {high:.3g}')])
        for x, low, high in triples
      ]
    )
  return Table(
    'L(N, D) = E + A / N^alpha + B / D^beta, and N_opt ~ C^a',
    ('branch', *names, 'a of the isoFLOP line'),
    rows,
  )


def runs_of(branch: str, one: dict) -> Table:
  rows = [
    [Cell(x['run'])]
    + [Cell(cells.large(x[k])) for k in ('params', 'tokens', 'flops')]
    + [Cell(f'{x["loss"]:.4f}')]
    for x in one['runs']
  ]
  return Table(f'Runs of the {branch}', ('run', 'N', 'D', 'C', 'loss'), rows)


def write(results: dict, out: Path) -> None:
  """The report, one page that needs no network."""
  title = 'A scaling law of our own'
  body = f'<header><h1>{title}</h1><p>{html.escape(SUMMARY)}</p></header>'
  body += f'<section>{page.table(compared(results))}</section>'
  body += f'<section>{page.table(laws_of(results))}</section>'
  for branch, one in results.items():
    name = branch.replace('_', '-')
    notes = [x for law in one['laws'] for x in law['warnings']]
    notes += one['prediction']['warnings']
    items = ''.join(f'<li>{html.escape(x)}</li>' for x in dict.fromkeys(notes))
    body += (
      f'<section><h2>{name}</h2><figure style="max-width:none"><img alt="Loss '
      f'by size for each budget, and the best sizes by budget, of the {name}" '
      f'src="{profiles_of(one)}" style="max-width:100%">'
      '</figure>'
      + f'<ul class="notes" aria-label="Notes">{items}</ul>' * bool(items)
      + page.table(runs_of(name, one))
      + '<p class="note">configs/scaling/ladder.py:'
      f'{html.escape(one["ladder"])}<br>Predicted '
      f'{one["prediction"]["written"]}; '
      f'{html.escape(json.dumps(one["machine"]["versions"]))}</p></section>'
    )
  out.parent.mkdir(parents=True, exist_ok=True)
  paths.write(out, page.document(title, body).encode())
  print(f'Wrote {out}')


def profiles_of(one: dict) -> str:
  """The picture of a branch's profiles, as a data URI."""
  columns = {x: np.array([run[x] for run in one['runs']]) for x in COLUMNS}
  points = make('ladder', columns, [run['run'] for run in one['runs']], [])
  laws = {law['law']: findings.from_json(law) for law in one['laws']}
  with tempfile.TemporaryDirectory() as folder:
    path = f'{folder}/profiles.png'
    plots.draw_profiles(
      path, points, profiles.isoflop(points), laws['chinchilla']
    )
    drawn = base64.b64encode(Path(path).read_bytes()).decode()
  return f'data:image/png;base64,{drawn}'

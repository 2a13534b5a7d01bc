"""A scaling law of our own for each branch, and the test of its prediction.

  python -m benchmarks.scaling_law --text=books.jsonl.gz --workdir=W

A decoder (GPT-2's block), an encoder (BERT's masked language model) and an
encoder-decoder (T5's corrupted spans) read the same books by bytes. Each trains
an isoFLOP ladder (configs/scaling/ladder.py, train.sweep). `train.scaling fit`
fits the law L(N, D) and the line of the best sizes. The law predicts the loss
of a run with HELD times the largest budget, of the size that the line says,
before that run begins: W/BRANCH/prediction.json is not written twice. Then the
run is trained.

The same command goes on after a kill. At the end it writes --out, and the page
docs/reports/scaling_law.html. --page makes the page of --out alone.
"""

import base64
import datetime
import gzip
import html
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import machine, pages
from configs.commands import command
from configs.commands.command import UserError
from configs.scaling import ladder
from input_pipeline.sources import paths
from train.comparing import cells, page
from train.comparing.cells import Cell, Table
from train.reporting.metrics import read_metrics
from train.scaling import __main__ as scaling
from train.scaling import findings, plots, profiles
from train.scaling.points import make
from train.scaling.runs import read_folder

ROOT = Path(__file__).resolve().parent.parent
PIECE = 1024  # characters of a document
BUDGETS = '5e11+1.25e12+3.125e12'
HELD = 2.5  # the held-out run's budget over the largest of the ladder
COUNT, CONVENTION = 'non_embedding', 'palm'
COLUMNS = 'params', 'tokens', 'flops', 'loss'
SHARED = {
  'data.tokenizer_kind': 'bytes',
  'data.holdout': 500,
  'data.length': 64,
  'data.batch': 8,
  'model.vocab_size': 512,
  'model.embed_dim': 32,  # and 2 layers: the proportions of all sizes
  'model.mlp_dim': 128,
  'model.heads': 2,
  'model.kv_heads': 2,
  'model.head_dim': 16,
  'model.dropout': 0,
  'model.attention_dropout': 0,
  'eval.samples': 0,
  'train.log_every': 1000,
}
# The recipe's rate, or the best of three that were tried at 1e12 FLOPs.
RATES = {'decoder': 0.004, 'encoder': 0.004, 'encoder_decoder': 1}
ROTARY = {
  'model.position': 'rope',
  'model.rope_dim': 16,
  'model.rope_theta': 1000,
  'model.max_length': 0,
  'model.init_std': 0.1,
}
# The proportions of smaller sizes: one layer, 32 wide, and up.
NARROW = {
  'model.embed_dim': 48,
  'model.mlp_dim': 192,
  'model.heads': 3,
  'model.kv_heads': 3,
}
BRANCHES = {
  # With learned positions the loss falls late and in a step, at another time
  # for each size; with rotary ones it falls smoothly.
  'decoder': ('gpt2:tiny', ROTARY),
  # As published, it learns nothing but the bytes' frequencies in so few
  # tokens; with rotary positions and norms before the layers it does.
  'encoder': (
    'bert:tiny',
    ROTARY
    | NARROW
    | {
      'model.head': 'mlm',
      'model.token_types': 0,
      'model.norm_placement': 'pre',
      # It learns to look at neighbours in about as many steps, whatever its
      # size: short steps and small sizes leave the budgets to what follows.
      'data.batch': 4,
      'data.objective': 'mlm',
      'data.predictions': 12,
      'data.short_share': 0,
      'data.duplicates': 0,
    },
  ),
  # Of T5's short spans it writes the bytes' frequencies for thousands of steps
  # before it reads what stands around them; half of the text, in spans of 8,
  # is learnt from the start.
  'encoder_decoder': (
    't5:tiny',
    NARROW | {'data.noise_density': 0.5, 'data.mean_span_length': 8},
  ),
}
FLAGS = {'encoder': ['--config.data.lowercase=False']}

_TEXT = flags.DEFINE_string('text', '', 'Books, jsonl.gz with a field "text".')
_WORKDIR = flags.DEFINE_string('workdir', '', 'The folder of all runs.')
_ONLY = flags.DEFINE_list('only', [], f'Of {", ".join(BRANCHES)}; none: all.')
_BUDGETS = flags.DEFINE_string('budgets', BUDGETS, 'FLOPs of the ladder.')
_OUT = flags.DEFINE_string(
  'out', str(ROOT / 'benchmarks/results/scaling_law.json'), 'JSON of results.'
)
_PAGE = flags.DEFINE_bool('page', False, 'Only make the page of --out.')


def pieces_of(text: str, workdir: Path) -> Path:
  """Cuts books into documents of PIECE characters, in an order of a seed."""
  out = workdir / 'text.jsonl'
  if not out.exists():
    found = []
    with gzip.open(text, 'rt', encoding='utf-8') as file:
      for line in file:
        book = json.loads(line)['text']
        found += [book[i : i + PIECE] for i in range(0, len(book), PIECE)]
    random.Random(0).shuffle(found)
    lines = ''.join(json.dumps({'text': piece}) + '\n' for piece in found)
    paths.write(out, lines.encode())
  return out


def argument(branch: str, text: Path) -> str:
  """The argument of configs/scaling/ladder.py."""
  system, own = BRANCHES[branch]
  keys = SHARED | own | {'schedule.learning_rate': RATES[branch]}
  words = [system, *(f'{key}={value}' for key, value in keys.items())]
  words += [f'data.source=json:{text}', f'budgets={_BUDGETS.value}']
  options = {'sizes': 5, 'steps': 1, 'count': COUNT, 'flops': CONVENTION}
  return ','.join(words + [f'{key}={x}' for key, x in options.items()])


def run(*words: str) -> None:
  """A command of Treeline. Raises UserError if it fails."""
  print('$ python -m', *words, flush=True)
  status = subprocess.run([sys.executable, '-m', *words], cwd=ROOT).returncode
  if status:
    raise UserError(f'The command above ended with status {status}.')


def measure(branch: str, text: Path, workdir: Path) -> dict:
  """Trains a branch's ladder, predicts the held-out run, and trains it."""
  words = argument(branch, text)
  config = f'--config=configs/scaling/ladder.py:{words}'
  folder, own = workdir / branch, FLAGS.get(branch, [])
  runs, law = str(folder / 'ladder'), str(folder / 'law')
  run('train.sweep', config, *own, f'--out={runs}')
  run(
    *('train.scaling', 'fit', runs, '--law=isoflop,chinchilla'),
    *(f'--count={COUNT}', f'--flops={CONVENTION}', f'--out={law}'),
  )
  asked = held_out(words, law)
  written = folder / 'prediction.json'
  if not written.exists():
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds')
    lines = json.dumps(asked | {'written': now}, indent=2)
    paths.write(written, lines.encode())
  predicted = json.loads(written.read_text())
  keys = [f'--config.{key}={x}' for key, x in predicted['keys'].items()]
  place = folder / 'held_out'
  run('train', config, *own, *keys, f'--workdir={place}')
  points = read_folder(runs, COUNT, CONVENTION)
  saved = json.loads((Path(law) / scaling.NAME).read_text())
  for one in saved['laws']:
    one['thetas'] = one['thetas'][:1]  # without the thousand resampled fits
  return {
    'ladder': words.replace(str(text), 'TEXT'),
    'runs': [
      {'run': name} | {x: float(points.column(x)[i]) for x in COLUMNS}
      for i, name in enumerate(points.runs)
    ],
    'laws': saved['laws'],
    'prediction': predicted,
    'result': loss_of(place),
    'largest': min(
      loss
      for flops, loss in zip(points.flops, points.loss, strict=True)
      if flops > points.flops.max() / 1.2
    ),
  }


def held_out(words: str, law: str) -> dict:
  """What is predicted of the run that is trained last."""
  made = ladder.read(words)
  budget = HELD * max(made.budgets)
  best = scaling.saved_law(law, 'isoflop').best(budget)
  run = ladder.nearest(made, best['params'][0], budget)
  N = run.shape.params
  loss = scaling.saved_law(law, 'chinchilla').loss(params=N, tokens=run.tokens)
  return {
    'run': run.name,
    'keys': run.keys,
    'best_params': best['params'],
    'params': N,
    'tokens': run.tokens,
    'flops': run.flops,
    'loss': loss['loss'],
    'warnings': best['warnings'] + loss['warnings'],
  }


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


def loss_of(folder: Path) -> float:
  """The held-out loss after the last step."""
  return [x['eval/loss'] for x in read_metrics(folder) if 'eval/loss' in x][-1]


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


def write_page(results: dict, out: Path) -> None:
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


SUMMARY = (
  'Each branch trained an isoFLOP ladder on the same books, read by bytes: '
  'three budgets, three to five sizes each. N counts the parameters outside of '
  "tables, D the bytes of the rows, C the products of matrices (PaLM's "
  'convention). A law was fitted to the ladder alone; then one larger run was '
  'predicted, and trained. python -m benchmarks.scaling_law does all of it '
  'again.'
)


def main():
  out = Path(_OUT.value)
  if not _PAGE.value:
    if not (_TEXT.value and _WORKDIR.value):
      raise UserError('Give --text=BOOKS.jsonl.gz and --workdir=W.')
    workdir = Path(_WORKDIR.value).resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    text = pieces_of(_TEXT.value, workdir)
    for branch in _ONLY.value or BRANCHES:
      found = {branch: measure(branch, text, workdir)}
      machine.write(out, [*BRANCHES], found)
  if not out.exists():
    raise UserError(f'--out={out} does not exist: leave --page out.')
  write_page(json.loads(out.read_text()), pages.PLACE / 'scaling_law.html')


if __name__ == '__main__':
  command.run(main)

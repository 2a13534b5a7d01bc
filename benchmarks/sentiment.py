"""Sentiment steering, the classic: can a reward model turn a text positive?

  python -m benchmarks.sentiment [--workdir=DIR] [--only=decoder]

A small decoder and a small T5 learn to write sentences of film reviews, SST-2's
($TREELINE_DATA/glue/SST-2). A reward model, a copy of the decoder with a head
of one number, learns to prefer SST-2's positive sentences to its negative ones.
Each method then learns to go on with the first words of sentences as the reward
model likes it. Printed and written: reward, win rate against the start, KL from
the start and length on the beginnings of SST-2's validation sentences, which no
model has seen, and samples. Steps that are in DIR already are not done again.

The reward model judges its own pupils: a high reward is what was asked for, and
no more.
"""

import csv
import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict

from benchmarks import machine, pages
from configs import llama, t5
from configs.align import dpo, grpo, ppo, recipe, reward
from configs.commands import command
from train import loop, rank
from train.align import align
from train.aligning import ranking, winning
from train.aligning.rewards import Reward, open_reward
from train.generation.making import make_writer
from train.generation.options import Options
from train.runs import history, opening
from train.win_rate import win_rate

HERE = Path(__file__).resolve()
FAMILIES = 'decoder', 'encoder_decoder'
BEGINNING = 3  # words of a prompt
SAMPLES = 6  # answers to a prompt that are ranked
LENGTH = 16  # tokens of an answer, at most
ROW = 32  # tokens of a row
PROMPTS, HELD_OUT = 256, 128
PAIRS = 4000  # of the reward model
SHOWN = 5

SIZES = {
  'model.vocab_size': 2048,
  'model.embed_dim': 96,
  'model.mlp_dim': 256,
  'model.heads': 4,
  'model.kv_heads': 4,
  'model.head_dim': 24,
}


# ---- Data --------------------------------------------------------------------


def sentences(split: str) -> list[tuple[str, int]]:
  """SST-2's sentences and labels, 1 for positive; `split` is train or dev."""
  place = os.environ.get('TREELINE_DATA', '')
  path = os.path.join(place, 'glue', 'SST-2', f'{split}.tsv')
  if not os.path.exists(path):
    raise ValueError(
      f'TREELINE_DATA={place!r} has no glue/SST-2/{split}.tsv: GLUE publishes '
      'it.'
    )
  with open(path, encoding='utf-8', newline='') as file:
    rows = csv.reader(file, delimiter='\t', quoting=csv.QUOTE_NONE)
    next(rows)
    return [(text.strip(), int(label)) for text, label in rows]


def write(path: Path, rows: list[dict]) -> str:
  """Lines of JSON."""
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return str(path)


def beginnings(found: list[tuple[str, int]], count: int) -> list[str]:
  """The first words of some sentences that are longer, each once."""
  words = [text.split() for text, _ in found]
  starts = [' '.join(x[:BEGINNING]) for x in words if len(x) > 2 * BEGINNING]
  return [*dict.fromkeys(starts)][:count]


def write_data(work: Path) -> tuple[list[str], list[str]]:
  """Writes texts and pairs; returns prompts to learn from and to test on."""
  train, dev = sentences('train'), sentences('dev')
  write(work / 'texts.jsonl', [{'text': text} for text, _ in train])
  for name, found, count in (('pairs', train, PAIRS), ('held_out', dev, 400)):
    rng = np.random.default_rng(0)
    sides = [[x for x, label in found if label == y] for y in (1, 0)]
    good, bad = (rng.choice(side, count) for side in sides)
    pairs = zip(good.tolist(), bad.tolist(), strict=True)
    rows = [{'prompt': '', 'chosen': a, 'rejected': b} for a, b in pairs]
    write(work / f'{name}.jsonl', rows)
  held_out = beginnings(dev, HELD_OUT)
  prompts = [x for x in beginnings(train, 2 * PROMPTS) if x not in held_out]
  return prompts[:PROMPTS], held_out


# ---- What is trained ---------------------------------------------------------


def writer_config(family: str, work: Path) -> ConfigDict:
  """A small model that learns to write SST-2's sentences."""
  c = {'decoder': llama, 'encoder_decoder': t5}[family].get_config('tiny')
  c = c.unlock()
  c.update_from_flattened_dict(SIZES)
  c.data.source = f'json:{work / "texts.jsonl"}'
  c.data.length, c.data.batch, c.data.concatenate = ROW, 32, False
  c.data.tokenizer_kind, c.data.lossless = 'byte_bpe', False
  if family == 'encoder_decoder':  # a beginning, and how it goes on
    c.data.objective, c.data.sentinels = 'prefix', 0
    c.data.noise_density = c.data.mean_span_length = 0.0
  else:  # T5's table of tokens is drawn so wide that AdamW hardly moves it
    recipe.adamw(c, rate=2e-3)
    c.train.warmup_share, c.schedule.warmup_steps = 0.0, 50
  c.train.z_loss, c.train.steps = 0.0, 800
  c.eval.every = c.checkpoint.every = 400
  c.eval.samples, c.eval.batches = SHOWN, 4
  return c.lock()


def reward_config(work: Path) -> ConfigDict:
  c = reward.get_config('tiny').unlock()
  c.data.source = f'preferences:{work / "pairs.jsonl"}'
  c.eval.source = f'preferences:{work / "held_out.jsonl"}'
  c.data.holdout, c.data.batch, c.data.length = 0, 32, ROW
  c.schedule.learning_rate, c.train.epochs = 1e-3, 2.0
  return c.lock()


def learn_dpo(
  family: str, start: str, judge: Reward, work: Path, prompts: list[str]
) -> str:
  """DPO on the best and the worst of some answers of the start's own."""
  folder = str(work / f'{family}_dpo')
  pairs = work / f'{family}_pairs.jsonl'
  if not pairs.exists():
    write(pairs, ranked(start, judge, prompts, 'pairs'))
  c = dpo.get_config(f'family={family},size=tiny').unlock()
  c.data.source, c.data.length = f'preferences:{pairs}', ROW
  c.data.batch, c.train.epochs = 32, 4.0
  c.data.holdout = 20
  c.schedule.learning_rate = 1e-3
  if family == 'encoder_decoder':
    c.data.target_length = ROW
  align(c.lock(), folder, start)
  return folder


def learn_rewarded(
  method: str,
  family: str,
  start: str,
  judge: Reward,
  work: Path,
  prompts: list[str],
) -> str:
  """GRPO or PPO: the reward of answers that the model itself writes."""
  folder = str(work / f'{family}_{method}')
  source = work / 'prompts.jsonl'  # what is chosen is not read
  rows = [{'prompt': x, 'chosen': ' a', 'rejected': ' b'} for x in prompts]
  write(source, rows)
  c = {'grpo': grpo, 'ppo': ppo}[method].get_config(
    f'family={family},size=tiny'
  )
  c = c.unlock()
  c.data.source, c.data.objective = f'preferences:{source}', 'preference'
  c.data.length, c.data.batch, c.data.holdout = ROW, 32, 20
  c.align.rewards = ((f'model:{judge.run.folder}', 1.0),)
  c.align.answer_length = LENGTH
  c.align.samples, c.align.beta = 4, 0.1
  if family == 'encoder_decoder':
    c.data.target_length = ROW
  c.schedule.learning_rate, c.train.steps = 3e-4, 60
  c.eval.every = c.checkpoint.every = 60
  align(c.lock(), folder, start)
  return folder


# Method -> what trains a run by it: family, start, judge, folder, prompts ->
# workdir.
METHODS: dict[str, Callable[[str, str, Reward, Path, list[str]], str]] = {
  'dpo': learn_dpo,
  'grpo': functools.partial(learn_rewarded, 'grpo'),
  'ppo': functools.partial(learn_rewarded, 'ppo'),
}


# ---- What comes out ----------------------------------------------------------


def ranked(start: str, judge: Reward, prompts: list[str], how: str) -> list:
  """Several answers to each prompt, ranked by the reward model."""
  writer = make_writer(opening.open_run(start))
  options = Options(length=LENGTH, samples=SAMPLES, temperature=1.0, seed=1)
  found = writer.answers(prompts, options, winning.BATCH)
  rows = [
    {'prompt': prompt, 'answers': [x.text for x in own]}
    for prompt, own in zip(prompts, found, strict=True)
  ]
  flat = [(row['prompt'], x) for row in rows for x in row['answers']]
  scores = judge.score(*map(list, zip(*flat, strict=True)))
  return rank.rank(rows, np.split(scores, len(rows)), how)


def samples(folder: str, prompts: list[str]) -> list[str]:
  """How a run goes on with a few prompts."""
  _, answers = winning.draw(opening.open_run(folder), prompts, LENGTH, 0)
  return [
    f'{prompt} [{answer.text.strip()}]'
    for prompt, answer in zip(prompts, answers, strict=True)
  ]


def measure(
  family: str,
  judge: Reward,
  work: Path,
  prompts: list[str],
  held_out: list[str],
) -> dict:
  """All methods on one family: learned by prompts, tested by held-out ones."""
  start = str(work / family)
  best = ranked(start, judge, held_out, 'best')
  base = opening.open_run(start)
  found = {
    'start': {'samples': samples(start, held_out[:SHOWN])},
    f'best of {SAMPLES}': {
      'reward': float(np.mean([x['reward'] for x in best])),
      'kl_bound': ranking.best_of_n_divergence(SAMPLES),
    },
  }
  for method, learn in METHODS.items():
    clock = time.perf_counter()
    folder = learn(family, start, judge, work, prompts)
    seconds = time.perf_counter() - clock
    run = opening.open_run(folder)
    result = win_rate(run, base, base, judge, held_out, LENGTH)
    found['start'] |= result.pop('theirs')
    result |= {
      'seconds': round(seconds, 1),
      'samples': samples(folder, held_out[:SHOWN]),
    }
    found[method] = result.pop('ours') | result
  return found


def table(found: dict) -> str:
  """The numbers of one family, as text."""
  head = ('reward', 'KL', 'tokens', 'win rate (95%)')
  lines = [f'{"":12}' + ''.join(f'{x:>18}' for x in head)]
  for name, own in found.items():
    cells = [f'{own["reward"]:.2f}']
    cells.append(f'{own["kl"]:.2f}' if 'kl' in own else '')
    if 'kl_bound' in own:
      cells[-1] = f'< {own["kl_bound"]:.2f}'
    cells.append(f'{own["length"]:.1f}' if 'length' in own else '')
    if 'win_rate' in own:
      low, high = own['interval']
      cells.append(f'{own["win_rate"]:.0%} ({low:.0%} to {high:.0%})')
    lines.append(f'{name:12}' + ''.join(f'{x:>18}' for x in cells))
    lines += [f'    {x}' for x in own.get('samples', ())]
  return '\n'.join(lines)


def main():
  work = Path(_WORKDIR.value)
  work.mkdir(parents=True, exist_ok=True)
  prompts, held_out = write_data(work)
  clock = time.perf_counter()
  for family in dict.fromkeys(['decoder', *_ONLY.value]):
    config, folder = writer_config(family, work), str(work / family)
    if config.train.steps not in history.saved_steps(folder):
      loop.train(config, folder)
  judge = str(work / 'reward')
  if not os.path.isdir(os.path.join(judge, 'checkpoints')):
    align(reward_config(work), judge, str(work / 'decoder'))
  judge, results = open_reward(judge), {}
  for family in _ONLY.value:
    results[family] = measure(family, judge, work, prompts, held_out)
    print(f'{family}\n{table(results[family])}')
  print(f'{(time.perf_counter() - clock) / 60:.1f} minutes.')
  if _OUT.value:
    machine.write(Path(_OUT.value), [*FAMILIES], results)
  for family in results:
    folders = {'start': family} | {x: f'{family}_{x}' for x in METHODS}
    pages.write(
      _REPORT.value and _REPORT.value.format(family),
      [work / name for name in (*folders.values(), 'reward')],
      f"Steered towards SST-2's positive reviews: {family.replace('_', '-')}",
      {name: results[family][x]['samples'] for x, name in folders.items()},
    )


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string(
    'workdir', '/tmp/sentiment', 'Where runs and files are.'
  )
  _ONLY = flags.DEFINE_list('only', [*FAMILIES], 'Of the two families.')
  _OUT = flags.DEFINE_string(
    'out', str(HERE.parent / 'results' / 'sentiment.json'), "'': no file."
  )
  _REPORT = flags.DEFINE_string(
    'report', str(pages.PLACE / 'sentiment_{}.html'),
    "The page of a family's runs, {} for its name; '': none.",
  )  # fmt: skip
  command.run(main)

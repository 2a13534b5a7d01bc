"""Best of n and rejection sampling: answers ranked by a reward model.

  python -m train.generate --workdir=RUN --file=PROMPTS.jsonl --samples=8
    --temperature=1 --out=ANSWERS.jsonl
  python -m train.rank --reward=REWARD --file=ANSWERS.jsonl --out=KEPT.jsonl

--how=best keeps the best answer to each prompt. --how=sample keeps an answer
with probability exp((r - r_max) / beta): the more so, the nearer its reward r
is to the prompt's highest one. --how=pairs writes the best and the worst one as
a pair, which `train.align` learns from. Lines of best and sample have `prompt`,
`completion` and `reward`.

Answers that are empty, or whose prompt is too long for the reward model, are
left out and counted. REWARD is a run of --config=configs/align/reward.py. A
prompt and its answer are
joined as they are: white space counts. A run with data.chat_template reads them
as a turn of the user and one of the assistant.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from absl import flags

from configs.commands import terminal
from input_pipeline.chat.messages import last_words
from input_pipeline.sources import paths
from train.aligning import ranking
from train.aligning.rewards import open_reward
from train.generation.files import read_prompts
from train.parallel import processes
from train.runs import command
from train.runs.checkpoint import parse_step


def rank(
  rows: Sequence[dict[str, Any]],
  rewards: Sequence[np.ndarray],
  how: str,
  beta: float = 0.0,
  seed: int = 0,
) -> list[dict[str, Any]]:
  """The lines that are kept of all rows; see `ranking.ranked`.

  Args:
    rows: objects with `prompt` and `answers`, texts or objects with `text`.
    rewards: of the answers of each row.
    how, beta, seed: as for `ranked`.
  """
  return [
    line
    for n, (row, own) in enumerate(zip(rows, rewards, strict=True))
    for line in ranking.ranked(
      how, row['prompt'], texts(row), own, beta, (seed, n)
    )
  ]


def judged(
  rows: Sequence[dict[str, Any]], rewards: Sequence[np.ndarray]
) -> tuple[list[dict[str, Any]], list[np.ndarray], int]:
  """Rows and rewards without the answers that are empty or have no reward.

  Also the number of those that are empty. A prompt without an answer is left
  out.
  """
  found, kept, empty = [], [], 0
  for row, own in zip(rows, rewards, strict=True):
    answers = texts(row)
    there = [bool(answer.strip()) for answer in answers]
    empty += there.count(False)
    places = np.flatnonzero(there & np.isfinite(own))
    if len(places):
      found.append(row | {'answers': [answers[n] for n in places]})
      kept.append(own[places])
  return found, kept, empty


def texts(row: dict[str, Any]) -> list[str]:
  """The texts of a row's answers.

  Raises ValueError if it has none.
  """
  name, found = last_words(row['prompt'])[:60], row.get('answers')
  if not isinstance(found, list) or not found:
    raise ValueError(
      f'The prompt {name!r} has no answers: write them with '
      'python -m train.generate --samples=N --temperature=1 --out=FILE.jsonl.'
    )
  found = [x.get('text') if isinstance(x, dict) else x for x in found]
  if not all(isinstance(x, str) for x in found):
    raise ValueError(f'The prompt {name!r} has an answer without a text.')
  return found


def main():
  how, beta = _HOW.value, _BETA.value
  if (how == 'sample') != (beta > 0):
    raise ValueError(
      f'--beta={beta} must be above 0 with --how=sample, and left out else.'
    )
  rows = read_prompts(_FILE.value)
  answers = [texts(row) for row in rows]
  processes.join()
  model = open_reward(_REWARD.value, parse_step(_STEP.value))
  prompts = [
    row['prompt'] for row, own in zip(rows, answers, strict=True) for _ in own
  ]
  failures: list[str] = []
  scores = model.score(prompts, [x for own in answers for x in own], failures)
  ends = np.cumsum([len(own) for own in answers])
  rows, rewards, empty = judged(rows, np.split(scores, ends[:-1]))
  if jax.process_index() == 0:
    for count, why in (empty, 'are empty'), (len(failures), 'have no reward'):
      if count:
        reason = f'. The first: {failures[0]}' if why != 'are empty' else ''
        terminal.warn(f'{count:,} answers {why}, and are left out{reason}.')
  if not rows:
    raise ValueError(f'--file={_FILE.value}: no answer is left.')
  kept = rank(rows, rewards, how, beta, _SEED.value)
  if jax.process_index() == 0:
    lines = [f'{json.dumps(x, ensure_ascii=False)}\n' for x in kept]
    paths.write(_OUT.value, ''.join(lines).encode())
    terminal.say(_described(rewards, kept, how))


def _described(rewards, kept, how):
  """What was kept, in a line or two."""
  best = np.mean([own.max() for own in rewards])
  mean = np.mean([own.mean() for own in rewards])
  n = max(map(len, rewards))
  found = (
    f'{sum(map(len, rewards)):,} answers to {len(rewards):,} prompts: mean '
    f'reward {mean:.3f}, of the best ones {best:.3f}. {_OUT.value} has '
    f'{len(kept):,} lines.'
  )
  if how == 'best':
    bound = ranking.best_of_n_divergence(n)
    found += f' KL of the best of {n} to all: at most {bound:.2f} nats.'
  if how == 'pairs' and len(kept) < len(rewards):
    found += (
      f' {len(rewards) - len(kept):,} prompts have answers that are all alike.'
    )
  return found


if __name__ == '__main__':
  _REWARD = flags.DEFINE_string(
    'reward', None, 'The workdir of a reward model.', required=True
  )
  _STEP = flags.DEFINE_string(
    'step', '', "Its step, or 'best'; default: the newest checkpoint."
  )
  _FILE = flags.DEFINE_string(
    'file', None, 'Answers, from train.generate --out.', required=True
  )
  _OUT = flags.DEFINE_string(
    'out', None, 'A .jsonl file for what is kept.', required=True
  )
  _HOW = flags.DEFINE_enum('how', 'best', ranking.HOW, 'What is kept.')
  _BETA = flags.DEFINE_float(
    'beta', 0.0, 'With --how=sample: the KL penalty of the policy drawn from.'
  )
  _SEED = flags.DEFINE_integer('seed', 0, 'Of --how=sample.')
  processes.define_flags()
  flags.adopt_module_key_flags(processes)
  command.run(main)

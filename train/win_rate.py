"""A win rate by a reward model, with its interval and what stands beside it.

  python -m train.win_rate --workdir=RUN --against=RUN --reward=REWARD
    --file=PROMPTS.jsonl [--reference=RUN] [--out=RESULT.json]

Both models answer each prompt once, at temperature 1; the reward model gives
each answer a number, and the higher one wins. The interval is Wilson's, of 95%
over prompts. Beside the rate stand each model's mean reward, its mean length
and its KL divergence from the reference: the run that --reference names, or
else --against. Where each line of the file has a `target`, so does the share of
answers that are exactly it, and that of empty answers where there are any. The
reward model reads the texts, so that its tokenizer and its chat template may be
others. The prompts must be ones that no model has learned from.

A win rate says what this reward model prefers. It is no evidence that people do
so too, nor that a model is safe. Exact answers are a further check: python -m
train.evaluate --workdir=RUN --tasks=NAMES, before and after.
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
from input_pipeline.chat.messages import Prompt
from input_pipeline.sources import paths
from train.aligning import winning
from train.aligning.rewards import Reward, open_reward
from train.generation.files import read_prompts
from train.generation.making import make_writer
from train.parallel import processes
from train.reinforcing import rules
from train.runs import command, opening

CLAIM = (
  'This is what the reward model prefers: it says nothing of people, or of '
  'safety.'
)


def win_rate(
  ours: opening.Run,
  theirs: opening.Run,
  reference: opening.Run,
  reward: Reward,
  prompts: Sequence[Prompt],
  length: int = 0,
  seed: int = 0,
  targets: Sequence[str] = (),
) -> dict[str, Any]:
  """What `winning.compared` returns for two runs.

  Args:
    ours, theirs: the runs that answer.
    reference: from which the divergence of both is measured.
    reward: which answer is better.
    prompts: texts, or chats that end in a user's turn.
    length: tokens of an answer, at most; 0: as training has them.
    seed: of what is drawn. Both models draw with it.
    targets: the exact answer to each prompt, if there are such.

  Raises:
    ValueError: the runs have different tokenizers, or a prompt is too long.
    RewardError: a reward is no number.
  """
  for run in ours, theirs:
    if run.tokenizer.fingerprint != reference.tokenizer.fingerprint:
      raise ValueError(
        f'{run.folder} and the reference {reference.folder} have different '
        'tokenizers: there is no KL divergence between them. Give --reference '
        'a run that both began from.'
      )
  sides, base = [], make_writer(reference)
  for run in ours, theirs:
    writer, answers = winning.draw(run, prompts, length, seed)
    tokens = [answer.tokens for answer in answers]
    read = prompts
    if writer.pair == base.pair:  # what one reads, as a chat, the other reads
      read = [*map(writer.encoded, prompts)]
    own = winning.log_probs(writer, read, tokens)
    other = winning.log_probs(base, read, tokens)
    exact = None
    if targets:
      exact = [
        rules.RULES['exact'](prompt, answer.text, target)
        for prompt, answer, target in zip(
          prompts, answers, targets, strict=True
        )
      ]
    sides.append(
      winning.Side(
        reward.score(prompts, [answer.text for answer in answers]),
        np.array([len(x) for x in tokens]),
        own.astype(np.float64) - other,
        exact,
        [not answer.text.strip() for answer in answers],
      )
    )
  return winning.compared(*sides)


def described(found: dict[str, Any]) -> str:
  """The result as a table, and what it does not say."""
  low, high = found['interval']
  columns = {'reward': 'reward', 'kl': 'KL, nats', 'length': 'tokens'}
  if 'exact' in found['ours']:
    columns['exact'] = 'exact match'
  if any(found[name].get('empty') for name in ('ours', 'theirs')):
    columns['empty'] = 'empty'
  rate = f'{found["win_rate"]:.1%} (95%: {low:.1%} to {high:.1%})'
  lines = [
    f'Win rate {rate}, {found["prompts"]:,} prompts, {found["ties"]:,} ties.',
    f'{"":10}' + ''.join(f'{name:>16}' for name in columns.values()),
  ]
  for name in 'ours', 'theirs':
    own = found[name]
    cells = [f'{own[key]:.3f} ± {own[f"{key}_error"]:.3f}' for key in columns]
    lines.append(f'{name:10}' + ''.join(f'{cell:>16}' for cell in cells))
  return '\n'.join([*lines, CLAIM])


def main():
  rows = read_prompts(_FILE.value)
  prompts = [row['prompt'] for row in rows]
  targets = [
    str(row['target'])
    for row in rows
    if isinstance(row.get('target'), str | int | float)
  ]
  if any('target' in row for row in rows) and len(targets) < len(rows):
    raise ValueError(
      f'--file={_FILE.value}: {len(targets):,} of {len(rows):,} lines have a '
      'text or a number in the field target: give all of them one, or none.'
    )
  processes.join()
  ours, theirs = (opening.open_run(x.value) for x in (_WORKDIR, _AGAINST))
  reference = theirs
  if _REFERENCE.value:
    reference = opening.open_run(_REFERENCE.value)
  reward = open_reward(_REWARD.value)
  found = win_rate(
    ours, theirs, reference, reward, prompts, _LENGTH.value, _SEED.value,
    targets,
  )  # fmt: skip
  if jax.process_index() == 0:
    terminal.say(described(found))
    if _OUT.value:
      text = json.dumps(found, indent=2)
      paths.write(_OUT.value, f'{text}\n'.encode())


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Ours.', required=True)
  _AGAINST = flags.DEFINE_string('against', None, 'Theirs.', required=True)
  _REFERENCE = flags.DEFINE_string(
    'reference', '', 'Where KL is measured from; default: --against.'
  )
  _REWARD = flags.DEFINE_string(
    'reward', None, 'The workdir of a reward model.', required=True
  )
  _FILE = flags.DEFINE_string(
    'file', None, 'Prompts, one a line, or .jsonl.', required=True
  )
  _LENGTH = flags.DEFINE_integer(
    'length', 0, 'Tokens of an answer, at most; 0: as in training.'
  )
  _SEED = flags.DEFINE_integer('seed', 0, 'Of what is drawn.')
  _OUT = flags.DEFINE_string('out', '', 'A .json file for the result.')
  processes.define_flags()
  flags.adopt_module_key_flags(processes)
  command.run(main)

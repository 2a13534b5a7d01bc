"""Which runs are seeds of one config, how configs differ, what compares."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from configs.commands.command import UserError
from configs.differences import differences
from train.comparing.runs import COMPLETE, Run
from train.runs import changes, history

LOSS, BITS, SCORE = 'eval/loss', 'eval/bits_per_byte', 'eval/score'
TRAIN = 'train/loss'
# What a run of train.align has beside its loss.
ALIGNED = (
  'train/reward', 'train/reward_margin', 'train/accuracy', 'train/kl',
  'train/length',
)  # fmt: skip
# Better if lower; all other numbers of evaluations are better if higher.
LOWER = 'loss', 'perplexity', 'bits_per_byte'
FROM = 'started from'  # beside keys of configs: the parameters' source
# What decides which tokens are predicted, and from what.
TASK = (
  *('data.objective', 'data.noise_density', 'data.mean_span_length'),
  *('data.denoisers', 'data.predictions', 'data.masked_share', 'model.head'),
  *('data.length', 'data.holdout'),
)


class NotComparableError(UserError):
  """The runs' losses have different units."""


@dataclasses.dataclass
class Group:
  """Runs that differ in their seeds, if at all.

  Attributes:
    name: what differs from the other groups, or the run's name.
    runs: by their seeds.
  """

  name: str
  runs: list[Run]

  @property
  def complete(self) -> bool:
    return all(run.state == COMPLETE for run in self.runs)

  @property
  def step(self) -> int | None:
    """The newest step that each run evaluated; None if there is none."""
    evaluated = [set(run.evaluated) for run in self.runs]
    return max(set.intersection(*evaluated), default=None)

  def values(self, name: str) -> list[tuple[Run, int, float]]:
    """(run, step, number) of each run that has it at `step`."""
    found = [(run, self.step, run.at(self.step, name)) for run in self.runs]
    return [one for one in found if one[2] is not None]


def grouped(runs: Sequence[Run]) -> list[Group]:
  """The runs with a config, as groups over seeds.

  Keys that change no number of a run, such as checkpoint.every, are not
  compared; where the parameters came from is.
  """
  found = {}
  for run in (run for run in runs if run.config):
    keys = {k: x for k, x in identity(run).items() if k != 'seed'}
    kept = {k: x for k, x in keys.items() if not changes.is_free(k)}
    found.setdefault(json.dumps(kept, sort_keys=True), []).append(run)
  several = [Group('', own) for own in found.values()]
  keys = [key for key, _ in differing([group.runs[0] for group in several])]
  keys = [k for k in keys if k != 'seed' and not changes.is_free(k)]
  for group in several:
    group.runs.sort(key=lambda run: run.config.seed)
    own = identity(group.runs[0])
    words = [f'{k.rpartition(".")[2]}={shown(own.get(k))}' for k in keys]
    group.name = ', '.join(words) if 0 < len(words) < 4 else ''
    if not group.name:
      names = [run.name for run in group.runs]
      more = f' and {len(names) - 1} more seeds' if len(names) > 1 else ''
      group.name = names[0] + more
  return several


def identity(run: Run) -> dict[str, Any]:
  """The config with dotted keys, and where the parameters came from."""
  flat = {k: new for k, _, new in differences({}, _leaves(run.plain))}
  source = history.source(run.history) or {}
  where = [str(source[k]) for k in ('run', 'workdir', 'step') if k in source]
  return flat | {FROM: ', step '.join(where)} if where else flat


def _leaves(tree, prefix=''):
  found = {}
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      found |= _leaves(value, f'{prefix}{key}.')
    else:
      found[f'{prefix}{key}'] = value
  return found


def differing(runs: Sequence[Run]) -> list[tuple[str, list[Any]]]:
  """(key, the value in each run) of the keys in which the runs differ."""
  flat = [identity(run) for run in runs if run.config]
  keys = sorted(set().union(*flat))
  values = {key: [one.get(key) for one in flat] for key in keys}
  return [(k, x) for k, x in values.items() if any(y != x[0] for y in x)]


def shown(value: Any) -> str:
  """A value of a config in a table."""
  if value is None:
    return 'none'
  if isinstance(value, float):
    return f'{value:g}'
  return value if isinstance(value, str) and value else json.dumps(value)


def measured(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
  """The numbers by which the runs compare, the main one first.

  They are those of the newest evaluations. Losses per token compare between
  runs of one tokenizer; between others bits per byte do.

  Returns:
    The names of the numbers, and notes for the reader.

  Raises:
    NotComparableError: the tokenizers differ, and some run has evaluations
      without bits per byte.
  """
  able = [run for run in runs if run.evaluated]
  known = [{*run.numbers[run.evaluated[-1]]} for run in able]
  every = set.intersection(*known) if known else set()
  names = sorted(
    name for name in set().union(*known) if name.startswith('eval/')
  )
  names = [x for x in names if x not in ('eval/tokens', 'eval/labels')]
  notes = []
  if differing_tokenizers(runs):
    lacking = [run.name for run in able if BITS not in _newest(run)]
    if lacking:
      raise NotComparableError(_refusal(runs, lacking))
    names = [x for x in names if x.endswith('/bits_per_byte')]
    notes.append(
      'The runs have different tokenizers, so a loss per token means another '
      'thing in each of them. They are compared in bits per byte of held-out '
      'text; losses, perplexities and accuracies per token are left out.'
    )
  first = [x for x in (SCORE, LOSS, BITS) if x in names and x in every]
  if differing_tokenizers(runs):
    first = [x for x in names if x == BITS]
  return [*first, *(x for x in names if x not in first)], notes


def of_alignment(runs: Sequence[Run]) -> list[str]:
  """The numbers of ALIGNED that some run of train.align has."""
  aligned = [run for run in runs if run.config and run.config.align.method]
  known = {
    name for run in aligned for row in run.numbers.values() for name in row
  }
  return [name for name in ALIGNED if name in known]


def _newest(run):
  return run.numbers[run.evaluated[-1]]


def differing_tokenizers(runs: Iterable[Run]) -> bool:
  """Whether the runs with a config have different tokenizers.

  A run without a checkpoint may not have its tokenizer's file yet: then the
  size of its vocabulary is compared.
  """
  runs = [run for run in runs if run.config]
  known = {run.tokenizer for run in runs if run.tokenizer}
  sizes = {run.config.model.vocab_size for run in runs}
  unknown = any(not run.tokenizer for run in runs)
  return len(known) > 1 or (unknown and len(sizes) > 1)


def _refusal(runs, lacking):
  seen = {}
  for run in (run for run in runs if run.config):
    size = f'{run.config.model.vocab_size:,} entries'
    what = f'{size}, sha256 {run.tokenizer[:12] or "not known yet"}'
    seen.setdefault(what, []).append(run.name)
  lines = [f'  {what}: {", ".join(names)}' for what, names in seen.items()]
  return (
    'The runs have different tokenizers:\n'
    + '\n'.join(lines)
    + '\nA loss per token of one does not compare with that of another. Bits '
    'per byte would, and only runs of data.objective=causal record them; these '
    f'have none: {", ".join(lacking)}. Make a report of each kind of runs.'
  )


def task(run: Run) -> dict[str, Any]:
  """What the run's held-out loss is of: its keys, and the held-out data."""
  flat = _leaves(run.plain)
  found = {key: flat.get(key) for key in TASK}
  data = run.fingerprint
  if data:
    held_out = data.get('eval_source') or data['source']
    found['held-out data'] = json.dumps(held_out, sort_keys=True)
  return found


def unlike(first: Run, second: Run) -> list[str]:
  """In what the tasks of two runs differ; [] if they are the same."""
  a, b = task(first), task(second)
  return [key for key in a.keys() & b.keys() if a[key] != b[key]]


def task_notes(groups: Sequence[Group]) -> list[str]:
  """A note where the runs predict different things."""
  first = groups[0].runs[0] if groups else None
  runs = [run for group in groups for run in group.runs]
  found = sorted({key for run in runs for key in unlike(first, run)})
  if not found:
    return []
  note = (
    f'The runs differ in {", ".join(found)}: their losses are of different '
    'predictions, so a lower one is not a better model. Such groups are not '
    'tested against each other.'
  )
  return [note]


def is_lower_better(name: str) -> bool:
  return name.endswith(LOWER)


@functools.cache
def title(name: str) -> str:
  """A number's name in words."""
  group, _, rest = name.partition('/')
  words = {
    'bits_per_byte': 'bits per byte',
    'kl': 'KL',
    'learning_rate': 'learning rate',
  }
  *of, last = rest.split('/')
  text = words.get(last, last.replace('_', ' '))
  where = {'eval': 'held-out', 'train': 'training'}.get(group, group)
  return ' '.join([where, *of, text])

"""Plans a ladder of runs for a scaling law, before anyone pays.

  python -m configs.scaling plan --system=llama --budgets=1e15,1e16,1e17
  python -m configs.scaling plan --system=bert --budgets=1e17,1e18 \\
    --set=rule=published,approach=3,data.length=128
  python -m configs.scaling rules --system=t5       # sizes of each rule

Prints each run's sizes, tokens, FLOPs and hours on a device, what a wrong guess
of the size costs, and the command that trains the ladder. --set takes options
of configs/scaling/ladder.py, and keys of the config that all runs share.
"""

import math

from absl import flags

from configs import arguments
from configs.commands import command
from configs.scaling import ladder as ladders
from configs.scaling.laws import LAWS, Law, kaplan_best
from configs.scaling.shapes import RULES, Family

GUESSES = (0.25, 0.5, 2.0, 4.0)  # of the best size
# FLOPs of the runs that the published laws were fitted to (Hoffmann et al.
# 2022, figure 4).
FITTED = 6e18, 1.3e22
TABLES = 0.5  # a larger share of N in tables is worth a word


def plan(ladder: ladders.Ladder, speeds: dict[str, float]) -> str:
  """The ladder as text.

  Args:
    ladder: the runs.
    speeds: device -> FLOP/s that it reaches.

  Raises:
    ValueError: as `ladder.runs`.
  """
  runs, options = ladders.runs(ladder), ladder.options
  lines = [
    f'{ladder.system}: {len(runs)} runs of approach {options["approach"]}.',
    (f'Shapes by the rule {options["rule"]}; N counts {options["count"]} '
     f'parameters, FLOPs by {options["flops"]}; best sizes by '
     f'{ladder.law.paper}.'),
    '',
    f'  {"run":22}{"N":>8}{"tables":>8}{"D":>8}{"D/N":>7}{"FLOPs":>10}'
    f'{"rows":>6}{"steps":>11}{"loss*":>7}'
    + ''.join(f'{f"h {name}":>11}' for name in speeds),
  ]  # fmt: skip
  for run in runs:
    N, D = run.shape.params, run.tokens
    loss = ladder.law.loss(N, D)
    known = loss < math.log(ladder.config.model.vocab_size)
    guess = f'{loss:.2f}' if known else '-'
    batch = run.keys.get('data.batch', ladder.config.data.batch)
    steps = run.keys.get('train.steps', ladder.config.train.steps)
    hours = ''.join(f'{run.flops / x / 3600:11.3g}' for x in speeds.values())
    lines.append(
      f'  {run.name:22}{short(N):>8}{run.shape.share:8.0%}{short(D):>8}'
      f'{D / N:7.1f}{run.flops:10.2e}{batch:6}{steps:11,}'
      f'{guess:>7}{hours}'
    )
  total = sum(run.flops for run in runs)
  hours = ', '.join(f'{total / x / 3600:.3g} h {k}' for k, x in speeds.items())
  lines += [
    (
      f'  All: {total:.3g} FLOPs, {short(sum(r.tokens for r in runs))} tokens, '
      f'{hours or "no device named"}.'
    ),
    "  * the law's guess, of its own text and vocabulary.",
    '',
    *wrong_guesses(ladder.law, sorted(ladder.budgets)),
    *(f'Warning: {text}' for text in warnings(ladder, runs)),
    '',
    'Train it, then fit it:',
    f"  python -m train.sweep --config='{argument(ladder)}' --out=DIR",
    (
      f'  python -m train.scaling fit DIR --count={options["count"]}'
      f'{_convention(options["flops"])}'
      f' --law={_fit_by(options["approach"], len(ladder.budgets))} --out=LAW'
    ),
  ]
  return '\n'.join(lines)


def wrong_guesses(law: Law, budgets: list[float]) -> list[str]:
  """What training another size than the best costs, by the law.

  The share of a budget that is wasted: a run of the best size would reach the
  same loss with the rest.
  """
  others = {'best': None} | {f'N x {x:g}': x for x in GUESSES}
  lines = [
    (
      'What a wrong guess costs: the share of the FLOPs without which the best '
      'size would reach the same loss (by 6 N D).'
    ),
    f'  {"FLOPs":>9}{"best N":>9}{"D/N":>7}'
    + ''.join(f'{name:>9}' for name in [*others][1:])
    + ''.join(f'{name:>12}' for name in (*LAWS, 'kaplan')),
  ]
  for C in budgets:
    N, D = law.best(C)
    cells = [f'{wasted(law, C, N * x):9.0%}' for x in GUESSES]
    cells += [
      f'{wasted(law, C, other.best(C)[0]):12.0%}' for other in LAWS.values()
    ]
    cells.append(f'{wasted(law, C, kaplan_best(C)):12.0%}')
    lines.append(f'  {C:9.2e}{short(N):>9}{D / N:7.1f}{"".join(cells)}')
  lines.append(
    '  The last columns: the size by that law instead (kaplan: Kaplan et al. '
    '2020, table 6).'
  )
  return lines


def wasted(law: Law, flops: float, params: float) -> float:
  """The share of a budget that a size other than the best wastes."""
  loss = law.loss(params, flops / 6 / params)
  return max(0.0, 1 - law.flops_for(loss) / flops)


def warnings(ladder: ladders.Ladder, runs: list[ladders.Run]) -> list[str]:
  """What to know before paying."""
  said = []
  low, high = min(ladder.budgets), max(ladder.budgets)
  if low < FITTED[0] or high > FITTED[1]:
    said.append(
      f'{ladder.law.paper} is of runs of {FITTED[0]:.0e} to {FITTED[1]:.1e} '
      'FLOPs: the best sizes here are extrapolated. Look where the profiles '
      'are lowest, and add sizes there.'
    )
  heavy = [run for run in runs if run.shape.share > TABLES]
  if heavy:
    said.append(
      f'{len(heavy)} of {len(runs)} models have more than half of their '
      'parameters in tables: take a smaller vocabulary '
      '(--set=model.vocab_size=4096), or --set=count=non_embedding.'
    )
  if ladder.options['approach'] != '1':
    for budget in ladder.budgets:
      own = {run.name: run for run in runs if run.budget == budget}
      sizes = {run.shape.params for run in own.values()}
      best = ladder.law.best(budget)[0]
      if len(sizes) < 4:
        said.append(
          f'{budget:.3g} FLOPs have {len(sizes)} different sizes; a parabola '
          'needs 4: raise sizes or spread, or the rule has no others near.'
        )
      if sizes and not min(sizes) < best < max(sizes):
        said.append(
          f'The best size of {budget:.3g} FLOPs, {short(best)}, lies at the '
          'edge of the sizes.'
        )
  return said


def rules(ladder: ladders.Ladder) -> str:
  """The sizes of each rule, by powers of ten of N."""
  lines = [f'{ladder.system}: the shape nearest to N by each rule']
  families = {}
  for rule in RULES:
    families[rule] = Family(
      ladder.system, ladder.config, rule, ladder.options['count']
    )
  lines.append(f'  {"N":>6}' + ''.join(f'{rule:>24}' for rule in families))
  for power in range(12, 23):
    N = 10 ** (power / 2)
    cells = [family.nearest(N) for family in families.values()]
    lines.append(
      f'  {short(N):>6}'
      + ''.join(f'{f"{x.name} ({short(x.params)})":>24}' for x in cells)
    )
  return '\n'.join(lines)


def argument(ladder: ladders.Ladder) -> str:
  """The config argument of a ladder."""
  given = {
    key: value
    for key, value in ladder.options.items()
    if value != ladders.OPTIONS[key][0]
  }
  shared = flags.FLAGS.set if flags.FLAGS.is_parsed() else []
  keys = [x for x in shared if '.' in x.partition('=')[0]]
  words = [ladder.system, *(f'{k}={x}' for k, x in given.items()), *keys]
  return f'configs/scaling/ladder.py:{",".join(words)}'


def short(value: float) -> str:
  """12.3M for 12,345,678."""
  power = min(int(math.log10(max(value, 1)) // 3), 4)
  digits = f'{value / 1000**power:.3g}'
  return f'{digits}{("", "K", "M", "B", "T")[power]}'


def speed(name: str, utilisation: float) -> float:
  """FLOP/s of a device by its name, or of a number as it is.

  Raises ValueError for an unknown name.
  """
  try:
    return ladders.number('device', name)
  except ValueError:
    from train.fitting.chips import CHIPS  # imports JAX

    peaks = {chip.name: chip.flops for chip in CHIPS}
    if name not in peaks:
      raise ValueError(
        arguments.unknown('device', name, peaks) + ' Or give its FLOP/s.'
      ) from None
    return peaks[name] * utilisation


def _convention(name):
  return f' --flops={name}' * (name != '6nd')


def _fit_by(approach, budgets):
  laws = {'1': 'envelope', '2': 'isoflop,chinchilla', '3': 'chinchilla'}
  if budgets == 1:  # a line through the lowest points needs two
    laws['2'] = 'chinchilla'
  return laws[approach]


def main(words: list[str]) -> None:
  options = flags.FLAGS
  if len(words) != 1 or words[0] not in ('plan', 'rules'):
    raise ValueError("give 'plan' or 'rules'. See --help.")
  if not options.system:
    raise ValueError('--system=NAME[:ARG] is needed, such as --system=llama.')
  if not 0 < options.mfu <= 1:
    raise ValueError(f'--mfu={options.mfu} must lie between 0 and 1.')
  parts = [options.system, *options.set]
  if options.budgets:
    parts.append(f'budgets={"+".join(options.budgets)}')
  ladder = ladders.read(','.join(parts))
  if words[0] == 'rules':
    print(rules(ladder))
    return
  speeds = {name: speed(name, options.mfu) for name in options.device}
  print(plan(ladder, speeds))


if __name__ == '__main__':
  flags.DEFINE_string('system', '', 'NAME[:ARG] as in configs.tree: llama:7b')
  flags.DEFINE_list('budgets', [], 'FLOPs of the runs: 1e15,1e16')
  flags.DEFINE_list(
    'set', [], 'options of the ladder, and keys of the config: '
    + '; '.join(f'{k} ({x[1]}; {x[0]})' for k, x in ladders.OPTIONS.items()
                if k != 'budgets')
  )  # fmt: skip
  flags.DEFINE_list(
    'device', ['v5e', 'h100'], 'v4, v5e, v5p, v6e, a100, h100, h200, or FLOP/s'
  )
  flags.DEFINE_float('mfu', 0.4, 'the share of its peak that a device reaches')
  command.run_words(main)

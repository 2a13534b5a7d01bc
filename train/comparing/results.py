"""Which config is better: means over seeds, and tests of their difference."""

import math
from collections.abc import Sequence

from train.comparing import groups as grouping
from train.comparing import statistics
from train.comparing.cells import NONE, Cell, Links, Table, number
from train.comparing.groups import Group


def of_groups(
  groups: Sequence[Group], names: Sequence[str], links: Links
) -> Table:
  """Mean and standard deviation over seeds of each group."""
  rows = []
  for group in groups:
    step = group.step
    row = [Cell(group.name), Cell(str(len(group.runs)))]
    row.append(Cell(NONE if step is None else f'{step:,}'))
    for name in names:
      values = [] if step is None else group.values(name)
      if not values:
        row.append(Cell(NONE))
        continue
      found = statistics.spread([value for _, _, value in values])
      parts = [
        Cell(number(x), links(run, at), title=f'{run.name}, step {at:,}')
        for run, at, x in values
      ]
      text = f'{number(found.mean)} ± {number(found.deviation, found.mean)}'
      row.append(Cell(text, '', parts) if found.count > 1 else parts[0])
    rows.append(row)
  header = ['runs', 'seeds', 'step', *map(grouping.title, names)]
  return Table(
    'Held-out results: mean ± standard deviation over seeds',
    header,
    rows,
    'The numbers are those of the newest step that all seeds evaluated; below '
    'a mean is each seed, with a link to it. The deviation is that of a sample '
    '(n − 1). One seed has none.',
    [f'group-{i}' for i in range(len(groups))],
  )


def of_tests(groups: Sequence[Group], name: str) -> Table | None:
  """Each group beside the one with the best mean; None for one group."""
  values = [
    [x for _, _, x in group.values(name)] if group.step is not None else []
    for group in groups
  ]
  lower = grouping.is_lower_better(name)
  means = [
    statistics.spread(x).mean if x and all(map(math.isfinite, x)) else math.nan
    for x in values
  ]
  able = [i for i, mean in enumerate(means) if math.isfinite(mean)]
  if len(able) < 2:
    return None
  best = (min if lower else max)(able, key=lambda i: means[i])
  reasons = [
    _untested(groups[best], group, values[best], values[i])
    for i, group in enumerate(groups)
  ]
  tests = statistics.holm(
    [
      None if i == best or reasons[i] else statistics.welch(values[best], x)
      for i, x in enumerate(values)
    ]
  )
  rows = []
  for i, group in enumerate(groups):
    test, difference = tests[i], means[i] - means[best]
    if i == best:
      row = [NONE, NONE, NONE, f'the {"lowest" if lower else "highest"} mean']
    elif test is None:
      why = reasons[i] or 'no test: the seeds do not differ'
      text = number(difference) if math.isfinite(difference) else NONE
      row = [text, NONE, NONE, why]
    else:
      sure = test.p < statistics.LEVEL
      row = [
        number(difference),
        f'{number(test.low)} to {number(test.high)}',
        f'{test.p:.3f}' if test.p >= 0.001 else '< 0.001',
        'worse' if sure else 'not shown to differ',
      ]
    rows.append([Cell(group.name, f'#group-{i}'), *map(Cell, row)])
  count = sum(test is not None for test in tests)
  header = (
    *('runs', 'difference to the best', '95% interval', 'p'),
    'what the seeds show',
  )
  note = (
    "Welch's t-test, two-sided, of unpaired seeds; p is adjusted for "
    f'{count} test{"s" * (count != 1)} (Holm), the intervals are not. The best '
    'was chosen from the same numbers, which favours it, and few seeds show '
    'large differences only. A difference that is not shown may still be there.'
  )
  if not count:
    note = 'Without a test a difference may be one of seeds alone.'
  return Table(
    f'Is the difference real? {grouping.title(name)}', header, rows, note
  )


def _untested(best: Group, group: Group, *values: Sequence[float]) -> str:
  """Why two groups are not tested; '' if they can be."""
  if group is best:
    return ''
  if not (best.complete and group.complete):
    return 'no test: not all runs of both are complete'
  if keys := grouping.unlike(best.runs[0], group.runs[0]):
    return f'no test: another {keys[0]}'
  if min(map(len, values)) < 2:
    return 'no test: it takes two seeds or more of both'
  return ''

"""`python -m train.goodput --workdir=W`: where a run's time went.

Prints the share of the time since the run's first start that went into steps
that count, and what the rest went into, over all of its starts: a table, or
with --json one object with the seconds of each part. It reads time.jsonl alone,
so the run may be under way. `train.reporting.timing` explains the parts.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import json

from absl import flags

from train.reporting import timing
from train.runs import command


def main():
  life = timing.read(_WORKDIR.value)
  if not _JSON.value:
    print(life.table())
    return
  found = {
    'step': life.step,
    'starts': life.starts,
    'seconds': life.total,
    'goodput': life.goodput,
    'parts': {name: life.seconds.get(name, 0.0) for name in timing.MEANINGS},
  }
  print(json.dumps(found, indent=2))


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
  _JSON = flags.DEFINE_bool('json', False, 'Print JSON.')
  command.run(main)

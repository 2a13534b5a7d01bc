"""Does instruction tuning help with tasks that were not learnt?

  python -m benchmarks.instructions --seeds=seed_tasks.jsonl --workdir=W
    [--text=SOURCE]

A small T5 is pretrained on a text as a language model, then tuned on
instructions: Self-Instruct's seed tasks (Wang et al. 2023), of which every
fifth is held out, and tasks that a program makes, of which the cluster
`numbers_yes_no` is held out (configs/instructions.py). Before and after it is
scored on what is held out: ROUGE-L of its answers to the seed tasks, and exact
match. The score of always writing the more frequent answer stands beside them.

One command; a run that was stopped goes on. docs/instructions.md has what came
out. Written: the scores, and answers of
the model before and after.
"""

import json
import resource
import time
from pathlib import Path

from absl import flags

from benchmarks import machine, pages
from configs import flan_t5, instructions, t5
from configs.commands import command
from input_pipeline.instructions import generated
from train import finetune, loop
from train.evaluate import evaluate_run

HERE = Path(__file__).resolve()
HELD = 'numbers_yes_no'
EVERY = 5  # seed tasks: each fifth is held out
MODEL = {'model.vocab_size': 2048, 'data.length': 128, 'data.batch': 16}

_SEEDS = flags.DEFINE_string(
  'seeds', None, "Self-Instruct's seed_tasks.jsonl.", required=True
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'A folder for the runs.', required=True
)
_TEXT = flags.DEFINE_string('text', 'docs', 'What is read in pretraining.')
_PRETRAINING = flags.DEFINE_integer('pretraining', 1000, 'Its steps.')
_STEPS = flags.DEFINE_integer('steps', 2000, 'Steps on instructions.')
_OUT = flags.DEFINE_string(
  'out', str(HERE.parent / 'results' / 'instructions.json'), 'JSON of results.'
)
_REPORT = flags.DEFINE_string(
  'report',
  str(pages.PLACE / 'instructions.html'),
  "Their page; '': none.",
)


def split(path: str, folder: Path) -> tuple[Path, Path]:
  """Seed tasks to learn and to hold out, as two files in a folder."""
  lines = Path(path).read_text().splitlines()
  folder.mkdir(parents=True, exist_ok=True)
  held, learnt = folder / 'held_out.jsonl', folder / 'learnt.jsonl'
  for file, own in (
    (held, lines[::EVERY]),
    (learnt, [x for n, x in enumerate(lines) if n % EVERY]),
  ):
    file.write_text('\n'.join(own) + '\n')
  return learnt, held


def pretraining():
  """T5 1.1's language model on the text, with EOS after each document."""
  config = t5.get_config('size=tiny,version=1.1,recipe=lm_adapted')
  steps = _PRETRAINING.value
  config.update_from_flattened_dict(
    MODEL
    | {
      'data.source': _TEXT.value,
      'train.steps': steps,
      'schedule.first_step': 0,
      'eval.every': steps,
      'eval.samples': 4,
      'checkpoint.every': steps,
    }
  )
  return config


def tuning(learnt: Path, held: Path):
  """FLAN-T5's recipe on the seed tasks and on all clusters but one."""
  config = flan_t5.get_config(f'size=tiny,heldout={HELD}')
  steps = _STEPS.value
  config.update_from_flattened_dict(
    MODEL
    | {
      'data.mixture': (
        *config.data.mixture,
        (f'task:instructions:{learnt},name=learnt', 4000),
      ),
      'eval.source': f'{config.eval.source} task:instructions:{held},name=held',
      'train.steps': steps,
      'eval.every': steps,  # and before the first step
      'checkpoint.every': max(1, steps // 4),
      'eval.samples': 8,
    }
  )
  return config


def constant() -> dict[str, float]:
  """Task -> exact match of the answer that most of its examples have."""
  found = {}
  for name in instructions.MADE[HELD]:
    labels = [x['label'] for x in generated.TASKS[name].make('validation')]
    most = max(map(labels.count, labels))
    found[f'flan/{name}/accuracy'] = 100 * most / len(labels)
  return found


def scores(folder: Path) -> dict[str, dict[str, float]]:
  """'before' and 'after' -> the scores of what is held out."""
  rows = [json.loads(x) for x in (folder / 'metrics.jsonl').open()]
  rows = [row for row in rows if 'eval/score' in row]
  known = 'accuracy', 'rougeLsum', 'invalid', 'loss'
  return {
    when: {
      key.removeprefix('eval/'): round(x, 4)
      for key, x in row.items()
      if key.startswith('eval/') and key.rpartition('/')[2] in known
    }
    for when, row in (('before', rows[0]), ('after', rows[-1]))
  }


def main():
  begun, folder = time.time(), Path(_WORKDIR.value)
  learnt, held = split(_SEEDS.value, folder)
  base, tuned = folder / 'pretrained', folder / 'tuned'
  loop.train(pretraining(), str(base))
  finetune.finetune(tuning(learnt, held), str(tuned), str(base))
  results = scores(tuned)
  answers = folder / 'answers'
  evaluate_run(str(tuned), predictions=str(answers))
  shown = {}
  for path in sorted(answers.iterdir()):
    shown[path.name] = path.read_text().splitlines()[:8]
  used = resource.getrusage(resource.RUSAGE_SELF)
  found = {
    'held_out': results | {'most_frequent_answer': constant()},
    'answers_after': shown,
    'pretraining_steps': _PRETRAINING.value,
    'tuning_steps': _STEPS.value,
    'text': _TEXT.value.partition(':')[0],
    'seconds': round(time.time() - begun),
    'cpu_seconds': round(used.ru_utime + used.ru_stime),
  }
  print(json.dumps(found['held_out'], indent=2))
  machine.write(Path(_OUT.value), ['self_instruct'], {'self_instruct': found})
  pages.write(_REPORT.value, [base, tuned], 'Instructions, held-out tasks')


if __name__ == '__main__':
  command.run(main)

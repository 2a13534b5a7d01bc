"""Fine-tuning: a checkpoint learns a labelled task.

  python -m train.finetune --config=configs/finetune/bert.py:task=glue/rte
    --from=RUN[:STEP]|CHECKPOINT --workdir=W
    --config.data.task_folder=FOLDER

--from is a workdir, or a published checkpoint in Hugging Face layout; it
decides the sizes of the model and the tokenizer. STEP may be 'best', or
'best:TASK' of a run on several tasks. Without
--from the seed draws the parameters. --scratch draws them too, but keeps the
sizes and the tokenizer of --from, for a comparison. A run that was stopped
resumes, as with `python -m train`; `python -m train.evaluate --workdir=W`
reports its scores. --adapter=NAME trains one of several adapters over one base.

--seeds=5 and --grid KEY=VALUE,VALUE (repeat it for several keys) train a run
for each seed and each point of the grid, each in its own folder under W. Runs
that have ended are skipped. --jobs=N trains N runs at once, each in its own
process. At the end a table shows the median, the best and the spread over the
seeds. --grid=recipe trains the grid that the recipe's paper searches.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs import grids
from configs.commands import terminal
from train import loop
from train.finetuning import adoption, sweeping
from train.parallel import processes
from train.runs import adapters, command, workdir
from train.sweeping import record

RECIPE = 'recipe'  # in place of a key of --grid: the grid of the recipe


def finetune(
  config: ConfigDict, folder: str, source: str = '', scratch: bool = False
) -> None:
  """Fine-tunes one run, or resumes it.

  Args:
    config: from `configs/finetune/`.
    folder: the workdir.
    source: a workdir (WORKDIR[:STEP]) or a published checkpoint; '': the seed
      draws all parameters.
    scratch: take only the model's sizes and the tokenizer from the source.

  Raises:
    ValueError: a setting that cannot work, before anything is compiled.
  """
  config = adoption.resolve(config)
  base = adapters.stored(folder)
  if adoption.is_published(source):
    config = adoption.adopt_published_template(config, folder, source)
    config = adoption.begin_published(config, folder, source, scratch)
    source = ''
  else:
    config = adoption.adopt(config, source or base, scratch)
  if jax.process_index() == 0:
    terminal.say(adoption.described(config))
    if scratch or not (source or base or workdir.begun(folder)):
      terminal.say('All parameters are new, from the seed: nothing pretrained.')
  start = '' if scratch else source
  loop.train(config, folder, init_from=start, init_flag='--from')


def published(config: str) -> list[dict]:
  """The points of a recipe's own grid, FILE.py[:ARG]'s: --grid=recipe.

  Raises ValueError if the recipe has none.
  """
  found = grids.of_file(config)
  if found is None:
    raise ValueError(
      f'--grid={RECIPE}: {config.partition(":")[0]} has no grid of its own. '
      'Give --grid KEY=VALUE,VALUE.'
    )
  return found


def main():
  processes.join()
  folder = adapters.begin(_WORKDIR.value, _ADAPTER.value)
  if _SCRATCH.value and _ADAPTER.value:
    raise ValueError(
      '--scratch draws all parameters: adapters have a base that was trained.'
    )
  if _SCRATCH.value and not _FROM.value:
    raise ValueError(
      '--scratch needs --from, which gives the sizes and the tokenizer.'
    )
  if _SEEDS.value < 1:
    raise ValueError(f'--seeds={_SEEDS.value} must be at least 1.')
  recipe = ()
  if RECIPE in _GRID.value and _CONFIG.value is not None:
    recipe = published(flags.FLAGS['config'].config_filename)
  points = grids.points(_GRID.value, recipe, _SEEDS.value, RECIPE)
  if _CONFIG.value is None:
    if len(points) != 1 or not workdir.begun(folder):
      raise ValueError(
        'Give --config=finetune/FILE.py:task=TASK: only a single run that has '
        'begun resumes without it.'
      )
    loop.train(None, folder)
    return
  configs = {p: grids.configured(_CONFIG.value, p) for p in points}
  grids.check_configs(configs)

  def run(point: grids.Point, folder: str) -> None:
    finetune(configs[point], folder, _FROM.value, _SCRATCH.value)

  if not any(point.keys for point in points):
    run(points[0], folder)
  elif _ADAPTER.value:
    raise ValueError('--adapter names one run: leave --seeds and --grid out.')
  else:
    start = f'{_FROM.value} --scratch' if _SCRATCH.value else _FROM.value
    record.check_same(_CONFIG.value, start, _WORKDIR.value)
    sweeping.run_all(points, _WORKDIR.value, _JOBS.value, run)


if __name__ == '__main__':
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/finetune/FILE.py:task=TASK[,...].',
    lock_config=True,
  )  # fmt: skip
  _WORKDIR = flags.DEFINE_string(
    'workdir', None, "The run's folder, or that of all runs.", required=True
  )
  _ADAPTER = adapters.define_flag(
    'A name: the run is WORKDIR/adapters/NAME, and what is frozen is stored '
    'once for all adapters, in WORKDIR/base.'
  )
  _FROM = flags.DEFINE_string(
    'from', '', 'WORKDIR[:STEP], or a published checkpoint.'
  )
  _SCRATCH = flags.DEFINE_bool(
    'scratch', False, 'Take only the sizes and the tokenizer of --from.'
  )
  _SEEDS = flags.DEFINE_integer('seeds', 1, 'How many seeds to train.')
  _GRID = flags.DEFINE_multi_string(
    'grid',
    [],
    "KEY=VALUE,VALUE: runs with each value of a config key; 'recipe': "
    'those of the published grid.',
  )
  _JOBS = flags.DEFINE_integer('jobs', 1, 'How many runs train at once.')
  processes.define_flags()
  flags.adopt_module_key_flags(processes)
  command.run(main)

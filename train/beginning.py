"""What a run begins with: its data, its first state, and what it says."""

import shutil

import jax

from configs.commands import terminal
from configs.commands.command import summary
from input_pipeline import pipeline
from train.learning.state import TrainState, create_state
from train.parallel import mesh, processes
from train.reporting import progress
from train.runs import warm_start, warm_start_tokenizer, workdir
from train.setup import Setup


def say(text: str) -> None:
  """Prints a text, if there is any, in the first process."""
  if text and jax.process_index() == 0:
    terminal.say(text)


def describe(setup: Setup) -> None:
  """Prints the config, the parameters, and which of them are trained."""
  params = setup.state.params
  say(summary(setup.config, shutil.get_terminal_size().columns))
  say(progress.overview(params, setup.axes, setup.places.params))
  say(mesh.describe(setup.mesh, setup.config.sharding.slices))
  say(
    f'attention: {setup.model.config.attention} ({setup.attention}); remat: '
    f'{setup.model.config.remat}'
  )
  say(setup.tuning.describe(params))
  if setup.averaged:
    say(
      f'train.ema_decay={setup.config.train.ema_decay}: evaluations use the '
      "parameters' moving average."
    )


def open_data(
  setup: Setup, folder: str, origin: warm_start.Origin | None, changed: dict
) -> pipeline.Data:
  """The data; the first process makes or checks the tokenizer before."""
  processes.doing('opening the data')
  processes.check_workdir(folder, setup.state_bytes)
  config = setup.config
  data_args = setup.data, config.seed, config.model.vocab_size
  if jax.process_index() == 0:
    workdir.put_tokenizer_aside(folder, bool(changed))
    say(warm_start_tokenizer.prepare(origin, *data_args, folder))
  processes.wait_for_all('tokenizer')
  data = pipeline.open_data(
    *data_args, config.eval.source, folder, family=config.model.family
  )
  processes.check_alike(
    'data', data.fingerprint, 'Let all of them read the same files.'
  )
  return data


def first_state(
  setup: Setup, data: pipeline.Data, origin: warm_start.Origin | None
) -> tuple[TrainState, dict | None]:
  """The state of a run that begins, and the metadata it has so far, if any."""
  parts = setup.model, setup.optimizer, setup.state, data.start()
  seed = setup.config.seed
  if not origin:
    return create_state(*parts, seed, tuning=setup.tuning), None
  say(warm_start.describe(origin, setup.config))
  saved = origin.saved if origin.own else None
  return warm_start.create(origin, *parts, seed, setup.tuning), saved

"""Opens a run from its workdir alone, read-only."""

import dataclasses
import functools
import sys
from collections.abc import Collection
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from input_pipeline import pipeline, tokenizing
from input_pipeline.config import DataConfig
from input_pipeline.sources import paths
from input_pipeline.streams import fingerprints
from input_pipeline.tokenizers.interface import start_id
from train.applying import Texts, apply
from train.runs import adapters, history, workdir
from train.setup import Setup, set_up, set_up_replicated

ACCEPT = (
  ' If you fixed a file, python -m train --accept_changed_data resumes at the '
  'same place of the new data.'
)
# Of the flag --weights: its values, and what they mean.
WEIGHTS = (
  ('average', 'last'),
  "With train.ema_decay: the moving average, the default, or the last step's.",
)
# Keys of the model that only training uses.
UNUSED = (
  *('attention_dropout', 'dropout', 'dropout_kind', 'init', 'init_std'),
  *('attention', 'remat', 'scan_unroll'),
)


@dataclasses.dataclass(frozen=True)
class Run:
  """A run at the step of one of its checkpoints."""

  folder: str
  step: int
  own: bool  # the config is the run's own
  setup: Setup
  part: str  # of the state that they are: `part_of`
  params: Any  # what the model is applied to: `Tuning.applied`
  fingerprint: dict  # of the data it was trained on

  @property
  def config(self) -> ConfigDict:
    return self.setup.config

  @property
  def data(self) -> DataConfig:
    return self.setup.data

  @property
  def model(self) -> nn.Module:
    return self.setup.model

  @functools.cached_property
  def tokenizer(self) -> Any:
    """The tokenizer in the workdir; see `open_tokenizer`."""
    return open_tokenizer(self)

  def apply(
    self, texts: Texts, targets: Texts | None = None
  ) -> dict[str, np.ndarray]:
    """What the model computes of texts; see `applying.apply`."""
    masks = self.data.masks
    start = None if masks else start_id(self.tokenizer, self.data)
    with jax.set_mesh(self.setup.mesh):
      return apply(
        self.model, self.params, self.tokenizer, start, texts, targets
      )


def open_run(
  folder: str,
  step: int | str | None = None,
  config: ConfigDict | None = None,
  weights: str | None = None,
) -> Run:
  """Loads the parameters of a checkpoint onto the devices here.

  By default it is the newest checkpoint, with the run's own config. Each device
  holds the whole model where the devices cannot make the run's mesh. `step` may
  be 'best' or 'best:TASK': see `Checkpoints.find`. `weights` is as for
  `part_of`.

  Raises:
    ValueError: no such folder, no run in it, a config that cannot work, or
      weights that the run does not keep.
    CheckpointError: the checkpoint is missing, damaged, or of another model.
  """
  if not paths.is_folder(folder):
    raise ValueError(f'{folder}: there is no such folder.')
  own = config is None
  config = workdir.read_config(folder) if own else config
  checkpoints = adapters.open_checkpoints(folder, read_only=True)
  step = checkpoints.find(step)
  saved = checkpoints.run(step)
  if own:
    config = workdir.at_step(saved['config'], config)
  else:
    _compare_models(saved['config'], config)
  part = part_of(folder, saved, weights)
  setup = set_up_here(config, own)
  params = checkpoints.restore_params(setup.state.params, step, part)
  params = setup.tuning.applied(params)
  return Run(folder, step, own, setup, part, params, saved['data'])


def part_of(folder: str, saved: dict, weights: str | None = None) -> str:
  """The part of a checkpoint's state that has the model's parameters.

  Args:
    folder: the workdir, for messages.
    saved: what is saved beside the state.
    weights: 'average' for the parameters' moving average, 'last' for those of
      the step; None: the average if the run keeps one, as in its evaluations.

  Raises:
    ValueError: the run keeps no average.
  """
  averaged = saved['config']['train'].get('ema_decay', 0)
  if weights == 'average' and not averaged:
    raise ValueError(
      f'{folder} keeps no moving average: its train.ema_decay is 0. Leave '
      '--weights out. `python -m train.average` makes the mean of its last '
      'checkpoints.'
    )
  return 'average' if averaged and weights != 'last' else 'params'


def _compare_models(saved: dict, config: ConfigDict) -> None:
  """Warns of each key that makes the model compute other than in training."""
  old = workdir.checked(saved, "The checkpoint's config").model
  for key in sorted(old):
    if key not in UNUSED and old[key] != config.model[key]:
      _warn(
        f'other model than in training: model.{key}: {old[key]!r}, now '
        f'{config.model[key]!r}'
      )


def set_up_here(config: ConfigDict, own: bool = True) -> Setup:
  """The config's setup; replicated where the devices cannot make its mesh.

  Only the run's own config has this fallback.
  """
  try:
    return set_up(config)
  except ValueError as error:
    if not own or jax.process_count() > 1:
      raise
    reason = error
  setup = set_up_replicated(config)
  _warn(
    f"the devices here cannot make the run's mesh ({reason}) Each of "
    f'{setup.mesh.size} holds the whole model instead.'
  )
  return setup


def open_tokenizer(run: Run) -> Any:
  """The tokenizer in the workdir.

  Raises ValueError if it is missing, or differs from the one in training.
  """
  read = run.data.source != 'synthetic'
  path = tokenizer_path(run.folder, run.data) if read else ''
  tokenizer = tokenizing.prepare(
    run.data, run.config.seed, run.config.model.vocab_size, run.folder
  )
  if run.own and read:
    check_tokenizer(tokenizer, path, run.fingerprint)
  return tokenizer


def tokenizer_path(folder: str, data: DataConfig) -> str:
  """The path of the tokenizer in the workdir; a ValueError if it is missing."""
  path = tokenizing.path_in(folder, data.tokenizer_kind)
  if not paths.exists(path):
    raise ValueError(
      f"{path} is missing: put the run's tokenizer back into its workdir."
    )
  return path


def check_tokenizer(tokenizer: Any, path: str, data: dict) -> None:
  """Raises ValueError unless a checkpoint's fingerprint has the tokenizer."""
  if tokenizer.fingerprint != data['tokenizer']:
    raise ValueError(
      f'{path} is not the tokenizer that the checkpoint was trained with: its '
      f'sha256 is {tokenizer.fingerprint}, and was {data["tokenizer"]}. Put '
      "the run's own file back."
    )


def open_data(run: Run) -> pipeline.Data:
  """The data of the config, in the phase of the run's step.

  Raises ValueError if they cannot be read; or, with the run's own config, if
  they differ from the checkpoint's.
  """
  open_tokenizer(run)
  data = pipeline.open_data(
    run.data,
    run.config.seed,
    run.config.model.vocab_size,
    run.config.eval.source,
    run.folder,
    family=run.config.model.family,
  )
  if run.own:
    since = _changed_since(run.folder, run.step)
    kinds = ('eval_source',) * ('eval.source' in since)
    check_data(run.fingerprint, data.fingerprint, run.folder, kinds)
  else:
    for line in fingerprints.changes(run.fingerprint, data.fingerprint):
      _warn(f'other data than in training: {line}')
  return next(
    own
    for phase, own in data.phases()
    if phase.last is None or run.step <= phase.last
  )


def check_resumed_data(
  saved: dict,
  data: pipeline.Data,
  step: int,
  folder: str,
  changed: Collection[str],
  accept: bool,
) -> list[str]:
  """As `check_data`, for a run that resumes from its own checkpoint.

  `saved` is the metadata of the checkpoint of `step`, `changed` has the keys of
  the config that change now, and other documents are accepted if `accept`.
  """
  kinds = ('source', 'eval_source') * accept
  if 'eval.source' in {*changed, *_changed_since(folder, step)}:
    kinds += ('eval_source',)
  return check_data(saved['data'], data.fingerprint, folder, kinds)


def _changed_since(folder: str, step: int) -> dict[str, Any]:
  """Keys of the config that changed after the checkpoint of `step`."""
  return history.keys_changed_since(history.read(folder), step)


def check_data(
  saved: dict, now: dict, folder: str, accept: tuple[str, ...] = ()
) -> list[str]:
  """Raises ValueError if the data's fingerprint is not that of a checkpoint.

  Another tokenizer, or another way to make rows, is never accepted. `accept`
  names those of 'source' and 'eval_source' whose documents may differ: returns
  a line for each accepted difference, and warns of them.
  """
  changed = fingerprints.changes(saved, now)
  documents = all(x.startswith(('source', 'eval_source')) for x in changed)
  if changed and accept and all(x.startswith(accept) for x in changed):
    _warn('other data than before, as accepted:\n  ' + '\n  '.join(changed))
  elif changed:
    raise ValueError(
      f'The data has changed since the checkpoint in {folder}:\n  '
      + '\n  '.join(changed)
      + '\nPut the old data back, or start another run in another --workdir.'
      + (ACCEPT if documents else '')
    )
  return changed


def _warn(text: str) -> None:
  if jax.process_index() == 0:
    print(f'Warning: {text}', file=sys.stderr, flush=True)

"""Published checkpoints in Hugging Face layout <-> workdirs.

A run that begins with published weights:

  python -m models.pretrained --from=CHECKPOINT --workdir=NEW
    --config=configs/FILE.py[:ARG] [--config.KEY=VALUE ...]
  python -m train --workdir=NEW

The checkpoint decides sizes and choices of the model. The config says what to
train it for (`model.head`, and `model.classes`) and how: data, optimizer,
schedule, dropout.

A run's newest checkpoint for transformers, with the run's tokenizer; or a
checkpoint written again (in another dtype or in other files):

  python -m models.pretrained --workdir=RUN --to=NEW
  python -m models.pretrained --from=CHECKPOINT --to=NEW
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import dataclasses
import os
import signal
import sys

import jax
import jax.numpy as jnp
from absl import flags
from ml_collections import ConfigDict, config_flags

from input_pipeline import pipeline, tokenizing
from input_pipeline.chat import templates
from input_pipeline.config import data_config
from input_pipeline.sources import paths
from input_pipeline.tokenizers import export as tokenizer_export
from input_pipeline.tokenizers import kinds, published
from input_pipeline.tokenizers.interface import start_id
from models import pretrained
from models.config import TransformerConfig
from models.pretrained import pair
from train import applying, special_tokens
from train.learning.tuning import make_tuning
from train.runs import (
  command,
  folders,
  opening,
  warm_start_tokenizer,
  workdir,
)
from train.runs.checkpoint import Checkpoints, parse_step
from train.settings import OWN
from train.setup import set_up


def begin(source: str, config: ConfigDict, folder: str) -> ConfigDict:
  """Begins a run with published weights: a workdir with a checkpoint of step 0.

  Returns the config of the run. Prints the names of the weights that are new.

  Raises:
    ValueError: the workdir holds a run, the checkpoint does not suit the
      config or cannot be read, a setting that cannot work.
  """
  begun = workdir.begun(folder) and not folders.unfinished(folder)
  if begun or paths.exists(os.path.join(folder, workdir.NAME)):
    raise ValueError(
      f'--workdir={folder} holds a run, or parts of one: name a new folder.'
    )
  config = adopt(source, config)
  own = {name: config.model[name] for name in OWN}
  new = pretrained.check(source, **own)
  setup = set_up(config)

  def state(params, cursor):
    params |= setup.tuning.drawn(setup.state.params, config.seed)
    trained = setup.tuning.trained(params)
    step, opt_state = jnp.zeros([], 'int32'), setup.optimizer.init(trained)
    first = setup.state.replace(step=step, opt_state=opt_state, cursor=cursor)
    return first.beginning(params)

  with folders.made(folder):
    workdir.put_tokenizer_aside(folder)
    data_args = setup.data, config.seed, config.model.vocab_size
    tokenizing.prepare(*data_args, folder)
    data = pipeline.open_data(
      *data_args, config.eval.source, folder, family=config.model.family
    )
    special_tokens.say_end(source, data.tokenizer)
    cursor = jnp.asarray(data.start(), 'int32')
    print(f'Parameters from {source}.')
    if new:
      print(f'  new, from the seed: {", ".join(new)}')
    # Last, because it takes the longest.
    _, params = pretrained.load(source, setup.places.params, config.seed, **own)
    state = jax.jit(state, out_shardings=setup.places, donate_argnums=0)
    run = {'config': workdir.plain(config), 'data': data.fingerprint}
    with Checkpoints(folder, config.checkpoint.keep) as checkpoints:
      checkpoints.save(state(params, cursor), 0, run)
      checkpoints.wait()
    workdir.claim(folder, config)
  return config


def adopt(source: str, config: ConfigDict) -> ConfigDict:
  """The config with the checkpoint's model and, where it has one, tokenizer.

  Raises ValueError if the families differ, or no tokenizer fits its table.
  """
  family = pretrained.read_config(source).family
  if family != config.model.family:
    raise ValueError(
      f'{source} is of model.family={family!r}, the config of '
      f'{config.model.family!r}: name a config of that family.'
    )
  model = pretrained.read_config(
    source, **{name: config.model[name] for name in OWN}
  )
  config = config.copy_and_resolve_references()
  for field in dataclasses.fields(model):
    ours, theirs = config.model[field.name], getattr(model, field.name)
    if ours != theirs:
      print(f'model.{field.name}: {theirs!r} (the config had {ours!r})')
      with config.ignore_type():
        config.model[field.name] = theirs
  special_tokens.adopt(source, config)
  if config.data.source != 'synthetic':
    if config.data.tokenizer:
      _compare_tokenizers(source, config)
    else:
      config.data.tokenizer = _own_tokenizer(source, config)
  return config


def _own_tokenizer(source: str, config: ConfigDict) -> str:
  """The folder of a checkpoint's tokenizer; a ValueError if none fits."""
  kind = config.data.tokenizer_kind
  places = source, os.path.join(source, pair.NAMES[0])
  found = [place for place in places if published.holds(place, kind)]
  if not found:
    raise ValueError(
      f'{source} holds no tokenizer of data.tokenizer_kind={kind!r}, and a '
      'newly trained one would not fit its weights: set data.tokenizer and '
      'data.tokenizer_kind.'
    )
  if not _numbered(source, found[0]):
    raise ValueError(
      f'{source} is an XLM-R: the ids of its SentencePiece model differ from'
      ' those of its weights, which have <s> <pad> </s> <unk> first. Its'
      ' tokenizer.json has the right ones.'
    )
  return os.path.abspath(found[0])


def _numbered(source, place):
  """Whether a checkpoint's tokenizer has the ids of its weights."""
  whole = os.path.exists(os.path.join(place, published.WHOLE))
  return whole or pretrained.kept_fields(source)[0] != 'xlm-roberta'


def _compare_tokenizers(source: str, config: ConfigDict) -> None:
  """Prints whether data.tokenizer is the checkpoint's own.

  Raises ValueError as `warm_start_tokenizer.compare`, or if data.tokenizer
  cannot be read.
  """
  data = data_config(config)
  if not paths.exists(data.tokenizer):  # a run that resumes has a copy
    return
  with paths.local(data.tokenizer) as copy:
    given = kinds.load(
      copy, data.sentinels, data.tokenizer_kind, data.lowercase
    )
  try:
    if not _numbered(source, source):
      raise ValueError(
        'Its SentencePiece model has other ids than its weights.'
      )
    theirs = applying.published_tokenizer(
      source, data.sentinels, data.lowercase
    )
  except ValueError as error:
    print(
      f'data.tokenizer={data.tokenizer!r} cannot be compared with the tokenizer'
      f' of {source}: {error}'
    )
    return
  print(warm_start_tokenizer.compare(given, theirs, source, data))


def export(
  folder: str,
  target: str,
  dtype: str,
  step: int | str | None = None,
  weights: str | None = None,
) -> None:
  """Writes a run's checkpoint, by default the newest, in Hugging Face layout.

  `weights` is as for `opening.part_of`.

  Raises:
    CheckpointError: there is no checkpoint, or it is damaged.
    ValueError: no layout expresses the model, `target` is not empty, or the
      tokenizer is not the checkpoint's. All of this before a weight is read.
  """
  run = workdir.read_config(folder)
  checkpoints = Checkpoints(folder, read_only=True)
  step = checkpoints.find(step)
  saved = checkpoints.run(step)
  part = opening.part_of(folder, saved, weights)
  run = workdir.at_step(saved['config'], run)
  config = TransformerConfig(**run.model)
  tokenizer, ids, said = tokenizer_files(folder, run, saved['data'])
  pretrained.check_save(config, target, dtype=dtype, kept=ids)
  params = checkpoints.restore_arrays(step, part)[part]
  tuning = make_tuning(run)
  params = tuning.merged(params)
  pretrained.save(
    config, params, target, dtype=dtype, beside=tokenizer,
    kept=ids, length=run.data.length,
  )  # fmt: skip
  which = f'the {part} of ' * (part != 'params')
  print(f'Wrote {which}step {step:,} of {folder} to {target}.')
  if tuning.train == 'lora':
    print("LoRA's factors are merged into the matrices that they change.")
  print(said)


def tokenizer_files(
  folder: str, config: ConfigDict, trained_on: dict
) -> tuple[dict, dict, str]:
  """A run's tokenizer for transformers.

  `trained_on` is the fingerprint of the data in the checkpoint. Raises
  ValueError if the tokenizer in the workdir is damaged, gone or another one.

  Returns:
    Its files; the ids of its special tokens by their names in config.json; and
    a line about it. There are no files where the run has no tokenizer, or
    where transformers has none like it.
  """
  data, model = data_config(config), config.model
  kind = data.tokenizer_kind
  if data.source == 'synthetic':
    numbers = tokenizing.prepare(data, 0, model.vocab_size, None)
    ids = special_tokens.ids(numbers, data, model.family)
    return {}, ids, f'No tokenizer was written: {folder} holds none.'
  path = opening.tokenizer_path(folder, data)
  tokenizer = kinds.load(path, data.sentinels, kind, data.lowercase)
  opening.check_tokenizer(tokenizer, path, trained_on)
  ids = special_tokens.ids(tokenizer, data, model.family)
  start = None if data.start == 'none' else start_id(tokenizer, data)
  room = model.max_length - model.position_offset  # of learned positions
  try:
    files = tokenizer_export.files(
      tokenizer,
      kind,
      *tokenizer_export.around(tokenizer, data, model.family, start),
      length=room if model.max_length else data.length,
      types=bool(model.token_types),
      chat_template=_chat_template(data, tokenizer, folder),
    )
  except ValueError as error:
    return {}, ids, f'No tokenizer was written: of {path}, {error}.'
  return files, ids, f'Wrote its tokenizer, {path}, as {" and ".join(files)}.'


def _chat_template(data, tokenizer, folder):
  """How a run's chats are written; '' if it has none."""
  if not data.chat_template:
    return ''
  return templates.prepare(data, tokenizer, folder).text


def convert(source: str, target: str, dtype: str) -> None:
  """Writes a checkpoint again, and copies the files of its tokenizer.

  Raises ValueError if it cannot be read, or cannot be written to `target`.
  """
  layout, kept = pretrained.kept_fields(source)
  config = pretrained.read_config(source)
  pretrained.check_save(config, target, layout=layout, dtype=dtype, kept=kept)
  places = source, os.path.join(source, pair.NAMES[0])
  tokenizer = next(filter(None, map(tokenizer_export.published, places)), {})
  pretrained.save(
    *pretrained.load(source), target, layout=layout, dtype=dtype,
    beside=tokenizer | special_tokens.generation(source), kept=kept,
  )  # fmt: skip
  print(f'Wrote {target}.')
  if tokenizer:
    print(f'Copied its tokenizer: {", ".join(tokenizer)}.')
  else:
    print(f'No tokenizer was written: {source} holds none.')


def main():
  # SIGTERM removes what is half written.
  signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
  source, target, folder = _FROM.value, _TO.value, _WORKDIR.value
  if _WEIGHTS.value and not (target and folder):
    raise ValueError('--weights is for --workdir with --to.')
  match bool(source), bool(target), bool(folder):
    case True, False, True:
      if _CONFIG.value is None:
        raise ValueError(
          'A run needs data, an optimizer and a schedule: give --config.'
        )
      begin(source, _CONFIG.value, folder)
      print(f'Begun: python -m train --workdir={folder}')
    case False, True, True:
      step = parse_step(_STEP.value)
      export(folder, target, _DTYPE.value, step, _WEIGHTS.value)
    case True, True, False:
      convert(source, target, _DTYPE.value)
    case _:
      raise ValueError('Give two of --from, --workdir and --to; see --help.')


if __name__ == '__main__':
  _FROM = flags.DEFINE_string('from', '', 'A checkpoint to read.')
  _TO = flags.DEFINE_string('to', '', 'A folder to write: new or empty.')
  _WORKDIR = flags.DEFINE_string('workdir', '', 'Of a run.')
  _STEP = flags.DEFINE_string(
    'step', '',
    "Of a checkpoint in --workdir, for --to, 'best' or 'best:TASK'; default: "
    'the newest.',
  )  # fmt: skip
  _WEIGHTS = flags.DEFINE_enum('weights', None, *opening.WEIGHTS)
  _DTYPE = flags.DEFINE_string('dtype', 'float32', "Of --to's weights.")
  _CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/FILE.py[:ARG], for --workdir with --from.'
  )
  command.run(main)

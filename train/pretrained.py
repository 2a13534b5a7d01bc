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

--peft=FOLDER reads peft's LoRA of a checkpoint with it: the run trains it on,
the new checkpoint has it merged. --format=peft writes a run's LoRA so.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

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
from input_pipeline.tokenizers import kinds
from input_pipeline.tokenizers.interface import start_id
from models import pretrained
from models.build import build
from models.config import TransformerConfig
from models.pretrained import pair
from train import peft_files, special_tokens
from train.adopting import adopt
from train.learning.state import abstract_params, as_kept
from train.learning.tuning import make_tuning
from train.runs import (
  adapters,
  command,
  folders,
  opening,
  workdir,
)
from train.runs.checkpoint import parse_step
from train.settings import OWN
from train.setup import set_up


def begin(
  source: str, config: ConfigDict, folder: str, adapter: str = ''
) -> ConfigDict:
  """Begins a run with published weights: a workdir with a checkpoint of step 0.

  `adapter` is a folder with peft's LoRA for them, which the run trains on.
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
  if adapter:
    found = peft_files.read(adapter, source, **own)
    config = peft_files.adopt(found, config)
  setup = set_up(config)
  adapters.check(folder, setup)

  def state(params, cursor):
    drawn = setup.tuning.drawn(setup.state.params, config.seed)
    params = drawn | params
    params = as_kept(params, setup.state.params)
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
    if adapter:
      params = peft_files.place(adapter, found, setup, params)
    state = jax.jit(state, out_shardings=setup.places, donate_argnums=0)
    run = {'config': workdir.plain(config), 'data': data.fingerprint}
    first = state(params, cursor)
    adapters.store(folder, setup, first.params, data.fingerprint)
    opened = adapters.open_checkpoints(folder, config.checkpoint.keep)
    with opened as checkpoints:
      checkpoints.save(first, 0, run)
      checkpoints.wait()
    workdir.claim(folder, config)
  return config


def export(
  folder: str,
  target: str,
  dtype: str,
  step: int | str | None = None,
  weights: str | None = None,
  form: str = peft_files.FORMATS[0],
) -> None:
  """Writes a run's checkpoint, by default the newest, in Hugging Face layout.

  `weights` is as for `opening.part_of`; `form` is of `peft_files.FORMATS`.

  Raises:
    CheckpointError: there is no checkpoint, or it is damaged.
    ValueError: no layout expresses the model, `target` is not empty, or the
      tokenizer is not the checkpoint's. All of this before a weight is read.
  """
  run = workdir.read_config(folder)
  checkpoints = adapters.open_checkpoints(folder, read_only=True)
  step = checkpoints.find(step)
  saved = checkpoints.run(step)
  part = opening.part_of(folder, saved, weights)
  run = workdir.at_step(saved['config'], run)
  config = TransformerConfig(**run.model)
  tokenizer, ids, said = tokenizer_files(folder, run, saved['data'])
  tuning = make_tuning(run)
  if form == 'peft':
    shapes = tuning.extended(*abstract_params(build(config)))[0]
    peft_files.check_export(config, tuning, shapes, target, ids)
    params = checkpoints.restore_arrays(step, part)[part]
    said = peft_files.export(config, tuning, params, target, ids)
    print(f'Wrote step {step:,} of {folder} to {target}. {said}')
    return
  pretrained.check_save(config, target, dtype=dtype, kept=ids)
  params = checkpoints.restore_arrays(step, part)[part]
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


def convert(source: str, target: str, dtype: str, adapter: str = '') -> None:
  """Writes a checkpoint again, and copies the files of its tokenizer.

  `adapter` is a folder with peft's LoRA for it, which is merged into it.

  Raises ValueError if it cannot be read, or cannot be written to `target`.
  """
  layout, kept = pretrained.kept_fields(source)
  config = pretrained.read_config(source)
  pretrained.check_save(config, target, layout=layout, dtype=dtype, kept=kept)
  found = peft_files.read(adapter, source) if adapter else None
  places = source, os.path.join(source, pair.NAMES[0])
  tokenizer = next(filter(None, map(tokenizer_export.published, places)), {})
  config, params = pretrained.load(source)
  if found:
    params = peft_files.merged(adapter, found, params)
  pretrained.save(
    config, params, target, layout=layout, dtype=dtype,
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
  name, peft = _ADAPTER.value, _PEFT.value
  if name and not folder:
    raise ValueError('--adapter=NAME names one of several in --workdir.')
  if peft and not source:
    raise ValueError('--peft=FOLDER needs --from=CHECKPOINT, its base.')
  if _FORMAT.present and not (target and folder):
    raise ValueError('--format is for --workdir with --to.')
  if _WEIGHTS.value and not (target and folder):
    raise ValueError('--weights is for --workdir with --to.')
  match bool(source), bool(target), bool(folder):
    case True, False, True:
      if _CONFIG.value is None:
        raise ValueError(
          'A run needs data, an optimizer and a schedule: give --config.'
        )
      folder = adapters.begin(folder, name)
      begin(source, _CONFIG.value, folder, peft)
      print(f'Begun: python -m train --workdir={folder}')
    case False, True, True:
      step = parse_step(_STEP.value)
      folder = adapters.folder(folder, name)
      export(folder, target, _DTYPE.value, step, _WEIGHTS.value, _FORMAT.value)
    case True, True, False:
      convert(source, target, _DTYPE.value, peft)
    case _:
      raise ValueError('Give two of --from, --workdir and --to; see --help.')


if __name__ == '__main__':
  _FROM = flags.DEFINE_string('from', '', 'A checkpoint to read.')
  _TO = flags.DEFINE_string('to', '', 'A folder to write: new or empty.')
  _WORKDIR = flags.DEFINE_string('workdir', '', 'Of a run.')
  _ADAPTER = adapters.define_flag()
  _PEFT = flags.DEFINE_string(
    'peft', '', "A folder with peft's LoRA for --from, to read with it."
  )
  _FORMAT = flags.DEFINE_enum(
    'format', 'merged', peft_files.FORMATS,
    "Of a run of LoRA with --to: merged, or peft's files of the factors alone.",
  )  # fmt: skip
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

"""The writer of a model that was opened."""

from input_pipeline import pipeline
from input_pipeline.chat import templates
from input_pipeline.tokenizers.interface import sentinel_ids, start_id
from models import decoding
from train.applying import Published
from train.generation.prompts import target_length
from train.generation.writer import LONGEST, Writer
from train.parallel import sharding
from train.runs import opening


def make_writer(
  model: opening.Run | Published, data: pipeline.Data | None = None
) -> Writer:
  """The writer of a run's checkpoint, or of a published one.

  `data` are the run's, if they are open. From Python:

    writer = make_writer(open_run('W'))
    writer.answers(['Once upon a time'], Options(length=40))

  Raises:
    ValueError: the model's family writes no text, or the run reads none.
  """
  config = model.model.config
  if config.family not in decoding.GENERATIVE:
    raise ValueError(
      f'{model.folder} holds a model of model.family={config.family!r}, which '
      f'generates no text; {", ".join(decoding.GENERATIVE)} do.'
    )
  if isinstance(model, Published):
    template, unread = _published_template(model)
    pairs = config.family == 'encoder_decoder'
    return Writer(
      model.model, model.params, model.tokenizer, model.start, pairs, None,
      LONGEST, template=template, bare=True, unread=unread,
    )  # fmt: skip
  if data is not None:
    tokenizer, start = data.tokenizer, data.start_id
  elif model.data.source == 'synthetic':
    raise ValueError('A run on synthetic data reads no text: leave it out.')
  else:
    tokenizer = model.tokenizer
    start = start_id(tokenizer, model.data)
  template = None
  if model.data.chat_template:
    template = templates.prepare(model.data, tokenizer, model.folder)
  asked = model.data.preferences and config.family == 'encoder_decoder'
  modes = dict.fromkeys(mode for mode, *_ in model.data.denoisers if mode)
  return Writer(
    model.model, model.params, tokenizer, start, model.data.pairs or asked,
    model.data.length, target_length(config, model.data), model.setup.mesh,
    sharding.whole_lengths(model.setup.rules), (*modes,),
    sentinel_ids(tokenizer, model.data), template,
  )  # fmt: skip


def _published_template(model):
  """A checkpoint's chat template, or None; and why it cannot be read."""
  try:
    if not (text := templates.read(model.folder)):
      return None, ''
    pair = model.model.config.family == 'encoder_decoder'
    bos = None if pair else model.start
    return templates.Template(templates.OWN, text, model.tokenizer, bos), ''
  except ValueError as error:
    return None, f'The chat template of {model.folder} does not suit: {error}'

"""Batches of compared answers, from ids, as the pipeline makes them."""

from types import SimpleNamespace

import numpy as np

from configs.align import dpo, kto, orpo, reward, simpo
from configs.align import ipo as ipo_recipe
from input_pipeline.config import DataConfig, data_config
from input_pipeline.objectives import features, preferences
from tests.helpers import compared

RECIPES = {
  'dpo': dpo, 'ipo': ipo_recipe, 'kto': kto, 'orpo': orpo, 'simpo': simpo,
  'reward': reward,
}  # fmt: skip
TOKENIZER = SimpleNamespace(
  size=compared.V, pad=0, bos=1, eos=compared.EOS, cls=3, sep=4
)


def config_of(method: str, family: str = 'decoder', **data):
  """A method's recipe with short rows, and `compared`'s numbers."""
  config = RECIPES[method].get_config(f'family={family},size=tiny').unlock()
  config.data.source, config.data.batch = 'preferences:x', 4
  config.data.length = 12
  if family == 'decoder':
    config.data.start = 'none'
  if family == 'encoder_decoder':
    config.data.target_length = 6
  config.data.update(data)
  if config.align.beta:
    config.align.beta = compared.BETA
  if config.align.margin:
    config.align.margin = compared.MARGIN
  if method == 'kto':
    good, bad = compared.WEIGHTS
    config.align.desirable_weight, config.align.undesirable_weight = good, bad
  return config


def batch_of(
  data: DataConfig, family: str, padding: int = 0
) -> dict[str, np.ndarray]:
  """`compared`'s prompts with both answers, and rows of padding."""
  form = preferences.Answers(data, family)
  single = data.objective == 'desirable'
  seconds = compared.next_answers() if single else compared.REJECTED
  rows = []
  for n, prompt in enumerate(compared.PROMPTS):
    answers = compared.CHOSEN[n], seconds[n]
    row, cut = form.row(
      np.int32(prompt), [np.int32(x) for x in answers], TOKENIZER
    )
    assert not cut
    del row['kept']
    if single:
      row['desirable'] = compared.LABELS[n]
    rows.append(row)
  shapes = preferences.shapes(data, family)
  whole = preferences.lay_out(rows, shapes)
  whole = np.concatenate([whole, features.padding(shapes, padding)])
  found = features.split(whole, shapes)
  del found['cursor']
  return found


def data_of(method: str, family: str = 'decoder', **data) -> DataConfig:
  """The data's part of `config_of`."""
  return data_config(config_of(method, family, **data))

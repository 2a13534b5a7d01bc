"""A reward model: a number for an answer (Ouyang et al. 2022, 3.5).

`align/reward.py:[family=FAMILY][,size=tiny]`: decoder, encoder_decoder or
encoder, whose sizes and tokenizer --from decides, with a new head of one
number. The rate, the batch and the single pass are from memory of the paper's
appendix C.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.start(arg, head='sequence')
  c.model.classes = 1
  c.data.objective = 'reward'
  c.align.method = 'reward'
  recipe.adamw(c, rate=9e-6)
  c.train.epochs = 1.0
  if size == 'tiny':
    recipe.tiny(c)
  return common.finish(c)

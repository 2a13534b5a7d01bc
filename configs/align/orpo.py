"""Odds ratio preference optimization (Hong et al. 2024).

`align/orpo.py:[family=FAMILY][,size=tiny]`: as align/dpo.py, but without a
reference: the loss of the chosen text is added, so that a pretrained model may
begin. Its numbers are from memory of the paper's section 5.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.start(arg)
  c.data.objective = 'preference'
  c.align.method = 'orpo'
  c.align.beta = 0.1  # the paper's lambda
  recipe.adamw(c, rate=8e-6)
  c.train.epochs = 10.0
  if size == 'tiny':
    recipe.tiny(c)
  return common.finish(c)

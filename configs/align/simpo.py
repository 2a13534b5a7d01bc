"""Simple preference optimization (Meng et al. 2024).

`align/simpo.py:[family=FAMILY][,size=tiny]`: as align/dpo.py, but without a
reference: the reward is the mean log-probability of a token. Its numbers are
from memory of the paper's appendix B, for Mistral.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.start(arg)
  c.data.objective = 'preference'
  c.data.batch = 128
  c.align.method = 'simpo'
  c.align.beta, c.align.margin = 2.0, 1.6
  recipe.adamw(c, rate=3e-7)
  c.train.epochs = 1.0
  if size == 'tiny':
    recipe.tiny(c)
  return common.finish(c)

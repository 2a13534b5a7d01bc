"""Kahneman-Tversky optimization (Ethayarajh et al. 2024).

`align/kto.py:[family=FAMILY][,size=tiny]`: as align/dpo.py, but answers stand
alone: prompt, completion and label. Pairs are read as two answers. Its numbers
are from memory of the paper's section 4. If one kind of answer is rarer, its
weight should make up for it.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.start(arg)
  c.data.objective = 'desirable'
  c.align.method = 'kto'
  c.align.beta = 0.1
  c.align.desirable_weight = c.align.undesirable_weight = 1.0
  recipe.adamw(c, rate=5e-7)
  c.train.epochs = 1.0
  if size == 'tiny':
    recipe.tiny(c)
  return common.finish(c)

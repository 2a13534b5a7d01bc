"""Identity preference optimization (Azar et al. 2023).

`align/ipo.py:[family=FAMILY][,size=tiny]`: as align/dpo.py, but the difference
of the answers' log-ratios is drawn to 1 / (2 beta), so that it stays finite
where one answer always wins. The log-ratios are means over tokens. The rate and
beta are DPO's; the paper has none for language models, as far as we remember.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.start(arg)
  c.data.objective = 'preference'
  c.align.method = 'ipo'
  c.align.beta = 0.1
  recipe.adamw(c, rate=1e-6)
  c.train.epochs = 1.0
  if size == 'tiny':
    recipe.tiny(c)
  return common.finish(c)

"""REINFORCE leave-one-out (Ahmadian et al. 2024).

`align/rloo.py:[family=FAMILY][,size=tiny]`: as `align/grpo.py`. An answer is
one action, and the mean reward of a prompt's other answers is its baseline
(3.3). The numbers are from memory of that paper.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.rewarded(arg, 'rloo')
  c.align.beta = 0.03
  c.align.samples = 4  # k
  c.align.clip = 0.2  # with one update per batch it changes nothing
  c.data.batch = 128
  if size == 'tiny':
    c.data.batch = 8
  return common.finish(c)

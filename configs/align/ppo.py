"""Proximal policy optimization (Schulman et al. 2017) of a language model.

`align/ppo.py:[family=FAMILY][,size=tiny]`: as `align/grpo.py`, with a head of
values on the policy's own trunk (Ziegler et al. 2019). The numbers are those of
Ouyang et al. 2022 (InstructGPT), appendix C.4, and of Ziegler et al. 2019, from
memory. --config.align.kl_target=6 adapts beta (Ziegler et al. 2019, 2.2).
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.rewarded(arg, 'ppo')
  c.align.beta = 0.02
  c.align.samples = 1
  c.align.clip = c.align.value_clip = 0.2
  c.align.value_weight = 0.1
  c.align.discount, c.align.gae_decay = 1.0, 0.95
  c.align.epochs, c.align.minibatches = 4, 1  # Ziegler et al. 2019
  c.data.batch = 512
  if size == 'tiny':
    c.data.batch, c.align.samples = 16, 2
  return common.finish(c)

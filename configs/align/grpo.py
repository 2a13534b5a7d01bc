"""Group relative policy optimization (Shao et al. 2024, DeepSeekMath).

`align/grpo.py:[family=FAMILY][,size=tiny]`: decoder or encoder_decoder, whose
sizes and tokenizer --from decides. Prompts are the inputs of
--config.data.source=task:NAME, and --config.align.rewards says what answers are
worth; see docs/reinforcement.md. The numbers are those of 4.2, from memory.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.rewarded(arg, 'grpo')
  c.align.beta = 0.04
  c.align.samples = 64
  c.align.clip = 0.2  # PPO's
  c.data.batch = 16  # 1,024 answers, which make one update
  if size == 'tiny':
    c.data.batch, c.align.samples = 8, 4
  return common.finish(c)

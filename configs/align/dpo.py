"""Direct preference optimization (Rafailov et al. 2023).

`align/dpo.py:[family=FAMILY][,size=tiny]`: decoder or encoder_decoder, whose
sizes and tokenizer --from decides. One pass over the pairs of
--config.data.source=preferences:FILE.jsonl.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.start(arg)
  c.data.objective = 'preference'
  c.align.method = 'dpo'
  c.align.beta = 0.1  # appendix B of the paper; from memory, as what follows
  recipe.adamw(c, rate=1e-6)  # appendix B, with a warm-up of 150 steps
  c.train.epochs = 1.0
  if size == 'tiny':
    c.schedule.learning_rate, c.train.epochs = 1e-4, 3.0
  return common.finish(c)

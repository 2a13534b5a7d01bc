"""Direct preference optimization (Rafailov et al. 2023).

`align/dpo.py:[family=FAMILY][,size=tiny]`: decoder or encoder_decoder, whose
sizes and tokenizer --from decides, for the pairs of
--config.data.source=preferences:FILE.jsonl. Its numbers are from memory of the
paper's appendix B, but for the passes over the pairs.
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.start(arg)
  c.data.objective = 'preference'
  c.align.method = 'dpo'
  c.align.beta = 0.1
  recipe.adamw(c, rate=1e-6)
  c.train.epochs = 1.0
  if size == 'tiny':
    recipe.tiny(c)
  return common.finish(c)

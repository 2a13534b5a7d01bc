"""LaMDA's filtering and ranking (Thoppilan et al. 2022, 6.1 and 6.2).

`align/lamda.py:[family=FAMILY][,size=tiny]`: the model writes several answers
to each prompt. Answers that a classifier of safety gives too little are left
out, the others are ranked, and the model is tuned on the best one. Of a prompt
whose answers are all left out nothing is learned.

The paper ranks by 3 P(sensible) + P(specific) + P(interesting), draws 16
candidates, and tunes on dialogs that its classifiers have filtered once: 800K
of 2.5M turns (all from memory). Here the answers are written again in each
step, by the model as it is then.

--config.align.rewards names the runs that rank, each with its factor:
"(('model:SENSIBLE', 3.0), ('model:SPECIFIC', 1.0), ('model:INTERESTING', 1.0))"
--config.align.filters="(('model:SAFE', 0.0),)" names the one that filters, with
the least that it must give. They are reward models of align/reward.py, or rules
(docs/reinforcement.md).
"""

from ml_collections import ConfigDict

from configs import common
from configs.align import recipe


def get_config(arg: str = '') -> ConfigDict:
  c, size = recipe.rewarded(arg, 'filter')
  c.align.samples = 16
  c.data.batch = 32
  if size == 'tiny':
    c.data.batch, c.align.samples = 8, 4
  return common.finish(c)

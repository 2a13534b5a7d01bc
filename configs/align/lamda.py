"""LaMDA's filtering and ranking (Thoppilan et al. 2022, 6.1 and 6.2).

`align/lamda.py:[family=FAMILY][,size=tiny]`: the model writes several answers
to each prompt. Answers that a classifier finds too likely to be unsafe are left
out, the others are ranked, and the model is tuned on the best one. Of a prompt
whose answers are all left out nothing is learned.

The paper ranks by 3 P(sensible) + P(specific) + P(interesting), draws 16
candidates, and tunes on dialogs that its classifiers have filtered once: 800K
of 2.5M turns (all from memory). Here the answers are written again in each
step, by the model as it is then.

--config.align.rewards names the runs that rank, each with its factor:
"(('classifier:SENSIBLE=yes', 3.0), ('classifier:SPECIFIC=yes', 1.0), ...)"
--config.align.filters="(('classifier:SAFETY=safe', 0.8),)" names the one that
filters, with the least probability that it must give. SENSIBLE, SPECIFIC and
SAFETY are classifiers that train.finetune has trained on tables of prompts,
answers and labels (docs/finetuning.md). Reward models and rules do as well
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

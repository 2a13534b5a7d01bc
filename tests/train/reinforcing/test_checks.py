"""Settings that cannot work are refused before anything is built."""

import pytest

from configs.align import grpo, lamda, ppo, rloo
from train.aligning import methods

RECIPES = {'ppo': ppo, 'grpo': grpo, 'rloo': rloo, 'filter': lamda}


def changed(method, keys):
  config = RECIPES[method].get_config('size=tiny').unlock()
  with config.ignore_type():
    for key, value in keys.items():
      group, _, name = key.partition('.')
      config[group][name] = value
  return config


@pytest.mark.parametrize('method', RECIPES)
def test_the_recipes(method):
  for arg in '', 'family=encoder_decoder', 'size=tiny':
    methods.check(RECIPES[method].get_config(arg))


@pytest.mark.parametrize(
  ('method', 'keys', 'message'),
  [
    ('grpo', {'align.samples': 1}, 'compares the answers to a prompt'),
    ('ppo', {'align.samples': 0}, 'align.samples is 0; .* above 0'),
    ('ppo', {'align.gae_decay': 1.5}, 'gae_decay is 1.5; .* at most 1'),
    ('ppo', {'align.clip': 1.0}, 'align.clip is 1.0; it must be below 1'),
    ('ppo', {'model.head': 'lm'}, "model.head is 'lm'; .* needs 'lm_value'"),
    ('grpo', {'model.head': 'lm_value'}, "needs 'lm'"),
    ('grpo', {'align.discount': 0.9}, 'discount is 0.9, but .* not read it'),
    ('grpo', {'align.filters': (('exact', 1),)}, 'filters is .* not read it'),
    ('rloo', {'align.beta': 0.0, 'align.kl_target': 3.0}, 'nothing to adapt'),
    ('grpo', {'align.rewards': ()}, r'align.rewards is \(\)'),
    ('grpo', {'align.rewards': ('exact',)}, 'must have pairs'),
    ('grpo', {'align.rewards': (('exact', 'x'),)}, 'must have pairs'),
    ('grpo', {'align.rewards': (('tests', 1.0),)}, 'tests runs under limits'),
    ('grpo', {'align.rewards': (('r.py:f', 1.0),)}, 'runs under limits'),
    ('grpo', {'align.reward_seconds': 2.0}, 'but no function'),
    ('grpo', {'align.minibatches': 3}, 'make 32 answers'),
    ('grpo', {'model.dropout': 0.1}, 'must be of one model'),
    ('grpo', {'train.ema_decay': 0.9}, 'the policy itself writes'),
    ('grpo', {'data.pack': True}, 'a row has one prompt'),
    ('grpo', {'data.objective': 'causal'}, "needs 'text_to_text' or 'pref"),
    ('grpo', {'train.z_loss': 0.1}, 'train.z_loss is 0.1'),
    (
      'grpo',
      {'model.position': 'learned', 'model.max_length': 40},
      'rows of 48 tokens, but model.max_length=40',
    ),
  ],
)
def test_refused(method, keys, message):
  with pytest.raises(ValueError, match=message):
    methods.check(changed(method, keys))

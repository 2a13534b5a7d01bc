"""Settings of alignment that cannot work are refused, by key."""

import shlex

import jax
import pytest

from configs import llama
from tests.configs.test_papers import load
from tests.helpers import REPOSITORY
from tests.helpers.answers import RECIPES, config_of
from train.aligning import methods
from train.aligning.beginning import resolve
from train.aligning.criteria import criterion_for
from train.finetuning import adoption
from train.runs.best import Best
from train.settings import check_settings
from train.setup import set_up


@pytest.mark.parametrize(
  ('method', 'changes', 'message'),
  [
    ('dpo', {'align.method': 'dop'}, "align.method is 'dop'; it must be one"),
    ('dpo', {'align.beta': 0.0}, 'align.beta is 0.0; .* needs a number above'),
    ('dpo', {'align.margin': 1.0}, 'align.margin is 1.0, but .* does not read'),
    ('simpo', {'align.margin': -1.0}, 'align.margin is -1.0; it must be 0'),
    ('reward', {'align.beta': 0.1}, 'align.beta is 0.1, but .*reward'),
    ('kto', {'align.desirable_weight': 0.0}, 'desirable_weight is 0.0'),
    ('kto', {'train.accumulate': 2}, 'a mean over the whole batch'),
    ('kto', {'data.objective': 'preference'}, "needs 'desirable'"),
    ('dpo', {'model.head': 'sequence'}, "model.head is 'sequence'; .*'lm'"),
    ('reward', {'model.classes': 2}, 'gives an answer one number'),
    ('ipo', {'eval.sources': (('a', 'b'),)}, 'eval.sources is .* set it to'),
    ('orpo', {'train.z_loss': 1e-4}, 'train.z_loss is 0.0001, but'),
    ('orpo', {'eval.samples': 2}, 'eval.samples is 2'),
  ],
)
def test_a_setting_that_does_not_fit(method, changes, message):
  config = config_of(method)
  config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    methods.check(config)


def test_without_a_method_nothing_else_is_set():
  config = llama.get_config('tiny').unlock()
  methods.check(config)
  config.align.beta = 0.1
  with pytest.raises(ValueError, match='align.beta is 0.1, but align.method'):
    check_settings(config, 1)
  config = config_of('orpo')
  config.align.method, config.align.beta = '', 0.0
  with pytest.raises(
    ValueError, match="'preference' is for python -m train.al"
  ):
    methods.check(config)


@pytest.mark.parametrize('method', RECIPES)
def test_what_an_evaluation_reports_is_known_beforehand(method):
  """The best checkpoint may be chosen by any of it."""
  criterion = criterion_for(config_of(method).align)
  for name in 'loss', 'accuracy', 'reward_margin', 'reward_chosen':
    Best(name, criterion, bytes_counted=False, labelled=True)
  with pytest.raises(ValueError, match="checkpoint.best is 'none'; .*loss"):
    Best('none', criterion, bytes_counted=False, labelled=True)


def test_preferences_must_be_named_and_there(tmp_path):
  config = config_of('dpo')
  config.data.source = ''
  with pytest.raises(ValueError, match='data.source is not set: name pref'):
    resolve(config)
  config.data.source = f'preferences:{tmp_path}/none.jsonl'
  with pytest.raises(ValueError, match='matches no file'):
    resolve(config)


@pytest.mark.parametrize('size', ['full', 'tiny'])
@pytest.mark.parametrize('method', RECIPES)
def test_every_recipe_can_train(method, size):
  families = ['decoder', 'encoder_decoder']
  for family in [*families, *['encoder'] * (method == 'reward')]:
    recipe = RECIPES[method].get_config(f'family={family},size={size}')
    config = recipe.copy_and_resolve_references().unlock()
    config.data.source = 'preferences:x'
    adoption.resolve_steps(config, 1000)
    check_settings(config, 1)
  if method != 'reward':
    with pytest.raises(ValueError, match="'encoder' is unknown"):
      RECIPES[method].get_config('family=encoder')


def test_the_flags_of_lora_in_the_document_train_two_matrices():
  text = (REPOSITORY / 'docs' / 'align.md').read_text(encoding='utf-8')
  (flags,) = (x for x in text.split('```')[1::2] if 'tuning.train=lora' in x)
  keys = 'train.steps=1', 'train.epochs=0', 'eval.every=1', 'checkpoint.every=1'
  keys = *keys, 'train.warmup_share=0', 'schedule.warmup_steps=0'
  keys = *keys, 'data.source=preferences:x'
  flags = *shlex.split(flags)[1:], *(f'--config.{x}' for x in keys)
  setup = set_up(load('configs/align/dpo.py:tiny', flags), jax.devices()[:1])
  factors = setup.tuning.trained(setup.state.params)['lora']['decoder']
  assert list(factors['layers']['attention']) == ['query', 'value']

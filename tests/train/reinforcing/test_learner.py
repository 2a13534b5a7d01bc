"""Runs of the loop that learn from rewards."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest

from configs import llama, t5
from configs.align import grpo, lamda, ppo, rloo
from tests.helpers import runs
from train import loop, phases
from train.align import align
from train.reinforcing import learner
from train.reporting import board
from train.reporting.metrics import read_metrics
from train.runs import workdir
from train.runs.checkpoint import Checkpoints
from train.setup import set_up

RECIPES = {'ppo': ppo, 'grpo': grpo, 'rloo': rloo, 'filter': lamda}
WORDS = ['one', 'two', 'three', 'four', 'five', 'six', 'seven']
REWARD = """
def short(prompt, answer, target):
  if len(answer) > 60:
    raise ValueError('long')
  return -0.1 * len(answer)
"""
SMALL = {
  'model.decoder_layers': 1,
  'model.embed_dim': 16,
  'model.heads': 2,
  'model.head_dim': 8,
  'model.mlp_dim': 24,
  'model.vocab_size': 28,
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('reinforced')


@pytest.fixture(scope='module')
def source(folder):
  rng = np.random.default_rng(0)
  rows = [
    {'ask': ' '.join(rng.choice(WORDS, 3)), 'answer': str(rng.choice(WORDS))}
    for _ in range(60)
  ]
  for name, part in ('train', rows[:48]), ('dev', rows[48:]):
    lines = (json.dumps(row) for row in part)
    (folder / f'{name}.jsonl').write_text('\n'.join(lines))
  (folder / 'reward.py').write_text(REWARD)
  return (
    f'task:jsonl:{folder}/train.jsonl,validation={folder}/dev.jsonl,text=ask,'
    'label=answer,kind=text,metric=bleu,name=say'
  )


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
  """Answers are written token by token, for which fake devices are slow."""
  own = functools.partial(set_up, devices=jax.devices()[:1])
  monkeypatch.setattr(loop, 'set_up', own)


BOTH = {
  'data.batch': 8,
  'data.length': 24,
  'data.streams': 1,
  'data.tokenizer_kind': 'unigram',
  'eval.samples': 0,
}


@pytest.fixture(scope='module')
def begun(folder, source):
  """family -> the workdir of a run that has learned for a step."""

  @functools.cache
  def make(family):
    own, more = (t5, {'model.encoder_layers': 1}) if family else (llama, {})
    more |= {'data.target_length': 8} if family else {}
    config = runs.set_keys(
      own.get_config('tiny'),
      SMALL | BOTH | more | {
        'model.kv_heads': 2, 'model.rope_dim': 0 if family else 8,
        'model.dropout': 0.0, 'model.attention_dropout': 0.0,
        'data.source': source, 'data.objective': 'text_to_text',
        'data.document_tokens': 0, 'data.sentinels': 0,
        'data.noise_density': 0.0, 'data.mean_span_length': 0.0,
        'data.holdout': 0, 'data.pack': False,
        'schedule.warmup_steps': 1,
        'train.steps': 1, 'eval.every': 1, 'checkpoint.every': 1,
      },
    )  # fmt: skip
    loop.train(config, str(folder / f'begun{family}'))
    return str(folder / f'begun{family}')

  return make


def recipe(method, source, family='', **more):
  arg = f'family={family},size=tiny' if family else 'size=tiny'
  keys = {key.replace('__', '.'): x for key, x in more.items()}
  return runs.set_keys(
    RECIPES[method].get_config(arg),
    BOTH | {
      'data.source': source, 'align.answer_length': 6, 'align.samples': 2,
      'train.steps': 4, 'eval.every': 4, 'checkpoint.every': 1,
    } | keys,
  )  # fmt: skip


def final(folder):
  """The arrays of the last checkpoint."""
  checkpoints = Checkpoints(str(folder), read_only=True)
  return checkpoints.restore_arrays(checkpoints.find())


def rows(folder):
  lines = (folder / 'rollouts.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def test_killed_and_resumed_to_the_same_bits(folder, source, begun):
  """PPO with all that it carries: values, minibatches, an adapted beta."""
  reward = f'{folder}/reward.py:short'
  config = recipe(
    'ppo', source, align__rewards=((reward, 1.0), ('exact', 1.0)),
    align__reward_seconds=20.0, align__reward_memory=1024,
    align__minibatches=2, align__epochs=2, align__kl_target=0.1,
  )  # fmt: skip
  align(config, str(folder / 'whole'), begun(''))
  part = folder / 'part'
  # A kill in the fourth step leaves its answers, and the third's checkpoint.
  shutil.copytree(folder / 'whole', part)
  shutil.rmtree(part / 'checkpoints' / '4')
  align(config, str(part), begun(''))
  first, second = final(folder / 'whole'), final(part)
  assert jax.tree.structure(first) == jax.tree.structure(second)
  for x, y in zip(*map(jax.tree.leaves, (first, second)), strict=True):
    np.testing.assert_array_equal(x, y)
  assert first['kl_factor'] != 1
  found = rows(part)
  assert found == rows(folder / 'whole')
  assert len(found) == 4 * 8 * 2
  assert {row['step'] for row in found} == {1, 2, 3, 4}
  assert len({row['seed'] for row in found}) == 4
  kept = Checkpoints(str(part), read_only=True).steps()
  assert kept[0] == 0  # the reference
  *_, last = (x for x in read_metrics(str(part)) if 'train/reward' in x)
  assert last['train/gap'] < 1e-4
  assert last['train/failed'] == 0
  assert last['train/ended'] <= 1


def test_an_encoder_decoder_learns(folder, source, begun):
  """GRPO; the sampler's probabilities are the trainer's."""
  rule = 'regex', 1.0  # a target is a pattern too
  config = recipe(
    'grpo', source, 'encoder_decoder', align__rewards=(rule,),
    align__reward_seconds=20.0, align__reward_memory=1024,
    data__target_length=8, train__steps=2, eval__every=2,
    checkpoint__every=2, eval__samples=1,
  )  # fmt: skip
  place = folder / 'pair'
  align(config, str(place), begun('encoder_decoder'))
  found = [x for x in read_metrics(str(place)) if 'train/reward' in x]
  assert [x['train/gap'] < 1e-4 for x in found] == [True] * 2
  assert found[0]['train/kl'] == 0
  assert abs(found[1]['train/kl']) < 1
  samples = board.texts(str(place / 'tensorboard'), 'samples')
  assert all('prediction:' in text for text in samples.values())
  assert [*samples] == [0, 2]


def test_the_reference_has_the_factors_that_the_run_began_with(
  folder, source, begun
):
  """GRPO goes on with LoRA's factors, beside a base in bfloat16."""
  lora = {
    'tuning.train': 'lora', 'tuning.rank': 2, 'tuning.alpha': 8.0,
    'tuning.matrices': ('attention/query', 'mlp/output', 'embed/table'),
  }  # fmt: skip
  config = recipe(
    'grpo', source, align__rewards=(('exact', 1.0),), train__steps=1,
    eval__every=1, checkpoint__every=1, schedule__learning_rate=0.1,
  )  # fmt: skip
  taught = runs.set_keys(
    workdir.read_config(begun('')),
    lora | {'train.steps': 2, 'schedule.learning_rate': 0.1},
  )
  start, place = str(folder / 'factors'), str(folder / 'factors_on')
  loop.train(taught, start, init_from=begun(''))
  factors = final(start)['params']['lora']
  assert all(np.any(x) for x in jax.tree.leaves(factors))
  align(
    runs.set_keys(config, lora | {'tuning.base_dtype': 'bfloat16'}),
    place,
    start,
  )
  (row,) = (x for x in read_metrics(place) if 'train/reward' in x)
  assert abs(row['train/kl']) < 1e-6
  assert row['train/gap'] < 1e-4


def test_an_answer_ends_as_the_chat_template_says(
  folder, source, begun, monkeypatch
):
  """The id that ends a turn ends an answer, in place of EOS."""
  seen = {}

  class Ending(learner.Learner):
    def __init__(self, setup, data, *args):
      data.end_id = 5
      super().__init__(setup, data, *args)

    def _lines(self, done, seed, texts, answers, *args):
      seen.update(answers=answers, texts=texts)
      return super()._lines(done, seed, texts, answers, *args)

  monkeypatch.setattr(phases, 'Learner', Ending)
  config = recipe(
    'rloo', source, align__rewards=(('exact', 1.0),), train__steps=1,
    eval__every=1, checkpoint__every=1, align__answer_length=16,
  )  # fmt: skip
  align(config, str(folder / 'ending'), begun(''))
  tokens, _, read = seen['answers']
  for line, own in zip(tokens, read, strict=True):
    ends = np.flatnonzero(line == 5)
    assert own.sum() == (ends[0] + 1 if len(ends) else 16)
  assert (tokens == 5).any()

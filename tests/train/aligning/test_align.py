"""A tiny run is aligned, from its reference's numbers to a win rate."""

import dataclasses
import functools
import json
import math
import shutil

import jax
import numpy as np
import pytest

from configs import llama
from configs.align import dpo, grpo, orpo, recipe, reward
from input_pipeline.chat.encoding import encode
from input_pipeline.chat.messages import exchange
from input_pipeline.chat.templates import KNOWN
from train import evaluate, loop
from train.align import align
from train.aligning import reference, rewards, winning
from train.fingerprint import fingerprint
from train.reporting.metrics import read_metrics
from train.runs import adapters, opening, workdir
from train.setup import set_up
from train.win_rate import described, win_rate

WORDS = 'a good film', 'a bad film', 'good', 'bad'


@pytest.fixture(scope='module')
def work(tmp_path_factory):
  """A folder with pairs, and a run `base` of one step."""
  folder = tmp_path_factory.mktemp('align')
  rng = np.random.default_rng(0)
  lines = [
    {
      'prompt': f'film {n} is',
      'chosen': f' good {rng.choice(WORDS)}',
      'rejected': f' bad {rng.choice(WORDS)}',
    }
    for n in range(40)
  ]
  lines.insert(3, {'prompt': 'a film', 'chosen': 'x', 'rejected': 'x'})
  lines.insert(7, {'prompt': 'a film' * 20, 'chosen': 'x', 'rejected': 'y'})
  rows = [json.dumps(line) for line in lines]
  (folder / 'pairs.jsonl').write_text('\n'.join(rows) + '\n')
  texts = [f'{x["prompt"]}{x["chosen"]}' for x in lines]
  (folder / 'text.txt').write_text('\n\n'.join(texts))
  c = llama.get_config('tiny').unlock()
  c.model.embed_dim, c.model.mlp_dim, c.model.vocab_size = 32, 48, 384
  c.model.heads, c.model.kv_heads, c.model.head_dim = 2, 2, 16
  c.model.decoder_layers, c.data.tokenizer_kind = 1, 'bytes'
  c.data.source, c.data.length = f'text:{folder}/text.txt', 32
  c.data.batch, c.data.streams, c.data.holdout = 8, 1, 8
  recipe.adamw(c, rate=1e-2)
  c.train.warmup_share, c.schedule.warmup_steps = 0.0, 0
  c.train.steps, c.eval.samples = 1, 0
  loop.train(c.lock(), str(folder / 'base'))
  return folder


def config_of(work, of=dpo):
  c = of.get_config('tiny').unlock()
  c.data.source, c.data.batch = f'preferences:{work}/pairs.jsonl', 8
  c.data.length, c.data.holdout = 48, 5
  c.schedule.learning_rate, c.train.epochs = 1e-2, 0.0
  c.train.steps, c.checkpoint.every, c.eval.every = 4, 2, 4
  c.train.warmup_share, c.schedule.warmup_steps = 0.0, 1
  return c.lock()


@pytest.fixture(scope='module')
def aligned(work):
  folder = str(work / 'dpo')
  align(config_of(work), folder, str(work / 'base'))
  return folder


@pytest.fixture(scope='module')
def judge(work):
  folder = str(work / 'reward')
  align(config_of(work, reward), folder, str(work / 'base'))
  return folder


def test_the_loss_begins_at_log_2_and_falls(aligned):
  """Before the first step the policy is its own reference."""
  rows = list(read_metrics(aligned))
  losses = [row['eval/loss'] for row in rows if 'eval/loss' in row]
  assert abs(losses[0] - math.log(2)) < 1e-6
  assert losses[-1] < 0.7 * losses[0]
  skipped = [row['data/skipped'] for row in rows if 'data/skipped' in row]
  assert skipped[-1] == 2
  means = evaluate.evaluate_run(aligned)
  assert abs(means['loss'] - losses[-1]) < 1e-6


def test_orpo_needs_no_reference(work):
  folder = str(work / 'orpo')
  align(config_of(work, orpo), folder, str(work / 'base'))
  rows = [row for row in read_metrics(folder) if 'eval/loss' in row]
  assert rows[-1]['eval/loss'] < rows[0]['eval/loss']
  for row in rows:
    both = row['eval/text_loss'] + 0.1 * row['eval/odds_loss']
    assert abs(row['eval/loss'] - both) < 1e-6
  assert not (work / 'orpo/reference').exists()


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(aligned, work):
  copy = str(work / 'copy')
  shutil.copytree(aligned, copy)
  shutil.rmtree(f'{copy}/checkpoints/4')
  before = (work / 'copy/reference/0.npy').read_bytes()
  align(config_of(work), copy, str(work / 'base'))
  assert (work / 'copy/reference/0.npy').read_bytes() == before
  assert fingerprint(copy) == fingerprint(aligned)


def test_the_reference_belongs_to_the_data(aligned, work):
  copy = work / 'broken'
  shutil.copytree(aligned, copy)
  name = copy / 'reference' / reference.NAME
  found = json.loads(name.read_text())
  found['data']['length'] = 99
  name.write_text(json.dumps(found))
  with pytest.raises(ValueError, match='other data: data.length differ'):
    evaluate.evaluate_run(str(copy))
  name.unlink()
  with pytest.raises(ValueError, match='lacks fingerprint.json'):
    evaluate.evaluate_run(str(copy))


def test_alignment_begins_with_a_model(work):
  with pytest.raises(ValueError, match='Give --from=RUN|CHECKPOINT'):
    align(config_of(work), str(work / 'none'), '')


def test_another_start_is_refused_by_the_name_of_its_flag(aligned, work):
  start, config = str(work / 'base'), config_of(work)
  message = 'begun with --from=.*base:.* leave --from and --config out'
  with pytest.raises(ValueError, match=message):
    align(config, aligned, aligned)
  pair = dpo.get_config('family=encoder_decoder,size=tiny')
  with pytest.raises(ValueError, match='align/ has decoder and encoder_dec'):
    align(pair, str(work / 'none'), start)


def test_rewards_of_texts(judge, aligned, capsys):
  model = rewards.open_reward(judge)
  prompts = [f'film {n} is' for n in range(11)]
  answers = [' good' if n % 2 else ' bad' for n in range(11)]
  found = model.score(prompts, answers)
  assert found[1::2].min() > found[::2].max()  # it has learned
  np.testing.assert_allclose(  # in whatever company an answer stands
    model.score(prompts[3:4], answers[3:4]), found[3:4], atol=1e-5
  )
  assert len(model.score(['a'], [''])) == 1  # no token: EOS alone is read
  model.score(['a'], ['x' * 99])
  assert '1 of 1 answers were cut' in capsys.readouterr().err
  with pytest.raises(ValueError, match='2 answers have 1 prompts'):
    model.score(['a'], ['b', 'c'])
  with pytest.raises(ValueError, match='cannot score .* too many for data.len'):
    model.score(['x' * 99], ['b'])
  failures = []  # with a list for them, a prompt that is too long is counted
  some = model.score([prompts[3], 'x' * 99], [answers[3], 'b'], failures)
  np.testing.assert_allclose(some, [found[3], np.nan], atol=1e-5)
  assert 'too many for data.length' in failures[0]
  with pytest.raises(ValueError, match='is no reward model: its align.method'):
    rewards.open_reward(aligned)
  broken = jax.tree.map(lambda x: x * np.nan, model.run.params)
  bad = rewards.Reward(dataclasses.replace(model.run, params=broken))
  with pytest.raises(rewards.RewardError, match="' b' to 'a' the reward nan"):
    bad.score(['a'], [' b'])


def test_a_win_rate_has_its_interval_divergence_and_length(
  judge, aligned, work
):
  ours, base = (opening.open_run(str(x)) for x in (aligned, work / 'base'))
  prompts = [f'film {n} is' for n in range(6)]
  model = rewards.open_reward(judge)
  found = win_rate(ours, base, base, model, prompts, length=5)
  assert found['prompts'] == 6
  low, high = found['interval']
  assert 0 <= low <= found['win_rate'] <= high <= 1
  assert abs(found['theirs']['kl']) < 1e-4  # from itself
  assert found['ours']['kl'] > 0.01
  assert 0 < found['ours']['length'] <= 5
  assert 'says nothing of people, or of safety' in described(found)
  assert 'exact' not in described(found)
  answers = [x.text for x in winning.draw(ours, prompts, 5, 0)[1]]
  targets = [*answers[:3], *['none of these'] * 3]
  found = win_rate(ours, base, base, model, prompts, 5, targets=targets)
  assert found['ours']['exact'] == 0.5
  assert found['theirs']['exact'] <= 0.5
  assert 'exact match' in described(found)
  # The reference reads what a run reads: here the same model, in chats.
  config = workdir.read_config(str(work / 'base')).unlock()
  config.data.chat_template, config.data.pack = 'llama2', False
  config.data.source = f'preferences:{work}/pairs.jsonl'
  config.data.objective, config.align.method = 'preference', 'orpo'
  config.align.beta = 0.1
  chats = opening.open_run(str(work / 'base'), config=config.lock())
  found = win_rate(chats, base, base, model, prompts[:2], length=5)
  assert abs(found['ours']['kl']) < 1e-4
  other = dataclasses.replace(base)
  tokenizer = dataclasses.make_dataclass('Other', ['fingerprint'])('x')
  object.__setattr__(other, 'tokenizer', tokenizer)
  with pytest.raises(ValueError, match='have different tokenizers'):
    win_rate(ours, base, other, model, prompts)


LORA = {
  'train': 'lora', 'rank': 2, 'alpha': 4.0, 'base_dtype': 'bfloat16',
  'matrices': ('attention/query', 'mlp/output'),
}  # fmt: skip


def test_adapters_of_one_base_read_chats(work, monkeypatch):
  """A policy and its judge: LoRA over one base in bfloat16, LLaMA 2's chats.

  The template is a file, which is moved once the base is stored.
  """
  monkeypatch.setattr(  # answers are written token by token
    loop, 'set_up', functools.partial(set_up, devices=jax.devices()[:1])
  )
  folder = str(work / 'adapted')

  def begin(name, config, source='', **data):
    config.unlock()
    config.tuning.update(LORA)
    config.data.update(data)
    config.train.steps = config.eval.every = config.checkpoint.every = 2
    place = adapters.begin(folder, name)
    align(config.lock(), place, source)
    return place

  file = work / 'llama2.jinja'
  file.write_text(KNOWN['llama2'])
  chats = {'chat_template': str(file), 'length': 64}
  taught = begin('dpo', config_of(work), str(work / 'base'), **chats)
  file.rename(work / 'moved.jinja')
  rows = list(read_metrics(taught))
  losses = [row['eval/loss'] for row in rows if 'eval/loss' in row]
  assert abs(losses[0] - math.log(2)) < 1e-6
  assert losses[-1] < losses[0]
  judge = begin('judge', config_of(work, reward), length=64)
  kept = workdir.read_config(judge).data.chat_template
  assert kept == f'{folder}/base/chat_template.jinja'
  c = grpo.get_config('size=tiny').unlock()
  c.data.source, c.data.objective = (
    f'preferences:{work}/pairs.jsonl',
    'preference',
  )
  c.data.length, c.data.batch, c.data.holdout = 64, 4, 5
  c.align.rewards, c.align.answer_length = ((f'model:{judge}', 1.0),), 8
  c.align.samples = 2
  # It begins with the factors of another run, and writes chats as that one.
  place = begin('grpo', c, taught)
  kept = workdir.read_config(place).data.chat_template
  assert kept == f'{taught}/chat_template.jinja'
  found = [row for row in read_metrics(place) if 'train/reward' in row]
  assert abs(found[0]['train/kl']) < 1e-6
  assert found[0]['train/gap'] < 1e-4
  lines = (work / 'adapted/adapters/grpo/rollouts.jsonl').read_text()
  line = json.loads(lines.splitlines()[0])
  assert line['prompt'].startswith('[INST] film ')
  assert line['target'].startswith(' good')
  # The reward of an answer is that of its text, where its bytes are one.
  model = rewards.open_reward(judge)
  asked = line['prompt'].removeprefix('[INST] ').removesuffix(' [/INST]')
  own = model.score([asked], ['good'])
  ids = encode(exchange(asked, 'good'), model.template, model.run.tokenizer)
  first, end = ids.turns[0]
  given = model.score_ids([ids.ids[:first]], [ids.ids[first : end - 1]])
  np.testing.assert_array_equal(own, given)
  with pytest.raises(ValueError, match="chat_template='.*jinja', and this run"):
    begin('plain', c, str(work / 'base'))

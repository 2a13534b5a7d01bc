"""A classifier of `train.finetune` judges answers by a class."""

import random

import jax
import numpy as np
import pytest

from configs.align import grpo
from configs.finetune import bert
from input_pipeline.objectives import framing
from tests.helpers import labelled, runs
from train import finetune
from train.aligning.classifiers import open_classifier
from train.learning import heads
from train.reinforcing import scores

KEYS = {
  'model.vocab_size': 80, 'model.embed_dim': 16, 'model.mlp_dim': 32,
  'model.heads': 2, 'model.kv_heads': 2, 'model.head_dim': 8,
  'model.encoder_layers': 1, 'data.length': 32, 'data.batch': 16,
  'data.holdout': 0, 'train.epochs': 1.0, 'eval.every': 0,
}  # fmt: skip


@pytest.fixture(scope='module', params=[1, 2], ids=['one text', 'two texts'])
def run(request, tmp_path_factory):
  """(how many texts it reads, the workdir)."""
  folder = tmp_path_factory.mktemp('classes')
  task = labelled.write_task(folder, count=160, held_out=16)
  if request.param == 2:
    for name in 'train', 'dev':
      path = folder / f'{name}.tsv'
      head, *rows = path.read_text().splitlines()
      rows = [f'{row}\tit is {n % 7}' for n, row in enumerate(rows)]
      path.write_text('\n'.join([f'{head}\tasked', *rows]))
    task = task.replace('text=sentence', 'text=asked,text2=sentence')
  config = runs.set_keys(
    bert.get_config('size=tiny'), KEYS | {'data.source': task}
  )
  finetune.finetune(config, str(folder / 'run'))
  return request.param, str(folder / 'run')


def test_the_probability_of_a_class(run):
  """As the model computes it of each line alone, without padding."""
  count, folder = run
  judge = open_classifier(folder, 'good')
  rng = random.Random(3)
  answers = [f' {labelled.sentence(rng, "good")}' for _ in range(19)]
  prompts = [f'it is {n}' for n in range(19)]
  found = judge.score(prompts, answers)
  for n in 0, 18:
    texts = [prompts[n], answers[n]]
    texts = texts if count == 2 else [''.join(texts)]
    ids = judge.run.tokenizer.encode_batch([x.encode() for x in texts])
    line, types, _ = framing.frame(ids, judge.run.tokenizer, judge.run.data)
    batch = {
      'inputs': line, 'types': types, 'segments': np.ones_like(line),
      'positions': np.arange(len(line)),
    }  # fmt: skip
    batch = {name: x[None] for name, x in batch.items()}
    logits = heads.apply(judge.run.model, judge.run.params, batch)
    alone = np.asarray(jax.nn.softmax(logits['classes']))[0]
    assert judge.task.labels == ('bad', 'good')
    np.testing.assert_allclose(found[n], alone[1], atol=1e-5)
  other = open_classifier(folder, 'bad').score(prompts, answers)
  np.testing.assert_allclose(found + other, 1, atol=1e-5)


def test_it_is_a_reward_and_a_filter(run, capsys):
  _, folder = run
  align = runs.set_keys(
    grpo.get_config('size=tiny'),
    {'align.rewards': ((f'classifier:{folder}=good', 2.0),)},
  ).align
  found = scores.Scores(align, None)
  texts = [('it is', ' fine', ''), ('it is', ' ', '')]
  rewards, _ = found(texts, np.ones(2, bool))
  judge = open_classifier(folder, 'good')
  np.testing.assert_allclose(rewards[0], 2 * judge.score(['it is'], [' fine']))
  assert np.isnan(rewards[1])
  assert 'gave an answer no number: it is empty' in capsys.readouterr().err


def test_what_is_no_classifier(run):
  _, folder = run
  with pytest.raises(
    ValueError, match="no class 'high': the classes .*bad, go"
  ):
    open_classifier(folder, 'high')
  with pytest.raises(ValueError, match='names no class: write classifier:W'):
    scores.Class(folder)

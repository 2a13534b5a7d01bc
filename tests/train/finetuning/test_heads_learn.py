"""Heads with recipes of their own learn a task, from a run to its scores."""

import random
import sys

import numpy as np
import pytest
import torch
import transformers

from configs import bert as pretraining
from configs import gpt1 as decoder
from configs.finetune import bert, electra, gpt1
from tests.helpers import labelled, runs
from train import evaluate, finetune, loop
from train.reporting.metrics import read_metrics
from train.runs import adapters, opening
from train.runs.checkpoint import Checkpoints

SMALL = {
  'model.vocab_size': 80, 'model.embed_dim': 16, 'model.mlp_dim': 32,
  'model.heads': 2, 'model.kv_heads': 2, 'model.head_dim': 8,
  'model.dropout': 0.0, 'model.attention_dropout': 0.0,
}  # fmt: skip
pytestmark = pytest.mark.slow
NAMES, PLACES = ['ada', 'bob', 'cleo', 'dan'], ['rome', 'oslo', 'lima', 'baku']


def write(folder, columns, line, counts=(('train', 320), ('dev', 40))):
  """Two tables whose rows `line` draws; 'tsv:TRAIN,validation=DEV'."""
  rng = random.Random(0)
  for name, count in counts:
    rows = ['\t'.join(line(rng)) for _ in range(count)]
    (folder / f'{name}.tsv').write_text('\n'.join([columns, *rows]))
  return f'tsv:{folder}/train.tsv,validation={folder}/dev.tsv'


def sentence(rng):
  words = rng.choices(labelled.OTHER, k=rng.randint(2, 5))
  return [*words, rng.choice(NAMES), 'went', 'to', rng.choice(PLACES)]


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  rng = random.Random(1)
  path = tmp_path_factory.mktemp('text') / 'text.txt'
  documents = ['. '.join(' '.join(sentence(rng)) for _ in range(4))
               for _ in range(300)]  # fmt: skip
  path.write_text('\n\n'.join(documents))
  return f'text:{path}'


def pretrain(config, source, folder, **keys):
  config = runs.set_keys(config, SMALL | {
    'data.source': source, 'data.length': 32, 'data.batch': 8,
    'data.holdout': 10, 'train.steps': 4, 'eval.every': 4,
    'schedule.warmup_steps': 1, 'checkpoint.every': 4, 'eval.samples': 0,
  } | keys)  # fmt: skip
  loop.train(config, str(folder))
  return str(folder)


@pytest.fixture(scope='module')
def encoder(source, tmp_path_factory):
  keys = {'data.predictions': 5, 'train.phases': (),
          'model.encoder_layers': 2}  # fmt: skip
  folder = tmp_path_factory.mktemp('encoder') / 'run'
  return pretrain(pretraining.get_config('tiny'), source, folder, **keys)


def tune(config, task, source, folder, **keys):
  """The scores of a fine-tuned run, and its parameters."""
  config = runs.set_keys(config, SMALL | {
    'data.source': f'task:{task}', 'data.length': 32, 'data.batch': 16,
    'train.epochs': 10.0, 'eval.every': 200,
  } | keys)  # fmt: skip
  finetune.finetune(config, str(folder), source)
  last = [row for row in read_metrics(str(folder)) if 'eval/score' in row][-1]
  found = evaluate.evaluate_run(str(folder))
  assert found['score'] == last['eval/score']
  return found, opening.open_run(str(folder))


def test_a_lstm_on_frozen_layers_finds_names(encoder, tmp_path):
  """Table 7 of BERT: the trunk stays bit for bit."""

  def line(rng):
    words = sentence(rng)
    tags = {**dict.fromkeys(NAMES, 'B-PER'), **dict.fromkeys(PLACES, 'B-LOC')}
    return ' '.join(words), ' '.join(tags.get(w, 'O') for w in words)

  task = write(tmp_path, 'words\ttags', line)
  found, run = tune(
    bert.get_config('size=tiny'), f'{task},text=words,label=tags,kind=tagging',
    encoder, tmp_path / 'run',
    **{'model.features': 'sum_last_four', 'tuning.train': 'head',
       'schedule.learning_rate': 1e-2},
  )  # fmt: skip
  assert found['tsv/train/f1'] > 90
  before = opening.open_run(encoder).params
  assert set(run.params) - set(before) == {'lstm', 'features', 'classes'}
  old, new = before['encoder']['layers'], run.params['encoder']['layers']
  assert (old['mlp']['input']['kernel'] == new['mlp']['input']['kernel']).all()


def test_electras_joint_head_answers(encoder, tmp_path):
  """Half of the questions have no answer."""

  def line(rng):
    words = sentence(rng)
    if rng.random() < 0.5:
      return 'who went', ' '.join(words), words[-4]
    return 'who came', ' '.join(words), ''

  task = write(tmp_path, 'ask\tin\tanswer', line)
  config = runs.set_keys(electra.get_config('task=squad/v2.0,size=tiny'), {})
  assert config.model.head == 'span_joint'
  found, run = tune(
    config, f'{task},text=ask,text2=in,label=answer,kind=span', encoder,
    tmp_path / 'run',
    **{'schedule.learning_rate': 1e-2, 'tuning.layer_decay': 0.0},
  )  # fmt: skip
  assert found['tsv/train/f1'] > 80
  assert run.config.model.head == 'span_joint'
  _check_threshold(tmp_path)


def _check_threshold(folder):
  """The best threshold, given to the command, gives the best score.

  A threshold below all `null` answers nothing, one above all everything.
  """

  def evaluated(threshold):
    out = folder / f'predictions{threshold}'
    found = evaluate.evaluate_run(
      str(folder / 'run'), predictions=str(out), no_answer_threshold=threshold
    )
    lines = (out / 'tsv-train.txt').read_text().splitlines()
    return found, lines.count('')

  nothing, blank = evaluated(-1e6)
  assert blank == 40
  at = nothing['tsv/train/best_f1_threshold']
  best, some = evaluated(at)
  assert best['tsv/train/f1'] == nothing['tsv/train/best_f1']
  assert nothing['tsv/train/f1'] < best['tsv/train/f1']
  _, none = evaluated(1e6)
  assert none < some < blank


def test_gpt1_reads_pairs_in_both_orders(source, tmp_path):
  """Equal at every exchange of the two: so are the answers."""

  def line(rng):
    names = rng.choices(NAMES, k=2)
    if rng.random() < 0.5:
      names[1] = names[0]
    same = 'same' if names[0] == names[1] else 'other'
    return f'{names[0]} went', f'{names[1]} came', same

  run = pretrain(
    decoder.get_config('tiny'), source, tmp_path / 'decoder',
    **{'model.decoder_layers': 2, 'model.vocab_size': 300},
  )  # fmt: skip
  task = write(tmp_path, 'a\tb\tlabel', line)
  found, _ = tune(
    gpt1.get_config('task=glue/mrpc,size=tiny'),
    f'{task},text=a,text2=b', run, tmp_path / 'run',
    **{'schedule.learning_rate': 1e-2},
  )  # fmt: skip
  assert found['tsv/train/accuracy'] > 75


def test_lora_is_exported_merged_with_its_head(encoder, tmp_path):
  """transformers' classifier gives the logits of the run."""

  def line(rng):
    words = sentence(rng)
    return ' '.join(words), 'north' if words[-1] == 'oslo' else 'south'

  task = write(tmp_path, 'text\tlabel', line)
  _, run = tune(
    bert.get_config('size=tiny'), f'{task},text=text', encoder,
    tmp_path / 'run',
    **{'tuning.train': 'lora', 'tuning.rank': 2, 'tuning.alpha': 4.0,
       'tuning.matrices': ('attention/query', 'mlp/output'),
       'schedule.learning_rate': 1e-2},
  )  # fmt: skip
  done = runs.run(
    [sys.executable, '-m', 'models.pretrained', f'--workdir={tmp_path}/run',
     f'--to={tmp_path}/out']
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert "LoRA's factors are merged" in done.stdout
  theirs = transformers.BertForSequenceClassification.from_pretrained(
    tmp_path / 'out'
  )
  found = run.apply([[5, 6, 7, 8, 9], [9, 8, 7]])
  tokens, segments = (
    torch.tensor(found[name].astype('int64')) for name in ('tokens', 'segments')
  )
  with torch.no_grad():
    logits = theirs.eval()(tokens, attention_mask=segments).logits.numpy()
  np.testing.assert_allclose(found['classes'], logits, rtol=1e-4, atol=1e-4)
  before = opening.open_run(encoder).params['encoder']['layers']
  query = run.params['encoder']['layers']['attention']['query']['kernel']
  assert np.abs(before['attention']['query']['kernel'] - query).max() > 0


def test_adapters_of_two_tasks_have_one_base(encoder, tmp_path):
  """The second names no source: sizes, tokenizer and weights are stored."""

  def line(rng):
    words = sentence(rng)
    return ' '.join(words), rng.choice(['north', 'south', 'east'])

  keys = {
    'tuning.train': 'lora', 'tuning.rank': 2, 'tuning.alpha': 4.0,
    'tuning.base_dtype': 'bfloat16', 'tuning.matrices': ('attention/query',),
    'train.epochs': 0.0, 'train.steps': 4, 'schedule.warmup_steps': 1,
    'train.warmup_share': 0.0,
  }  # fmt: skip
  bases = []
  for name, source in (('one', encoder), ('two', '')):
    (tmp_path / name).mkdir()
    task = write(tmp_path / name, 'text\tlabel', line)
    folder = adapters.begin(str(tmp_path / 'w'), name)
    _, run = tune(
      bert.get_config('size=tiny'), f'{task},text=text',
      source, folder, **keys,
    )  # fmt: skip
    bases.append(run.params['encoder']['layers']['mlp']['input']['kernel'])
    with Checkpoints(folder, read_only=True) as checkpoints:
      names = checkpoints.shapes(4)
    kept = {x.split('/')[1] for x in names if x.startswith('params/')}
    assert kept == {'lora', 'pooler', 'classes'}
  np.testing.assert_array_equal(*bases)

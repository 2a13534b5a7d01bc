"""Programs that open a run from its workdir: train.evaluate, train.generate."""

import functools
import json
import math
import os
import re
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import roberta
from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from input_pipeline.tokenizers import kinds
from tests.helpers import runs
from train import generate, prompts
from train.evaluate import EmptySplitError, evaluate, evaluate_run
from train.runs import opening, workdir
from train.runs.checkpoint import CheckpointError

pytestmark = pytest.mark.slow

TEXT = 'abc <extra_id_0> defg hij<extra_id_1>'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The workdir of a run on one device, evaluated at steps 0, 4 and 8."""
  source = runs.write_text(tmp_path_factory.mktemp('data') / 'text')
  folder = tmp_path_factory.mktemp('run') / 'run'
  runs.train(
    folder,
    data__source=source,
    train__steps=8,
    eval__every=4,
    eval__batches=2,
    checkpoint__every=4,
    sharding__mesh__data=1,
  )
  return folder


def program(name, folder, *flags):
  command = [sys.executable, '-m', f'train.{name}', f'--workdir={folder}']
  return runs.run([*command, *flags])


def files(folder):
  return {
    f: f.stat().st_mtime_ns
    for f in folder.rglob('*')
    if f.is_file() or f.is_dir()
  }


def test_evaluation_is_the_runs_own(run):
  """Evaluation gives the run's numbers at each step, on any mesh.

  They are the means over the tokens of the held-out documents.
  """
  before = files(run)
  done = program('evaluate', run)
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  found = {8: json.loads(done.stdout.splitlines()[-1])}
  found[4] = evaluate_run(str(run), 4)
  for step, means in found.items():
    assert set(means) == {'step', 'loss', 'perplexity', 'accuracy', 'tokens'}
    assert means['perplexity'] == pytest.approx(math.exp(means['loss']))
    assert means['step'] == step
    for name in ('loss', 'accuracy', 'tokens'):
      expected = dict(runs.rows(run, f'eval/{name}'))[step]
      assert means[name] == pytest.approx(expected, rel=1e-5 * (step == 4))
    assert_means(means, held_out(run, step, batches=2))
  assert found[8]['loss'] < found[4]['loss']
  assert files(run) == before


def test_evaluation_of_the_whole_split(run):
  """eval.batches=0 reads the whole split, in batches of any size."""
  config = workdir.read_config(str(run))
  config.eval.batches = 0
  config.sharding.mesh.data = -1  # of all devices here
  found = evaluate_run(str(run), 8, config)
  loss, hits = held_out(run, 8, rows=48)
  assert_means(found, (loss, hits))
  assert len(loss) > 1.5 * len(held_out(run, 8, batches=1)[0])


def assert_means(means, truth):
  loss, hits = truth
  assert means['tokens'] == len(loss)
  assert means['loss'] == pytest.approx(loss.mean(), rel=1e-5)
  assert means['accuracy'] == pytest.approx(hits.mean(), rel=1e-6)


def held_out(run, step, rows=16, batches=0):
  """The loss of each predicted token of the split's first batches, or of all,
  and whether the likeliest one is right, in float64."""
  opened = opening.open_run(str(run), step)
  data = opening.open_data(opened)
  apply = jax.jit(lambda *x: opened.model.apply({'params': opened.params}, *x))
  losses, hits = [], []
  for number, batch in enumerate(data.evaluation(np.arange(rows), rows)):
    if not batch['segments'].any() or (batches and number == batches):
      break
    names = 'encoder_inputs', 'inputs', 'encoder_segments', 'segments'
    logits = np.asarray(apply(*(batch[name] for name in names)), 'float64')
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = batch['targets'][..., None]
    here = batch['weights'] > 0
    losses.append(-np.take_along_axis(log_p, targets, -1)[..., 0][here])
    hits.append((logits.argmax(-1) == batch['targets'])[here])
  return np.concatenate(losses), np.concatenate(hits)


def test_another_config(run, capsys):
  """Other data is reported; another model is an error."""
  flags = ['--config=configs/t5.py:tiny']
  with open(run / 'config.json') as file:
    config = json.load(file)
  source = config['data']['source']
  settings = runs.CONFIG | runs.SYSTEMS['t5']
  settings |= {'data.source': source, 'data.holdout': 5}
  flags += [f'--config.{key}={value}' for key, value in settings.items()]
  done = program('evaluate', run, *flags)
  assert done.returncode == 0, done.stderr
  assert 'other data than in training: data.holdout: 10, now 5' in done.stderr
  tokens = json.loads(done.stdout.splitlines()[-1])['tokens']
  assert tokens > 1.5 * runs.rows(run, 'eval/tokens')[-1][1]
  done = program('evaluate', run, *flags, '--config.model.embed_dim=24')
  assert done.returncode == 1
  assert 'Error: The parameters in' in done.stderr
  assert 'Traceback' not in done.stderr


def test_the_split_ends_where_no_text_is_left():
  """A batch whose rows are too short for a prediction does not end it."""

  def batch(tokens, predicted):
    return {'present': np.array(tokens), 'weight': np.array(float(predicted))}

  def step(params, sums):
    return sums | {
      'loss': 2.0 * sums['weight'],
      'z_loss': 0.0,
      'correct': sums['weight'] / 4,
    }

  text, short, padding = batch(9, 3), batch(2, 0), batch(0, 0)
  for batches, tokens in (
    ([short, text, short, short, text, padding, text], 6),
    ([text, padding, text], 3),
    ([text, text, short], 6),
  ):
    found = evaluate(step, None, batches)
    means = {'loss': 2.0, 'accuracy': 0.25, 'perplexity': math.exp(2)}
    assert found == pytest.approx(means | {'tokens': tokens})
  assert evaluate(step, None, [short, text, text], limit=2)['tokens'] == 3
  with pytest.raises(EmptySplitError, match='None of the 4 evaluated tokens'):
    evaluate(step, None, [short, short, padding])
  with pytest.raises(EmptySplitError, match=r'empty. Lower data\.holdout'):
    evaluate(step, None, [padding, text])


def test_documents_without_a_masked_token(tmp_path):
  """Some batches of 2 have no prediction; none ends the evaluation."""
  rng = np.random.default_rng(0)
  words = ['one', 'two', 'three', 'four']
  documents = [' '.join(rng.choice(words, n)) for n in rng.integers(1, 4, 400)]
  (tmp_path / 'text.txt').write_text('\n\n'.join(documents))
  settings = roberta.get_config('tiny').data.to_dict() | {
    'source': f'text:{tmp_path}/text.txt',
    'objective': 'doc_sentences',
    'pack': False,
    'streams': 1,
    'holdout': 2,
  }

  def step(params, batch):
    return dict.fromkeys(('loss', 'z_loss', 'correct'), 0.0) | {
      'present': np.sum(batch['segments'] > 0),
      'weight': np.sum(batch['weights']),
    }

  found = []
  for batch in (2, 400):
    config = DataConfig(**settings | {'batch': batch})
    data = pipeline.open_data(config, 0, 270, '', tmp_path, family='encoder')
    split = data.evaluation(np.arange(batch), batch)
    found.append(evaluate(step, None, split)['tokens'])
  # One of up to six tokens and signs is masked in most, but not in all.
  assert 50 < found[0] == found[1] < 200


@pytest.mark.parametrize('name', ['__main__', 'evaluate', 'generate'])
def test_help(name):
  """Help lists the flags for several processes too."""
  done = runs.run([sys.executable, '-m', f'train.{name}', '--help'])
  assert done.returncode == 0
  for flag in ('workdir', 'config', 'coordinator', 'processes'):
    if (name, flag) != ('generate', 'config'):
      assert f'  --{flag}: ' in done.stdout


def test_what_cannot_be_opened(run, tmp_path):
  done = program('evaluate', run, '--step=5')
  assert done.returncode == 1
  assert re.search(
    r'Error: No checkpoint of step 5 .* are: 4, 8\.', done.stderr
  )
  assert 'Traceback' not in done.stderr
  missing = str(tmp_path / 'nowhere')
  with pytest.raises(ValueError, match=f'^{missing}: there is no such folder'):
    evaluate_run(missing)
  with pytest.raises(ValueError, match=f'^{tmp_path} holds no run'):
    evaluate_run(str(tmp_path))
  shutil.copy(run / 'config.json', tmp_path)
  with pytest.raises(CheckpointError, match='there are: none'):
    evaluate_run(str(tmp_path))
  shutil.copytree(run / 'checkpoints', tmp_path / 'checkpoints')
  with pytest.raises(ValueError, match=r'tokenizer.model is missing'):
    evaluate_run(str(tmp_path))
  assert not (tmp_path / 'tokenizer.model').exists()


def test_generation(run, tmp_path):
  """The program generates the same as the function in this process."""
  before = files(run)
  path = tmp_path / 'texts'
  path.write_text(f'\n{TEXT}\n\nabc\n')
  done = program('generate', run, '--step=8', '--text=a b c', f'--file={path}')
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  inputs = re.findall('(?m)^input: +(.*)$', done.stdout)
  assert inputs[0] == 'a b c'
  assert re.fullmatch(r'abc ?<extra_id_0> defg hij ?<extra_id_1>', inputs[1])
  assert inputs[2] == 'abc'
  assert len(re.findall('(?m)^prediction: ', done.stdout)) == 3
  assert 'target' not in done.stdout
  texts = ['a b c', TEXT, 'abc']
  assert generate.generate(str(run), texts=texts) == done.stdout[:-1]
  assert files(run) == before


def written(run, source, seed=None, length=16):
  """Texts [B], token by token, each from all that was written before it.

  Without a cache, the likeliest tokens; with a seed drawn at temperature 1, the
  key of row r and step t that of the seed folded with r, then with t.
  """
  opened = opening.open_run(str(run))
  tokenizer = opening.open_tokenizer(opened)
  segments = (source > 0).astype('int32')
  tokens = np.full((len(source), length + 1), tokenizer.pad)

  @jax.jit
  def choose(inputs, t):
    arrays = source, inputs, segments, jnp.ones_like(inputs)
    logits = opened.model.apply({'params': opened.params}, *arrays)
    logits = logits[:, t, : tokenizer.size]
    if seed is None:
      return logits.argmax(-1)
    keys = [
      jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), row), t)
      for row in range(len(source))
    ]
    pairs = zip(keys, logits, strict=True)
    return jnp.stack([jax.random.categorical(key, x) for key, x in pairs])

  for t in range(length):
    tokens[:, t + 1] = choose(tokens[:, :-1], t)
  texts = []
  for row in tokens[:, 1:]:
    ends = np.flatnonzero(row == tokenizer.eos)
    texts.append(tokenizer.decode(row[: ends[0]] if len(ends) else row))
  return texts


def shown(name, text):
  return re.findall(f'(?m)^{name}: *(.*)$', text)


def test_generation_of_held_out_examples(run):
  """The first example of each row is continued with the likeliest tokens."""
  text = generate.generate(str(run), samples=3, length=16)
  opened = opening.open_run(str(run))
  tokenizer = opening.open_tokenizer(opened)
  data = opening.open_data(opened)
  batch = next(data.evaluation(np.arange(16), 16))
  rows = np.flatnonzero(batch['segments'].any(axis=1))[:3]
  sources = []
  for name, ids, segments in (
    ('input', 'encoder_inputs', 'encoder_segments'),
    ('target', 'targets', 'segments'),
  ):
    first = [batch[ids][r][batch[segments][r] == 1] for r in rows]
    assert shown(name, text) == [tokenizer.decode(x).strip() for x in first]
    assert all(len(x) > 2 for x in first)
    sources.append(first)
  width = batch['encoder_inputs'].shape[1]
  source = [np.pad(x, (0, width - len(x))) for x in sources[0]]
  expected = written(run, np.stack(source))
  assert shown('prediction', text) == [x.strip() for x in expected]


def test_drawn_tokens(run):
  """Tokens are drawn by the seed, row by row."""

  def drawn(count, seed=0, **sampling):
    text = generate.generate(
      str(run), texts=[TEXT] * count, seed=seed, length=16, **sampling
    )
    return shown('prediction', text)

  opened = opening.open_run(str(run))
  tokenizer = opening.open_tokenizer(opened)
  source = prompts.encode(
    tokenizer, [TEXT], 32, 'encoder_decoder', pairs=True, start=None
  )
  source = np.repeat(source['source'], 3, axis=0)
  first = drawn(3, temperature=1.0)
  assert first == [x.strip() for x in written(run, source, 0)]
  assert len(set(first)) == 3
  other = [x.strip() for x in written(run, source, 1)]
  assert drawn(3, seed=1, temperature=1.0) == other != first
  # More than a batch: 16 rows.
  assert drawn(20, temperature=1.0)[:3] == first
  greedy = [x.strip() for x in written(run, source[:1])]
  assert drawn(1) == drawn(1, temperature=1.0, top_k=1) == greedy
  assert drawn(1, temperature=1.0, top_p=1e-6) == greedy


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--top_k=5'], '--top_k and --top_p need --temperature'),
    (['--temperature=1', '--top_p=1.5'], '--top_p=1.5 must be above 0'),
    (['--temperature=-1'], '--temperature=-1.0 must be at least 0'),
    (['--text=<extra_id_99>'], 'has 1 sentinels, of which the tokenizer knows'),
    (['--file=nowhere.txt'], 'nowhere.txt'),
  ],
)
def test_generation_of_what_cannot_be(run, flags, message):
  done = program('generate', run, *flags)
  assert done.returncode == 1
  assert done.stderr.startswith('Error: ')
  assert message in done.stderr
  assert 'Traceback' not in done.stderr


def test_sentinels_in_texts(run):
  """Sentinels may stand anywhere in a text; only EOS is added."""
  published = os.path.join(os.environ.get('TREELINE_DATA', ''), 'tok_t5')
  found = [run / 'tokenizer.model']
  if os.path.isdir(published):
    found += [
      os.path.join(published, name)
      for name in os.listdir(published)
      if 'cc_all' in name
    ]
  for path in found:
    tokenizer = kinds.load(str(path), 20)
    encode = functools.partial(
      prompts.encode,
      tokenizer,
      length=64,
      family='encoder_decoder',
      pairs=True,
      start=0,
    )
    first, second = (int(i) for i in tokenizer.sentinels[:2])
    for text in (
      TEXT,
      '<extra_id_0><extra_id_1>',
      'a\t<extra_id_0>b <extra_id_1>',
    ):
      ids = encode([text])['source'][0]
      ids = ids[ids > 0].tolist()
      assert ids.count(first) == ids.count(second) == 1
      assert ids[-1] == tokenizer.eos
      words = tokenizer.decode(ids[: ids.index(first)])
      assert words == text[: text.index('<')].strip()
      assert re.sub(r'\s', '', tokenizer.decode(ids)) == re.sub(r'\s', '', text)
    for text in ('', '  ', 'ab ' * 64):
      with pytest.raises(ValueError, match='tokens; it needs one'):
        encode([text])
    both = encode([TEXT, 'a'])
    np.testing.assert_array_equal(both['segments'], both['source'] > 0)

"""Texts that train.generate writes: as a program, and in this process."""

import functools
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from input_pipeline.tokenizers import kinds
from models.beams import beam_search
from tests.helpers.runs import files, program
from train import generate
from train.generation import prompts
from train.generation.options import Options
from train.runs import opening

pytestmark = pytest.mark.slow

TEXT = 'abc <extra_id_0> defg hij<extra_id_1>'


def test_generation(evaluated, tmp_path):
  """The program generates the same as the function in this process."""
  before = files(evaluated)
  path = tmp_path / 'texts'
  path.write_text(f'\n{TEXT}\n\nabc <extra_id_0>\n')
  done = program(
    'generate',
    evaluated,
    '--step=8',
    '--text=a b <extra_id_0>',
    f'--file={path}',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  inputs = re.findall('(?m)^input: +(.*)$', done.stdout)
  assert inputs[0] == 'a b <extra_id_0>'
  assert re.fullmatch(r'abc ?<extra_id_0> defg hij ?<extra_id_1>', inputs[1])
  assert inputs[2] == 'abc <extra_id_0>'
  assert len(re.findall('(?m)^prediction: ', done.stdout)) == 3
  assert len(re.findall('(?m)^infilled: ', done.stdout)) == 3
  assert 'target' not in done.stdout
  texts = ['a b <extra_id_0>', TEXT, 'abc <extra_id_0>']
  assert generate.generate(str(evaluated), texts=texts) == done.stdout[:-1]
  assert files(evaluated) == before


def written(evaluated, source, seed=None, length=16):
  """Texts [B], token by token, each from all that was written before it.

  Without a cache, the likeliest tokens; with a seed drawn at temperature 1, the
  key of row r and step t that of the seed folded with r, 0 and t.
  """
  opened = opening.open_run(str(evaluated))
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
    fold = jax.random.fold_in
    keys = [
      fold(fold(fold(jax.random.key(seed), row), 0), t)
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


def test_generation_of_held_out_examples(evaluated):
  """The first example of each row is continued with the likeliest tokens."""
  options = Options(length=16)
  text = generate.generate(str(evaluated), examples=3, options=options)
  opened = opening.open_run(str(evaluated))
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
  expected = written(evaluated, np.stack(source))
  assert shown('prediction', text) == [x.strip() for x in expected]


def test_drawn_tokens(evaluated):
  """Tokens are drawn by the seed, row by row."""

  def drawn(count, seed=0, **sampling):
    options = Options(seed=seed, length=16, **sampling)
    text = generate.generate(
      str(evaluated), texts=[TEXT] * count, options=options
    )
    return shown('prediction', text)

  opened = opening.open_run(str(evaluated))
  tokenizer = opening.open_tokenizer(opened)
  source = prompts.encode(
    tokenizer, [TEXT], 32, 'encoder_decoder', pairs=True, start=None
  )
  source = np.repeat(source['source'], 3, axis=0)
  first = drawn(3, temperature=1.0)
  assert first == [x.strip() for x in written(evaluated, source, 0)]
  assert len(set(first)) == 3
  other = [x.strip() for x in written(evaluated, source, 1)]
  assert drawn(3, seed=1, temperature=1.0) == other != first
  # More than a batch: 16 rows.
  assert drawn(20, temperature=1.0)[:3] == first
  greedy = [x.strip() for x in written(evaluated, source[:1])]
  assert drawn(1) == drawn(1, temperature=1.0, top_k=1) == greedy
  assert drawn(1, temperature=1.0, top_p=1e-6) == greedy
  # A text that is searched is at least as likely, without a penalty.
  arrays = source[:1], source[:1] * 0 + 1
  run = {'model': opened.model, 'length': 16, 'eos': tokenizer.eos}
  found = beam_search(opened.params, *arrays, beams=4, penalty=0.0, **run)
  assert (np.diff(found.scores[0]) <= 0).all()
  best = prompts.until_eos(tokenizer, np.asarray(found.tokens)[0, 0])
  assert drawn(1, beams=4, length_penalty=0.0) == [best.strip()]


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--top_k=5'], 'top_k, top_p and min_p need a temperature'),
    (['--text=a b c'], 'has no gap, and'),
    (['--beams=99999', '--text=<extra_id_0>'], '99999 beams are more than the'),
    (['--out=a.jsonl'], '--out needs inputs'),
    (['--interactive', '--text=a'], '--interactive reads what is typed'),
    (['--batch=0', '--text=a'], '--batch=0 must be at least 1'),
    (['--from=nowhere'], 'Give --workdir of a run, or --from=CHECKPOINT'),
    (['--text=<extra_id_99>'], 'has 1 sentinels, of which the tokenizer knows'),
    (['--file=nowhere.txt'], 'nowhere.txt'),
  ],
)
def test_generation_of_what_cannot_be(evaluated, flags, message):
  done = program('generate', evaluated, *flags)
  assert done.returncode == 1
  assert done.stderr.startswith('Error: ')
  assert message in done.stderr
  assert 'Traceback' not in done.stderr


def test_sentinels_in_texts(evaluated):
  """Sentinels may stand anywhere in a text; only EOS is added."""
  published = os.path.join(os.environ.get('TREELINE_DATA', ''), 'tok_t5')
  found = [evaluated / 'tokenizer.model']
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

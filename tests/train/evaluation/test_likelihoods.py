"""Likelihoods of continuations and of long texts, beside torch's."""

import dataclasses
import functools

import numpy as np
import pytest
import torch

from models import pretrained
from models.build import build
from tests.helpers import hf_decoders, t5_reference
from tests.helpers import hf_reference as reference
from tests.helpers.decoders import tiny_decoder
from tests.helpers.letters import Letters
from train.evaluation.likelihoods import encode_pair, likelihoods, windows
from train.evaluation.perplexity import perplexity
from train.generation.writer import Writer

RNG = np.random.default_rng(0)
# Lengths of contexts and continuations: in rows of two widths.
LENGTHS = [(1, 1), (3, 9), (12, 4), (16, 4), (1, 15), (7, 2)]


def pairs(vocabulary):
  draw = functools.partial(RNG.integers, 6, vocabulary)
  return [(draw(size=n), draw(size=m)) for n, m in LENGTHS]


def chances(logits, ids, count):
  """The sum of the last `count` log probabilities, and if they are greedy."""
  logits = torch.log_softmax(logits[0, -count - 1 : -1], -1)
  ids = torch.tensor(ids[-count:]).long()
  found = logits.gather(1, ids[:, None]).sum()
  return float(found), bool((logits.argmax(-1) == ids).all())


def compare(ours, expected):
  for own, (log_prob, greedy) in zip(ours, expected, strict=True):
    assert own.log_prob == pytest.approx(log_prob, rel=1e-4)
    assert own.greedy == greedy


@pytest.mark.parametrize('name', ['gpt2', 'llama3.1', 'bloom', 'rwkv'])
def test_decoders(name, tmp_path):
  torch_model = hf_decoders.torch_model(name)
  config, params = pretrained.load(reference.saved(torch_model, tmp_path))
  writer = Writer(build(config), params, None, None, False, None, 8)
  writer = dataclasses.replace(writer, tokenizer=Letters())
  given = pairs(hf_decoders.V)
  expected = []
  for n, (context, continuation) in enumerate(given):
    ids = np.array([[*context, *continuation]])
    with torch.no_grad():
      logits = torch_model(torch.from_numpy(ids).long()).logits
    if n == 1:  # one that is greedy
      given[n] = context[:2], np.array([int(logits[0, 1].argmax())])
      ids = np.array([[*given[n][0], *given[n][1]]])
      with torch.no_grad():
        logits = torch_model(torch.from_numpy(ids).long()).logits
    expected.append(chances(logits, ids[0], len(given[n][1])))
  ours = likelihoods(writer, given)
  compare(ours, expected)
  assert ours[1].greedy
  assert not all(own.greedy for own in ours)
  assert [own.tokens for own in ours] == [len(x) for _, x in given]
  # One at a time, or in another order.
  alone = [likelihoods(writer, [pair])[0] for pair in given]
  back = likelihoods(writer, given[::-1], batch=3)[::-1]
  for found in (alone, back):
    compare(found, [(own.log_prob, own.greedy) for own in ours])


def test_an_encoder_decoder():
  config = t5_reference.tiny_config()
  model = build(config)
  params = t5_reference.random_params(model)
  torch_model = t5_reference.torch_model(config)
  t5_reference.load(torch_model, t5_reference.to_torch(params, config))
  writer = Writer(model, params, Letters(), 0, True, None, 8)
  given = pairs(config.vocab_size)
  expected = []
  for context, continuation in given:
    source, target = (
      torch.from_numpy(x[None]).long() for x in (context, continuation)
    )
    with torch.no_grad():
      logits = torch_model(input_ids=source, labels=target).logits
    logits = torch.cat([logits, logits[:, :1]], 1)  # chances() drops the last
    expected.append(chances(logits, continuation, len(continuation)))
  compare(likelihoods(writer, given), expected)


@pytest.mark.parametrize(
  ('length', 'stride'), [(8, 8), (8, 3), (8, 1), (30, 5)]
)
@pytest.mark.parametrize('start', [None, 0])
def test_windows_predict_each_token_once(length, stride, start):
  ids = list(range(10, 10 + 23))
  whole = ids if start is None else [start, *ids]
  found = list(windows(ids, length, stride, start))
  predicted = [token for _, continuation in found for token in continuation]
  assert predicted == whole[1:]
  for n, (context, continuation) in enumerate(found):
    text = [*context, *continuation]
    at = whole.index(text[0])
    assert whole[at : at + len(text)] == text
    assert len(text) - 1 <= length
    if n:
      assert len(continuation) <= stride
      assert len(text) - 1 == length or at == 0
  assert list(windows(ids[:1], length, stride)) == []
  with pytest.raises(ValueError, match='stride 9 must be 1 to the length, 8'):
    list(windows(ids, 8, 9))


def test_texts_of_pairs():
  """White space before a continuation is its own."""
  writer = Writer(
    build(tiny_decoder()), {}, Letters(), 0, False, None, 8
  )  # fmt: skip
  ids = lambda text: [*Letters().encode_batch([text.encode()])[0]]  # noqa: E731
  assert encode_pair(writer, 'so it ', 'goes') == (
    [0, *ids('so it')],
    ids(' goes'),
  )
  assert encode_pair(writer, '', 'goes') == ([0], ids('goes'))
  none = dataclasses.replace(writer, start=None)
  # A run that begins texts with nothing reads them after EOS, 1.
  assert encode_pair(none, 'so', ' it') == ([1, *ids('so')], ids(' it'))
  with pytest.raises(ValueError, match='has no token before it'):
    likelihoods(none, [([], [5])])
  with pytest.raises(ValueError, match='has no token to predict'):
    likelihoods(none, [([5], [])])


def test_perplexity_beside_a_plain_loop(tmp_path):
  """transformers' recipe: windows of 9 ids of which each predicts 4 more."""
  torch_model = hf_decoders.torch_model('gpt2')
  config, params = pretrained.load(reference.saved(torch_model, tmp_path))
  writer = Writer(build(config), params, Letters(), None, False, None, 8)
  texts = ['so it goes on and on', 'once upon a time 42', 'x']
  for n, text in enumerate(texts):
    (tmp_path / f'{n}.txt').write_text(text)
  total, count = 0.0, 0
  for text in texts:
    ids = [Letters.eos, *Letters().encode_batch([text.encode()])[0]]
    ids = torch.tensor([ids])
    end, size = 0, ids.shape[1]
    while end < size:
      last = min(end + 4 if end else 9, size)
      begin = max(last - 9, 0)
      labels = ids[:, begin:last].clone().long()
      labels[:, : end - begin] = -100
      new = int((labels[:, 1:] != -100).sum())
      if new:
        with torch.no_grad():
          loss = torch_model(ids[:, begin:last].long(), labels=labels).loss
        total, count = total + float(loss) * new, count + new
      end = last
  found = perplexity(
    writer, f'textfile:{tmp_path}/*.txt', window=8, stride=4, batch=3
  )
  assert (found['documents'], found['tokens'], found['words']) == (3, count, 12)
  assert found['loss'] == pytest.approx(total / count, rel=1e-4)
  assert found['perplexity'] == pytest.approx(np.exp(total / count), rel=1e-4)
  size = sum(map(len, texts))
  assert found['bytes'] == size
  bits = total / np.log(2) / size
  assert found['bits_per_byte'] == pytest.approx(bits, rel=1e-4)
  first = perplexity(writer, f'textfile:{tmp_path}/*.txt', documents=1)
  assert first['documents'] == 1
  for name, message in (
    ('textfile:nowhere', "--texts='textfile:nowhere' matches no file"),
    ('synthetic', 'has no texts'),
  ):
    with pytest.raises(ValueError, match=message):
      perplexity(writer, name)
  path = tmp_path / 'rows.jsonl'
  path.write_text('{"body": "so it goes"}\n')
  name = f'json:{path}'
  assert perplexity(writer, name, field='body')['words'] == 3
  with pytest.raises(ValueError, match='line 1: no text.*; --text_field names'):
    perplexity(writer, name)

"""Greedy decoding and beam search write what transformers' generate writes."""

import functools

import jax
import numpy as np
import pytest
import torch

from models import beams, decoding, pretrained
from models.build import build
from models.sampling import Sampling, limit
from tests.helpers import hf_decoders, t5_reference
from tests.helpers import hf_reference as reference
from tests.helpers.marian import marian

T, EOS = 7, 5
# beams, the exponent of the penalty
SEARCHES = (1, 0.0), (4, 1.0), (8, 0.6), (4, -0.5)
DRAWN = {'temperature': 0.7, 'top_k': 20, 'top_p': 0.9, 'min_p': 0.05}


def searched(model, params, source, segments, count, penalty, start=0):
  """Our tokens [B,N,T] and scores [B,N], the best N first."""
  fixed = {'model': model, 'length': T, 'eos': EOS, 'start': start}
  if count == 1:
    run = jax.jit(functools.partial(decoding.decode, **fixed))
    return np.asarray(run(params, source, segments).tokens)[:, None], None
  run = functools.partial(
    beams.beam_search, beams=count, penalty=penalty, until=T,
    **fixed | {'length': T + 2},
  )  # fmt: skip
  tokens, scores, _ = jax.jit(run)(params, source, segments)
  assert not tokens[..., T:].any()
  return np.asarray(tokens[..., :T]), np.asarray(scores)


def generated(model, count, penalty, eos=EOS, new=T, **inputs):
  """transformers' tokens [B,N,T], 0 after the end, and scores [B,N]."""
  found = model.generate(
    **{
      name: torch.from_numpy(x).long() if isinstance(x, np.ndarray) else x
      for name, x in inputs.items()
    },
    num_beams=count,
    num_return_sequences=count,
    do_sample=False,
    max_new_tokens=new,
    eos_token_id=eos,
    pad_token_id=0,
    **({'length_penalty': penalty} if count > 1 else {}),
    return_dict_in_generate=True,
    output_scores=True,
  )
  batch = len(next(iter(inputs.values())))
  pair = model.config.is_encoder_decoder
  prompt = 1 if pair else inputs['input_ids'].shape[1]
  tokens = found.sequences[:, prompt:].numpy()
  tokens = np.pad(tokens, [(0, 0), (0, new - tokens.shape[1])])
  ended = np.cumsum(tokens == eos, axis=1) - (tokens == eos) > 0
  tokens[ended] = 0  # beams that end are filled with EOS where the pad is 0
  scores = found.sequences_scores.numpy() if count > 1 else np.zeros(batch)
  return tokens.reshape(batch, count, new), scores.reshape(batch, count)


def compare(ours, theirs):
  tokens, scores = ours
  expected, their_scores = theirs
  np.testing.assert_array_equal(tokens, expected)
  if scores is not None:
    np.testing.assert_allclose(scores, their_scores, rtol=1e-4, atol=1e-5)


def same_chances(torch_model, model, params, source, segments, start=0):
  """Asserts that each token is drawn from the distribution of `generate`.

  Ours follows the text that transformers draws.
  """
  torch.manual_seed(0)
  found = torch_model.generate(
    torch.from_numpy(source).long(),
    attention_mask=torch.from_numpy(segments),
    do_sample=True,
    max_new_tokens=T,
    eos_token_id=EOS,
    pad_token_id=0,
    return_dict_in_generate=True,
    output_scores=True,
    **DRAWN,
  )
  steps = len(found.scores)
  tokens = found.sequences[:, -steps:].numpy().astype('int32')
  ended = np.cumsum(tokens == EOS, axis=1) - (tokens == EOS) > 0
  fixed = {'model': model, 'length': T, 'start': start}
  logits, cache, context = jax.jit(
    functools.partial(decoding.prefill, **fixed)
  )(params, source, segments)
  read = jax.jit(functools.partial(decoding.read, model=model))
  temperature, *limits = DRAWN.values()
  for n, theirs in enumerate(found.scores):
    ours = jax.nn.softmax(limit(logits / temperature, *limits))
    going_on = ~ended[:, n]
    np.testing.assert_allclose(
      ours[going_on], torch.softmax(theirs, -1)[going_on], atol=1e-5
    )
    logits, cache = read(
      params, tokens[:, n : n + 1], cache, context, np.int32(n + 1)
    )


def prompts(vocabulary):
  """Three prompts of other lengths, padded on the left."""
  rng = np.random.default_rng(0)
  source, segments = np.zeros((2, 3, 6), 'int32')
  for row, length in enumerate((6, 1, 3)):
    source[row, 6 - length :] = rng.integers(6, vocabulary, length)
    segments[row, 6 - length :] = 1
  return source, segments


NAMES = 'gpt1', 'gpt2', 'gptj', 'gpt_neox', 'opt', 'bloom', 'llama1', 'llama3.1'


@pytest.mark.parametrize('name', NAMES)
def test_decoders(name, tmp_path):
  torch_model = hf_decoders.torch_model(name, use_cache=True)
  config, params = pretrained.load(reference.saved(torch_model, tmp_path))
  model = build(config)
  source, segments = prompts(hf_decoders.V)
  for search in SEARCHES:
    theirs = generated(
      torch_model, *search, input_ids=source, attention_mask=segments
    )
    compare(searched(model, params, source, segments, *search), theirs)
  same_chances(torch_model, model, params, source, segments)


def test_rwkv(tmp_path):
  """One row: transformers' RWKV knows no padding, nor how to reorder beams."""
  torch_model = hf_decoders.torch_model('rwkv', use_cache=True)
  config, params = pretrained.load(reference.saved(torch_model, tmp_path))
  source, segments = (x[:1] for x in prompts(hf_decoders.V))
  theirs = generated(torch_model, 1, 0.0, input_ids=source)
  model = build(config)
  compare(searched(model, params, source, segments, 1, 0.0), theirs)
  same_chances(torch_model, model, params, source, segments)
  # So its beams are compared with those of the whole text read at each step.
  tokens, scores = searched(model, params, source, segments, 4, 1.0)
  for own, score in zip(tokens[0], scores[0], strict=True):
    length = int(np.argmax([*own, 0] == 0)) if 0 in own else T
    text = np.concatenate([source[0], own[:length]])[None]
    with torch.no_grad():
      logits = torch_model(torch.from_numpy(text).long()).logits[0]
    chances = torch.log_softmax(logits, -1)[source.shape[1] - 1 : -1]
    at = torch.tensor(own[:length]).long()[:, None]
    total = float(chances.gather(1, at).sum()) / length
    assert score == pytest.approx(total, rel=1e-4)
  assert (np.diff(scores[0]) <= 0).all()


@pytest.mark.parametrize('version', ['1.0', '1.1'])
def test_t5(version):
  layers = {'encoder_layers': 2, 'decoder_layers': 2}
  config = t5_reference.tiny_config(version, **layers)
  model = build(config)
  params = t5_reference.random_params(model)
  torch_model = t5_reference.torch_model(config)
  t5_reference.load(torch_model, t5_reference.to_torch(params, config))
  source, segments = prompts(config.vocab_size)
  source, segments = source[:, ::-1].copy(), segments[:, ::-1].copy()
  for search in SEARCHES:
    theirs = generated(
      torch_model, *search, input_ids=source, attention_mask=segments
    )
    compare(searched(model, params, source, segments, *search), theirs)
  same_chances(torch_model, model, params, source, segments)


def test_the_transformer():
  """Beside transformers' Marian, whose texts begin with its padding, 1."""
  torch_model, config, params = marian('mlp')
  torch_model.generation_config.forced_eos_token_id = None
  source, segments = prompts(config.vocab_size)
  source, segments = source[:, ::-1].copy(), segments[:, ::-1].copy()
  model, torch_model = build(config), torch_model.eval()
  for search in (*SEARCHES, (8, 0.0)):
    theirs = generated(
      torch_model, *search, input_ids=source, attention_mask=segments
    )
    ours = searched(model, params, source, segments, *search, start=1)
    compare(ours, theirs)
  same_chances(torch_model, model, params, source, segments, start=1)


@pytest.mark.parametrize('name', NAMES)
def test_the_last_positions_and_an_end_at_once(name, tmp_path):
  """A prompt of all positions but one; then a text that ends as it begins."""
  torch_model = hf_decoders.torch_model(name, use_cache=True)
  config, params = pretrained.load(reference.saved(torch_model, tmp_path))
  last = hf_decoders.T - 1
  source = np.random.default_rng(1).integers(6, hf_decoders.V, (2, last))
  rows = source.astype('int32'), np.ones((2, last), 'int32')
  assert decoding.room(config, rows[1]) == (
    2 if config.position == 'learned' else None
  )
  theirs, _ = generated(torch_model, 1, 0.0, new=2, input_ids=source)
  fixed = {'model': build(config), 'length': 2}
  decode = jax.jit(functools.partial(decoding.decode, **fixed))
  ours = decode(params, *rows, eos=EOS).tokens
  np.testing.assert_array_equal(ours, theirs[:, 0])
  first = int(theirs[0, 0, 0])
  state = decode(params, rows[0], rows[1], eos=first)
  assert state.tokens[0].tolist() == [first, 0]
  assert state.done.tolist()[0]


def test_gnmts_penalty_ranks_by_its_formula():
  """((5 + l) / 6)^0.6: scores are sums of log probabilities over that."""
  config = t5_reference.tiny_config()
  model = build(config)
  params = t5_reference.random_params(model)
  source, segments = prompts(config.vocab_size)
  fixed = {'model': model, 'length': T, 'eos': EOS, 'beams': 4}
  run = functools.partial(beams.beam_search, penalty=0.6, gnmt=True, **fixed)
  found = map(np.asarray, jax.jit(run)(params, source, segments))
  tokens, scores, log_probs = (x[:, 0] for x in found)
  inputs = np.pad(tokens, [(0, 0), (1, 0)])[:, :-1]
  logits = model.apply(
    {'params': params}, inputs=inputs, encoder_inputs=source,
    segments=np.ones_like(inputs), encoder_segments=segments,
  )  # fmt: skip
  chances = np.take_along_axis(
    np.asarray(jax.nn.log_softmax(logits)), tokens[..., None], -1
  )[..., 0]
  for own, chance, score, logs in zip(
    tokens, chances, scores, log_probs, strict=True
  ):
    length = list(own).index(EOS) + 1 if EOS in own else T
    np.testing.assert_allclose(logs[:length], chance[:length], rtol=1e-4)
    expected = chance[:length].sum() / ((5 + length) / 6) ** 0.6
    assert score == pytest.approx(expected, rel=1e-4)


def test_penalties_and_a_minimum(tmp_path):
  """Tokens that were read or written are rarer, and texts have 5 at least."""
  torch_model = hf_decoders.torch_model('gpt2', use_cache=True)
  config, params = pretrained.load(reference.saved(torch_model, tmp_path))
  source = prompts(hf_decoders.V)[0][:1].repeat(3, axis=0)
  source[:, -1] = 7, 8, 9  # as long as each other
  model, rows = build(config), (source, source * 0 + 1)
  plain = searched(model, params, *rows, 1, 0.0)[0]
  eos = int(plain[0, 0, 1])  # a text would end soon
  how = Sampling(repetition=1.5, minimum=5)
  fixed = {'model': model, 'length': T, 'eos': eos}
  found = jax.jit(functools.partial(decoding.decode, how=how, **fixed))
  theirs, _ = generated(
    torch_model, 1, 0.0, input_ids=source, eos=eos, repetition_penalty=1.5,
    min_new_tokens=5,
  )  # fmt: skip
  ours = np.asarray(found(params, *rows).tokens)
  np.testing.assert_array_equal(ours, theirs[:, 0])
  assert (ours != plain[:, 0]).any()
  assert (ours[:, :5] != eos).all()
  search = functools.partial(
    beams.beam_search, beams=4, minimum=5, penalty=1.0, **fixed
  )
  theirs = generated(
    torch_model, 4, 1.0, input_ids=source, eos=eos, min_new_tokens=5
  )
  compare(map(np.asarray, jax.jit(search)(params, *rows)[:2]), theirs)

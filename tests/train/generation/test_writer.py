"""Answers to prompts: whatever stands beside them, until what ends them."""

import dataclasses

import jax
import numpy as np
import pytest

from configs import gpt2, t5
from models.build import build
from tests.helpers.decoders import tiny_decoder
from tests.helpers.letters import Letters
from tests.helpers.t5_reference import random_params
from train.generation import programs, prompts
from train.generation.options import GREEDY, Options
from train.generation.writer import Writer
from train.setup import set_up

PROMPTS = ['a', 'bcd', 'so it goes', 'once upon a time there was', 'x1', 'y']


@pytest.fixture(scope='module')
def writer():
  model = build(tiny_decoder('rope', decoder_layers=1))
  return Writer(model, random_params(model), Letters(), 0, False, None, 24)


def test_an_answer_does_not_depend_on_the_others(writer):
  drawn = Options(temperature=1.0, top_k=20, seed=3)
  together = writer.answers(PROMPTS, drawn, batch=4)
  assert len({answer.text for (answer,) in together}) == len(PROMPTS)
  for n, prompt in enumerate(PROMPTS):
    # In as many rows; another number of them moves the last bit.
    assert writer.answers([prompt] * 4, drawn, 4, n)[0] == together[n]
  other = writer.answers(PROMPTS, dataclasses.replace(drawn, seed=4), 4)
  assert other != together
  # An answer's number is part of what it is drawn by.
  several = dataclasses.replace(drawn, samples=3)
  for own, (first,) in zip(
    writer.answers(PROMPTS, several, 4), together, strict=True
  ):
    assert len({answer.text for answer in own}) == 3
    assert own[0].text == first.text


@pytest.mark.parametrize('beams', [1, 3])
def test_lengths_share_a_program(writer, beams):
  model, _ = writer.writing
  fixed = writer.fixed._replace(model=model)

  def compiled():
    if beams > 1:
      return programs.searching(fixed, beams, 0.6)._cache_size()
    return [x._cache_size() for x in programs.stepwise(fixed, GREEDY.sampling)]

  own = Options(beams=beams)
  ((longer,),) = writer.answers(['bcd'], dataclasses.replace(own, length=9))
  before = compiled()
  ((shorter,),) = writer.answers(['bcd'], dataclasses.replace(own, length=4))
  assert compiled() == before
  assert (len(longer.tokens), len(shorter.tokens)) == (9, 4)
  if beams == 1:
    assert longer.tokens[:4] == shorter.tokens
  writer.answers(['bcd'], dataclasses.replace(own, length=prompts.ROOM + 1))
  assert compiled() != before


def test_log_probabilities(writer):
  """Those of the model that reads prompt and answer at once."""
  ((answer,),) = writer.answers(['bcd'], Options(length=9))
  ids = np.array([[0, *writer.encoded('bcd')[1:], *answer.tokens]])
  logits = writer.model.apply({'params': writer.params}, ids, ids * 0 + 1)
  log_probs = np.asarray(jax.nn.log_softmax(logits))[0, 3:-1]
  expected = log_probs[np.arange(len(answer.tokens)), answer.tokens]
  np.testing.assert_allclose(answer.log_probs, expected, atol=1e-4)
  assert answer.score == pytest.approx(expected.sum(), abs=1e-3)


def test_ends(writer):
  ((whole,),) = writer.answers(['bcd'])
  assert whole.end == 'length'
  assert len(whole.tokens) == 24
  stop = whole.text[18:20]  # in the second chunk
  at = whole.text.index(stop)
  ((cut,),) = writer.answers(['bcd'], Options(stop=('no such', stop)))
  assert (cut.text, cut.end) == (whole.text[:at], 'stop')
  assert cut.tokens == whole.tokens[: at + 2]
  assert cut.log_probs == pytest.approx(whole.log_probs[: at + 2], abs=1e-6)
  # A token that ends texts is no part of the text, and comes late enough.
  ending = Letters()
  ending.eos = whole.tokens[6]
  first = whole.tokens.index(ending.eos)
  ends = dataclasses.replace(writer, tokenizer=ending)
  ((ended,),) = ends.answers(['bcd'])
  assert (ended.text, ended.end) == (whole.text[:first], 'eos')
  assert ended.tokens == whole.tokens[: first + 1]
  ((later,),) = ends.answers(['bcd'], Options(minimum=15))
  assert ending.eos not in later.tokens[:15]


def test_beams_give_several_answers(writer):
  found = writer.answers(PROMPTS[:3], Options(beams=4, samples=3, length=6))
  for answers in found:
    scores = [answer.score for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert len({answer.tokens for answer in answers}) == 3
    best = answers[0]
    length = len(best.tokens)
    expected = sum(best.log_probs) / ((5 + length) / 6) ** 0.6
    assert best.score == pytest.approx(expected, rel=1e-4)


def test_pieces_of_a_stream(writer):
  ((whole,),) = writer.answers(['bcd'])
  pieces = list(writer.stream('bcd', every=5))
  assert len(pieces) == 5
  assert ''.join(pieces) == whole.text
  stop = whole.text[10:13]
  options = Options(stop=(stop,))
  pieces = list(writer.stream('bcd', options, every=1))
  assert ''.join(pieces) == whole.text[: whole.text.index(stop)]


def test_what_may_still_change_is_not_shown():
  assert prompts.settled('abc', ('cde', 'x')) == 'ab'
  assert prompts.settled('abcd', ('cde',)) == 'ab'
  assert prompts.settled('caf\ufffd', ()) == 'caf'
  assert prompts.settled('abc', ('b',)) == 'abc'


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'temperature': -1.0}, 'temperature=-1.0 must be at least 0'),
    ({'temperature': float('nan')}, 'temperature=nan must be at least 0'),
    ({'top_p': 0.0}, 'top_p=0.0 must be above 0'),
    ({'min_p': 1.0}, 'min_p=1.0 must be at least 0, below 1'),
    ({'top_k': 5}, 'top_k, top_p and min_p need a temperature'),
    ({'repetition_penalty': 0.0}, 'repetition_penalty=0.0 must be above 0'),
    ({'stop': ('a', '')}, 'A stop string is empty'),
    ({'minimum': 9, 'length': 8}, 'minimum=9 is more than length=8'),
    ({'samples': 2}, 'samples=2 of the likeliest text are all the same'),
    ({'beams': 2, 'samples': 3}, 'samples=3 are more than the beams=2'),
    ({'beams': 2, 'temperature': 1.0}, 'beams=2 search the likeliest text'),
    ({'beams': 0}, 'beams=0 must be at least 1'),
  ],
)
def test_options_that_do_not_fit(values, message):
  with pytest.raises(ValueError, match=message):
    Options(**values)


def test_what_cannot_be_answered(writer):
  for prompt, options, message in (
    ('', Options(), 'has 0 tokens; it needs one'),
    ('a', Options(beams=41), '41 beams are more than the 40 tokens'),
    ('a', Options(minimum=25), 'minimum=25 is more than 24'),
  ):
    with pytest.raises(ValueError, match=message):
      writer.answers([prompt], options)
  short = dataclasses.replace(writer, longest=4)
  with pytest.raises(ValueError, match='has 4 tokens; it needs one, and at'):
    short.answers(['abcd'])


def test_a_length_beyond_the_learned_positions():
  """A start and three tokens leave positions for 5 more."""
  model = build(tiny_decoder('learned', max_length=8, decoder_layers=1))
  writer = Writer(model, random_params(model), Letters(), 0, False, 12, 6)
  for length in (0, 5):  # by itself 6, or as many as there are
    ((answer,),) = writer.answers(['abc'], Options(length=length))
    assert len(answer.tokens) == 5
  message = 'of 6 tokens .*: model.max_length=8 .* for 5 after'
  with pytest.raises(ValueError, match=message):
    writer.answers(['abc'], Options(length=6))


@pytest.mark.parametrize('paper', [gpt2, t5])
def test_eight_devices_write_as_one(paper):
  """Parameters are cut over fsdp and tensor, rows over data and fsdp."""
  config = paper.get_config('tiny')
  config.model.vocab_size = 48
  config.data.source = 'synthetic'
  config.data.sentinels = 0 if paper is gpt2 else config.data.sentinels
  config.sharding.rules = 'fsdp_tensor'
  config.sharding.mesh.update({'data': 2, 'fsdp': 2, 'tensor': 2})
  setup = set_up(config)
  params = random_params(setup.model)
  writer = Writer(
    setup.model, params, Letters(), 0, paper is t5, 32, 8
  )  # fmt: skip
  mesh = dataclasses.replace(
    writer,
    params=jax.device_put(params, setup.places.params),
    mesh=setup.mesh,
    rules=setup.rules,
  )
  for options in (
    Options(temperature=1.0, samples=2),
    Options(beams=3, samples=2, stop=('7',)),
  ):
    ours, one = (x.answers(PROMPTS, options) for x in (mesh, writer))
    for own, expected in zip(ours, one, strict=True):
      for a, b in zip(own, expected, strict=True):
        assert a.tokens == b.tokens
        np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-4)


def test_modes_stand_before_prompts(writer):
  """UL2's, after the id that texts begin with; unknown ones are refused."""
  ids = lambda text: [*Letters().encode_batch([text.encode()])[0]]  # noqa: E731
  found = writer.encoded('bcd', 'x2')
  np.testing.assert_array_equal(found, [0, *ids('x2'), *ids('bcd')])
  known = dataclasses.replace(writer, modes=('x2', 'r'))
  ((answer,),) = known.answers(['bcd'], Options(length=9, mode='x2'))
  assert answer == writer.answers([found], Options(length=9))[0][0]
  with pytest.raises(ValueError, match="mode='s' was not .* one of x2, r"):
    known.answers(['bcd'], Options(mode='s'))
  with pytest.raises(ValueError, match='it must be none'):
    dataclasses.replace(writer, modes=()).answers(['b'], Options(mode='s'))

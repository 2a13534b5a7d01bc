"""Rows of compared answers, in all families."""

import dataclasses

import numpy as np
import pytest

from input_pipeline.chat.encoding import encode, prompt
from input_pipeline.chat.templates import KNOWN, NEEDS, Template
from input_pipeline.objectives import features, preferences
from input_pipeline.objectives.chats import asked
from input_pipeline.sources.preferences import Preference
from input_pipeline.tokenizers.interface import start_id
from tests.helpers.answers import TOKENIZER, data_of
from tests.helpers.tokenizers import with_specials

CHAR = {x: n + 10 for n, x in enumerate('abcdefghij')}
EOS = TOKENIZER.eos


class Letters:
  """A tokenizer of one id a letter; others have none."""

  size, pad, bos, eos, cls, sep = 41, 0, 1, EOS, 3, 4

  def encode_batch(self, texts, threads=1):
    return [
      np.int32([CHAR[x] for x in text.decode() if x in CHAR]) for text in texts
    ]


def encoded(method, family, *examples, **data):
  config = data_of(method, family, **data)
  form = preferences.Answers(config, family)
  rows, lost, bad = form.encode(
    [Preference(n, *x) for n, x in enumerate(examples)], Letters()
  )
  shapes = preferences.shapes(config, family)
  found = [row for own in rows for row in own]
  batch = features.split(preferences.lay_out(found, shapes), shapes)
  return batch, lost, bad


def ids(text):
  return [CHAR.get(x, {'.': EOS, '_': 0}.get(x)) for x in text]


def test_a_decoder_reads_on_from_the_prompt():
  batch, *_ = encoded('dpo', 'decoder', ('ab', 'cd', 'e'), length=6)
  np.testing.assert_array_equal(
    batch['inputs'][0], [ids('abcd__'), ids('abe___')]
  )
  np.testing.assert_array_equal(
    batch['targets'][0], [ids('bcd.__'), ids('be.___')]
  )
  np.testing.assert_array_equal(
    batch['weights'][0], [[0, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0]]
  )
  np.testing.assert_array_equal(
    batch['prefix'][0], [[1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0]]
  )
  np.testing.assert_array_equal(batch['segments'][0, 1], [1, 1, 1, 0, 0, 0])
  np.testing.assert_array_equal(batch['positions'][0, 0], [0, 1, 2, 3, 0, 0])
  # With a start, the first token of the prompt is predicted too.
  batch, *_ = encoded('dpo', 'decoder', ('', 'cd', 'e'), start='pad', length=6)
  np.testing.assert_array_equal(batch['inputs'][0, 0], [0, *ids('cd___')])
  np.testing.assert_array_equal(batch['weights'][0, 0], [1, 1, 1, 0, 0, 0])


def test_an_encoder_decoder_reads_the_prompt_once():
  batch, *_ = encoded('dpo', 'encoder_decoder', ('ab', 'cd', 'e'))
  np.testing.assert_array_equal(batch['encoder_inputs'][0, :4], ids('ab._'))
  np.testing.assert_array_equal(batch['inputs'][0, 0], ids('_cd___'))
  np.testing.assert_array_equal(
    batch['targets'][0], [ids('cd.___'), ids('e.____')]
  )
  np.testing.assert_array_equal(batch['weights'][0, 1], [1, 1, 0, 0, 0, 0])


def test_a_head_reads_whole_texts():
  batch, *_ = encoded('reward', 'decoder', ('ab', 'cd', 'e'), length=6)
  assert 'targets' not in batch
  np.testing.assert_array_equal(
    batch['inputs'][0], [ids('abcd._'), ids('abe.__')]
  )
  batch, *_ = encoded('reward', 'encoder', ('ab', 'cd', 'e'), length=8)
  np.testing.assert_array_equal(
    batch['inputs'][0, 0], [3, *ids('ab'), 4, *ids('cd'), 4, 0]
  )
  np.testing.assert_array_equal(batch['types'][0, 0], [0, 0, 0, 0, 1, 1, 1, 0])
  batch, *_ = encoded('reward', 'encoder_decoder', ('ab', 'cd', 'e'))
  assert 'targets' not in batch
  np.testing.assert_array_equal(batch['encoder_inputs'][0, :4], ids('ab._'))
  np.testing.assert_array_equal(batch['segments'][0, 0], [1, 1, 1, 0, 0, 0])


SKIPPED = [
  (('ab', 'c', ''), 'the rejected answer has no token'),
  (('ab', '!', 'c'), 'the chosen answer has no token'),
  (('ab', 'c!', 'c'), 'the chosen answer equals the rejected one'),
  (('abcdefghij', 'c', 'd'), 'the prompt has 10 tokens, too many'),
  (('abcd', 'cde', 'cdf'), 'in the row the chosen answer equals the rejected'),
]


@pytest.mark.parametrize(('example', 'why'), SKIPPED)
def test_what_cannot_be_compared_is_skipped_with_a_reason(example, why):
  batch, lost, bad = encoded(
    'dpo', 'decoder', ('a', 'b', 'c'), example, length=5
  )
  assert bad.keys() == {1}
  assert why in bad[1]
  assert len(batch['inputs']) == 1
  assert lost == [False, False]


def test_a_long_answer_is_cut_and_counted():
  batch, lost, _ = encoded('dpo', 'decoder', ('ab', 'cdefgh', 'd'), length=5)
  assert lost == [True]
  np.testing.assert_array_equal(batch['targets'][0, 0], ids('bcdef'))


def test_without_a_prompt_or_a_start_nothing_predicts_the_answer():
  _, _, bad = encoded('dpo', 'decoder', ('', 'b', 'c'))
  assert "no token, and data.start is 'none'" in bad[0]


def test_rows_have_the_numbers_of_their_example():
  config = data_of('kto')
  numbers = np.arange(6, dtype=np.float32).reshape(3, 2)
  form = preferences.Answers(config, 'decoder', numbers)
  examples = [Preference(2, 'a', 'b', 'c', 0.0), Preference(0, 'a', 'b', 'b')]
  rows, _, bad = form.encode(examples, Letters())
  assert not bad  # answers to two prompts may be alike
  shapes = preferences.shapes(config, 'decoder')
  whole = preferences.make_rows(rows, shapes, np.random.default_rng(0))
  batch = features.split(whole, shapes)
  order = np.argsort(batch['desirable'])
  np.testing.assert_array_equal(batch['desirable'][order], [0, 1])
  np.testing.assert_array_equal(batch['reference'][order], [[4, 5], [0, 1]])


CHAT = [
  {'role': 'system', 'content': 'Be brief.'},
  {'role': 'user', 'content': 'Why is the sky blue?'},
  {'role': 'assistant', 'content': 'Light.'},
  {'role': 'user', 'content': 'And red?'},
]
ANSWERS = 'It scatters.', '  Less <|im_end|> than blue.\nSo.'


@pytest.mark.parametrize('family', ['decoder', 'encoder_decoder'])
@pytest.mark.parametrize('name', ['chatml', 'llama2', 'llama3', 'plain'])
def test_answers_in_a_chat_are_those_of_the_whole_chat(name, family):
  """The template's end of a turn stands in place of EOS."""
  tokenizer = with_specials('byte_bpe', NEEDS.get(name, ()))
  data = {'target_length': 150} if family == 'encoder_decoder' else {}
  config = data_of(
    'dpo', family, chat_template=name, length=300, start='bos', **data
  )
  bos = start_id(tokenizer, config)
  template = Template(name, KNOWN[name], tokenizer, bos)
  form = preferences.Answers(config, family, template=template)
  [[row]], _, bad = form.encode([Preference(0, CHAT, *ANSWERS)], tokenizer)
  assert not bad
  wanted = prompt(CHAT, template, tokenizer)
  for n, answer in enumerate(ANSWERS):
    whole = encode(
      [*CHAT, {'role': 'assistant', 'content': answer}], template, tokenizer
    )
    first, end = whole.turns[-1]
    line, weights = row['targets'][n], row['weights'][n]
    own = line[np.asarray(weights) > 0]
    np.testing.assert_array_equal(own, whole.ids[first:end])
    assert own[-1] == template.end
    np.testing.assert_array_equal(whole.ids[:first], wanted)
    if family == 'decoder':  # rows begin with one BOS
      ids = np.append(row['inputs'][n], line[-1])
      begins = whole.ids[0] == bos
      np.testing.assert_array_equal(ids[1 - begins :], whole.ids[:end])
      assert ids[0] == bos
  if family == 'encoder_decoder':
    read = asked(CHAT, template, tokenizer, bos, pair=True)
    np.testing.assert_array_equal(row['encoder_inputs'], read)


def test_a_chat_without_an_answer_is_skipped():
  tokenizer = with_specials('byte_bpe', ())
  config = data_of('dpo', chat_template='llama2', length=300, start='bos')
  template = Template('llama2', KNOWN['llama2'], tokenizer, 0)
  form = preferences.Answers(config, 'decoder', template=template)
  *_, bad = form.encode([Preference(0, CHAT, 'a', ' ')], tokenizer)
  assert bad == {0: 'the rejected answer has no token'}


@pytest.mark.parametrize(
  ('method', 'family', 'data', 'message'),
  [
    ('dpo', 'decoder', {'framing': 'bert'}, 'framing'),
    ('reward', 'encoder', {'chat_template': 'plain'}, 'chat_template'),
    ('reward', 'encoder', {'framing': ''}, 'data.framing'),
    ('dpo', 'decoder', {'target_length': 4}, 'target_length is 4'),
    ('dpo', 'encoder', {}, "no rows for model.family='encoder'"),
    ('reward', 'rwkv', {}, "no rows for model.family='rwkv'"),
  ],
)
def test_what_a_family_cannot_read(method, family, data, message):
  known = family if family != 'rwkv' else 'decoder'
  if method == 'dpo':
    known = 'decoder'
  with pytest.raises(ValueError, match=message):
    preferences.shapes(data_of(method, known, **data), family)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'source': 'json:x'}, "sources 'preferences:GLOB' are for preference"),
    ({'objective': 'causal'}, "does not suit data.objective='causal'"),
    ({'pack': True}, 'has one example a row'),
  ],
)
def test_settings_that_do_not_go_together(changes, message):
  config = data_of('dpo')
  with pytest.raises(ValueError, match=message):
    dataclasses.replace(config, **changes)

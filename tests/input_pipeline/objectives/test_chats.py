"""Chats become rows: answers are predicted, packed without leakage."""

import dataclasses
import json

import numpy as np
import pytest

from input_pipeline.chat import templates
from input_pipeline.chat.messages import exchange
from input_pipeline.instructions.catalog import find
from input_pipeline.objectives import chats, features, labelled
from input_pipeline.objectives.rows import batch_shapes, make_rows
from input_pipeline.pipeline import open_data
from input_pipeline.tokenizers import kinds
from tests.helpers.corpora import assert_same, data_config, last_cursor
from tests.helpers.tokenizers import texts

LONG = [
  *exchange('Tobi nelu?', 'Mado.'),
  *exchange('Pibe kusa dora.', 'Lofe, numi.'),
]


@pytest.fixture(scope='module')
def tokenizer():
  return kinds.train(texts(), 90, 0, 'unigram')


def config_of(**changes):
  keys = {
    'objective': 'text_to_text', 'source': 'task:flan/words/last',
    'noise_density': 0.0, 'mean_span_length': 0.0, 'sentinels': 0,
    'document_tokens': 0, 'holdout': 0, 'length': 64, 'batch': 8,
    'streams': 2, 'block': 64, 'start': 'pad', 'threads': 1,
  }  # fmt: skip
  return data_config(**keys | changes)


def rows_of(documents, tokenizer, config, family='decoder'):
  shapes = batch_shapes(config, family)
  rng = np.random.default_rng(0)
  rows = make_rows(documents, tokenizer, config, shapes, rng, family)
  return features.split(rows, shapes)


def encoded(found, tokenizer, config, family='decoder', trained=True):
  template = templates.load('plain', tokenizer)
  return chats.encode_all(found, template, tokenizer, config, family, trained)


def test_weights_are_on_answers_alone(tokenizer):
  """Of several turns too; each segment holds one chat, from its start."""
  config = config_of(length=128)
  rows, lost, left_out = encoded(
    [[LONG], [LONG[:2]], [LONG]], tokenizer, config
  )
  assert not any(lost)
  assert not left_out
  batch = rows_of(rows, tokenizer, config)
  assert len(batch['inputs']) < 3  # packed
  seen = []
  for row, segments in enumerate(batch['segments']):
    for segment in range(1, segments.max() + 1):
      at = segments == segment
      inputs, targets = (batch[x][row][at] for x in ('inputs', 'targets'))
      assert inputs[0] == tokenizer.pad
      assert inputs[1:].tolist() == targets[:-1].tolist()
      assert batch['positions'][row][at].tolist() == [*range(at.sum())]
      ends = np.flatnonzero(targets == tokenizer.eos)
      turn = np.searchsorted(ends, np.arange(len(targets)))
      assert batch['weights'][row][at].tolist() == (turn % 2).tolist()
      read = batch['prefix'][row][at]
      assert read.tolist() == ([1] * (ends[0] + 2) + [0] * 99)[: len(read)]
      seen.append(len(ends))
  assert sorted(seen) == [2, 4, 4]


def test_one_turn_in_plain_is_text_to_text(tokenizer):
  """The rows are those of the same pair without a chat."""
  pairs = [('Tobi nelu?', 'Mado.'), ('Pibe kusa dora.', 'Lofe, numi.')]
  task = dataclasses.replace(
    find('flan/words/last'), chats=None, evaluated=None,
    text_to_text=lambda example: [pairs[example]],
  )  # fmt: skip
  for family in 'decoder', 'encoder_decoder':
    for trained in True, False:
      plain = config_of()
      template = templates.load('plain', tokenizer)
      chatted = dataclasses.replace(plain, chat_template='plain')
      found = [
        labelled.Format(task, config, family, trained, template).encode(
          [0, 1], tokenizer
        )
        for config in (plain, chatted)
      ]
      assert found[0].lost == found[1].lost
      for one, other in zip(found[0].rows, found[1].rows, strict=True):
        for name in 'inputs', 'targets':
          assert one[0][name].tolist() == other[0][name].tolist()


def test_an_encoder_reads_what_was_said_before(tokenizer):
  rows, lost, _ = encoded(
    [[LONG]], tokenizer, config_of(), family='encoder_decoder'
  )
  assert not any(lost)
  first, second = rows[0]
  assert second['inputs'][: len(first['inputs'])].tolist() == (
    first['inputs'].tolist()
  )
  assert tokenizer.decode(second['targets']) == LONG[-1]['content']
  assert second['inputs'][-1] == tokenizer.eos


def test_long_chats(tokenizer):
  """Turns beyond the row are lost; a prompt that fills it leaves no row."""
  sizes = [len(tokenizer.encode_batch([x['content']])[0]) + 1 for x in LONG]
  whole = sum(sizes)
  for family in 'decoder', 'encoder_decoder':
    config = config_of(length=sum(sizes[:3]))
    rows, lost, left_out = encoded([[LONG]], tokenizer, config, family)
    assert lost == [family == 'decoder']
    if family == 'decoder':  # the second prompt fills the row
      assert sum(len(rows[0][0][x]) for x in ('inputs', 'targets')) == sum(
        sizes[:2]
      )
    config = config_of(length=sizes[0] if family == 'decoder' else 4)
    rows, lost, left_out = encoded([[LONG]], tokenizer, config, family)
    assert rows == [[]]
    assert 'leaves no room for an answer' in left_out[0]
    # An evaluated one loses the beginning of its prompt.
    rows, lost, left_out = encoded(
      [[LONG]], tokenizer, config, family, trained=False
    )
    assert lost == [True]
    assert not left_out
    assert len(rows[0][0]['inputs']) <= config.length
    assert rows[0][0]['inputs'][-1] == tokenizer.eos
  config = config_of(length=whole - 1)
  [[row]], lost, _ = encoded([[LONG]], tokenizer, config)
  assert lost == [True]
  assert len(row['inputs']) + len(row['targets']) == whole - 1
  assert row['answers'][-1] == 1


def test_an_answer_without_a_token_is_left_out(tokenizer):
  empty = exchange('Tobi?', '\u200b')
  rows, _, left_out = encoded([[empty]], tokenizer, config_of())
  assert rows == [[]]
  assert left_out == {0: 'its answer has no token'}


def test_what_is_asked_is_how_the_rows_begin(tokenizer):
  for name in 'plain', 'llama2':
    template = templates.load(name, tokenizer)
    config = config_of(length=128)
    for family in 'decoder', 'encoder_decoder':
      [[row]], _, _ = chats.encode_all(
        [[LONG[:2]]], template, tokenizer, config, family, True
      )
      pair = family == 'encoder_decoder'
      before = [] if pair else [tokenizer.pad]
      found = chats.asked(LONG[:1], template, tokenizer, tokenizer.pad, pair)
      assert found.tolist() == [*before, *row['inputs']]


def opened(config, family='decoder', workdir=None, eval_source=''):
  return open_data(config, 0, 300, eval_source, workdir, family=family)


def batches(data, count):
  found = data.batches(data.start(), np.arange(data.config.batch))
  return [next(found) for _ in range(count)]


def test_rows_are_a_function_of_the_cursor(tmp_path):
  """Wording too; another epoch draws others."""
  config = config_of(
    shots=2, shot_share=0.5, option_share=0.5, inverted_share=0.3,
    tokenizer_kind='bytes', length=256,
  )  # fmt: skip
  data = opened(config)
  first = batches(data, 4)
  for one, other in zip(first, batches(opened(config), 4), strict=True):
    assert_same(one, other)
  again = data.batches(last_cursor(first[1], 2), np.arange(8), taken=16)
  assert_same(next(again), first[2])
  lines = [[x.tobytes() for x in batch['targets']] for batch in first]
  assert len({x for batch in lines for x in batch}) == 32


def test_a_worked_example_is_one_of_those_that_are_learnt():
  config = config_of(
    shots=2, shot_share=1.0, documents=3, streams=1, length=512,
    tokenizer_kind='bytes',
  )  # fmt: skip
  data = opened(config)
  [corpus] = data.corpora
  known = {x['words'] for x in corpus.source.examples[:3]}
  words = [*{x['words'] for x in corpus.source.examples} - known]
  for batch in batches(data, 3):
    for row, own in zip(batch['inputs'], batch['segments'], strict=True):
      text = data.tokenizer.decode(row[own > 0])
      assert not any(f'{x}\n' in text for x in words if len(x.split()) > 2)


def test_examples_without_a_row_are_counted(tmp_path, capsys):
  path = tmp_path / 'a.jsonl'
  rows = [exchange('x' * n, 'yes') for n in (5, 90, 6, 91, 7)]
  path.write_text(''.join(json.dumps({'messages': x}) + '\n' for x in rows))
  config = config_of(
    source=f'task:messages:{path},validation={path}', tokenizer_kind='bytes'
  )
  data = opened(config)
  batches(data, 3)
  assert data.report()['left_out'] == 2
  assert 'example 1: its prompt has 91 tokens' in capsys.readouterr().out
  with pytest.raises(ValueError, match='5 examples are left out.*data.length'):
    batches(opened(dataclasses.replace(config, length=5)), 1)


def test_a_template_is_kept_in_the_workdir(tmp_path):
  own = tmp_path / 'own.jinja'
  text = "{% for m in messages %}{{ m.content ~ ' ' ~ eos_token }}{% endfor %}"
  own.write_text(text)
  config = config_of(tokenizer_kind='bytes', chat_template=str(own))
  workdir = str(tmp_path / 'run')
  one = opened(config, workdir=workdir)
  own.unlink()
  other = opened(config, workdir=workdir)
  assert other.template.text == text
  assert one.fingerprint == other.fingerprint
  plain = opened(config_of(tokenizer_kind='bytes'))
  assert 'chat_template' not in plain.fingerprint['data']
  assert plain.end_id == plain.tokenizer.eos


def test_several_tasks_are_evaluated(tmp_path):
  config = config_of(tokenizer_kind='bytes')
  names = 'task:flan/words/first@validation task:flan/numbers/sum@validation'
  data = opened(config, eval_source=names)
  assert [x.source.task.name for x in data.evaluated] == [
    'flan/words/first',
    'flan/numbers/sum',
  ]


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'shots': 2}, 'data.shot_share=0.0 must be above 0'),
    ({'option_share': 1.5}, 'data.option_share=1.5 must lie between'),
    (
      {'source': 'task:glue/rte', 'inverted_share': 0.5},
      "data.inverted_share=0.5 must be 0: only tasks in words, 'task:flan/",
    ),
    (
      {'objective': 'causal', 'source': 'docs', 'chat_template': 'llama2'},
      "data.chat_template='llama2' must be ''",
    ),
  ],
)
def test_keys_that_are_not_read_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    config_of(**changes)

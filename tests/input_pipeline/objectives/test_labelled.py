"""Labelled examples become rows as the published codes make them."""

import dataclasses

import numpy as np
import pytest

from input_pipeline import corpora
from input_pipeline.objectives import (
  features,
  framing,
  labelled,
  labelled_rows,
  reading,
)
from input_pipeline.tasks.task import Span, Task


class Words:
  """A tokenizer whose words are tokens: 10, 11, ... in order of appearance."""

  cls, sep, eos, size = 1, 2, 3, 1000
  reads_sentinels = False

  def __init__(self):
    self.known = {}

  def encode_batch(self, texts, threads=1):
    ids = []
    for text in texts:
      text = text.decode() if isinstance(text, bytes) else text
      words = [
        self.known.setdefault(w, 10 + len(self.known)) for w in text.split()
      ]
      ids.append(np.array(words, np.int32))
    return ids

  def byte_lengths(self):
    sizes = np.zeros(self.size, np.int32)
    for word, i in self.known.items():
      sizes[i] = len(word)
    return sizes


@dataclasses.dataclass(frozen=True)
class Config:
  """The keys that rows of labelled examples read."""

  objective: str = 'classification'
  framing: str = 'bert'
  length: int = 12
  target_length: int = 0
  choices: int = 0
  orders: str = ''
  label_scale: float = 1.0
  tokenizer_kind: str = 'unigram'
  chat_template: str = ''


def task(kind='classification', **changes):
  record = {
    'name': 'own/task', 'kind': kind, 'splits': {'train': 'train'}, 'files': {},
    'read': lambda path: iter(()), 'labels': ('no', 'yes'),
    'texts': lambda x: x['texts'],
    'text_to_text': lambda x: [('read: ' + x['texts'][0], x['label'])],
    'decode': lambda text, x: text, 'metrics': lambda x, p: {},
  }  # fmt: skip
  return Task(**record | changes)


def rows(config, examples, record=None, family='encoder', trained=True):
  record = record or task(config.objective)
  found = labelled.Format(record, config, family, trained)
  return found.encode(examples, Words())


@pytest.mark.parametrize(
  ('kind', 'one', 'two', 'types'),
  [
    ('bert', [1, 10, 11, 2], [1, 10, 11, 2, 12, 2], [0, 0, 0, 0, 1, 1]),
    ('roberta', [1, 10, 11, 2], [1, 10, 11, 2, 2, 12, 2], [0] * 5 + [1] * 2),
    (
      'gpt1',
      [1000, 10, 11, 1002],
      [1000, 10, 11, 1001, 12, 1002],
      [0] * 4 + [1] * 2,
    ),
  ],
)
def test_frames(kind, one, two, types):
  """Frames are those of the papers.

  Devlin et al. 2019, 3.2; Liu et al. 2019; Radford et al. 2018, 3.3.
  """
  config = Config(framing=kind)
  examples = [
    {'texts': ('a b',), 'label': 'yes'},
    {'texts': ('a b', 'c'), 'label': 'no'},
  ]
  encoded = rows(config, examples)
  (first,), (second,) = encoded.rows
  assert first['inputs'].tolist() == one
  assert second['inputs'].tolist() == two
  assert second['types'].tolist() == types
  assert (first['labels'], second['labels'], encoded.cut) == (1, 0, 0)


def test_the_longer_text_of_a_pair_is_cut():
  """BERT's _truncate_seq_pair cuts the second where both are as long."""
  texts = [np.arange(9), np.arange(20, 25)]
  kept, cut = framing.shorten(texts, 9)
  assert [x.tolist() for x in kept] == [[0, 1, 2, 3, 4], [20, 21, 22, 23]]
  assert cut
  assert not framing.shorten(texts, 14)[1]
  encoded = rows(
    Config(length=8), [{'texts': ('a b c d e f', 'g h'), 'label': 'no'}]
  )
  assert encoded.rows[0][0]['inputs'].tolist() == [1, 10, 11, 12, 2, 16, 17, 2]
  assert encoded.cut == 1


def test_rows_of_a_head():
  config = Config(length=6)
  encoded = rows(config, [{'texts': ('a', 'b c'), 'label': 'yes'}])
  shapes = labelled_rows.shapes(config, 'encoder')
  whole = labelled_rows.lay_out(
    [row for own in encoded.rows for row in own], shapes
  )
  batch = features.split(whole, shapes)
  assert batch['inputs'].tolist() == [[1, 10, 2, 11, 12, 2]]
  assert batch['segments'].tolist() == [[1] * 6]
  assert batch['types'].tolist() == [[0, 0, 0, 1, 1, 1]]
  assert batch['positions'].tolist() == [[*range(6)]]
  assert (batch['labels'].tolist(), batch['weights'].tolist()) == ([1], [1.0])


def test_a_choice_has_a_line_for_each_pair():
  config = Config(objective='choice', choices=2, length=6)
  examples = [{'texts': [('a', 'b'), ('a', 'c c')], 'label': 'yes'}]
  encoded = rows(config, examples)
  shapes = labelled_rows.shapes(config, 'encoder')
  batch = features.split(labelled_rows.lay_out(encoded.rows[0], shapes), shapes)
  assert batch['inputs'].tolist() == [
    [[1, 10, 2, 11, 2, 0], [1, 10, 2, 12, 12, 2]]
  ]
  assert batch['segments'].sum(axis=2).tolist() == [[5, 6]]
  assert batch['labels'].tolist() == [1]
  with pytest.raises(ValueError, match=r'\[2\] choices, but data.choices=3'):
    rows(dataclasses.replace(config, choices=3), examples)


PAIR = {'texts': ('a b', 'c'), 'label': 'yes'}


def test_each_order_of_a_pair_is_trained_on():
  """ELECTRA's double_unordered; an evaluation reads a pair as it is."""
  config = Config(orders='each')
  encoded = rows(config, [PAIR, PAIR | {'label': 'no'}])
  lines = [[row['inputs'].tolist() for row in own] for own in encoded.rows]
  assert lines == [[[1, 10, 11, 2, 12, 2], [1, 12, 2, 10, 11, 2]]] * 2
  types = [row['types'].tolist() for row in encoded.rows[0]]
  assert types == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 1]]
  labels = [[row['labels'] for row in own] for own in encoded.rows]
  assert labels == [[1, 1], [0, 0]]
  shapes = labelled_rows.shapes(config, 'encoder')
  made = labelled_rows.make_rows(encoded.rows, shapes, np.random.default_rng(0))
  assert len(made) == 4
  held = rows(config, [PAIR], trained=False).rows
  assert [row['inputs'].tolist() for row in held[0]] == [lines[0][0]]


def test_a_row_has_both_orders_of_a_pair():
  """GPT-1: start a b delimiter c extract, and the two texts exchanged."""
  config = Config(framing='gpt1', orders='both', length=7)
  for trained in True, False:
    encoded = rows(config, [PAIR], family='decoder', trained=trained)
    shapes = labelled_rows.shapes(config, 'decoder')
    batch = features.split(
      labelled_rows.lay_out(encoded.rows[0], shapes), shapes
    )
    assert batch['inputs'].tolist() == [
      [[1000, 10, 11, 1001, 12, 1002, 0], [1000, 12, 1001, 10, 11, 1002, 0]]
    ]
    assert batch['labels'].tolist() == [1]
  with pytest.raises(ValueError, match="data.orders='both' adds what a dec"):
    labelled_rows.shapes(config, 'encoder')
  with pytest.raises(ValueError, match='own/task has examples with one'):
    rows(config, [{'texts': ('a',), 'label': 'yes'}], family='decoder')


def test_numbers_are_divided_by_the_scale():
  config = Config(objective='regression', label_scale=5.0)
  encoded = rows(config, [{'texts': ('a',), 'label': 3.8}])
  assert encoded.rows[0][0]['labels'] == pytest.approx(0.76)


def test_a_words_first_token_has_its_tag():
  """A word's other tokens do not count (Devlin et al. 2019, 5.3)."""
  config = Config(objective='tagging', length=7)
  examples = [
    {
      'texts': ['a b', '', 'c', 'd e', 'f'],
      'label': ['yes', 'no', 'yes', 'no', 'yes'],
    }
  ]
  encoded = rows(config, examples)
  shapes = labelled_rows.shapes(config, 'encoder')
  batch = features.split(labelled_rows.lay_out(encoded.rows[0], shapes), shapes)
  assert batch['inputs'].tolist() == [[1, 10, 11, 12, 13, 14, 2]]
  assert batch['weights'].tolist() == [[0, 1, 0, 1, 1, 0, 0]]
  assert batch['labels'].tolist() == [[0, 1, 0, 1, 0, 0, 0]]
  assert (encoded.cut, encoded.rows[0][0]['places']) == (1, {0: 1, 2: 3, 3: 4})


def test_text_to_text_pairs_end_with_eos():
  config = Config(objective='text_to_text', length=6, target_length=2)
  encoded = rows(
    config, [{'texts': ('a b c d e',), 'label': 'yes it is'}],
    family='encoder_decoder',
  )  # fmt: skip
  assert encoded.rows[0][0]['inputs'].tolist() == [10, 11, 12, 13, 14, 3]
  assert encoded.rows[0][0]['targets'].tolist() == [16, 3]
  assert encoded.cut == 1
  inputs, targets = labelled_rows.examples([*encoded.rows, *encoded.rows])[0]
  assert inputs.shape == (2, 6)
  assert targets.shape == (2, 2)


def test_what_is_trained_on_and_what_is_evaluated():
  """T5 trains on every answer of an example, and leaves some examples out."""
  config = Config(objective='text_to_text', length=8, target_length=4)
  record = task(
    text_to_text=lambda x: [('q', a) for a in x['answers']],
    evaluated=lambda x: ('q', ' '.join(x['answers'])),
  )
  examples = [{'answers': ['a', 'b']}, {'answers': []}]
  found = rows(config, examples, record, 'encoder_decoder').rows
  assert [len(own) for own in found] == [2, 0]
  found = rows(config, examples, record, 'encoder_decoder', False).rows
  assert [len(own) for own in found] == [1, 1]


LONG = ' '.join(f'w{n}' for n in range(300))


def test_windows_of_a_long_context():
  """BERT's code has a stride of 128 tokens; the widest context counts."""
  config = Config(objective='span', length=200)
  span = Span('who', LONG, ((LONG.index('w290'), 'w290 w291'),))
  windows = reading.windows(span, Words(), config)
  room = 200 - 4  # [CLS] who [SEP] ... [SEP]
  assert [len(row['window'].characters) for row in windows] == [room, 300 - 128]
  assert (windows[0]['start'], windows[0]['end']) == (0, 0)  # not in it
  row = windows[1]
  assert (row['start'], row['end']) == (3 + 290 - 128, 3 + 291 - 128)
  begin, end = row['window'].characters[[290 - 128, 291 - 128]].ravel()[[0, 3]]
  assert LONG[begin:end] == 'w290 w291'
  # Each token has most context in one window.
  best = [row['window'].best for row in windows]
  assert not (best[0][128:] & best[1][: room - 128]).any()
  assert best[0][:128].all()
  assert best[1][room - 128 :].all()


def test_the_likeliest_answer():
  config = Config(objective='span', length=12)
  span = Span('who was', 'it was bob smith', ())
  (row,) = reading.windows(span, Words(), config)
  assert (row['start'], row['end']) == (0, 0)
  logits = np.full([2, 12], -5.0)
  logits[0, 6], logits[1, 7] = 3.0, 2.0  # bob ... smith
  logits[0, 7], logits[1, 6] = 9.0, 7.0  # an end before its start
  logits[0, 0] = logits[1, 0] = 1.0
  found = reading.answer(span, [row], [logits])
  assert found.text == 'smith'  # 9 + 2, more than 3 + 7 of bob
  logits[0, 7] = -5.0
  found = reading.answer(span, [row], [logits])
  assert found.text == 'bob'
  assert found.null == pytest.approx((1 + 1) - (3 + 7))


def test_the_likeliest_answer_of_a_joint_head():
  """An end belongs to its start; the likeliest start has a poor end here."""
  span = Span('q', 'a b c d e', ())
  config = Config(objective='span', length=20)
  (row,) = reading.windows(span, Words(), config)
  size, first = 9, row['window'].first
  logits = np.full([2 + 3, size], -30.0)
  logits[1] = 0.7
  for begin, start, ends in (
    (0, -0.5, {0: -4.0, 1: -0.2, 2: -9.0}),  # 'a': ends at 'b'
    (2, -0.1, {2: -3.0, 1: -0.01}),  # 'c': its likeliest end is before it
    (4, -2.0, {4: -0.0}),
  ):
    logits[0, first + begin] = start
    order = {2: 0, 0: 1, 4: 2}[begin]
    for end, score in ends.items():
      logits[2 + order, first + end] = score
  found = reading.answer(span, [row], [logits])
  assert found == reading.Answer('a b', 0.7)
  logits[3, first + 1] = -5.0  # then 'c' alone is better: -3.1, 'e' -2.0
  assert reading.answer(span, [row], [logits]).text == 'e'


def test_rows_of_questions_say_whether_there_is_an_answer():
  config = Config(objective='span', length=20)
  for answers, expected in (((), 1), (((0, 'a'),), 0)):
    (row,) = reading.windows(Span('q', 'a b', answers), Words(), config)
    assert row['no_answer'] == expected
  shapes = labelled_rows.shapes(config, 'encoder')
  batch = features.split(labelled_rows.lay_out([row], shapes), shapes)
  assert batch['no_answer'].tolist() == [0]


def test_a_question_that_loses_tokens_is_counted():
  """BERT's code keeps 64 tokens of it; contexts have windows."""
  config = Config(objective='span', length=80)
  record = task(texts=lambda x: Span(x['question'], LONG, ()), kind='span')
  examples = [{'question': ' '.join(['w'] * n)} for n in (64, 65)]
  encoded = rows(config, examples, record)
  assert all(len(own) > 1 for own in encoded.rows)
  assert (encoded.lost, encoded.cut) == ([False, True], 1)


def test_windows_leave_nothing_out():
  """Rows with less room than the stride are as far apart as they are long."""
  text = ' '.join(f'w{n}' for n in range(50))
  config = Config(objective='span', length=15)
  found = reading.windows(Span('a b', text, ()), Words(), config)
  seen = [x for row in found for x in row['inputs'][4:-1].tolist()]
  assert sorted(set(seen)) == sorted(set(range(min(seen), min(seen) + 50)))
  with pytest.raises(ValueError, match=r'data\.length=4 has no room for a con'):
    reading.windows(
      Span('a b', text, ()), Words(), dataclasses.replace(config, length=4)
    )


def test_a_task_of_another_kind_is_refused():
  with pytest.raises(ValueError, match="kind is 'classification', but"):
    corpora.task_config(
      type('C', (), {'labelled': True, 'objective': 'span'})(),
      task(), 'encoder', 'data.source',
    )  # fmt: skip

"""Scores of prompted tasks: by hand, and beside torch."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from input_pipeline.prompted import catalog
from input_pipeline.prompted.task import Item
from models import pretrained
from models.build import build
from tests.helpers import hf_decoders, t5_reference
from tests.helpers import hf_reference as reference
from tests.helpers.letters import Letters
from train.applying import Published
from train.evaluation import asking
from train.evaluation.asking import Asking, ask_all
from train.evaluation.prompted import Reader, ask
from train.generation.options import GREEDY, Answer, Options

PIQA, LAMBADA, GSM8K = map(catalog.find, ('piqa', 'lambada', 'gsm8k'))
# Letters knows neither capitals nor marks.
PLAIN = dataclasses.replace(PIQA, neutral='answer', norm='byte')
CHOICES = [
  Item((('so it', ' goes'), ('so it', ' is'), ('so it', ' 42')), 0),
  Item((('once', ' a b c d e'), ('once', ' a')), 1),
  Item((('x', ' y'), ('z', ' y')), 1),
]


@pytest.fixture(scope='module')
def models(tmp_path_factory):
  """GPT-2 with random weights, of transformers and of Treeline."""
  torch_model = hf_decoders.torch_model('gpt2')
  folder = reference.saved(torch_model, tmp_path_factory.mktemp('gpt2'))
  config, params = pretrained.load(folder)
  return torch_model, Published('gpt2', build(config), params, Letters(), None)


def log_probs(torch_model, context, text):
  """Of each token of a text after a context; and whether it is the best."""
  ids = Letters().encode_batch([(context + text).encode()])[0]
  ids = torch.tensor([[Letters.eos, *ids]])
  with torch.no_grad():
    logits = torch_model(ids[:, :-1]).logits[0, -len(text) :].log_softmax(-1)
  ids = ids[0, -len(text) :]
  found = logits.gather(1, ids[:, None])[:, 0]
  return found.double().numpy(), bool((logits.argmax(-1) == ids).all())


def test_norms_of_choices_beside_torch(models):
  torch_model, model = models
  right = dict.fromkeys(('none', 'token', 'byte', 'neutral'), 0)
  logs = []
  for item in CHOICES:
    sums = np.array([log_probs(torch_model, *x)[0].sum() for x in item.options])
    neutral = [log_probs(torch_model, 'answer', x)[0].sum() for _, x in item[0]]
    tokens = np.array([len(x) for _, x in item.options])
    scores = {
      'none': sums,
      'token': sums / tokens,
      'byte': sums / (tokens - 1),  # the space is left out
      'neutral': sums - neutral,
    }
    for norm, values in scores.items():
      right[norm] += values.argmax() == item.right
    logs.append(sums)
  for batch in (1, 8):
    found = ask(Reader(model, batch), PLAIN, CHOICES, GREEDY)
    for norm, count in right.items():
      share = found.metrics[f'accuracy_{norm}']
      assert share == pytest.approx(100 * count / 3), norm
    assert found.metrics['accuracy'] == found.metrics['accuracy_byte']
    assert found.metrics['examples'] == 3
    for row, sums in zip(found.rows, logs, strict=True):
      np.testing.assert_allclose(row['log_probs'], sums, rtol=1e-4)
  assert len(set(right.values())) > 1  # norms matter here


def test_the_end_of_texts_beside_torch(models):
  torch_model, model = models
  items = [Item((('so it', ' goes'),)), Item((('once upon', ' a'),))]
  # A text of the likeliest letters.
  ids = [Letters.eos, *Letters().encode_batch([b'once'])[0].tolist()]
  with torch.no_grad():
    for _ in range(3):
      logits = torch_model(torch.tensor([ids])).logits[0, -1]
      ids.append(3 + int(logits[3:40].argmax()))
  items.append(Item((('once', Letters().decode(ids[5:])),)))
  task = dataclasses.replace(LAMBADA, words=False)
  found = ask(Reader(model), task, items, GREEDY).metrics
  expected = [log_probs(torch_model, *x.options[0]) for x in items]
  loss = -np.mean([x.sum() for x, _ in expected])
  assert found['perplexity'] == pytest.approx(math.exp(loss), rel=1e-4)
  share = np.mean([greedy for _, greedy in expected])
  assert found['accuracy'] == pytest.approx(100 * share)
  deviation = np.std([greedy for _, greedy in expected], ddof=1)
  assert found['stderr'] == pytest.approx(100 * deviation / 3**0.5)


class Scripted(Reader):
  """Gives texts from a list in place of the model's."""

  def __init__(self, model, texts):
    super().__init__(model)
    self.texts, self.options = texts, None

  def answers(self, contexts, options):
    self.options = options
    assert len(contexts) == len(self.texts)
    return self.texts


def beam(text, chance, end='length'):
  return Answer(text, end, (), (math.log(chance),), 0.0)


def test_the_likeliest_word_that_is_no_stop_word(models):
  """Texts that begin with one word count together."""
  texts = [
    [
      beam(' the cat s', 0.5),
      beam(' dog ran', 0.2),
      beam(' cat, he', 0.11),
      beam(' cat and', 0.1),
      beam(' unendi', 0.4),  # no whole word
    ],
    [beam(' it is', 0.5), beam(' rose', 0.2, 'eos')],
    [beam(' of a', 0.5)],
  ]
  items = [Item((('a', f' {x}'),)) for x in ('cat', 'rose', 'of')]
  found = ask(Scripted(models[1], texts), LAMBADA, items, GREEDY)
  assert [row['word'] for row in found.rows] == ['cat', 'rose', None]
  assert found.metrics['accuracy_filtered'] == pytest.approx(200 / 3)


def test_votes_of_written_answers(models):
  def texts(*numbers):
    return [
      Answer('' if x is None else f' The answer is {x}.', 'stop', (), (), 0.0)
      for x in numbers
    ]

  reader = Scripted(
    models[1],
    [texts(3, 4, 4), texts(None, None, 5), texts(1, 2, 3), texts(*[None] * 3)],
  )
  right = (4, 5, 1, 7)
  items = [Item((('q', f' The answer is {x}.'),)) for x in right]
  options = Options(samples=3, temperature=0.7)
  found = ask(reader, GSM8K, items, options)
  assert found.metrics['accuracy'] == 75  # ties: the first one
  assert found.metrics['accuracy_one'] == pytest.approx(100 * 4 / 12)
  assert found.metrics['unanswered'] == 5
  assert [row['chosen'] for row in found.rows] == ['4', '5', '1', None]
  assert reader.options.stop == GSM8K.stop
  assert (reader.options.length, reader.options.samples) == (256, 3)
  ask(reader, GSM8K, items, dataclasses.replace(options, length=9))
  assert reader.options.length == 9


def test_contexts_that_are_too_long_lose_their_beginning(models):
  """The model has 23 positions; the last token of a text is not read."""
  torch_model, model = models
  text = 'abcdefghijklmnopqrstuvwxyz'
  item = Item(((text, ' 123'),))
  task = dataclasses.replace(LAMBADA, words=False)
  reader = Reader(model)
  found = ask(reader, task, [item, Item((('so', ' it'),))], GREEDY)
  assert found.metrics['cut'] == reader.cut == 1
  logs, _ = log_probs(torch_model, text[-19:], ' 123')
  assert found.rows[0]['log_prob'] == pytest.approx(logs.sum(), rel=1e-4)
  # What a written answer needs room for is left out too.
  answers = reader.answers([text], Options(length=5))
  assert len(answers[0][0].tokens) == 5
  assert reader.cut == 2


def test_an_encoder_reads_the_end_of_a_long_context():
  """As many tokens as the inputs of training have, with their EOS."""
  config = t5_reference.tiny_config()
  model = build(config)
  params = t5_reference.random_params(model)
  found = Published('t5', model, params, Letters(), 0)
  reader = Reader(found)
  reader.writer = dataclasses.replace(reader.writer, longest=7)
  task = dataclasses.replace(LAMBADA, words=False)
  long, short = Item((('abcdefghij', ' x'),)), Item((('efghij', ' x'),))
  first, second = ask(reader, task, [long, short], GREEDY).rows
  assert reader.cut == 1
  assert first['log_prob'] == pytest.approx(second['log_prob'], rel=1e-5)


@pytest.fixture
def questions(tmp_path):
  rows = [
    {'context': 'so it', 'continuation': 'goes'},
    {'context': 'once upon', 'continuation': 'a'},
  ]
  path = tmp_path / 'own.jsonl'
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return f'cloze:{path}'


def test_a_file_of_scores_goes_on(models, questions, tmp_path, monkeypatch):
  model, out = models[1], tmp_path / 'new' / 'scores.json'
  path = tmp_path / 'two.jsonl'
  path.write_text('{"context": "x", "continuation": "y"}\n')
  two = f'cloze:{path}'
  first = ask_all(model, Asking((questions,)), str(out), str(tmp_path / 'p'))
  asked, ask_one = [], asking.ask

  def ask(reader, task, *more):
    asked.append(task.name)
    return ask_one(reader, task, *more)

  monkeypatch.setattr(asking, 'ask', ask)
  found = ask_all(model, Asking((questions, two), batch=3), str(out))
  assert asked == [two]
  assert found[questions] == first[questions]
  kept = json.loads(out.read_text())
  assert kept['tasks'] == found
  assert kept['settings']['shots'] == 0
  (rows,) = (tmp_path / 'p').iterdir()
  assert len(rows.read_text().splitlines()) == 2
  for asked, message in (
    (Asking((questions,), limit=1), 'limit=0, not 1'),
    (Asking((questions,), Options(seed=3)), 'seed=0, not 3'),
  ):
    with pytest.raises(ValueError, match=message):
      ask_all(model, asked, str(out))
  other = dataclasses.replace(model, folder='other')
  with pytest.raises(ValueError, match="model='gpt2', not 'other'"):
    ask_all(other, Asking((questions,)), str(out))
  out.write_text('[]')
  with pytest.raises(ValueError, match='no file of scores'):
    ask_all(model, Asking((questions,)), str(out))
  lines = asking.table({'a': {'accuracy': 50.0, 'examples': 1000}})
  assert lines.splitlines() == [
    'a  accuracy  50.0000', '   examples    1,000'
  ]  # fmt: skip

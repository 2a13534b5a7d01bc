"""Tasks in words: what is drawn, and that right answers are read as right."""

import string

import numpy as np
import pytest

from input_pipeline.instructions import arithmetic, generated, wording
from input_pipeline.instructions.catalog import WORDINGS, find
from input_pipeline.instructions.wording import Draw

PAIR = {'sentence1': 'One.', 'sentence2': 'Two.'}
NLI = {'premise': 'It rains.', 'hypothesis': 'It is wet.'}
# An example of each labelled task, as its reader gives it.
EXAMPLES = {
  'glue/mnli': NLI | {'label': 'neutral'},
  'glue/rte': PAIR | {'label': 'entailment'},
  'glue/wnli': PAIR | {'label': 'not_entailment'},
  'glue/qnli': {'question': 'Why?', 'sentence': 'So.', 'label': 'entailment'},
  'super_glue/cb': NLI | {'label': 'contradiction'},
  'super_glue/rte': NLI | {'label': 'not_entailment'},
  'glue/mrpc': PAIR | {'label': 'equivalent'},
  'glue/qqp': {'question1': 'A?', 'question2': 'B?', 'label': 'not_duplicate'},
  'glue/stsb': PAIR | {'label': 2.75},
  'glue/sst2': {'sentence': 'a fine film', 'label': 'positive'},
  'glue/cola': {'sentence': 'It sleep.', 'label': 'unacceptable'},
  'super_glue/wic': PAIR | {'word': 'place', 'label': 'True'},
  'super_glue/wsc': {
    'text': 'Ann saw Bea. She left.',
    'span1_text': 'Bea',
    'span2_text': 'She',
    'label': 'False',
  },
  'super_glue/dpr': {
    'sentence': 'The cat saw the dog because it barked.',
    'pronoun': 'it',
    'candidates': ['The cat', 'the dog'],
    'label': '1',
  },
  'super_glue/boolq': {'passage': 'P.', 'question': 'is it', 'label': 'True'},
  'super_glue/multirc': {
    'paragraph': 'P.',
    'question': 'Who?',
    'answer': 'Ann',
    'label': 'False',
  },
  'super_glue/record': {
    'passage': 'Ann met Bea.',
    'query': '@placeholder was met',
    'entities': ['Ann', 'Bea'],
    'answers': ['Bea'],
  },
  'super_glue/copa': {
    'premise': 'It rained.',
    'choice1': 'We got wet.',
    'choice2': 'We slept.',
    'question': 'effect',
    'label': 'choice1',
  },
  'squad/v1.1': {
    'context': 'It was Bach.',
    'question': 'Who?',
    'answers': {'text': ['Bach'], 'answer_start': [7]},
  },
  'squad/v2.0': {
    'context': 'It was Bach.',
    'question': 'When?',
    'answers': {'text': [], 'answer_start': []},
  },
  'trivia_qa': {'question': 'Who?', 'answer': {'value': 'Bach'}},
  'swag': {
    'sent1': 'He sits.',
    'sent2': 'He',
    'endings': ['eats.', 'flies.', 'sings.', 'sleeps.'],
    'label': 'choice3',
  },
  **dict.fromkeys(
    ('race/all', 'race/high', 'race/middle'),
    {
      'article': 'A.',
      'question': 'Who?',
      'options': ['I', 'you', 'he', 'she'],
      'label': 'D',
    },
  ),
  'cnn_dailymail': {'article': 'Long.', 'highlights': 'Short.'},
  'xsum': {'document': 'Long.', 'summary': 'Short.'},
  **{
    f'wmt/{a}_{b}': {'en': 'yes', 'de': 'ja', 'fr': 'oui', 'ro': 'da'}
    for language in ('de', 'fr', 'ro')
    for a, b in (('en', language), (language, 'en'))
  },
  **dict.fromkeys(
    arithmetic.TASKS,
    {
      'question': 'What is 2 + 2?',
      'thoughts': 'Two and two. The answer is 4.',
      'answer': '4',
      'label': '4',
    },
  ),
  **{
    name: task.make('validation')[0] for name, task in generated.TASKS.items()
  },
}
# What a right answer is read as, if it is not the label.
RIGHT = {
  'glue/stsb': 2.8,
  'super_glue/record': 'Bea',
  'squad/v1.1': 'Bach',
  'squad/v2.0': '',
  'trivia_qa': 'Bach',
  'cnn_dailymail': 'Short.',
  'xsum': 'Short.',
  'wmt/en_de': 'ja',
  'wmt/en_fr': 'oui',
  'wmt/en_ro': 'da',
  **dict.fromkeys(('wmt/de_en', 'wmt/fr_en', 'wmt/ro_en'), 'yes'),
}


@pytest.mark.parametrize('name', WORDINGS)
def test_every_way_is_filled_and_its_answer_is_right(name):
  task, example, own = find(f'flan/{name}'), EXAMPLES[name], WORDINGS[name]
  assert len(own.prompts) > 1
  fields = own.fields(example)
  ways = [(prompt, '{answer}') for prompt in own.prompts] + [*own.inverted]
  for way in ways:
    gaps = {
      gap for part in way for _, gap, *_ in string.Formatter().parse(part)
    }
    assert gaps - {None} <= {*fields.texts, 'answer'}
  for prompt in own.prompts:
    assert '{answer}' not in prompt
  for question, answer in own.inverted:
    assert '{answer}' in question
    assert answer != '{answer}'
  [[user, assistant]] = task.chats(example, Draw(None, (), 0, 0.0, 1.0, 1.0))
  right = RIGHT.get(name, example.get('label'))
  assert task.decode(assistant['content'], example) == right
  if own.classes:
    assert task.decode(f' {assistant["content"].upper()}', example) == right
    assert task.decode('something else', example) is None
    assert len(own.classes) == len(fields.options)
    assert all(f'\n- {x}' in user['content'] for x in fields.options)
  pairs = task.text_to_text(example)
  assert len({question for question, _ in pairs}) == len(ways)
  assert pairs[0][1] == assistant['content']


def drawn(count=2000, **shares):
  """Chats of one task, with the shares of a config."""
  task = find('flan/glue/sst2')
  rng = np.random.default_rng(0)
  own = [
    {'sentence': f'film {n}', 'label': ('negative', 'positive')[n % 2]}
    for n in range(9)
  ]
  draw = Draw(rng, own, **shares)
  return [task.chats(own[0], draw)[0] for _ in range(count)]


def test_shares_are_kept():
  chats = drawn(shots=3, shot_share=0.5, option_share=0.25, inverted_share=0.3)
  asked, answers = zip(*((x['content'] for x in chat) for chat in chats),
                       strict=True)  # fmt: skip
  inverted = np.array(['film' in answer for answer in answers])
  assert abs(inverted.mean() - 0.3) < 0.04
  # No options are listed where the question is turned round.
  options = np.array(['Options:' in text for text in asked])
  assert not (options & inverted).any()
  assert abs(options[~inverted].mean() - 0.25) < 0.04
  shots = np.array([text.count('film') for text in asked])
  assert set(answers) == {'film 0', 'negative'}
  plain = ~inverted & ~options
  worked = np.array([text.count('film ') for text in asked])[plain]
  assert shots.max() > 3
  assert len(set(worked)) > 2
  # Every prompt is used, and none shows the question itself as worked.
  firsts = {text.split('\n')[0] for text in drawn(200) and [
    chat[0]['content'] for chat in drawn(200)
  ]}  # fmt: skip
  assert len(firsts) >= len(WORDINGS['glue/sst2'].prompts) - 1
  assert all(text.count('film 0') <= 1 for text in asked)


def test_worked_examples_have_their_answers():
  [chat] = drawn(1, shots=2, shot_share=1.0)
  *worked, question = chat[0]['content'].split('\n\n')
  text = '\n\n'.join(worked)
  assert sum(f'\n{x}' in text for x in ('negative', 'positive')) >= 1
  assert 'film 0' not in text
  assert 'film 0' in chat[0]['content']
  assert question


def test_a_duplicate_of_the_question_is_no_worked_example():
  task = find('flan/numbers/even')
  others = task.make('train')[:200]  # 36 different ones
  draw = Draw(np.random.default_rng(0), others, 4, 1.0)
  counts = set()
  for example in others:
    [[user, _]] = task.chats(example, draw)
    *worked, question = user['content'].split('\n\n')
    assert not any(x.startswith(question) for x in worked)
    counts.add(len(worked))
  assert counts >= {1, 2, 3, 4}


def test_nothing_is_drawn_where_an_example_is_evaluated():
  task = find('flan/words/last')
  own = task.make('validation')
  draw = Draw(None, own, 3, 1.0, 0.5, 1.0)
  first = [task.chats(x, draw) for x in own]
  assert first == [task.chats(x, draw) for x in own]
  prompts = {chat[0]['content'].split('\n')[-1] for [chat] in first}
  assert all('Write some' not in chat[0]['content'] for [chat] in first)
  assert any('Name the word at the end' in text for text in prompts)
  assert any('What is the last word?' in text for text in prompts)


def test_generated_validation_is_not_trained_on():
  for name, task in generated.TASKS.items():
    train, held = task.make('train'), task.make('validation')
    keys = {generated.content(x) for x in held}
    assert not keys & {generated.content(x) for x in train}, name
    assert train == task.make('train')
    assert len(train) > 1000


def test_unknown_tasks_have_a_hint():
  with pytest.raises(ValueError, match="Did you mean 'flan/glue/rte'"):
    find('flan/glue/rt')


def test_plain():
  assert wording.plain(' Yes. ') == 'yes'

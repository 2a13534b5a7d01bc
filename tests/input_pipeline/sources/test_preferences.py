"""Preferences: lines of JSON, in the forms that people have them."""

import json

import pytest

from input_pipeline.sources.preferences import Preferences


def written(path, *rows) -> list[str]:
  """A file of lines: objects, or texts as they are."""
  lines = [x if isinstance(x, str) else json.dumps(x) for x in rows]
  path.write_text('\n'.join(lines) + '\n')
  return [str(path)]


def pair(prompt='p', chosen='a', rejected='b'):
  return {'prompt': prompt, 'chosen': chosen, 'rejected': rejected}


def messages(*contents, first='user'):
  roles = ('user', 'assistant') if first == 'user' else ('assistant', 'user')
  return [{'role': roles[n % 2], 'content': x} for n, x in enumerate(contents)]


@pytest.mark.parametrize(
  ('row', 'texts'),
  [
    (pair('Hi.', ' Yes', ' No'), ('Hi.', ' Yes', ' No')),
    (  # trl's implicit prompt: what both begin with, up to a whole word
      {'chosen': 'Ann: good day', 'rejected': 'Ann: good dog'},
      ('Ann: good', ' day', ' dog'),
    ),
    (
      pair(
        messages('Hi.'),
        messages('Yes', first='assistant'),
        messages('No', first='assistant'),
      ),
      ('User: Hi.\n\nAssistant:', ' Yes', ' No'),
    ),
    (
      {'chosen': messages('Hi.', 'Yes'), 'rejected': messages('Hi.', 'No')},
      ('User: Hi.\n\nAssistant:', ' Yes', ' No'),
    ),
  ],
)
def test_a_pair_has_a_prompt_and_two_answers(row, texts, tmp_path):
  (example,) = Preferences(written(tmp_path / 'a.jsonl', row), 'x').examples
  assert example[1:4] == texts


@pytest.mark.parametrize(
  ('row', 'prompt', 'answers'),
  [
    (pair(' Hi. ', ' Yes', ' No'), messages('Hi.'), ('Yes', 'No')),
    (
      {
        'chosen': messages('Hi.', 'So?', 'Go on.', ' Yes'),
        'rejected': messages('Hi.', 'So?', 'Go on.', ' No'),
      },
      messages('Hi.', 'So?', 'Go on.'),
      (' Yes', ' No'),
    ),
  ],
)
def test_the_prompt_may_be_a_chat(row, prompt, answers, tmp_path):
  source = Preferences(
    written(tmp_path / 'a.jsonl', row, pair(messages('a', 'b'))), 'x',
    chats=True,
  )  # fmt: skip
  example, bad = source.examples
  assert example[1:4] == (prompt, *answers)
  assert source.text(example).decode().startswith('Hi.\n')
  assert 'the last message must be of the user' in str(bad)


@pytest.mark.parametrize(
  ('row', 'why'),
  [
    (  # both have the prompt too, beside it
      pair('Hi.', messages('Hi.', 'Yes'), messages('Hi.', 'No')),
      'chosen has messages of user, assistant after the prompt; .* leave pro',
    ),
    (pair(chosen='b'), 'the chosen answer equals the rejected one'),
    ({'prompt': 'p', 'chosen': 'a'}, 'lacks chosen and rejected, or completi'),
    ({'prompt': 'p', 'completion': 'a', 'label': True}, 'align.method=kto'),
    (pair(prompt=3), 'prompt must be a text, or a list of messages'),
    (pair(chosen=[{'role': 'user'}]), 'chosen must be a text, or a list'),
    ({'chosen': 'a', 'rejected': 'b'}, 'do not begin alike'),
    (pair(chosen='\ud800'), 'not Unicode'),
    ('{bad', 'not JSON'),
    ('[]', 'not a JSON object'),
  ],
)
def test_a_bad_line_says_why(row, why, tmp_path):
  source = Preferences(written(tmp_path / 'a.jsonl', pair(), row), 'x')
  assert [line for line, _ in source.records(0, 0)] == [1, 2]
  with pytest.raises(ValueError, match=why):
    source.example(source.examples[1])
  with pytest.raises(ValueError, match='x has no line that can be used'):
    Preferences(written(tmp_path / 'b.jsonl', row), 'x')


def test_answers_alone_have_the_next_ones_to_another_prompt(tmp_path):
  rows = (
    {'prompt': 'p', 'completion': 'a', 'label': True},
    pair('p', 'b', 'c'),
    {'prompt': 'q', 'completion': 'd', 'label': 0},
    {'prompt': 'q', 'completion': 'e', 'label': 2},
  )
  source = Preferences(written(tmp_path / 'a.jsonl', *rows), 'x', single=True)
  *good, bad = source.examples
  assert [(x.prompt, x.first, x.second, x.desirable) for x in good] == [
    ('p', 'a', 'd', 1), ('p', 'b', 'd', 1), ('p', 'c', 'd', 0),
    ('q', 'd', 'a', 0),
  ]  # fmt: skip
  assert [x.number for x in good] == [0, 1, 2, 3]
  # A rejected answer has a rejected one beside it.
  rows = pair('p', 'b', 'c'), pair('q', 'd', 'e'), pair('r', 'f', 'g')
  both = Preferences(written(tmp_path / 'c.jsonl', *rows), 'x', single=True)
  assert [x.first + x.second for x in both.examples] == [
    'bd', 'ce', 'df', 'eg', 'fb', 'gc',
  ]  # fmt: skip
  assert 'label is 2' in str(bad)
  with pytest.raises(ValueError, match="have one prompt, 'p'"):
    Preferences(written(tmp_path / 'b.jsonl', rows[0]), 'x', single=True)

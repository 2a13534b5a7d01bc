"""Files of prompts and of answers; a file that was begun goes on."""

import dataclasses
import json
import os

import pytest

from models.build import build
from tests.helpers.decoders import tiny_decoder
from tests.helpers.letters import Letters
from tests.helpers.t5_reference import random_params
from train.generation import files
from train.generation.options import Options
from train.generation.writer import Writer


def test_lines(tmp_path):
  """A byte order mark is no part of the first; white space in a line is."""
  path = tmp_path / 'texts'
  path.write_bytes('\ufeff été \r\n\n  \nb\n'.encode())
  assert files.read_prompts(str(path)) == [{'prompt': ' été '}, {'prompt': 'b'}]
  for text, message in (
    (b'a\ncaf\xe9\n', 'line 2 is not UTF-8'),
    (b'\n \n', 'holds no text'),
    ('a'.encode('utf-16'), 'is UTF-16'),
  ):
    path.write_bytes(text)
    with pytest.raises(ValueError, match=message) as raised:
      files.read_prompts(str(path))
    assert str(path) in str(raised.value)


def test_objects(tmp_path):
  path = tmp_path / 'texts.jsonl'
  path.write_text('{"id": 7, "q": "a b"}\n\n{"q": "c"}\n')
  found = files.read_prompts(str(path), 'q')
  assert found == [{'id': 7, 'q': 'a b'}, {'q': 'c'}]
  for text, message in (
    ('{"q": "a"}\n{"prompt": 3}\n', "line 1 has no text in the field 'prompt'"),
    ('{"prompt": "a"}\n{"prompt": ""}\n', 'line 2 has no text'),
    ('["a"]\n', 'line 1 is not a JSON object'),
    ('{"prompt": \n', 'line 1 is not a JSON object'),
  ):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
      files.read_prompts(str(path))


@pytest.fixture(scope='module')
def writer():
  model = build(tiny_decoder('rope', decoder_layers=1))
  return Writer(model, random_params(model), Letters(), 0, False, None, 5)


ROWS = [{'id': n, 'prompt': 'abc'[: n % 3 + 1] + f' {n}'} for n in range(20)]
DRAWN = Options(temperature=1.0, samples=2)


def write(writer, rows, path, options, batch, **origin):
  depends = dataclasses.asdict(options) | origin
  answer = files.answering(writer, options, batch)
  return files.answer_file(answer, rows, 'prompt', path, depends, batch)


def test_a_file_of_answers_goes_on(writer, tmp_path):
  """Cut anywhere, it becomes the same file."""
  path = str(tmp_path / 'a.jsonl')
  assert write(writer, ROWS, path, DRAWN, 2) == 0
  with open(path, encoding='utf-8') as file:
    whole = file.read()
  found = [json.loads(line) for line in whole.splitlines()]
  assert [row['id'] for row in found] == list(range(20))
  assert all(len(row['answers']) == 2 for row in found)
  assert set(found[0]['answers'][0]) == {
    *('text', 'end', 'tokens', 'log_probs', 'score'),
  }
  for size in (0, len(whole) // 2, len(whole) - 1, len(whole)):
    os.truncate(path, size)
    before = write(writer, ROWS, path, DRAWN, 2)
    assert before == whole[:size].count('\n')
    with open(path, encoding='utf-8') as file:
      assert file.read() == whole


def test_a_file_of_other_answers(writer, tmp_path):
  path = str(tmp_path / 'a.jsonl')
  write(writer, ROWS[:3], path, DRAWN, 4)
  for rows, options, message in (
    (ROWS[:3], Options(), 'begun with samples=2, not 1'),
    (ROWS[1:4], DRAWN, 'answers to other inputs, first in line 1'),
    (ROWS[:2], DRAWN, 'answers to other inputs, first in line 3'),
  ):
    with pytest.raises(ValueError, match=message):
      write(writer, rows, path, options, 4)
  # Of another step, or in other batches.
  path = str(tmp_path / 'b.jsonl')
  origin = {'model': 'run', 'step': 4}
  write(writer, ROWS[:3], path, DRAWN, 4, **origin)
  for batch, step, message in ((4, 8, 'step=4, not 8'), (2, 4, 'batch=4')):
    with pytest.raises(ValueError, match=message):
      write(writer, ROWS[:3], path, DRAWN, batch, **origin | {'step': step})
  os.remove(f'{path}.options.json')
  with pytest.raises(ValueError, match='it is not a file of answers'):
    write(writer, ROWS[:3], path, DRAWN, 4)

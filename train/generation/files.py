"""Files of prompts, and of a model's answers to them."""

import dataclasses
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from input_pipeline.chat.messages import Prompt, check, is_chat
from input_pipeline.sources import paths
from input_pipeline.sources.lines import read_lines
from train.generation.options import GREEDY, Answer, Options
from train.generation.prompts import SENTINEL, infilled
from train.generation.writer import Writer
from train.parallel import processes


def read_prompts(path: str, field: str = 'prompt') -> list[dict[str, Any]]:
  """The inputs of a UTF-8 file, as objects with a text or a chat in `field`.

  They are the objects of a .jsonl file, or the lines of another that have text.

  Raises:
    ValueError: there is none, a line is not UTF-8, an object has no text, or
      the messages of one are no chat that ends in a user's turn.
  """
  rows = []
  for number, line in enumerate(read_lines(path), 1):
    place = f'--file={path}, line {number}'
    try:
      text = line.decode().rstrip('\r')
    except UnicodeDecodeError as error:
      raise ValueError(f'{place} is not UTF-8 ({error.reason}).') from error
    if not text.strip():
      continue
    rows.append(
      _object(place, text, field) if _is_json(path) else {field: text}
    )
  if not rows:
    raise ValueError(f'--file={path} holds no text.')
  return rows


def _is_json(path):
  return path.removesuffix('.gz').endswith('.jsonl')


def _object(place, line, field):
  try:
    row = json.loads(line)
  except json.JSONDecodeError as error:
    raise ValueError(f'{place} is not a JSON object: {error.msg}.') from error
  if not isinstance(row, dict):
    raise ValueError(f'{place} is not a JSON object.')
  if is_chat(row.get(field)):
    check(row[field], f'{place}, {field}', answered=False)
    return row
  if not isinstance(row.get(field), str) or not row[field]:
    names = ', '.join(row) or 'none'
    raise ValueError(
      f'{place} has no text in the field {field!r}; its fields are {names}: '
      'name another one with --field.'
    )
  return row


def answer_file(
  answer: Callable[[list[Prompt], int], list[dict[str, Any]]],
  rows: Sequence[dict[str, Any]],
  field: str,
  path: str,
  depends: Mapping[str, Any],
  batch: int = 8,
) -> int:
  """Writes each row with what answers it to a JSONL file; goes on after a kill.

  Beside it lies PATH.options.json, with what the answers depend on.

  Args:
    answer: gives the fields that answer each of some prompts, of which the
      first has this number; see `answering`.
    rows: have the prompts in `field`.
    depends: the options, and which model it is.
    batch: how many texts are answered together.

  Returns:
    How many rows were there before.

  Raises:
    ValueError: the file has answers to other rows, by other options or of
      another model.
  """
  wanted = {**depends, 'batch': batch}
  before = int(processes.of_first(_begun(rows, field, path, wanted)))
  window = 4 * batch  # answered together, also if some were there before
  for first in range(before // window * window, len(rows), window):
    part = rows[first : first + window]
    if first + len(part) <= before:
      continue
    found = answer([row[field] for row in part], first)
    if jax.process_index() > 0:
      continue
    lines = [
      json.dumps(row | fields, ensure_ascii=False)
      for row, fields in zip(part, found, strict=True)
    ]
    with open(path, 'a', encoding='utf-8') as file:
      file.writelines(f'{line}\n' for line in lines[max(before - first, 0) :])
      file.flush()
      os.fsync(file.fileno())
    print(f'{first + len(part)} of {len(rows)} answered', flush=True)
  return before


def answering(
  writer: Writer, options: Options = GREEDY, batch: int = 8
) -> Callable[[list[Prompt], int], list[dict[str, Any]]]:
  """A function that answers texts for `answer_file`: the field `answers`."""

  def answer(texts, first):
    found = writer.answers(texts, options, batch, first)
    return [
      {'answers': [_fields(text, x) for x in answers]}
      for text, answers in zip(texts, found, strict=True)
    ]

  return answer


def _fields(prompt: Prompt, answer: Answer) -> dict[str, Any]:
  """An answer's fields, and the prompt with its gaps filled, if it has some."""
  found = dataclasses.asdict(answer)
  if isinstance(prompt, str) and re.search(SENTINEL, prompt):
    found['infilled'] = infilled(prompt, answer.text)
  return found


def _begun(rows, field, path, wanted):
  """How many rows a file has answers to; cuts off a line without an end."""
  wanted = json.loads(json.dumps(wanted))
  beside = f'{path}.options.json'
  if not os.path.exists(path):
    if jax.process_index() == 0:
      paths.write(beside, f'{json.dumps(wanted)}\n'.encode())
    return 0
  if not os.path.exists(beside):
    raise ValueError(
      f'--out={path} exists, and {beside} does not: it is not a file of '
      'answers. Name another file.'
    )
  with open(beside, encoding='utf-8') as file:
    known = json.load(file)
  if changed := [key for key in wanted if known.get(key) != wanted[key]]:
    raise ValueError(
      f'--out={path} was begun with {changed[0]}={known.get(changed[0])!r}, '
      f'not {wanted[changed[0]]!r}. Name another file.'
    )
  with open(path, 'rb') as file:
    whole = file.read()
  end = whole.rfind(b'\n') + 1
  found = [json.loads(line) for line in whole[:end].splitlines()]
  same = [
    row[field] == own.get(field) for row, own in zip(rows, found, strict=False)
  ]
  if not all(same) or len(found) > len(rows):
    raise ValueError(
      f'--out={path} has answers to other inputs, first in line '
      f'{[*same, False].index(False) + 1}. Name another file.'
    )
  if end < len(whole) and jax.process_index() == 0:
    os.truncate(path, end)
  return len(found)

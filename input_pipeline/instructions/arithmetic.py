"""Word problems as labelled tasks: with their chains of thought, or without.

GSM8K, and SVAMP, MAWPS and ASDiv-A as SVAMP's authors have them; the readers
are those of prompted/arithmetic.py. What GSM8K calls its test split is
evaluated. The first fold of MAWPS and of ASDiv-A is the one that is read.
"""

import functools
from collections.abc import Callable, Iterator

from input_pipeline.instructions.wording import Wording, pairs, written
from input_pipeline.prompted import arithmetic
from input_pipeline.tasks import metrics
from input_pipeline.tasks.task import Example, Task

_MARK = ' The answer is '


def read(path: str, *, items: Callable) -> Iterator[Example]:
  """Problems of a file: question, answer, perhaps thoughts, label."""
  for n, item in enumerate(items(path)):
    [(question, answer)] = item.options
    question = question.removeprefix('Q: ').removesuffix('\nA:')
    thoughts, _, number = answer.rpartition(_MARK)
    number = number.removesuffix('.')
    found = {'question': question, 'answer': number}
    if thoughts:
      found['thoughts'] = answer.strip()
    yield found | {'label': str(arithmetic.number(number)), 'idx': n}


def decode(text: str, example: Example) -> str | None:
  """The number that a written answer gives, such as '3' or '5/2'."""
  found = arithmetic.number(text)
  return None if found is None else str(found)


_ASKED = (
  '{question}',
  'Solve this problem and give the number alone.\n\n{question}',
  'Problem: {question}\nResult:',
  'Work it out: {question}',
)
_THINKING = (
  '{question}\nThink step by step.',
  'Solve this problem. Explain each step, then give the answer.\n\n{question}',
  'Problem: {question}\nReason before you answer.',
  '{question} How do you know?',
)
_INVERTED = (
  ('Make up a word problem whose result is {answer}.', '{question}'),
)
# The whole chain is the answer.
_THOUGHT_INVERTED = (
  ('{answer}\nTo which problem is this the solution?', '{question}'),
)
WORDINGS = {
  name: Wording(
    written('answer', question='question'), _ASKED, _INVERTED, decode=decode
  )
  for name in ('gsm8k', 'svamp', 'mawps', 'asdiv')
} | {
  'gsm8k_cot': Wording(
    written('thoughts', question='question'),
    _THINKING,
    _THOUGHT_INVERTED,
    decode=decode,
  )
}


def _task(name: str, items: Callable, **files: tuple[str, ...]) -> Task:
  return Task(
    name=name,
    kind='text',
    splits={split: split for split in files},
    files=files,
    read=functools.partial(read, items=items),
    text_to_text=functools.partial(pairs, wording=WORDINGS[name]),
    decode=decode,
    metrics=metrics.accuracy,
  )


def _folds(folder):
  return {
    split: (f'{folder}/fold0/{name}.csv', f'data/{folder}/fold0/{name}.csv')
    for split, name in (('train', 'train'), ('validation', 'dev'))
  }


_GSM8K = {
  split: (
    f'gsm8k/{name}.jsonl',
    f'grade_school_math/data/{name}.jsonl',
    f'{name}.jsonl',
  )
  for split, name in (('train', 'train'), ('validation', 'test'))
}
TASKS = {
  task.name: task
  for task in (
    _task('gsm8k', arithmetic.read_gsm8k, **_GSM8K),
    _task('gsm8k_cot', arithmetic.read_gsm8k, **_GSM8K),
    _task(
      'svamp',
      arithmetic.read_svamp,
      validation=('SVAMP.json', 'svamp/SVAMP.json', 'svamp_mawps/SVAMP.json'),
    ),
    _task('mawps', arithmetic.read_folds, **_folds('cv_mawps')),
    _task('asdiv', arithmetic.read_folds, **_folds('cv_asdiv-a')),
  )
}

"""The end of a passage: LAMBADA, and the Children's Book Test."""

import functools
import re
from collections.abc import Iterator

from input_pipeline.prompted.task import Item, Prompted
from input_pipeline.prompted.texts import plain_ptb
from input_pipeline.tasks import files


# ---- LAMBADA (Paperno et al. 2016) ----
def read_lambada(path: str) -> Iterator[Item]:
  """Passages and their last word.

  The files are lines of tokens, of which the tokenizer's marks are taken out,
  OpenAI's JSONL with `text`, or a JSONL with `context` and `continuation`.
  """
  if path.endswith('.txt'):
    for place, line in files.filled(path):
      yield _last_word(place, plain_ptb(line.strip()))
    return
  for place, row in files.jsonl(path):
    if 'continuation' in row:
      files.checked(place, row, ('context', 'continuation'))
      yield Item(((row['context'], f' {row["continuation"].strip()}'),))
    else:
      files.checked(place, row, ('text',))
      yield _last_word(place, row['text'].strip())


def _last_word(place, text):
  context, _, word = text.rpartition(' ')
  if not context:
    raise ValueError(f'{place}: {text[:40]!r} has no word before its last one.')
  return Item(((context, f' {word}'),))


LAMBADA = Prompted(
  name='lambada',
  kind='cloze',
  files={
    'test': (
      *('lambada_openai.jsonl', 'lambada_test.jsonl', 'lambada/test.jsonl'),
      *('lambada/lambada_openai.jsonl', 'lambada_test_plain_text.txt'),
    )
  },
  read=read_lambada,
  asked='test',
  shots='',
  words=True,
)


# ---- Children's Book Test (Hill et al. 2016) ----
GAP = 'XXXXX'  # the missing word in the published files


def read_cbt(path: str) -> Iterator[Item]:
  """Twenty sentences, then one in which GAP stands for one of ten words.

  A choice is the word and the rest of its sentence, after all that stands
  before (Radford et al. 2019, 3.2).
  """
  before: list[str] = []
  for place, line in files.filled(path):
    number, _, text = line.partition(' ')
    if not number.isdecimal():
      raise ValueError(
        f'{place} begins with {number[:20]!r}, not with the number of a '
        'sentence: use the file as published.'
      )
    if int(number) <= len(before):  # a question without an end came before
      raise ValueError(f'{place}: the sentence before has no question.')
    if '\t' not in text:
      before.append(text)
      continue
    cells = [cell for cell in text.split('\t') if cell]
    if len(cells) != 3 or GAP not in cells[0]:
      raise ValueError(
        f'{place} must be a sentence with {GAP}, the answer and the candidates,'
        ' parted by tabs: use the file as published.'
      )
    question, answer, candidates = cells
    choices = candidates.split('|')
    if answer not in choices:
      raise ValueError(f'{place}: {answer!r} must be one of the candidates.')
    left, right = question.split(GAP, 1)
    options = []
    for choice in choices:
      start = plain_ptb(' '.join([*before, left.strip()]))
      whole = plain_ptb(' '.join([*before, f'{left}{choice}{right}']))
      start = _common(start, whole)
      options.append((start, whole[len(start) :]))
    yield Item((*options,), choices.index(answer))
    before = []


def _common(start, whole):
  """The whole words that two texts begin with, without the space after them."""
  n = 0
  while n < min(len(start), len(whole)) and start[n] == whole[n]:
    n += 1
  if n < len(whole) and not whole[n].isspace():
    n = max(whole.rfind(' ', 0, n), whole.rfind('\n', 0, n), 0)
  return whole[:n].rstrip()


def _cbt(name: str, part: str) -> Prompted:
  return Prompted(
    name=f'cbt_{name}',
    kind='choice',
    files={
      split: tuple(
        f'{folder}cbtest_{part}_{file}.txt'
        for folder in ('', 'CBTest/data/', 'data/')
      )
      for split, file in (
        *(('train', 'train'), ('validation', 'valid_2000ex')),
        ('test', 'test_2500ex'),
      )
    },
    read=read_cbt,
    asked='test',
  )


CBT = (_cbt('cn', 'CN'), _cbt('ne', 'NE'))


# Words that end few sentences. GPT-2's paper (3.3) filters stop words and does
# not give them: these are English articles, pronouns, prepositions,
# conjunctions, auxiliary verbs and adverbs of degree.
_STOP_WORDS = """
  a an the this that these those each every either neither some any no such
  both all few more most other another own same
  i me my mine myself we us our ours ourselves you your yours yourself
  yourselves he him his himself she her hers herself it its itself they them
  their theirs themselves one who whom whose which what
  about above across after against along among around as at before behind below
  beneath beside between beyond by despite down during except for from in inside
  into like near of off on onto out outside over past since through throughout
  to toward towards under until up upon with within without
  and or but nor so yet if because although though while whereas unless than
  whether when where why how
  am is are was were be been being have has had having do does did doing done
  can could may might must shall should will would ought
  not only very too just then there here also even still now again once ever
  never quite rather almost
  s t d ll m re ve don isn aren wasn weren hasn haven hadn doesn didn won wouldn
  shouldn couldn mustn
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_WORD = re.compile(r"\s*([^\W_]+(?:['’-][^\W_]+)*)(?=[^\w'’-])")


def first_word(text: str) -> str | None:
  """The first word of a text that goes on after it; None: it does not end.

  Example: first_word(' signs. Then') is 'signs'.
  """
  found = _WORD.match(text)
  return found[1] if found else None


@functools.cache
def is_stop_word(word: str) -> bool:
  return word.lower() in STOP_WORDS


TASKS = (LAMBADA, *CBT)

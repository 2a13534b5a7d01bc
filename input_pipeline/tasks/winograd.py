"""Which noun a pronoun stands for: WSC, DPR and WNLI as one text-to-text task.

The model reads a text with the pronoun between asterisks, and writes the noun
(Raffel et al. 2020, 2.4; strings and scoring as in the published code).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from input_pipeline.tasks import files
from input_pipeline.tasks.task import Example

_PREFIX = 'wsc:'
_DETERMINERS = {
  *('a', 'an', 'few', 'her', 'his', 'each', 'every', 'many', 'much', 'my'),
  *('our', 'some', 'that', 'the', 'their', 'these', 'this', 'those', 'which'),
  *('whose', 'your'),
}
_PRONOUNS = {'he', 'she', 'they', 'it', 'her', 'his', 'their', 'them', 'him'}
# Texts whose pronoun is not the word that the index points at: (the beginning
# of the text, the text with X in the pronoun's place).
_SPECIAL = {
  'The boy continued to whip the pony , and eventually the pony threw him over.'
  ' John laughed out quite loud. "Good for him," he said. ': (
    'The boy continued to whip the pony , and eventually the pony threw him'
    ' over. John laughed out quite loud. "Good for X ," he said.'
  ),
  'When they had eventually calmed down a bit , and had gotten home, Mr. Farley'
  ' put the magic pebble in an iron safe . Some day they might want to use it ,'
  ' but really for now, what more could they wish for?': (
    'When they had eventually calmed down a bit , and had gotten home, Mr.'
    ' Farley put the magic pebble in an iron safe . Some day they might want to'
    ' use X , but really for now, what more could they wish for?'
  ),
}


# ---- WSC ----
def read_wsc(path: str) -> Iterator[Example]:
  """Examples of a file of SuperGLUE's WSC."""
  fields = ('span1_index', 'span1_text', 'span2_index', 'span2_text')
  for place, row in files.jsonl(path, ('text', 'target', 'idx')):
    target = files.checked(place, row['target'], fields)
    example = {
      'text': row['text'],
      **{name: target[name] for name in fields},
      'label': files.class_name(place, row.get('label'), ('False', 'True')),
      'idx': files.index(place, row['idx']),
    }
    for span in ('span1', 'span2'):
      example[f'{span}_text'] = _in_text(place, example, span)
    yield example


def _in_text(place, example, span):
  """A span as the text writes it: the same case and spaces (wsc.fixed)."""
  text, found = example['text'], example[f'{span}_text']
  # The words of two published spans are apart in the text.
  apart = ('Kamenev and Zinoviev', 'Kamenev, Zinoviev, and Stalin')
  if found in text or found in apart:
    return found
  words, index = text.split(), example[f'{span}_index']
  lower = index < len(words) and words[index][0].islower()
  first = found[0].lower() if lower else found[0].upper()
  fixed = (first + found[1:]).rstrip('.').replace('\n', ' ')
  if fixed not in text:
    raise ValueError(
      f'{place}: {span}_text {found!r} is not in the text. Correct the line.'
    )
  return fixed


def wsc_input(example: Example) -> str:
  """The text of SuperGLUE's WSC with the pronoun between asterisks.

  Raises:
    ValueError: the pronoun is not at span2_index.
  """
  text, pronoun = example['text'], example['span2_text']
  blank = _SPECIAL.get(text)
  if blank is None:
    words, at = text.split(' '), example['span2_index']
    if not 0 < at < len(words) or words[at] != pronoun:
      raise ValueError(
        f'WSC: word {at} of {text!r} is not the pronoun {pronoun!r}. Correct'
        ' span2_index or span2_text of this example.'
      )
    blank = ' '.join([*words[:at], 'X', *words[at + 1 :]])
  return f'{_PREFIX} {blank.replace(" X ", f" *{pronoun}* ")}'


def wsc_trained(example: Example) -> list[tuple[str, str]]:
  """Trains only on nouns that the pronoun stands for."""
  return [wsc_evaluated(example)] if example['label'] == 'True' else []


def wsc_evaluated(example: Example) -> tuple[str, str]:
  return wsc_input(example), example['span1_text']


def wsc_texts(example: Example) -> tuple[str, str]:
  """For encoders: the text with the pronoun marked, and the noun."""
  return wsc_input(example).removeprefix(f'{_PREFIX} '), example['span1_text']


def wsc_decode(text: str, example: Example) -> str | None:
  """'True' if the model wrote the example's noun; None if it wrote nothing."""
  same = same_noun(text, example['span1_text'])
  return None if same is None else str(same)


def same_noun(predicted: str, referent: str) -> bool | None:
  """Whether two noun phrases mean the same; None if nothing is predicted.

  Case and determiners do not count, and one phrase may have more words. 'Bob'
  is not "Bob's hat".
  """
  predicted = _without_determiners(predicted)
  referent = _without_determiners(referent)
  if not predicted:
    return None
  if ("'" in predicted) != ("'" in referent):
    return False
  ours, theirs = set(predicted.split(' ')), set(referent.split(' '))
  return ours <= theirs or theirs <= ours


def _without_determiners(text):
  words = text.strip().lower().split(' ')
  return ' '.join(word for word in words if word not in _DETERMINERS)


# ---- DPR ----
def read_dpr(path: str) -> Iterator[Example]:
  """An example is four lines: sentence, pronoun, candidates, the right one."""
  rows = list(files.filled(path))
  for n in range(0, len(rows), 4):
    place, sentence = rows[n]
    if len(rows) < n + 4:
      raise ValueError(
        f'{place}: the last example has {len(rows) - n} lines, not 4. Fetch the'
        ' file again.'
      )
    pronoun, both, right = (line.strip() for _, line in rows[n + 1 : n + 4])
    candidates = [candidate.strip() for candidate in both.split(',')]
    if right not in candidates or len(candidates) != 2:
      raise ValueError(
        f'{rows[n + 3][0]}: {right!r} is not one of two candidates'
        f' {candidates}. An example is 4 lines: the sentence, the pronoun, the'
        ' candidates with a comma between, and the right one.'
      )
    yield {
      'sentence': sentence.strip(),
      'pronoun': pronoun,
      'candidates': candidates,
      'label': str(candidates.index(right)),
    }


def dpr_input(example: Example) -> str:
  """The sentence with the first such pronoun between asterisks."""
  pattern = f' ({re.escape(example["pronoun"])})( |\\.|,)'
  marked = re.sub(pattern, r' *\1*\2', example['sentence'], count=1)
  return f'{_PREFIX} {marked}'


def dpr_trained(example: Example) -> list[tuple[str, str]]:
  return [(dpr_input(example), example['candidates'][int(example['label'])])]


def dpr_texts(example: Example) -> list[tuple[str, str]]:
  """For encoders: the sentence beside each candidate."""
  marked = dpr_input(example).removeprefix(f'{_PREFIX} ')
  return [(marked, candidate) for candidate in example['candidates']]


def dpr_decode(text: str, example: Example) -> str | None:
  """Which candidate the model wrote: '0' or '1'; None if neither."""
  candidates = list(example['candidates'])
  return str(candidates.index(text)) if text in candidates else None


# ---- WNLI ----
class _Match(NamedTuple):
  score: int
  place: int  # of the pronoun in the premise's words
  candidate: str


def wnli_trained(example: Example) -> list[tuple[str, str]]:
  """T5 does not train on WNLI."""
  return []


def wnli_evaluated(example: Example) -> tuple[str, str]:
  """The premise with the pronoun that the hypothesis resolves, and the noun.

  Raises:
    ValueError: there is no pronoun, or no noun in its place.
  """
  premise, hypothesis = example['sentence1'], example['sentence2']
  words, others = _clean_words(premise), _clean_words(hypothesis)
  matches = [
    _match(words, others, n)
    for n, word in enumerate(words)
    if word in _PRONOUNS
  ]
  if not matches:
    raise ValueError(
      f'WNLI: {premise!r} has no pronoun. Leave the example out, or do not'
      ' evaluate WNLI text to text.'
    )
  best = max(matches, key=lambda match: match.score)
  target = _candidate(best.candidate, hypothesis)
  return f'{_PREFIX} {_marked(premise, best.place)}', target


def wnli_decode(text: str, example: Example) -> str | None:
  """'entailment' if the model wrote the hypothesis's noun; None: no noun."""
  same = same_noun(text, wnli_evaluated(example)[1])
  return {True: 'entailment', False: 'not_entailment'}.get(same)


def _clean_words(text):
  words = text.strip().lower().split(' ')
  return [w for w in (re.sub(r'[.,?!]$', '', word) for word in words) if w]


def _match(words, others, at):
  """How well the hypothesis fits around pronoun `at`, and its words there."""
  before, after = words[:at], words[at + 1 :]
  hypothesis = ' '.join(others)
  # What precedes the pronoun is compared backwards, from the pronoun on.
  left = _shared(' '.join(others[::-1]), before[::-1])
  right = _shared(hypothesis, after)
  if not left + right:
    return _Match(0, at, '')
  # As in the published code the words themselves are read as patterns.
  start, end = before[len(before) - left :], after[:right]
  for pattern in (
    ' '.join([*start, '(.+)', *end]),
    ' '.join(['^(.+)', *end]),
    ' '.join([*start, '(.+)$']),
  ):
    if found := _search(pattern, hypothesis):
      return _Match(left + right, at, found[1])
  return _Match(left + right, at, '')


def _search(pattern, hypothesis):
  try:
    return re.search(pattern, hypothesis)
  except re.error as error:
    raise ValueError(
      f'WNLI: {pattern!r}, words around a pronoun, is not a regular expression:'
      f' {error}. Leave the example out.'
    ) from error


def _shared(text, words):
  """How many of the first words, joined, are in the text."""
  for n in range(len(words)):
    if ' '.join(words[: n + 1]) not in text:
      return n
  return len(words)


def _marked(sentence, at):
  words = sentence.split(' ')
  word = words[at]
  words[at] = f'*{word[:-1]}* {word[-1]}' if word[-1] in '.,!?' else f'*{word}*'
  return ' '.join(words)


def _candidate(candidate, hypothesis):
  """The candidate as the hypothesis writes it, without a possessive ending."""
  words = candidate.split(' ')
  articles = [words.index(a) for a in ('a', 'an', 'the') if a in words]
  words = words[max(articles, default=0) :]
  pattern = ' '.join(rf'{re.escape(word)}[.,?!]?' for word in words)
  found = re.search(pattern, hypothesis, re.IGNORECASE)
  if not found:
    raise ValueError(
      f'WNLI: {" ".join(words)!r} is not in {hypothesis!r}. Leave the example'
      ' out.'
    )
  noun = found[0]
  if noun and noun[-1] in '.,!?':
    noun = noun[:-1]
  for ending in ("'", "'s"):
    if noun.endswith(ending):
      return noun.removesuffix(ending)
  return noun

"""Sentences: text split into them, BERT's pairs, RoBERTa's full rows.

A document is a list of sentences here, each an array of ids, none empty.
"""

import bisect
import re
from collections.abc import Sequence

import numpy as np

from input_pipeline.objectives.pieces import NOTHING

# A run of stops with the quotes and brackets that close after it, and the first
# character after space; CJK stops; the end of one or more lines. No character
# is read twice, so time is linear in any text; the pattern starts with one set
# of characters, which the search finds quickly.
STOP = re.compile(
  r"""[.!?…。！？｡\n](?:(?<=\n)\s*+"""
  r"""|(?<=[.!?…])[.!?…]*+["'”’»)\]]*+(?:(?=\s++(\S))|)"""
  r"""|[。！？｡]*+[」』”’）】]*+)"""
)
# Text before a full stop that does not end a sentence, with the first character
# of the next word: initials and abbreviations like U.S., titles, and words
# followed by a number.
ABBREVIATION = re.compile(
  r'(?:^|[\s("\'“‘\[])(?:'
  r'(?:(?!I.$)[^\W\d_](?:\.[^\W\d_])*'
  '|Mr|Mrs|Ms|Dr|Prof|Rev|Hon|St|Mt|Jr|Sr|Gen|Col|Maj|Capt|Lt|Sgt|Gov|Sen|Rep'
  '|vs|cf|al|ca|approx|Inc|Ltd|Co|Corp|Bros|Dept|Univ).'
  '|(?:No|Nos|Vol|Fig|Figs|Eq|Sec|Ch|no|vol|fig|figs|eq|sec|ch|p|pp'
  r'|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\d)$'
)
WORD = 24  # characters looked back for an abbreviation


def split(text: bytes) -> list[bytes]:
  """UTF-8 text -> its sentences, which together are the text again.

  A sentence ends after . ! ? or an ellipsis, with the quotes and brackets that
  close there, if a space and no lowercase letter follow; not after an
  abbreviation or an initial. It ends after a CJK stop, at an empty line, and at
  a line's end unless the next line begins with a lowercase letter. Space
  belongs to the sentence after it.

  >>> split(b'Dr. J. Smith left. "Why?" 3.5 miles, e.g. Go!')
  [b'Dr. J. Smith left.', b' "Why?"', b' 3.5 miles, e.g. Go!']
  """
  # Bytes that are not UTF-8 come back unchanged.
  text = text.decode(errors='surrogateescape')
  parts, last, end = [], 0, len(text.rstrip())
  for found in STOP.finditer(text, 0, end):
    stop, cut = found[0], found.end()
    if stop[0] == '\n':
      if text[cut].islower() and stop.count('\n') == 1:
        continue
      cut = found.start()
    elif stop[0] in '.!?…':
      follows = found[1]
      if not follows or follows.islower():
        continue
      before = text[max(0, found.start() - WORD) : found.start()]
      if stop == '.' and ABBREVIATION.search(before + follows):
        continue
    part = text[last:cut]
    if cut < end and part and not part.isspace():
      parts.append(part)
      last = cut
  parts.append(text[last:])
  return [part.encode(errors='surrogateescape') for part in parts if part]


def shorten(
  document: Sequence[np.ndarray], length: int
) -> Sequence[np.ndarray]:
  """The document, with each sentence of more than `length` tokens cut.

  Sentences are int [n], of any length.
  """
  if max(map(len, document), default=0) <= length:
    return document
  return [
    sentence[start : start + length]
    for sentence in document
    for start in range(0, len(sentence), length)
  ]


def sentence_pairs(
  documents: Sequence[Sequence[np.ndarray]],
  rng: np.random.Generator,
  length: int,
  short_share: float,
  single: bool = False,
) -> list[tuple[np.ndarray, np.ndarray, int]]:
  """Pairs for next-sentence prediction, as BERT's release builds them.

  Documents -> list of (first, second, label) with at most `length` ids
  together. Label 0: the second part follows in the document; 1: it is from
  anywhere in another document (Devlin et al. 2019, 3.1).

  1. Take sentences until they have `length` tokens; for a `short_share` of the
     documents, until they have a random number of tokens from 2 on.
  2. Split them at random between two sentences.
  3. Half of the time, and always after a single sentence, replace the second
     part with sentences of another document of the chunk, from a random one on.
     The sentences that were replaced are taken next.
  4. While the pair is too long, drop a token of its longer part, from the front
     or the back.

    taken  [a b c d]   split   a | b c d   kept      (a, b c d, 0)
                                           replaced  (a, x y z, 1), next: b c d

  With `single` both parts are one sentence: step 1 takes two, and step 3 takes
  one (RoBERTa's SENTENCE-PAIR: Liu et al. 2019, 4.2).

    taken  [a b]       split   a | b       kept      (a, b, 0)
                                           replaced  (a, x, 1), next: b c

  The release drops the rest of a sentence longer than `length`; here such
  sentences have been cut (see shorten). A document alone in its chunk, such as
  the only one of a file, has pairs of label 0 only, and loses sentences that
  are taken alone.
  """
  texts = [np.concatenate(sentences) for sentences in documents]
  bounds = [
    np.cumsum([0, *map(len, sentences)]).tolist() for sentences in documents
  ]
  pairs = []
  for number, (text, at) in enumerate(zip(texts, bounds, strict=True)):
    target = length
    if rng.random() < short_share:
      target = int(rng.integers(2, length + 1))
    start, end = 0, len(at) - 1
    while start < end:
      stop = bisect.bisect_left(at, at[start] + target, start + 1, end)
      if single:
        stop = min(start + 2, end)
      middle = start + 1
      if stop > middle:
        middle = int(rng.integers(middle, stop))
      first = text[at[start] : at[middle]]
      label = int(stop == start + 1 or rng.random() < 0.5)
      if len(texts) == 1:  # no other document to take a second part from
        if stop == start + 1:
          start = stop
          continue
        label = 0
      if label:
        other = int(rng.integers(len(texts) - 1))
        other += other >= number
        room = 1 if single else target - len(first)
        second = _from_anywhere(texts[other], bounds[other], rng, room)
        start = middle
      else:
        second = text[at[middle] : at[stop]]
        start = stop
      pairs.append((*truncate(first, second, length, rng), label))
  return pairs


def _from_anywhere(text, at, rng, length):
  """Sentences from a random one on, until they have `length` tokens."""
  start = int(rng.integers(len(at) - 1))
  stop = bisect.bisect_left(at, at[start] + length, start + 1, len(at) - 1)
  return text[at[start] : at[stop]]


def truncate(
  first: np.ndarray, second: np.ndarray, length: int, rng: np.random.Generator
) -> list[np.ndarray]:
  """Drops tokens of the longer part until both have `length` together.

  int [n], int [m] -> both, shortened at either end.

  Of two equally long parts the second loses a token. A coin's toss for each
  token decides between front and back, so the numbers are binomial.
  """
  a, b = len(first), len(second)
  over = max(0, a + b - length)
  even = max(0, over - abs(a - b))  # dropped when both are equally long
  from_first = even // 2 + (min(over, a - b) if a > b else 0)
  parts = []
  for part, count in ((first, from_first), (second, over - from_first)):
    front = int(rng.binomial(count, 0.5)) if count else 0
    parts.append(part[front : len(part) - count + front])
  return parts


def full_sentences(
  documents: Sequence[Sequence[np.ndarray]],
  length: int,
  cls: int,
  sep: int,
  across: bool,
) -> np.ndarray:
  """RoBERTa's rows of as many full sentences as fit (Liu et al. 2019, 4.2).

  Documents -> [N, I], I <= `length`; NOTHING fills shorter rows. Sentences have
  at most `length` - 2 tokens. Rows continue `across` documents, with a
  separator between them (FULL-SENTENCES), or end with each document
  (DOC-SENTENCES).

    documents  [ab c] [d ef]   length 8
    across     [CLS] a b c [SEP] d [SEP], [CLS] e f [SEP]
    not        [CLS] a b c [SEP], [CLS] d e f [SEP]
  """
  if not documents:
    return np.zeros([0, length], np.int32)
  last = np.cumsum([len(document) for document in documents])  # sentence, + 1
  sizes = np.array([len(sentence) for d in documents for sentence in d])
  ends = np.zeros(len(sizes), bool)  # a document's last sentence
  ends[last - 1] = True
  # All text, with a separator after each document. `stops` is where a row ends,
  # with its separator, if a sentence is its last.
  text = np.concatenate(
    [part for d in documents for part in (*d, np.array([sep], np.int32))]
  )
  after = np.cumsum(sizes + ends)
  stops = after + ~ends
  bounds, sentence = [], 0
  while sentence < len(sizes):
    start = after[sentence - 1] if sentence else 0
    limit = len(sizes)
    if not across:
      limit = last[np.searchsorted(last, sentence, side='right')]
    fit = np.searchsorted(stops, start + length - 1, side='right')
    sentence = min(int(fit), int(limit))
    bounds.append((start, after[sentence - 1], stops[sentence - 1]))
  start, end, stop = np.array(bounds).T[:, :, None]
  places = start - 1 + np.arange((stop - start).max() + 1)
  rows = np.full(places.shape, NOTHING, np.int32)
  rows[:, 0] = cls
  inside = (start <= places) & (places < end)
  rows[inside] = text[places[inside]]
  rows[(end <= places) & (places < stop)] = sep
  return rows

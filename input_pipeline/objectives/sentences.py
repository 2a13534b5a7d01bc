"""Sentences: splitting text into them, and rows made of them.

A document is a list of sentences here, each an array of ids, none empty.
"""

import bisect
import re

import numpy as np

from input_pipeline.objectives.corruption import NOTHING

# A run of stops, with quotes and brackets that close after it, and what comes
# after space; CJK stops; the end of a line, or of several. Nothing is read
# twice, so that time is linear in the text whatever it holds, and one set of
# signs comes first, which the search is quick with.
STOP = re.compile(
  r"""[.!?…。！？｡\n](?:(?<=\n)\s*+"""
  r"""|(?<=[.!?…])[.!?…]*+["'”’»)\]]*+(?:(?=\s++(\S))|)"""
  r"""|[。！？｡]*+[」』”’）】]*+)"""
)
# What stands before a full stop that ends no sentence, with the sign that
# begins the next word: initials and the like of U.S., titles, and words that
# a number follows.
ABBREVIATION = re.compile(
  r'(?:^|[\s("\'“‘\[])(?:'
  r'(?:(?!I.$)[^\W\d_](?:\.[^\W\d_])*'
  '|Mr|Mrs|Ms|Dr|Prof|Rev|Hon|St|Mt|Jr|Sr|Gen|Col|Maj|Capt|Lt|Sgt|Gov|Sen|Rep'
  '|vs|cf|al|ca|approx|Inc|Ltd|Co|Corp|Bros|Dept|Univ).'
  '|(?:No|Nos|Vol|Fig|Figs|Eq|Sec|Ch|no|vol|fig|figs|eq|sec|ch|p|pp'
  r'|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\d)$'
)
WORD = 24  # characters looked back for an abbreviation


def split(text):
  """UTF-8 text -> its sentences, bytes that together are the text again.

  A sentence ends after . ! ? or an ellipsis, and quotes and brackets that close
  there, where space and no small letter follow; not after an abbreviation or an
  initial. It ends after a CJK stop, at an empty line, and at a line's end
  unless the next line goes on with a small letter. Space goes to the sentence
  after it.

  >>> split(b'Dr. J. Smith left. "Why?" 3.5 miles, e.g. Go!')
  [b'Dr. J. Smith left.', b' "Why?"', b' 3.5 miles, e.g. Go!']
  """
  # The bytes that are no UTF-8 come back as they are.
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


def shorten(document, length):
  """A sentence of more than `length` tokens becomes several."""
  if max(map(len, document), default=0) <= length:
    return document
  return [
    sentence[start : start + length]
    for sentence in document
    for start in range(0, len(sentence), length)
  ]


def sentence_pairs(documents, rng, length, short_share):
  """Pairs for next-sentence prediction, as BERT's release builds them.

  Documents -> list of (first, second, label): ids that are at most `length`
  together, label 0 where the second follows in the document, 1 where it is from
  anywhere in another one (Devlin et al. 2019, 3.1).

  A sentence of more than `length` tokens has been cut (see shorten), which is
  kinder than the release, where the pair would lose the rest of it.

  Sentences are taken until they have as many tokens as aimed at: `length`, or,
  for a `short_share` of the documents, any number from 2 on. They are parted
  between two sentences, at random. Half of the time, and always when there is
  but one sentence, the second part comes from another document of the block,
  from a random sentence on, and the sentences that it displaced are put back,
  to be taken next. A pair that is too long loses tokens of its longer part, one
  by one, each from the front or the back. A document alone in its block, as in
  a file of one, has pairs of label 0 only; sentences taken alone are left out.

    taken  [a b c d]   parted  a | b c d   kept      (a, b c d, 0)
                                           replaced  (a, x y z, 1), next: b c d
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
      middle = start + 1
      if stop > middle:
        middle = int(rng.integers(middle, stop))
      first = text[at[start] : at[middle]]
      label = int(stop == start + 1 or rng.random() < 0.5)
      if len(texts) == 1:  # no other document: what comes next, or nothing
        if stop == start + 1:
          start = stop
          continue
        label = 0
      if label:
        other = int(rng.integers(len(texts) - 1))
        other += other >= number
        second = _from_anywhere(
          texts[other], bounds[other], rng, target - len(first)
        )
        start = middle
      else:
        second = text[at[middle] : at[stop]]
        start = stop
      pairs.append((*truncate(first, second, length, rng), label))
  return pairs


def _from_anywhere(text, at, rng, length):
  """Sentences from a random one on: `length` tokens or just above."""
  start = int(rng.integers(len(at) - 1))
  stop = bisect.bisect_left(at, at[start] + length, start + 1, len(at) - 1)
  return text[at[start] : at[stop]]


def truncate(first, second, length, rng):
  """Takes tokens from the longer part until both have `length` together.

  Of parts equally long the second gives way. Each token comes from the front or
  the back, a coin's toss, so that their numbers are binomial.
  """
  a, b = len(first), len(second)
  over = max(0, a + b - length)
  even = max(0, over - abs(a - b))  # taken when both are equally long
  from_first = even // 2 + (min(over, a - b) if a > b else 0)
  parts = []
  for part, count in ((first, from_first), (second, over - from_first)):
    front = int(rng.binomial(count, 0.5)) if count else 0
    parts.append(part[front : len(part) - count + front])
  return parts


def full_sentences(documents, length, cls, sep, across):
  """RoBERTa's rows of as many full sentences as fit (Liu et al. 2019, 4.2).

  Documents -> [N, I], I <= `length`; NOTHING follows a shorter row. Sentences
  have at most `length` - 2 tokens. Rows go on `across` documents, with a
  separator between them (FULL-SENTENCES), or end with each (DOC-SENTENCES).

    documents  [ab c] [d ef]   length 8
    across     [CLS] a b c [SEP] d [SEP], [CLS] e f [SEP]
    not        [CLS] a b c [SEP], [CLS] d e f [SEP]
  """
  if not documents:
    return np.zeros([0, length], np.int32)
  sentences = [sentence for document in documents for sentence in document]
  last = np.cumsum([len(document) for document in documents])  # sentence, + 1
  sizes = np.array([len(sentence) for sentence in sentences])
  ends = np.zeros(len(sizes), bool)  # a document's last sentence
  ends[last - 1] = True
  # All text, with a separator after each document; `stops` is where a row
  # stops that has a sentence as its last one, with the row's separator.
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

"""Training of WordPiece and byte-level BPE: which pieces to merge.

The tokenizers library splits the text into words. The merges are learnt here,
because the ids of the library's trainers depend on the order of a hash table,
which differs in each process.
"""

import collections
import heapq
import itertools
from collections.abc import Iterable, Sequence

from input_pipeline.tokenizers import json_format, subwords

BERT = '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'
ROBERTA = '<s>', '<pad>', '</s>', '<unk>'
ALPHABET = 1000  # characters that a WordPiece vocabulary begins with, at most
LONGEST = 100  # characters of a word that WordPiece can encode
PART = 1000  # bytes of a word that byte-level BPE learns from at a time


def train(
  texts: Iterable[str],
  kind: str,
  vocab_size: int,
  sentinels: int,
  lowercase: bool,
  specials: bool,
) -> subwords.Subwords:
  """See kinds.train. The pieces are, before the sentinels:

  WordPiece  [PAD] [UNK] [CLS] [SEP] [MASK], characters, merges
  BPE        256 bytes, merges, <|endoftext|>, as GPT-2
  the same with `specials`
             <s> <pad> </s> <unk>, 256 bytes, merges, <mask>, as RoBERTa
  """
  pieces = vocab_size - sentinels
  if kind == 'wordpiece':
    content = json_format.wordpiece({'[UNK]': 0}, lowercase)
    words = count_words(texts, content)
    first = [*BERT, *_alphabet(words, min(ALPHABET, pieces // 4))]
    last, prefix = [], '##'
  else:
    content = json_format.byte_bpe({}, [])
    words = count_words(texts, content)
    first = list(ROBERTA if specials else ())
    first += sorted(json_format.byte_characters())
    last = ['<mask>' if specials else '<|endoftext|>']
    prefix = ''
  named = f'model.vocab_size={vocab_size} ({sentinels} of them sentinels)'
  least = len(first) + len(last)
  if pieces < least:
    raise ValueError(
      f'{named} is too small for data.tokenizer_kind={kind!r}: special tokens,'
      f' characters and sentinels alone are {least + sentinels}.'
    )
  found, pairs = learn(words, first, pieces - len(last), prefix)
  found += last
  if len(found) < pieces:
    raise ValueError(
      f'No vocabulary of {named} can be trained on data.source, only one of'
      f' {len(found) + sentinels}: give more text or a smaller vocabulary.'
    )
  ids = {piece: i for i, piece in enumerate(found)}
  if kind == 'wordpiece':
    made, content = subwords.WordPiece, json_format.wordpiece(ids, lowercase)
  else:
    made, content = subwords.ByteBpe, json_format.byte_bpe(ids, pairs)
  return made(content, sentinels, 'the trained tokenizer')


def learn(
  words: dict[str, int], pieces: Sequence[str], size: int, prefix: str
) -> tuple[list[str], list[tuple[str, str]]]:
  """Byte-pair encoding (Sennrich et al. 2016, 3.2).

  The most frequent pair of neighbours becomes a piece, until there are `size`
  pieces. Ties go to the lowest ids. `words` is word -> count. Characters that
  are not among the first `pieces` are left out. `prefix` marks pieces inside a
  word: '##' or ''. Returns the pieces, and the merges [(left, right)] in order.

  >>> learn({'aab': 3, 'ab': 2}, ['a', 'b'], 4, '')
  (['a', 'b', 'ab', 'aab'], [('a', 'b'), ('a', 'ab')])
  """
  pieces = list(pieces)
  ids = {piece: i for i, piece in enumerate(pieces)}
  parts, counts = [], []
  for word, count in words.items():
    names = [word[0], *(prefix + c for c in word[1:])]
    parts.append([ids[name] for name in names if name in ids])
    counts.append(count)
  total = collections.Counter()
  where = collections.defaultdict(set)  # words that may have a pair
  for n, part in enumerate(parts):
    for pair in itertools.pairwise(part):
      total[pair] += counts[n]
      where[pair].add(n)
  queue = [(-count, pair) for pair, count in total.items()]
  heapq.heapify(queue)
  merges = []
  while queue and len(pieces) < size:
    count, pair = heapq.heappop(queue)
    if not total[pair]:
      continue
    if -count != total[pair]:  # outdated: the pair has become rarer
      heapq.heappush(queue, (-total[pair], pair))
      continue
    left, right = (pieces[i] for i in pair)
    piece = left + right[len(prefix) :]
    new = ids.setdefault(piece, len(pieces))
    if new == len(pieces):
      pieces.append(piece)
    merges.append((left, right))
    changed = set()
    for n in where.pop(pair):
      part, merged = parts[n], _merge(parts[n], pair, new)
      if len(merged) == len(part):
        continue
      for old in itertools.pairwise(part):
        total[old] -= counts[n]
      for made in itertools.pairwise(merged):
        total[made] += counts[n]
        if new in made:
          where[made].add(n)
          changed.add(made)
      parts[n] = merged
    for made in changed:
      heapq.heappush(queue, (-total[made], made))
  return pieces, merges


def _merge(part, pair, new):
  """The ids of a word, with each `pair` from the left replaced by `new`."""
  merged, skip = [], False
  for here, there in zip(part, [*part[1:], None], strict=True):
    if skip:
      skip = False
    elif skip := (here, there) == pair:
      merged.append(new)
    else:
      merged.append(here)
  return merged


def count_words(texts: Iterable[str], content: dict) -> dict[str, int]:
  """Word -> count, with words as the tokenizer of this content splits them.

  Byte-level BPE: a long word, such as a line of Chinese, comes in parts of at
  most PART bytes, cut between characters. WordPiece: words of more than LONGEST
  characters are left out.
  """
  content, _ = json_format.canonical(content, 0, 'training')
  tokenizer = subwords.open_content(content)
  normalize = getattr(tokenizer.normalizer, 'normalize_str', str)
  split = tokenizer.pre_tokenizer.pre_tokenize_str
  words = collections.Counter()
  for text in texts:
    words.update(word for word, _ in split(normalize(text)))
  if content['model']['type'] == 'WordPiece':
    return {w: n for w, n in sorted(words.items()) if len(w) <= LONGEST}
  parts = collections.Counter()
  for word, count in words.items():
    for part in _parts(word):
      parts[part] += count
  return dict(sorted(parts.items()))


def _parts(word):
  """A word of byte characters, cut where a character of the text begins."""
  within = {*json_format.byte_characters()[0x80:0xC0]}
  parts = []
  while len(word) > PART:
    end = next(n for n in range(PART, 0, -1) if word[n] not in within)
    parts.append(word[:end])
    word = word[end:]
  return [*parts, word]


def _alphabet(words, limit):
  """The most frequent characters; with ## those that occur inside words."""
  counts, within = collections.Counter(), set()
  for word, count in words.items():
    within.update(word[1:])
    for character in word:
      counts[character] += count
  kept = sorted(counts, key=lambda c: (-counts[c], c))[:limit]
  return [*sorted(kept), *(f'##{c}' for c in sorted(within & {*kept}))]

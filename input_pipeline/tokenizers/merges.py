"""Training of WordPiece and byte-level BPE: which pieces to merge.

The tokenizers library splits the text into words. The merges are learnt here:
its own trainers walk through hash tables in an order that each process draws
anew, and ids follow that order.
"""

import collections
import heapq

from input_pipeline.tokenizers import json_format, subwords

BERT = '[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'
ROBERTA = '<s>', '<pad>', '</s>', '<unk>'
ALPHABET = 1000  # characters a WordPiece vocabulary begins with, at most
LONGEST = 100  # characters of a word that WordPiece knows
PART = 1000  # bytes of a word that byte-level BPE learns from at a time


def train(texts, kind, vocab_size, sentinels, lowercase, specials):
  """A tokenizer of `vocab_size` pieces, sentinels included, from str `texts`.

  WordPiece begins with [PAD] [UNK] [CLS] [SEP] [MASK]; byte-level BPE with the
  256 bytes and ends with <|endoftext|>, as GPT-2's, or with `specials` begins
  with <s> <pad> </s> <unk> and ends with <mask>, as RoBERTa's. The same texts
  give the same bytes. Raises ValueError when there is too little text for so
  many pieces.
  """
  pieces = vocab_size - sentinels
  if kind == 'wordpiece':
    content = json_format.wordpiece({'[UNK]': 0}, lowercase)
    words = count_words(texts, content)
    first, last = list(BERT), []
    first += _alphabet(words, min(ALPHABET, pieces // 4))
    prefix = '##'
  else:
    content = json_format.byte_bpe({}, [])
    words = count_words(texts, content)
    first = list(ROBERTA if specials else ()) + sorted(
      json_format.byte_characters()
    )
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


def learn(words, pieces, size, prefix):
  """Byte-pair encoding (Sennrich et al. 2016, 3.2): the commonest pair of
  neighbours becomes a piece, until there are `size` pieces.

  words is word -> count, `pieces` the pieces to begin with, `prefix` marks
  those within a word. Characters that are no piece are left out. Of pairs
  equally common, that of the lowest ids comes first. Returns the pieces and the
  merges [(left, right)], in order.

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
    for pair in zip(part, part[1:], strict=False):
      total[pair] += counts[n]
      where[pair].add(n)
  queue = [(-count, pair) for pair, count in total.items()]
  heapq.heapify(queue)
  merges = []
  while queue and len(pieces) < size:
    count, pair = heapq.heappop(queue)
    if -count != total[pair]:  # it has become rarer
      if total[pair]:
        heapq.heappush(queue, (-total[pair], pair))
      continue
    if not count:
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
      for old in zip(part, part[1:], strict=False):
        total[old] -= counts[n]
      for made in zip(merged, merged[1:], strict=False):
        total[made] += counts[n]
        if new in made:
          where[made].add(n)
          changed.add(made)
      parts[n] = merged
    for made in changed:
      heapq.heappush(queue, (-total[made], made))
  return pieces, merges


def _merge(part, pair, new):
  """Ids of a word with every `pair`, from the left, as one id."""
  merged, skip = [], False
  for here, there in zip(part, [*part[1:], None], strict=True):
    if skip:
      skip = False
    elif skip := (here, there) == pair:
      merged.append(new)
    else:
      merged.append(here)
  return merged


def count_words(texts, content):
  """Word -> count, the words as the tokenizer sees them.

  Long words of byte-level BPE, as a line of Chinese, come in parts of at most
  PART bytes, cut between characters. WordPiece knows no longer word than one
  of LONGEST characters: those are left out.
  """
  tokenizer = subwords.library().Tokenizer.from_str(
    json_format.to_json(
      json_format.canonical(content, 0, 'training')[0]
    ).decode()
  )
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
  """The commonest characters, and those within words with ## before them."""
  counts, within = collections.Counter(), set()
  for word, count in words.items():
    within.update(word[1:])
    for character in word:
      counts[character] += count
  kept = sorted(counts, key=lambda c: (-counts[c], c))[:limit]
  return [*sorted(kept), *(f'##{c}' for c in sorted(within & {*kept}))]

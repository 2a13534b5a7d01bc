"""Texts, and slow, plain tokenizers of BERT, GPT-2 and RoBERTa.

Written from the published algorithms, to compare with.
"""

import functools
import gzip
import json
import random
import unicodedata

import regex

# GPT-2's pattern of a word: contractions; then runs of letters, of numbers or
# of other characters, with the space before them; then spaces.
WORD = regex.compile(
  r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
  r'|\s+(?!\S)|\s+'
)

ODD = [
  'Crème brûlée, naïve façade, Ångström, İstanbul, Straße, ŒUVRE, ﬁne',
  'e\u0301te\u0301 \u0301alone n\u0303 \u1ea5 \u0061\u0302\u0301 Việt Nam',
  'Ελληνικά ΣΊΣΥΦΟΣ Съешь ещё этих мягких Şțiință și învăţământ',
  '中文字符 日本語テキスト、カタカナ 한국어 텍스트',
  '\u3400\u4dbf\U00020000\U0002f800 mixed中文and英文words。「引用」！？',
  '😀😃 \U0001f468\u200d\U0001f469\u200d\U0001f466 \U0001f44d\U0001f3fd',
  '🇩🇪🇫🇷 ❤\ufe0f ☃ ™ © № ½ ² ⅷ ① €5 £6',
  'مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก ગુજરાતી',
  "don't DON'T we'll they've I'm it's he'd o'clock 'tis ''quoted''",
  'http://www.example.com/a_b-c?d=e&f=%20#g user@example.org #tag $5.00',
  '3.14159 1,000,000 1e-9 0x1F ٣٤٥ १२३ 4th 2nd C3PO',
  '  two  spaces   three \t tab\ttab \n line\n\nlines \r\n carriage\r end  ',
  'three   spaces    four \u00a0 \u2003  \u205f\u3000 \u1680   \n   end   ',
  'u\u00a0 \u00a0v\u0085 \u0085w\u3000 \u3000x\u1680 \u1680y\u2028 \u2028z ',
  ' ',
  '',
  '\t\n\r\n',
  'a\u00a0b \u00a0c\u00a0 d \u2009e\u2009 f\u3000g \u3000 h',
  'h\u2028i \u2028j\u2028 \u2029k\u0085l \u0085m\u0085 n\u1680 \u1680o',
  'k \u205fl \u202fm \u2003n \u3000o \u1680p \u0085q \u00a0r \u2028s \x1ct',
  'k\u205f l\u202f m\u2003 n\u3000 o\u1680 p\u0085 q\u00a0 r\u2028 s\x1c t',
  'zero\u200bwidth \u200djoin\u200d \ufeffbom soft\u00adhyphen \u2060 \u180e',
  'nul\0nul \0 \0\0end\0',
  'vertical\x0btab \x0b x\x0cform feed \x0c\x1c \x1d\x1e\x1f unit\x1fs',
  ''.join(map(chr, range(160))),
  'replacement \ufffd private \ue000 \U000f0000 tag \U000e0041',
  'x' * 99 + ' ' + 'y' * 100 + ' ' + 'z' * 101 + ' ' + 'é' * 60,
  'word ' * 3 + '....... ----- ===== !!!??? (a)[b]{c}<d> "e" `f` ~g~ ^h |i|',
]
BROKEN = [
  b'\xff',
  b'caf\xc3 latte \xe9t\xe9',
  b'cut \xe6\xb1',
  b'cut \xe6\xb1 and \xf0\x9f\x98 on',
  b'overlong \xc0\xaf surrogate \xed\xa0\x80 far \xf5\x80\x80\x80',
  b'\x80\x81 \xfe\xff\x00 \xf0\x9f\x98\x80\xf0\x9f',
]


def real_lines(data, count=10_000):
  """Distinct lines of newspapers in English and Romanian, Wikipedia and C4.

  The shortest are first.
  """
  lines = []
  for name in ('newsdev2016.ro', 'newsdev2016.en'):
    lines += (data / 'wmt16_enro' / name).read_bytes().split(b'\n')
  wiki = data / 'wikitext2_eval' / 'wiki.valid.raw'
  lines += wiki.read_bytes().split(b'\n')
  with gzip.open(
    data / 'c4_sample_1k' / 'c4-sample.00000-of-00001.json.gz'
  ) as file:
    for line in file:
      lines += json.loads(line)['text'].encode().split(b'\n')
  lines = sorted(set(lines), key=lambda line: (len(line), line))[:count]
  assert len(lines) == count
  return lines


def odd_texts(count=300):
  """Unusual UTF-8 texts, and some that are not UTF-8.

  Characters are drawn from those that are the same in all versions of Unicode,
  because each library has its own tables.
  """
  rng = random.Random(0)
  old = unicodedata.ucd_3_2_0
  points = [
    chr(c)
    for c in (*range(0xD800), *range(0xF900, 0x10000), *range(0x10300, 0x1D800))
    if old.category(chr(c)) == unicodedata.category(chr(c)) != 'Cn'
  ]
  some = rng.sample(points, 4000)
  drawn = [
    ''.join(rng.choices([*some, *' \t\n aeiou' * 40], k=rng.randint(1, 40)))
    for _ in range(count)
  ]
  texts = [text.encode() for text in [*ODD, *drawn]]
  cut = [text[: rng.randint(0, len(text))] for text in texts]
  return [*texts, *cut, *BROKEN]


class Bert:
  """BERT's tokenization.py: words and punctuation, then the longest pieces.

  Two things are as in the tokenizers library: letters are lowercased one by one
  (Python lowercases a Greek word's last sigma differently), and a word is
  unknown if it has more than 100 characters, not 200.
  """

  def __init__(self, pieces, lowercase):
    self.ids = {piece: i for i, piece in enumerate(pieces)}
    self.lowercase = lowercase
    self.longest = functools.cache(self.longest)

  def encode(self, text):
    clean = ''
    for c in text:
      if c in ' \t\n\r' or unicodedata.category(c) == 'Zs':
        clean += ' '
      elif ideograph(ord(c)):
        clean += f' {c} '
      elif c != '\ufffd' and unicodedata.category(c)[0] != 'C':
        clean += c
    return [i for word in clean.split() for i in self.longest(word)]

  def longest(self, token):
    if self.lowercase:
      token = unicodedata.normalize('NFD', ''.join(c.lower() for c in token))
      token = ''.join(c for c in token if unicodedata.category(c) != 'Mn')
    words = ['']
    for c in token:
      words += [c, ''] if punctuation(c) else []
      words[-1] += '' if punctuation(c) else c
    ids = []
    for word in filter(None, words):
      found, start = [], 0
      while start < len(word) <= 100:
        ends = range(len(word), start, -1)
        names = ('##' * (start > 0) + word[start:end] for end in ends)
        name = next((n for n in names if n in self.ids), None)
        if name is None:
          break
        found.append(self.ids[name])
        start += len(name.removeprefix('##') if start else name)
      ids += found if start == len(word) else [self.ids['[UNK]']]
    return ids


def ideograph(c):
  """BERT's CJK characters: without kana and hangul."""
  blocks = (
    *((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF)),
    *((0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF)),
    *((0xF900, 0xFAFF), (0x2F800, 0x2FA1F)),
  )
  return any(first <= c <= last for first, last in blocks)


def punctuation(c):
  """Includes all of ASCII except letters, numbers, space and controls."""
  ascii_ranges = (33, 47), (58, 64), (91, 96), (123, 126)
  return unicodedata.category(c)[0] == 'P' or any(
    first <= ord(c) <= last for first, last in ascii_ranges
  )


class Gpt2:
  """GPT-2's encoder.py: bytes, words, then the merges of lowest rank."""

  def __init__(self, folder):
    self.ids = json.loads((folder / 'encoder.json').read_text())
    lines = (folder / 'vocab.bpe').read_text().split('\n')[1:-1]
    self.ranks = {tuple(line.split()): n for n, line in enumerate(lines)}
    shown = [*range(ord('!'), ord('~') + 1), *range(ord('¡'), ord('¬') + 1)]
    shown += range(ord('®'), ord('ÿ') + 1)
    self.bytes = {b: chr(b) for b in shown}
    for b in range(256):
      if b not in shown:
        self.bytes[b] = chr(256 + len(self.bytes) - len(shown))
    self.merge = functools.cache(self.merge)

  def merge(self, word):
    parts = list(word)
    while len(parts) > 1:
      pairs = list(zip(parts, parts[1:], strict=False))
      best = min(pairs, key=lambda pair: self.ranks.get(pair, 1 << 30))
      if best not in self.ranks:
        break
      merged, n = [], 0
      while n < len(parts):
        if tuple(parts[n : n + 2]) == best:
          merged.append(''.join(best))
          n += 2
        else:
          merged.append(parts[n])
          n += 1
      parts = merged
    return [self.ids[part] for part in parts]

  def encode(self, text):
    ids = []
    for word in WORD.findall(text):
      ids += self.merge(''.join(self.bytes[b] for b in word.encode()))
    return ids


class Roberta:
  """fairseq's: GPT-2's ids, in dict.txt's order after four special tokens."""

  def __init__(self, folder):
    self.gpt2 = Gpt2(folder)
    lines = (folder / 'dict.txt').read_text().splitlines()
    self.ids = {line.split()[0]: 4 + n for n, line in enumerate(lines)}

  def encode(self, text):
    return [self.ids[str(i)] for i in self.gpt2.encode(text)]

"""Texts to predict, as the language models' papers read them.

WikiText, the Penn Treebank and the One Billion Word Benchmark are published in
tokens. GPT-2 (Radford et al. 2019, 3.1) reads them with the marks of the
tokenizer taken out, and its perplexity is per published token.
"""

import functools
import re
from collections.abc import Callable, Iterator

from input_pipeline.prompted.task import Prompted, Text
from input_pipeline.sources import paths
from input_pipeline.tasks import files

# A rule: what is found, and what stands in its place.
_Rules = tuple[tuple[str, str], ...]
# Punctuation that stands where it is written in English.
_PLACED: _Rules = (
  (r' ([.,;:!?%)\]}])', r'\1'),
  (r'([(\[{]) ', r'\1'),
  (r"(?<=[\w>)]) (n't|'(?:s|m|d|ll|re|ve))\b", r'\1'),
)
_WIKITEXT: _Rules = (
  (r' @([-.,])@ ', r'\1'),
  (r'= (?==)', '='),  # the marks of a heading
  *_PLACED,
  (r'" ([^"\n]*?) "', r'"\1"'),
  (r" ' ([^'\n]*?) '(?!\w)", r" '\1'"),
  (r"(?<=[s>]) '(?= \w)", "'"),  # the ships ' crews
  (r'(?<=\w) / (?=\w)', '/'),
  (r'([$£€]) (?=\d)', r'\1'),
  (r'(?<=\d) ?(°) ?', r' \1'),
  (r'(?m)^ +| +$', ''),
)
_PTB: _Rules = (
  (r'-LRB- ?', '('),
  (r' ?-RRB-', ')'),
  (r'-LCB- ?', '{'),
  (r' ?-RCB-', '}'),
  (r'-LSB- ?', '['),
  (r' ?-RSB-', ']'),
  (r'`` ?', '"'),
  (r" ?''", '"'),
  (r'` (?=\w)', "'"),
  *_PLACED,
  (r"(?<=\ws) '(?!\w)", "'"),
  (r'([$#]) (?=[\dN])', r'\1'),
  (r'\\/', '/'),
  (r'(?m)^ +| +$', ''),
)
_LM1B: _Rules = (
  *_PLACED,
  (r'" ([^"\n]*?) "', r'"\1"'),
  (r"(?<=\w) '(?=[a-z])", "'"),  # doesn 't
  (r'([$£€]) (?=\d)', r'\1'),
  (r'(?m)^ +| +$', ''),
)


def _plain(text: str, rules: _Rules) -> str:
  for found, put in rules:
    text = re.sub(found, put, text)
  return text


plain_wikitext = functools.partial(_plain, rules=_WIKITEXT)
plain_ptb = functools.partial(_plain, rules=_PTB)
plain_lm1b = functools.partial(_plain, rules=_LM1B)
PLAIN = {'wikitext': plain_wikitext, 'ptb': plain_ptb, 'lm1b': plain_lm1b}


def count(text: str) -> int:
  """The tokens of a published text, with an end of each line."""
  return sum(len(line.split()) + 1 for line in text.splitlines())


def _whole(path: str, plain: Callable[[str], str]) -> Iterator[Text]:
  text = files.text(path)
  yield Text(plain(text), count(text))


def _lines(path: str, plain: Callable[[str], str]) -> Iterator[Text]:
  for _, line in files.filled(path):
    yield Text(plain(line), count(line))


LAST = 5_000_000  # bytes of enwik8 and text8 that are the test set


def read_last(path: str) -> Iterator[Text]:
  """The end of enwik8 or text8 (Hutter; Mahoney), without half a character."""
  data = paths.read(path)
  if len(data) <= LAST:
    raise ValueError(
      f'{path} has {len(data):,} bytes. enwik8 and text8 have 100,000,000, of '
      f'which the last {LAST:,} are the test set: unpack the file again.'
    )
  text = data[-LAST:].decode(errors='ignore')
  yield Text(text, len(text.split()))


def _text(name, read, *names: str) -> Prompted:
  return Prompted(
    name=name, kind='text', files={'test': names}, read=read, asked='test',
    shots='',
  )  # fmt: skip


TASKS = (
  _text(
    'wikitext2', functools.partial(_whole, plain=plain_wikitext),
    'wikitext-2/wiki.test.tokens', 'wikitext2.test.tokens',
  ),
  _text(
    'wikitext103', functools.partial(_whole, plain=plain_wikitext),
    'wikitext-103/wiki.test.tokens', 'wikitext103.test.tokens',
  ),
  _text(
    'ptb', functools.partial(_whole, plain=plain_ptb),
    'ptb.test.txt', 'simple-examples/data/ptb.test.txt', 'ptb/ptb.test.txt',
  ),
  _text(
    'lm1b', functools.partial(_lines, plain=plain_lm1b),
    'news.en.heldout-00000-of-00050',
    '1-billion-word-language-modeling-benchmark-r13output/'
    'heldout-monolingual.tokenized.shuffled/news.en.heldout-00000-of-00050',
  ),
  _text('enwik8', read_last, 'enwik8', 'enwik8/enwik8'),
  _text('text8', read_last, 'text8', 'text8/text8'),
)  # fmt: skip

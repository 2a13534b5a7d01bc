"""Text to sentences, sentences to pairs and full rows."""

import time

import numpy as np
import pytest

from input_pipeline.objectives import sentences
from tests.helpers.objectives import rng

CLS, SEP = 1, 2


# ---- Splitting --------------------------------------------------------------


@pytest.mark.parametrize(
  'parts',
  [
    ['One word'],
    ['It rains.', ' It pours!', ' Does it?', ' It does...', ' Yes.'],
    [
      'Dr. J. R. Smith of the U.S. Navy met Mrs. Jones vs. Mr. Xu.',
      ' He left.',
    ],
    ['See Fig. 3 and No. 5, p. 12, of Jan. 2020.', ' No.', ' Then go.'],
    ['So am I.', ' He was met at 3.5 miles, e.g. here, i.e. there.'],
    ['"Why?" he asked (twice!).', ' "Go."', " 'Now!'", ' Et al. Nobody.'],
    ['Wait... what?', ' Really?!', ' 42 is it.', ' É tarde.', ' 3 more.'],
    ['今日は。', '明日も！', '「はい。」', 'そう？', 'OK.'],
    ['A title', '\nA line.', '\nAnother\nthat goes on', '\n\nso it ends'],
    ['\n  Space before.', '  Space\tbetween.', ' And after.  \n\n '],
    ['www.example.com/a.b?c=d is no end.', ' It is.'],
    ['\x00\x00'],
    [' \n '],
    ['?!'],
  ],
)
def test_split(parts):
  found = sentences.split(''.join(parts).encode())
  assert found == [part.encode() for part in parts]


def test_abbreviations_do_not_end_a_sentence():
  titles = 'Mr Mrs Ms Dr Prof Rev Hon St Mt Jr Sr Gen Col Maj Capt Lt Sgt Gov'
  titles += ' Sen Rep vs cf al ca approx Inc Ltd Co Corp Bros Dept Univ'
  numbered = 'No Nos Vol Fig Figs Eq Sec Ch no vol fig figs eq sec ch p pp'
  numbered += ' Jan Feb Mar Apr Jun Jul Aug Sep Sept Oct Nov Dec'
  for word in titles.split():
    whole = f'So {word}. Xu ({word}. Li) left.'
    assert sentences.split(f'{whole} Yes.'.encode())[0] == whole.encode()
    assert len(sentences.split(f'So a{word}. Xu.'.encode())) == 2
  for word in numbered.split():
    assert sentences.split(whole := f'So {word}. 5 left.'.encode()) == [whole]
    if len(word) > 1:  # one letter is an initial
      assert len(sentences.split(f'So {word}. Then.'.encode())) == 2


def test_split_loses_nothing():
  signs = list('ab AB.!?…"\')]\n\n\t。！」é\x00') + [
    'Mr.',
    ' I. ',
  ]
  row = rng()
  for _ in range(300):
    text = ''.join(row.choice(signs, size=row.integers(0, 60)))
    parts = sentences.split(text.encode())
    assert b''.join(parts) == text.encode()
    assert all(part.strip() for part in parts) or len(parts) <= 1
  broken = b'\xff\xfe. \xc3. \xf0\x9f. A'
  assert b''.join(sentences.split(broken)) == broken
  assert sentences.split(b'') == []


@pytest.mark.parametrize(
  'sign', ['.', '. ', '\n', ' ', 'a', '。', ')', '. a', '\n.', 'A.', '\x00']
)
def test_splitting_takes_linear_time(sign):
  text = sign.encode() * 100_000
  start = time.process_time()
  for whole in (text, b'.' + text + b'X', b'X' + text + b'.'):
    assert b''.join(sentences.split(whole)) == whole
  assert time.process_time() - start < 10  # quadratic time would take hours


def test_long_sentences_are_cut():
  document = [np.arange(5), np.arange(12), np.arange(1)]
  short = sentences.shorten(document, 5)
  assert [len(s) for s in short] == [5, 5, 5, 2, 1]
  np.testing.assert_array_equal(np.concatenate(short), np.concatenate(document))
  assert sentences.shorten(document, 12) is document


# ---- Pairs ------------------------------------------------------------------


def make_documents(count, seed=1, longest=12, most=9):
  """Documents of 1 to `most` sentences, all tokens distinct."""
  row, start, documents = rng(seed), 10, []
  for _ in range(count):
    document = []
    for _ in range(row.integers(1, most + 1)):
      size = row.integers(1, longest + 1)
      document.append(np.arange(start, start + size, dtype=np.int32))
      start += size
    documents.append(document)
  return documents


def slow_pairs(documents, rng, length, short_share, single=False):
  """BERT's algorithm on lists, a sentence and a token at a time."""
  documents = [[list(s) for s in document] for document in documents]
  pairs = []
  for number, document in enumerate(documents):
    target = length
    if rng.random() < short_share:
      target = rng.integers(2, length + 1)
    chunk, i = [], 0
    while i < len(document):
      chunk.append(document[i])
      full = len(chunk) == 2 if single else sum(map(len, chunk)) >= target
      if i == len(document) - 1 or full:
        a_end = 1
        if len(chunk) >= 2:
          a_end = rng.integers(1, len(chunk))
        first, second = sum(chunk[:a_end], []), []
        random_next = len(chunk) == 1 or rng.random() < 0.5
        if len(documents) == 1:  # only here: a true pair, or none
          if len(chunk) == 1:
            chunk, i = [], i + 1
            continue
          random_next = False
        if random_next:
          others = [n for n in range(len(documents)) if n != number]
          other = others[rng.integers(len(others))]
          start = rng.integers(len(documents[other]))
          for sentence in documents[other][start:]:
            second += sentence
            if single or len(second) >= target - len(first):
              break
          i -= len(chunk) - a_end
        else:
          second = sum(chunk[a_end:], [])
        pairs.append((*slow_truncate(first, second, length, rng), random_next))
        chunk = []
      i += 1
  return pairs


def slow_truncate(first, second, length, rng):
  """Counts the tokens each part loses, one at a time; then from which end."""
  sizes, lost = [len(first), len(second)], [0, 0]
  while sum(sizes) > length:
    longer = 0 if sizes[0] > sizes[1] else 1
    sizes[longer] -= 1
    lost[longer] += 1
  result = []
  for part, count in zip((first, second), lost, strict=True):
    front = rng.binomial(count, 0.5) if count else 0
    part = part[front:]
    result.append(part[: len(part) - (count - front)])
  return result


@pytest.mark.parametrize('count', [1, 2, 30])
@pytest.mark.parametrize('length', [5, 20, 61])
@pytest.mark.parametrize('how', [(0.0,), (0.5,), (0.0, True)])
def test_pairs_equal_the_algorithm(count, length, how):
  documents = make_documents(count, seed=count)
  for seed in range(5):
    ours = sentences.sentence_pairs(documents, rng(seed), length, *how)
    slow = slow_pairs(documents, rng(seed), length, *how)
    assert [(a.tolist(), b.tolist(), c) for a, b, c in ours] == [
      ([int(t) for t in a], [int(t) for t in b], int(c)) for a, b, c in slow
    ]


def test_pairs_of_single_sentences():
  """Each part is one sentence; each sentence is a first or a second part."""
  documents = make_documents(40, most=30)
  whole = {tuple(s.tolist()): n for n, d in enumerate(documents) for s in d}
  order = [*whole]
  pairs = sentences.sentence_pairs(documents, rng(), 500, 0.0, single=True)
  met = set()
  for first, second, label in pairs:
    a, b = tuple(first.tolist()), tuple(second.tolist())
    follows = order.index(a) + 1 == order.index(b)
    assert (whole[a] == whole[b] and follows) == (label == 0)
    assert (whole[a] != whole[b]) == (label == 1)
    met |= {a} if label else {a, b}
  assert met == set(order)
  assert {label for *_, label in pairs} == {0, 1}


def test_labels_of_pairs_are_right():
  documents = make_documents(40, most=30)
  of = {int(t): n for n, d in enumerate(documents) for s in d for t in s}
  pairs = sentences.sentence_pairs(documents, rng(), 40, 0.1)
  for first, second, label in pairs:
    assert min(len(first), len(second)) >= 1
    assert len(first) + len(second) <= 40
    assert label == (of[int(first[0])] != of[int(second[0])])
    for part in first, second:  # consecutive tokens of one document
      assert (np.diff(part) == 1).all()


def test_half_of_the_pairs_are_replaced():
  """Documents have two sentences, so every pair can be replaced."""
  N = 10_000
  documents = [[np.arange(9), np.arange(9)]] * N
  pairs = sentences.sentence_pairs(documents, rng(), 18, 0.0)
  nexts = sum(label == 0 for *_, label in pairs)
  assert nexts == pytest.approx(N / 2, abs=4 * (N / 4) ** 0.5)
  # A sentence taken again is single, so its pair is always replaced.
  assert len(pairs) == nexts + 2 * (N - nexts)


def test_a_tenth_of_the_documents_have_short_pairs():
  """A document's length is drawn once, evenly from 2 on."""
  N = 4000
  documents = [[np.arange(1)] * 50 for _ in range(N)]
  pairs = [
    sentences.sentence_pairs([document], rng(seed), 40, 0.1)[0]
    for seed, document in enumerate(documents)
  ]
  # A part that replaces another may be short, at its document's end.
  nexts = [len(a) + len(b) for a, b, label in pairs if label == 0]
  nexts = np.array(nexts)
  p = 0.1 * 38 / 39  # of 2 to 40 one is 40 itself
  spread = 4 * (p * (1 - p) / len(nexts)) ** 0.5
  short = nexts[nexts < 40]
  assert len(short) / len(nexts) == pytest.approx(p, abs=spread)
  assert short.min() == 2
  # Evenly from 2 to 39: mean 20.5, variance (38^2 - 1) / 12.
  spread = 4 * (((38**2) - 1) / 12 / len(short)) ** 0.5
  assert short.mean() == pytest.approx(20.5, abs=spread)


def test_tokens_are_dropped_evenly_from_both_ends():
  part = np.arange(40)
  fronts = []
  for seed in range(2000):
    first, second = sentences.truncate(part, part[:10], 30, rng(seed))
    assert (len(first), len(second)) == (20, 10)
    fronts.append(int(first[0]))
  assert np.mean(fronts) == pytest.approx(10, abs=4 * (5 / 2000) ** 0.5)
  assert np.var(fronts) == pytest.approx(5, rel=0.2)  # binomial
  for a in range(1, 8):
    for b in range(1, 8):
      for length in range(2, 15):
        ours = sentences.truncate(part[:a], part[:b], length, rng())
        slow = slow_truncate(list(part[:a]), list(part[:b]), length, rng())
        assert [len(x) for x in ours] == [len(x) for x in slow]


# ---- Full rows --------------------------------------------------------------


def slow_rows(documents, length, across):
  """A sentence goes into the row if it still fits, else into a new row."""
  rows, row = [], [CLS]

  def close():
    nonlocal row
    if len(row) > 1:
      rows.append(row if row[-1] == SEP else [*row, SEP])
    row = [CLS]

  for document in documents:
    for number, sentence in enumerate(document):
      added = [int(t) for t in sentence]
      if number == len(document) - 1:
        added.append(SEP)  # between documents, or a row's own
      needed = len(row) + len(added) + (added[-1] != SEP)
      if needed > length:
        close()
      row += added
    if not across:
      close()
  close()
  return rows


@pytest.mark.parametrize('across', [True, False])
@pytest.mark.parametrize('length', [14, 15, 40, 300])
def test_full_rows_equal_the_algorithm(across, length):
  for seed in range(6):
    documents = make_documents(1 + 5 * seed, seed)
    rows = sentences.full_sentences(documents, length, CLS, SEP, across)
    assert rows.dtype == np.int32
    found = [row[row >= 0].tolist() for row in rows]
    assert found == slow_rows(documents, length, across)
    tokens = [t for row in found for t in row if t not in (CLS, SEP)]
    assert tokens == [int(t) for d in documents for s in d for t in s]
    assert max(map(len, found)) <= length


def test_no_documents():
  assert len(sentences.full_sentences([], 9, CLS, SEP, True)) == 0
  assert sentences.sentence_pairs([], rng(), 9, 0.1) == []

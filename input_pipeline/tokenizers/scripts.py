"""Scripts that put no space between words, such as Chinese and Thai."""

import unicodedata

# First and last character of each: Thai to Tibetan, Burmese, Khmer, Tai Le to
# Tai Tham, Balinese and Javanese; CJK from the radicals on, with punctuation,
# kana and Yi; more CJK, and its wide and narrow forms.
UNSPACED = (
  (0x0E00, 0x0FFF),
  (0x1000, 0x109F),
  (0x1780, 0x17FF),
  (0x1950, 0x19FF),
  (0x1A20, 0x1AAF),
  (0x1B00, 0x1B7F),
  (0x2E80, 0x312F),
  (0x3190, 0xA4CF),
  (0xA980, 0xA9DF),
  (0xF900, 0xFAFF),
  (0xFE30, 0xFE4F),
  (0xFF00, 0xFF9F),
  (0x1AFF0, 0x1B16F),
  (0x20000, 0x3FFFF),
)


def begins_unspaced(text: bytes) -> bool:
  """Whether UTF-8 bytes begin with a character of such a script.

  The character may be cut short. Marks above or below the character before
  them do not count.

  >>> [begins_unspaced(t) for t in ('語'.encode(), b'word', '語'.encode()[1:])]
  [True, False, False]
  """
  if not text or text[0] < 0xE0:  # such a character has 3 or 4 bytes
    return False
  size = 3 if text[0] < 0xF0 else 4
  first = text[:size]
  # The lowest and the highest character that begins with these bytes.
  least = greatest = first[0] & (0x0F if size == 3 else 0x07)
  for place in range(1, size):
    given = place < len(first)
    least = least << 6 | (first[place] & 0x3F if given else 0)
    greatest = greatest << 6 | (first[place] & 0x3F if given else 0x3F)
  if not any(a <= least and greatest <= b for a, b in UNSPACED):
    # Three bytes from E3 to E9 spell such a script, except for a few Hangul
    # letters.
    return len(first) < size and 0xE3 <= first[0] <= 0xE9
  return least < greatest or unicodedata.category(chr(least))[0] != 'M'

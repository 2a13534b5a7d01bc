"""The corpora of the papers' pretraining, and where they can still be had.

From memory, as of 2026: what is offered changes.
"""

CORPORA = {
  'C4': 'tfds:c4/en builds it, and allenai/c4 on the Hugging Face Hub has it',
  'Wikipedia': 'tfds:wikipedia, or the dumps of Wikimedia',
  'BooksCorpus': 'its authors took it down (T5 names it the Toronto Books '
  'Corpus)',
  'CC-News': 'its articles are in Common Crawl; which ones was not published',
  'OpenWebText': 'skylion007/openwebtext on the Hugging Face Hub',
  'Stories': 'its authors took it down; copies are on the Hugging Face Hub',
  'RealNews': "on request from its authors (Grover); T5's is c4/realnewslike",
  'WebText': 'never published; OpenWebText is made in its manner',
  'MassiveText': 'never published',
  "GPT-3's": 'WebText2, its two corpora of books and its Common Crawl were '
  'never published',
  "PaLM's": 'never published',
  "XLNet's": 'ClueWeb 2012-B and Gigaword are licensed by their owners; Common '
  'Crawl and Giga5 are not in one place',
}


def where(names: tuple[str, ...]) -> list[str]:
  """A line for each corpus of a table: where it can be had."""
  return [f'  {name}: {CORPORA[name]}.' for name in names]

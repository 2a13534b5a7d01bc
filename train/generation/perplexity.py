"""The perplexity of texts, whole and by windows."""

import math
from collections.abc import Iterator

import numpy as np

from input_pipeline.sources import opening
from models.positions import check_places
from train.generation.likelihoods import likelihoods, windows
from train.generation.prompts import text_ids
from train.generation.writer import Writer

WINDOW = 1024  # tokens that are read at once, where nothing says how many
TOGETHER = 16  # batches of windows that are sorted by their width


def perplexity(
  writer: Writer,
  source: str,
  window: int = 0,
  stride: int = 0,
  documents: int = 0,
  field: str = 'text',
  batch: int = 8,
) -> dict[str, float]:
  """How well a decoder predicts the documents of a source.

  Args:
    writer: the model.
    source: as data.source has it, such as 'textfile:/data/wiki.test.raw'.
    window: the most tokens that are read at once; 0: those of a row of
      training, or the model's positions.
    stride: how many tokens each window after a text's first predicts; 0: as
      many as it reads, so that windows share one token.
    documents: the first so many; 0: all.
    field: of JSON and Parquet.
    batch: windows that are read at once.

  Returns:
    'documents', 'tokens' (predicted), 'words' (parted by white space), 'bytes';
    'loss' in nats a token, 'perplexity' e to it, 'word_perplexity' with words
    in place of tokens, 'bits_per_byte'. Words and bytes are those of the text,
    whatever the tokenizer.

  Raises:
    ValueError: the model is no decoder, the source cannot be read or has no
      text, or the window does not fit.
  """
  if writer.pair:
    raise ValueError(
      'An encoder-decoder gives no text of its own a perplexity: its decoder '
      'continues what the encoder has read.'
    )
  window = window or writer.longest or check_places(1, writer.model.config)
  window = window or WINDOW
  check_places(window, writer.model.config)
  totals = {'documents': 0, 'tokens': 0, 'words': 0, 'bytes': 0}
  log_prob, waiting = 0.0, []

  def read(pairs):
    found = likelihoods(writer, pairs, batch) if pairs else []
    totals['tokens'] += sum(own.tokens for own in found)
    return math.fsum(own.log_prob for own in found)

  for text in _documents(source, field, documents):
    totals['documents'] += 1
    totals['words'] += len(text.split())
    totals['bytes'] += len(text.encode())
    ids = text_ids(writer.tokenizer, text)
    waiting += windows(ids, window, stride or window, writer.start)
    while len(waiting) >= TOGETHER * batch:
      log_prob += read(waiting[: TOGETHER * batch])
      waiting = waiting[TOGETHER * batch :]
  log_prob += read(waiting)
  if not totals['tokens']:
    raise ValueError(f'{source} has no token to predict.')
  loss = -log_prob / totals['tokens']
  return totals | {
    'loss': loss,
    'perplexity': float(np.exp(loss)),
    'word_perplexity': float(np.exp(-log_prob / totals['words'])),
    'bits_per_byte': -log_prob / math.log(2) / totals['bytes'],
  }


def _documents(name: str, field: str, limit: int) -> Iterator[str]:
  """The texts of a source, in the order of its files."""
  source = opening.open_source(name, 0, 0, 0, '--texts', field)
  if source.tokenized or name.startswith('task:'):
    raise ValueError(f'--texts={name} has no texts: name a source of texts.')
  found = 0
  for file in range(len(source.files)):
    for line, record in source.records(file, 0):
      if limit and found == limit:
        return
      try:
        text = source.text(record)
      except ValueError as error:
        place = source.place(file, line)
        why = str(error).replace('data.text_field', '--text_field')
        raise ValueError(f'{place}: {why}. Remove or correct it.') from error
      found += 1
      yield text.decode()

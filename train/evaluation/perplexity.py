"""The perplexity of texts, whole and by windows."""

import math
from collections.abc import Iterable, Iterator

from input_pipeline.choices import unknown
from input_pipeline.prompted.task import Text
from input_pipeline.prompted.texts import PLAIN, count
from input_pipeline.sources import opening as sources
from models.positions import check_places
from train.applying import Published
from train.evaluation.likelihoods import before, likelihoods, windows
from train.evaluation.pseudo import pseudo_likelihoods
from train.generation.prompts import text_ids
from train.generation.writer import Writer
from train.runs import opening

WINDOW = 1024  # tokens that are read at once, where nothing says how many
TOGETHER = 16  # batches of windows that are sorted by their width


def perplexity(
  writer: Writer,
  source: str,
  window: int = 0,
  stride: int = 0,
  documents: int = 0,
  field: str = 'text',
  plain: str = '',
  batch: int = 8,
) -> dict[str, float]:
  """How well a decoder predicts the documents of a source.

  Args:
    writer, window, stride, batch: see `texts_perplexity`.
    source: as data.source has it, such as 'textfile:/data/wiki.test.raw'.
    documents: the first so many; 0: all.
    field: of JSON and Parquet.
    plain: a key of `texts.PLAIN`, whose marks are taken out; '': as it is.

  Raises:
    ValueError: as of `texts_perplexity`; the source cannot be read or has no
      text.
  """
  if plain and plain not in PLAIN:
    raise ValueError(unknown('form of --published_form', plain, PLAIN))
  found = read_documents(source, field, documents)
  items = (
    Text(PLAIN[plain](x), count(x)) if plain else Text(x, len(x.split()))
    for x in found
  )
  return texts_perplexity(writer, items, window, stride, batch)


def texts_perplexity(
  writer: Writer,
  texts: Iterable[Text],
  window: int = 0,
  stride: int = 0,
  batch: int = 8,
) -> dict[str, float]:
  """How well a decoder predicts texts.

  Args:
    writer: the model.
    texts: each is read on its own.
    window: the most tokens that are read at once; 0: those of a row of
      training, or the model's positions.
    stride: how many tokens each window after a text's first predicts; 0: as
      many as it reads, so that windows share one token.
    batch: windows that are read at once.

  Returns:
    'documents', 'tokens' (predicted), 'words', 'bytes' (as the model reads
    them); 'loss' in nats a token, 'perplexity' e to it, 'word_perplexity' with
    words in place of tokens, 'bits_per_byte'. Words and bytes are those of the
    text, whatever the tokenizer.

  Raises:
    ValueError: the model is no decoder, there is no text, or the window does
      not fit.
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
  log_probs, waiting = [], []

  def read(pairs):
    found = likelihoods(writer, pairs, batch) if pairs else []
    totals['tokens'] += sum(own.tokens for own in found)
    log_probs.extend(own.log_prob for own in found)

  for text in texts:
    totals['documents'] += 1
    totals['words'] += text.words
    totals['bytes'] += len(text.text.encode())
    ids = text_ids(writer.tokenizer, text.text)
    for pair in windows(ids, window, stride or window, before(writer)):
      waiting.append(pair)
      if len(waiting) == TOGETHER * batch:
        read(waiting)
        waiting = []
  read(waiting)
  if not totals['tokens']:
    raise ValueError('The texts have no token to predict.')
  return totals | _means(math.fsum(log_probs), totals)


def _means(log_prob, totals):
  loss = -log_prob / totals['tokens']
  return {
    'loss': loss,
    'perplexity': exp(loss),
    'word_perplexity': exp(-log_prob / max(totals['words'], 1)),
    'bits_per_byte': -log_prob / math.log(2) / totals['bytes'],
  }


def exp(loss: float) -> float:
  """e to a loss, at most that to 709: JSON has no infinity."""
  return math.exp(min(loss, 709.0))


def pseudo_perplexity(
  model: opening.Run | Published, texts: Iterable[str], batch: int = 32
) -> dict[str, float]:
  """How well an encoder predicts each token of texts from all others.

  Returns what `texts_perplexity` does, with 'pseudo_perplexity' alone (Salazar
  et al. 2020, 2.3). Each text is a row: a longer one is an error.
  """
  texts = list(texts)
  found = pseudo_likelihoods(model, [('', x) for x in texts], batch)
  totals = {
    'documents': len(texts),
    'tokens': sum(x.tokens for x in found),
    'words': sum(len(x.split()) for x in texts),
    'bytes': sum(len(x.encode()) for x in texts),
  }
  loss = _means(math.fsum(x.log_prob for x in found), totals)['loss']
  return totals | {'loss': loss, 'pseudo_perplexity': exp(loss)}


def read_documents(name: str, field: str, limit: int) -> Iterator[str]:
  """The texts of a source, in the order of its files."""
  source = sources.open_source(name, 0, 0, 0, '--texts', field)
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

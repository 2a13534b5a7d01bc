"""A token cache of a small corpus with documents that give nothing."""

import contextlib

import pytest

from configs import t5
from input_pipeline import pipeline, prepare
from input_pipeline.streams import chunks
from tests.helpers.corpora import VOCABULARY, data_config, texts, write

CAUSAL = {
  'objective': 'causal', 'sentinels': 0, 'noise_density': 0.0,
  'mean_span_length': 0.0, 'document_tokens': 0,
}  # fmt: skip
FAMILY_OF = {'causal': 'decoder', 'span_corruption': 'encoder_decoder'}
COUNTS = (150, 230, 97)  # documents of each file
BAD = 50  # in the first file: documents that are none
EMPTY = 60  # and one without a token


def documents(file):
  return texts(COUNTS[file], file)


def write_corpus(folder):
  pytest.importorskip('tensorflow')
  pytest.importorskip('array_record')
  for file in range(len(COUNTS)):
    found = list(documents(file))
    if file == 0:
      found[BAD], found[EMPTY] = None, ' '
    write(folder / f'{file}.json.gz', found)
  return folder


def settings(source, **changes):
  """A whole config for the command."""
  config = t5.get_config('tiny')
  config.model.vocab_size = VOCABULARY
  config.data.source, config.data.sentinels = source, 40
  config.data.max_bad_share = 0.01
  for key, value in changes.items():
    group, _, name = key.partition('__')
    config[group][name] = value
  return config


def make(corpus, folder):
  """The cache of the corpus, with its tokenizer."""
  config = settings(f'json:{corpus}/*.json.gz')
  assert prepare.prepare(config, str(folder), jobs=1) == [f'cache:{folder}']
  return folder


def open_data(source, made, eval_source='', **changes):
  changes = {'max_bad_share': 0.01, **changes}
  if not source.startswith('cache'):
    changes['tokenizer'] = str(made / 'tokenizer.model')
  config = data_config(source=source, **changes)
  family = FAMILY_OF[config.objective]
  return pipeline.open_data(config, 5, VOCABULARY, eval_source, family=family)


def rows_until_the_end(data, readers, stream):
  """The rows of a stream, chunk by chunk, up to the end that must come."""
  with contextlib.suppress(chunks.SourceEnded):
    yield from data.stream_rows(readers, stream, data.start()[stream])
    pytest.fail('no end')


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
  }

"""Tokens a second into a token cache, and out of it as causal rows.

  python -m benchmarks.token_cache --data=DIR

The C4 sample of DIR (benchmarks/samples.py) is written --copies times,
shuffled, into --files files and prepared by one process with T5's tokenizer.
Rows of 512 tokens are then made from the cache by `Data.stream_rows`, one
stream after the other in one thread; then the documents alone are read. All
rates are per second of CPU time, so that other work on the machine does not
count; they are medians of --repeats. Memory is that of the process after a
tenth and all of --rows rows of the whole pipeline.
"""

import contextlib
import io
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import machine, samples
from configs import t5
from configs.commands import command
from input_pipeline import config, pipeline, prepare
from input_pipeline.streams import chunks, cursors

DATA = flags.DEFINE_string('data', None, 'see samples.py', required=True)
REPEATS = flags.DEFINE_integer('repeats', 5, 'of each measurement')
FILES = flags.DEFINE_integer('files', 8, 'of the source')
COPIES = flags.DEFINE_integer('copies', 3, 'of the sample in a file')
ROWS = flags.DEFINE_integer('rows', 100_000, 'made by the whole pipeline')
OUT = flags.DEFINE_string(
  'out', str(Path(__file__).parent / 'results' / 'token_cache.json'),
  'where the result goes',
)  # fmt: skip


def timed(work):
  """Median of tokens a second of CPU time; `work` returns tokens."""
  rates = []
  for _ in range(REPEATS.value):
    start = time.process_time()
    tokens = work()
    rates.append(tokens / (time.process_time() - start))
  return round(statistics.median(rates))


def resident():
  pages = int(Path('/proc/self/statm').read_text().split()[1])
  return round(pages * os.sysconf('SC_PAGE_SIZE') / 2**20)


def main(argv):
  del argv
  data = samples.root(DATA.value)
  with tempfile.TemporaryDirectory() as place:
    folder = Path(place)
    source = samples.write(folder, data, FILES.value, COPIES.value)
    result = measure(folder, data, source)
  result['machine'] = machine.describe()
  text = json.dumps(result, indent=2)
  print(text)
  Path(OUT.value).write_text(text + '\n')


def measure(folder, data, source):
  whole = t5.get_config('small')
  whole.data.source = source
  whole.data.tokenizer = f'{data}/tok_t5/t5_cc_all_derived_32100.model'
  number, result = itertools.count(), {}

  def prepared():
    place = f'{folder}/cache{next(number)}'
    with contextlib.redirect_stdout(io.StringIO()):
      prepare.prepare(whole, place, jobs=1)
    manifest = json.loads(Path(place, 'manifest.json').read_text())
    files = manifest['files'].values()
    result.update(
      documents=sum(entry['documents'] for entry in files),
      tokens=sum(entry['tokens'] for entry in files),
      bytes=sum(entry['bytes'] for entry in files),
    )
    return result['tokens']

  result['prepared'] = timed(prepared)
  opened = pipeline.open_data(
    config.DataConfig(
      source=f'cache:{folder}/cache0', tokenizer='', sentinels=0,
      objective='causal', noise_density=0.0, mean_span_length=0.0, batch=128,
      length=512, concatenate=True, pack=True, block=128, document_tokens=0,
      streams=8, holdout=100, max_bad_share=0.001, threads=0,
    ),
    seed=0, vocab_size=32128, family='decoder',
  )  # fmt: skip
  corpus = opened.corpora[0]
  reader = corpus.reader(128)

  def read():
    tokens = 0
    for stream in range(8):
      walk = chunks.walk(reader, stream, 8, 0, cursors.START)
      for _, (file, _), records in itertools.islice(walk, 20):
        documents = corpus.documents_of(file, records, opened.tokenizer)
        tokens += sum(map(len, documents))
    return tokens

  def made():
    tokens = 0
    for stream in range(8):
      rows = opened.stream_rows([reader], stream, opened.start()[stream])
      for chunk in itertools.islice(rows, 20):
        parts = pipeline.features.split(chunk, opened.shapes)
        tokens += int((parts['segments'] > 0).sum())
    return tokens

  made()
  result['read'], result['causal_rows'] = timed(read), timed(made)
  batches = opened.batches(opened.start(), np.arange(128))
  start = time.perf_counter()
  for batch in range(1, ROWS.value // 128 + 1):
    next(batches)
    if batch == ROWS.value // 1280:
      result['resident_mib_after_a_tenth'] = resident()
  result['resident_mib_at_the_end'] = resident()
  seconds = time.perf_counter() - start
  result['whole_pipeline_per_second'] = round(batch * 128 * 512 / seconds)
  batches.close()
  return result


if __name__ == '__main__':
  command.start(main)

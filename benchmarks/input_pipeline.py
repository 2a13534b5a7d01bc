"""Tokens a second of the whole input pipeline, beside bare SentencePiece.

  TREELINE_DATA=... python -m benchmarks.input_pipeline

The pipeline reads the .json.gz C4 sample, parses, shuffles, tokenizes, cuts,
corrupts, packs and batches it (T5's lengths and 32,100 pieces). SentencePiece
alone encodes the same texts, in memory already, on as many threads: into NumPy
arrays, its fastest form, and into lists of ints, its default. A repeat measures
all three, one after the other. The pipeline's clock starts when its buffers are
full and stops when they are full again, so that nothing is made off the clock.
"""

import gzip
import json
import os
import statistics
import time
from pathlib import Path

import numpy as np
from absl import app, flags

from benchmarks import machine
from input_pipeline import config, inspect, pipeline

REPEATS = flags.DEFINE_integer('repeats', 9, 'interleaved repeats')
MILLIONS = flags.DEFINE_float('tokens', 8.0, 'million tokens in a measurement')
THREADS = flags.DEFINE_integer('threads', 0, 'threads; 0: all cores')
OUT = flags.DEFINE_string(
  'out', str(Path(__file__).parent / 'results' / 'input_pipeline.json'),
  'where the result goes',
)  # fmt: skip


def timed(work):
  """Tokens that `work` returns, a second of the clock and of CPU time."""
  clock, cpu = time.perf_counter(), time.process_time()
  tokens = work()
  clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
  return tokens / clock, tokens / cpu


def settle():
  """Waits for the process to be idle; returns the time when it became so."""
  last = time.perf_counter()
  while time.perf_counter() - last < 0.1:
    clock, cpu = time.perf_counter(), time.process_time()
    time.sleep(0.002)
    now = time.perf_counter()
    if time.process_time() - cpu > 0.25 * (now - clock):
      last = now
  return last


def main(argv):
  del argv
  folder = os.environ.get('TREELINE_DATA')
  if not folder:
    raise app.UsageError('TREELINE_DATA must name the folder of the C4 sample.')
  sample = f'{folder}/c4_sample_1k/c4-sample.00000-of-00001.json.gz'
  threads = THREADS.value or len(os.sched_getaffinity(0))
  data = pipeline.open_data(
    config.DataConfig(
      source=f'json:{sample}',
      tokenizer=f'{folder}/tok_t5/t5_cc_all_derived_32100.model',
      sentinels=100, objective='span_corruption', noise_density=0.15,
      mean_span_length=3.0, batch=128, length=512, concatenate=True, pack=True,
      block=128, document_tokens=65536, streams=8, holdout=0,
      max_bad_share=0.001, threads=threads,
    ),
    seed=0, vocab_size=32128, family='encoder_decoder',
    eval_source=f'json:{folder}/c4_sample_1k/c4_100*.gz',
  )  # fmt: skip
  with gzip.open(sample, 'rt', encoding='utf-8') as file:
    texts = [json.loads(line)['text'] for line in file]
  lengths = [len(ids) for ids in data.tokenizer.encode_batch(texts, threads)]
  rounds = max(1, round(MILLIONS.value * 1e6 / sum(lengths)))
  encode = data.tokenizer.processor.encode
  iterator = data.batches(data.start(), np.arange(128))

  def bare(kind):
    for _ in range(rounds):
      encode(texts, num_threads=threads, return_type=kind)
    return rounds * sum(lengths)

  def whole():
    clock, cpu = time.perf_counter(), time.process_time()
    tokens, counted = 0, []
    while tokens < MILLIONS.value * 1e6:
      batch = next(iterator)
      tokens += batch['encoder_inputs'].size
      counted.append(batch)
    clock, cpu = settle() - clock, time.process_time() - cpu
    tokens = sum(inspect.count(b, data.tokenizer)['text'] for b in counted)
    return tokens / clock, tokens / cpu

  measures = {
    'pipeline': whole,
    'arrays': lambda: timed(lambda: bare('numpy')),
    'lists': lambda: timed(lambda: bare(int)),
  }
  found = {name: [] for name in measures}
  for repeat in range(REPEATS.value + 1):
    for name, measure in measures.items():
      settle()
      value = measure()
      if repeat:  # the first one warms up
        found[name].append(value)

  result = {'threads': threads, 'repeats': REPEATS.value}
  for name, values in found.items():
    clock, cpu = np.array(values).T
    result[name] = {
      'tokens_per_second': round(statistics.median(clock)),
      'quartiles': np.quantile(clock, [0.25, 0.75]).round().tolist(),
      'tokens_per_cpu_second': round(statistics.median(cpu)),
    }
  for name in 'arrays', 'lists':
    pairs = np.array(found['pipeline']) / np.array(found[name])
    result[f'ratio_to_{name}'] = round(float(np.median(pairs[:, 0])), 3)
    result[f'cpu_ratio_to_{name}'] = round(float(np.median(pairs[:, 1])), 3)
  result['machine'] = machine.describe()
  text = json.dumps(result, indent=2)
  print(text)
  path = Path(OUT.value)
  path.parent.mkdir(parents=True, exist_ok=True)
  temporary = path.with_suffix('.tmp')
  temporary.write_text(text + '\n')
  os.replace(temporary, path)


if __name__ == '__main__':
  app.run(main)

"""Shows what a config's data look like: examples, decoded, and their rates.

  python -m input_pipeline.inspect --config=configs/t5.py:tiny
  python -m input_pipeline.inspect --config=configs/t5.py:small \\
    --config.data.source='json:c4/*.json.gz' --examples=3
"""

import collections
import itertools
import textwrap
import time

import numpy as np
from absl import flags
from ml_collections import config_flags

from configs import command
from input_pipeline import config as data_config
from input_pipeline import pipeline

CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'configs/FILE.py[:ARG]'
)
WORKDIR = flags.DEFINE_string(
  'workdir', None, "a run's folder, for its tokenizer; none: it is not kept"
)
EXAMPLES = flags.DEFINE_integer('examples', 2, 'rows shown')
BATCHES = flags.DEFINE_integer('batches', 100, 'batches measured')
EVALUATION = flags.DEFINE_bool('evaluation', False, 'the evaluation split')


def show(config):
  """Prints some rows of `config`'s data and the rates of many."""
  data = pipeline.open_data(
    data_config.DataConfig(**config.data),
    config.seed,
    config.model.vocab_size,
    config.eval.source,
    WORKDIR.value,
    family=config.model.family,
  )
  batch = config.data.batch
  rows = np.arange(batch)
  if EVALUATION.value:
    iterator = data.evaluation(rows, batch)
  else:
    iterator = data.batches(data.start(), rows)
  first = next(iterator)
  share = batch // config.data.streams
  for place in range(min(EXAMPLES.value, batch)):  # one of every stream first
    row = place % config.data.streams * share + place // config.data.streams
    print(show_row({n: v[row] for n, v in first.items()}, row, data.tokenizer))

  before, start = data.report(), time.perf_counter()
  sums = collections.Counter()
  for taken in itertools.islice(iterator, BATCHES.value):
    sums.update(count(taken, data.tokenizer))
  seconds = time.perf_counter() - start
  report = data.report()
  documents = report['documents'] - before['documents']
  print(f'{BATCHES.value} batches of {len(rows)} rows')
  print(show_rates(sums))
  print(
    f'  speed            {sums["text"] / seconds:,.0f} tokens/s,'
    f' {documents / seconds:,.0f} documents/s'
  )
  print(f'  bad documents    {report["skipped"]} of {report["documents"]}')


def show_row(row, number, tokenizer):
  """One row as a reader wants it: every segment's text, sizes and weights."""
  epoch, shard, block, place = row['cursor'].tolist()
  lines = [f'row {number}: epoch {epoch}, shard {shard}, block {block}, row']
  lines[0] += f' {place}; weights sum to {row["weights"].sum():g}'
  shown = [('encoder_inputs', 'encoder_'), ('targets', '')]
  if 'encoder_inputs' not in row:
    shown = [('inputs', '')]
  for segment in range(1, row['segments'].max() + 1):
    for name, stack in shown:
      (here,) = np.nonzero(row[stack + 'segments'] == segment)
      title = f'segment {segment}, {name} {here[0]}..{here[-1]}'
      text = tokenizer.decode(row[name][here])
      lines.append(f'  {title} ({len(here)} tokens)')
      lines += textwrap.wrap(
        text, 80, initial_indent='    ', subsequent_indent='    '
      )
  if 'predict_at' in row:
    chosen = row['weights'] > 0
    targets = tokenizer.decode(row['targets'][chosen])
    lines.append(
      f'  predicted at {row["predict_at"][chosen].tolist()}: {targets}'
    )
  padding = [
    f'{(row[f"{stack}segments"] == 0).sum()} of {name}' for name, stack in shown
  ]
  lines.append(f'  padding: {", ".join(padding)}\n')
  return '\n'.join(lines)


def count(batch, tokenizer):
  """Sums over a batch: rows, segments, places and tokens of each stack, and
  tokens of the documents (`text`), without sentinels and EOS, and of noise."""
  added = [*tokenizer.sentinels, tokenizer.eos]
  if 'encoder_inputs' not in batch:  # all of the text; masked tokens are noise
    read = batch['segments'] > 0
    predicted = batch['weights'].sum() if 'predict_at' in batch else 0
    return {
      'rows': len(read),
      'segments': int(batch['segments'].max(axis=1).sum()),
      'places': read.size,
      'text': int(read.sum()),
      'noise': int(predicted),
    }
  encoder, decoder = batch['encoder_segments'] > 0, batch['segments'] > 0
  kept = int((encoder & ~np.isin(batch['encoder_inputs'], added)).sum())
  noise = int((decoder & ~np.isin(batch['targets'], added)).sum())
  return {
    'rows': len(decoder),
    'segments': int(batch['segments'].max(axis=1).sum()),
    'encoder_places': encoder.size,
    'decoder_places': decoder.size,
    'encoder': int(encoder.sum()),
    'decoder': int(decoder.sum()),
    'text': kept + noise,
    'noise': noise,
  }


def show_rates(sums):
  """Shares and means: padding, tokens a row, segments a row, noise."""
  rows = sums['rows']
  if 'places' in sums:
    return (
      f'  padding          {1 - sums["text"] / sums["places"]:.2%}\n'
      f'  tokens a row     {sums["text"] / rows:.1f}\n'
      f'  segments a row   {sums["segments"] / rows:.2f}\n'
      f'  masked           {sums["noise"] / max(sums["text"], 1):.2%} of them'
    )
  return (
    f'  padding          {1 - sums["encoder"] / sums["encoder_places"]:.2%} of'
    f' the encoder, {1 - sums["decoder"] / sums["decoder_places"]:.2%} of the'
    ' decoder\n'
    f'  tokens a row     {sums["encoder"] / rows:.1f} encoder,'
    f' {sums["decoder"] / rows:.1f} decoder, {sums["text"] / rows:.1f} of the'
    ' text\n'
    f'  segments a row   {sums["segments"] / rows:.2f}\n'
    f'  noise            {sums["noise"] / max(sums["text"], 1):.2%} of the text'
  )


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  command.run(lambda: show(CONFIG.value))

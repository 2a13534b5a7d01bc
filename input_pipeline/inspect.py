"""Shows what a config's data look like: examples, decoded, and their rates.

  python -m input_pipeline.inspect --config=configs/t5.py:tiny
  python -m input_pipeline.inspect --config=configs/t5.py:small \\
    --config.data.source='json:c4/*.json.gz' --examples=3
"""

import itertools
import textwrap
import time

import numpy as np
from absl import app, flags
from ml_collections import config_flags

from input_pipeline import config as data_config
from input_pipeline import pipeline

CONFIG = config_flags.DEFINE_config_file('config', None, 'configs/FILE.py:ARG')
WORKDIR = flags.DEFINE_string(
  'workdir', None, "a run's folder, for its tokenizer; none: it is not kept"
)
EXAMPLES = flags.DEFINE_integer('examples', 2, 'rows shown')
BATCHES = flags.DEFINE_integer('batches', 200, 'batches measured')
EVALUATION = flags.DEFINE_bool('evaluation', False, 'the evaluation split')


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {" ".join(argv[1:])}')
  try:
    show(CONFIG.value)
  except (ValueError, OSError) as error:
    raise SystemExit(f'Error: {error}') from None


def show(config):
  """Prints some rows of `config`'s data and the rates of many."""
  data = pipeline.open_data(
    data_config.DataConfig(**config.data),
    config.seed,
    config.model.vocab_size,
    config.eval.source,
    WORKDIR.value,
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
  batches = list(itertools.islice(iterator, BATCHES.value))
  seconds = time.perf_counter() - start
  documents = data.report()['documents'] - before['documents']
  tokens = sum(text_tokens(b, data.tokenizer) for b in batches)
  print(show_rates([first, *batches], data.tokenizer))
  print(
    f'  speed            {tokens / seconds:,.0f} tokens/s,'
    f' {documents / seconds:,.0f} documents/s'
  )
  print(
    '  documents        {documents} read, {skipped} skipped'.format(
      **data.report()
    )
  )


def show_row(row, number, tokenizer):
  """One row as a reader wants it: every segment's text, sizes and weights."""
  epoch, shard, block, place = row['cursor'].tolist()
  lines = [f'row {number}: epoch {epoch}, shard {shard}, block {block}, row']
  lines[0] += f' {place}; weights sum to {row["weights"].sum():g}'
  for segment in range(1, row['segments'].max() + 1):
    for name, stack in (('encoder_inputs', 'encoder_'), ('targets', '')):
      (here,) = np.nonzero(row[stack + 'segments'] == segment)
      title = f'segment {segment}, {name} {here[0]}..{here[-1]}'
      text = tokenizer.decode(row[name][here])
      lines.append(f'  {title} ({len(here)} tokens)')
      lines += textwrap.wrap(
        text, 80, initial_indent='    ', subsequent_indent='    '
      )
  padding = [(row[s] == 0).sum() for s in ('encoder_segments', 'segments')]
  lines.append(
    f'  padding: {padding[0]} encoder, {padding[1]} decoder tokens\n'
  )
  return '\n'.join(lines)


def text_tokens(batch, tokenizer):
  """Tokens of documents in a batch: without padding, sentinels and EOS."""
  count = 0
  for name, stack in (('encoder_inputs', 'encoder_'), ('targets', '')):
    added = np.isin(batch[name], [*tokenizer.sentinels, tokenizer.eos])
    count += ((batch[stack + 'segments'] > 0) & ~added).sum()
  return int(count)


def show_rates(batches, tokenizer):
  """Shares and means over batches: padding, tokens, segments, noise."""
  joined = {n: np.concatenate([b[n] for b in batches]) for n in batches[0]}
  rows = len(joined['inputs'])
  encoder, decoder = joined['encoder_segments'] > 0, joined['segments'] > 0
  added = np.isin(joined['targets'], [*tokenizer.sentinels, tokenizer.eos])
  text = text_tokens(joined, tokenizer)
  return (
    f'{len(batches)} batches of {rows // len(batches)} rows\n'
    f'  padding          {1 - encoder.mean():.2%} of the encoder,'
    f' {1 - decoder.mean():.2%} of the decoder\n'
    f'  tokens a row     {encoder.sum() / rows:.1f} encoder,'
    f' {decoder.sum() / rows:.1f} decoder, {text / rows:.1f} of the text\n'
    f'  segments a row   {joined["segments"].max(1).mean():.2f}\n'
    f'  noise            {(decoder & ~added).sum() / max(text, 1):.2%}'
    ' of the text'
  )


if __name__ == '__main__':
  flags.mark_flag_as_required('config')
  app.run(main)

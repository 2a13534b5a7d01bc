"""Shows what a config's data look like: examples, decoded, and their rates.

Special tokens have their names; a token that is predicted from what is read
stands as {token: what is read}, or {token} where it is read itself.

  python -m input_pipeline.inspect --config=configs/t5.py:tiny
  python -m input_pipeline.inspect --config=configs/t5.py:small \\
    --config.data.source='json:c4/*.json.gz' --config.data.holdout=100
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


def show(config, workdir, examples, batches, evaluation):
  """Prints some rows of `config`'s data and the rates of many; of a curriculum
  those of each phase."""
  if batches < 1:
    raise ValueError(f'--batches={batches} must be at least 1.')
  settings = data_config.DataConfig(**config.data)
  data = pipeline.open_data(
    settings,
    config.seed,
    config.model.vocab_size,
    config.eval.source,
    workdir,
    family=config.model.family,
  )
  phases = settings.phases(config.train.steps)
  for last, phase in phases:
    if len(phases) > 1:
      print(f'Up to step {last:,} rows have {phase.length} tokens\n')
    show_phase(data.phase(phase), examples, batches, evaluation)


def show_phase(data, examples, batches, evaluation):
  """Prints some rows of opened data and the rates of many."""
  batch = data.config.batch
  rows = np.arange(batch)

  def begin():
    if evaluation:
      return data.evaluation(rows, batch)
    return data.batches(data.start(), rows)

  iterator = begin()
  first = next(iterator)
  iterator.close()
  order = rows.reshape(data.config.streams, -1).T.ravel()  # all streams first
  there = first['segments'].any(axis=1)  # a stream may have nothing held out
  for row in order[there[order]][:examples]:
    shown = {name: values[row] for name, values in first.items()}
    print(show_row(shown, row, data.tokenizer))

  # From the beginning: rows made while others were shown would take no time.
  before, start = data.report(), time.perf_counter()
  sums, measured = collections.Counter(), 0
  for taken in itertools.islice(begin(), batches):
    if evaluation and not taken['segments'].any():
      break  # no text is left; a row of text may have nothing to predict
    sums.update(count(taken, data.tokenizer, data.config.objective))
    measured += 1
  if not measured:
    raise ValueError(
      'The evaluation split has no rows: hold out more documents.'
    )
  seconds = time.perf_counter() - start
  report = data.report()
  documents = report['documents'] - before['documents']
  print(f'{measured} batches of {len(rows)} rows')
  print(show_rates(sums))
  print(
    f'  speed            {sums["text"] / seconds:,.0f} tokens/s,'
    f' {documents / seconds:,.0f} documents/s'
  )
  print(f'  bad documents    {report["skipped"]} of {report["documents"]}\n')


def show_row(row, number, tokenizer):
  """One row as a reader wants it: every segment's text, sizes and weights."""
  cursor = row['cursor'].tolist()
  places = np.reshape(cursor[len(cursor) % 4 :], (-1, 4)).tolist()
  places = [
    f'epoch {epoch}, shard {shard}, block {block}, row {place}'
    for epoch, shard, block, place in places
  ]
  weights = f'{row["weights"].sum():g}'
  lines = [f'row {number}: {" | ".join(places)}; weights sum to {weights}']
  if 'is_next' in row:
    said = 'comes next', 'is of another document'
    lines[0] += f'; the second part {said[row["is_next"]]}'
  for segment in range(1, row['segments'].max() + 1):
    for title, places, text in _parts(row, segment, tokenizer):
      size = f'{places[0]}..{places[-1]} ({len(places)} tokens)'
      lines.append(f'  segment {segment}, {title} {size}')
      lines += textwrap.wrap(
        text, 80, initial_indent='    ', subsequent_indent='    '
      )
  stacks = {'targets' if 'encoder_inputs' in row else 'row': 'segments'}
  if 'encoder_inputs' in row:
    stacks = {'encoder_inputs': 'encoder_segments'} | stacks
  padding = [f'{(row[s] == 0).sum()} of {name}' for name, s in stacks.items()]
  lines.append(f'  padding: {", ".join(padding)}\n')
  return '\n'.join(lines)


def _parts(row, segment, tokenizer):
  """(what it is, its places, its text) of each part of a segment."""
  (here,) = np.nonzero(row['segments'] == segment)
  if 'encoder_inputs' in row:
    (there,) = np.nonzero(row['encoder_segments'] == segment)
    parts = [('inputs', there, row['encoder_inputs'])]
    parts.append(('targets', here, row['targets']))
  elif 'predict_at' in row:
    parts = [
      (f'type {kind}', here[row['types'][here] == kind], row['inputs'])
      for kind in np.unique(row['types'][here])
    ]
  elif 'prefix' in row:
    told = row['weights'][here] > 0
    parts = [('inputs (prefix)', here[~told], row['targets'])]
    parts.append(('targets', here[told], row['targets']))
  else:
    parts = [('targets', here, row['targets'])]
  marks = _marks(row, tokenizer) if 'predict_at' in row else {}
  return [
    (title, places, spell(tokens, places, tokenizer, marks))
    for title, places, tokens in parts
    if len(places)
  ]


def _marks(row, tokenizer):
  """Place -> what stands there of a token that is predicted."""
  chosen = row['weights'] > 0
  at, targets = row['predict_at'][chosen], row['targets'][chosen]
  return {
    place: f'{{{tokenizer.piece(target)}}}'
    if read == target
    else f'{{{tokenizer.piece(target)}: {tokenizer.piece(read)}}}'
    for place, target, read in zip(
      at.tolist(), targets.tolist(), row['inputs'][at].tolist(), strict=True
    )
  }


def spell(tokens, places, tokenizer, marks=None):
  """The text at `places` of tokens [T], with names for special tokens."""
  marks, specials = marks or {}, set(tokenizer.specials)
  words, run = [], []
  for place in places.tolist():
    token = int(tokens[place])
    if place in marks or token in specials:
      words += [tokenizer.decode(run)] if run else []
      words.append(marks.get(place) or tokenizer.piece(token))
      run = []
    else:
      run.append(token)
  words += [tokenizer.decode(run)] if run else []
  return ' '.join(words)


def count(batch, tokenizer, objective='span_corruption'):
  """Sums over a batch: rows, segments, places, tokens that are read or
  predicted (`tokens`), tokens of the documents (`text`) and those of them that
  are to be predicted from the others (`noise`)."""
  specials = np.array(tokenizer.specials)
  weights = batch['weights'] > 0
  segments = batch['segments'] > 0
  sums = {
    'rows': len(segments),
    'segments': int(batch['segments'].max(axis=1).sum()),
    'places': segments.size,
    'tokens': int(segments.sum()),
  }
  if 'predict_at' in batch:
    at = batch['predict_at']
    read = np.take_along_axis(batch['inputs'], at, axis=1)
    return sums | {
      'text': sums['tokens'],
      'noise': int(weights.sum()),
      'masked': int((weights & (read == tokenizer.mask)).sum()),
      'kept': int((weights & (read == batch['targets'])).sum()),
      'pairs': int(segments.any(axis=1).sum()) * ('is_next' in batch),
      'not_next': int(batch.get('is_next', np.zeros(1)).sum()),
    }

  def of_text(tokens, here):
    return int((here & ~np.isin(tokens, specials)).sum())

  told = of_text(batch['targets'], weights)
  shown = 0
  if 'encoder_inputs' in batch:
    read = batch['encoder_segments'] > 0
    sums |= {'encoder_places': read.size, 'encoder': int(read.sum())}
    shown = of_text(batch['encoder_inputs'], read)
  elif 'prefix' in batch:
    shown = of_text(batch['targets'], segments & ~weights)
  if objective in ('bert_style', 'mass_style', 'deshuffling'):
    shown = 0  # the targets are all of the text
  if objective == 'causal':
    return sums | {'text': sums['tokens']}  # an end of text for each document
  return sums | {'text': shown + told, 'noise': told}


def show_rates(sums):
  """Shares and means: places filled, tokens and segments a row, noise."""
  rows, text = sums['rows'], max(sums['text'], 1)

  def share(part, whole):
    return f'{sums[part] / max(sums[whole], 1):.2%}'

  full = share('tokens', 'places')
  tokens = f'{sums["tokens"] / rows:.1f}'
  if 'encoder' in sums:
    inputs = share('encoder', 'encoder_places')
    full = f"{inputs} of the inputs' places, {full} of the targets'"
    tokens = f'{sums["encoder"] / rows:.1f} inputs, {tokens} targets'
  lines = [
    f'  filled           {full}, of {rows:,} rows',
    f'  tokens a row     {tokens}, {sums["text"] / rows:.1f} of the text',
    f'  segments a row   {sums["segments"] / rows:.2f}',
  ]
  if 'noise' in sums:
    lines.append(f'  predicted        {sums["noise"] / text:.2%} of the text')
  if 'masked' in sums:
    lines.append(
      f'  of these         {share("masked", "noise")} masked,'
      f' {share("kept", "noise")} kept'
    )
  if sums.get('pairs'):
    lines.append(
      f'  not next         {share("not_next", "pairs")} of the pairs'
    )
  return '\n'.join(lines)


if __name__ == '__main__':
  CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/FILE.py[:ARG]'
  )
  WORKDIR = flags.DEFINE_string(
    'workdir', None, "a run's folder, for its tokenizer; none: it is not kept"
  )
  EXAMPLES = flags.DEFINE_integer('examples', 2, 'rows shown', lower_bound=0)
  BATCHES = flags.DEFINE_integer('batches', 100, 'batches measured')
  EVALUATION = flags.DEFINE_bool('evaluation', False, 'the evaluation split')
  flags.mark_flag_as_required('config')
  command.run(
    lambda: show(
      CONFIG.value,
      WORKDIR.value,
      EXAMPLES.value,
      BATCHES.value,
      EVALUATION.value,
    )
  )

"""Shows what a config's data look like: decoded examples, and their rates.

Special tokens have their names. A masked token that is predicted shows as
{token: what the model reads}, or {token} where it reads the token itself.

  python -m input_pipeline.inspect --config=configs/t5.py:tiny
  python -m input_pipeline.inspect --config=configs/t5.py:small \\
    --config.data.source='json:c4/*.json.gz' --config.data.holdout=100
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import collections
import itertools
import textwrap
import time
from collections.abc import Sequence

import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from configs.commands import command
from input_pipeline import config as data_config
from input_pipeline import pipeline
from input_pipeline.choices import WHOLE_TEXT
from input_pipeline.sources import labelled
from input_pipeline.streams import assembly, cursors
from input_pipeline.tokenizers.interface import Tokenizer


def show(
  config: ConfigDict,
  workdir: str | None,
  examples: int,
  batches: int,
  evaluation: bool,
) -> None:
  """Prints some rows of a config's data and the rates of many.

  Phases that make other rows have a section each. `evaluation` chooses the
  evaluation split. Raises ValueError when that has no rows.
  """
  if batches < 1:
    raise ValueError(f'--batches={batches} must be at least 1.')
  settings = data_config.data_config(_resolved(config))
  data = pipeline.open_data(
    settings, config.seed, config.model.vocab_size, config.eval.source,
    workdir, family=config.model.family,
  )  # fmt: skip
  seen = -1
  for phase, own in data.phases():
    if own.kind == seen:
      continue
    seen = own.kind
    if len(data.kinds) > 1:
      print(
        f'From step {phase.first + 1:,} on rows have {phase.length} tokens '
        f'({phase.objective})\n'
      )
    show_phase(own, examples, batches, evaluation)


def _resolved(config: ConfigDict) -> ConfigDict:
  """The config with what the record of its task decides."""
  data = config.data
  if not data.framing and (data.length or data.objective != 'text_to_text'):
    return config
  config = config.copy_and_resolve_references().unlock()
  labelled.fill_in(config.data, config.model.family)
  return config


def show_phase(
  data: pipeline.Data, examples: int, batches: int, evaluation: bool
) -> None:
  """Prints some rows of opened data and the rates of many."""
  batch = data.config.batch
  rows = np.arange(batch)

  def begin():
    if evaluation:
      return data.evaluation(rows, batch)
    return data.batches(data.start(), rows)

  task = getattr(data.corpora[0].source, 'task', None)
  names = task.labels if task and data.config.labelled else ()
  iterator = begin()
  first = next(iterator)
  iterator.close()
  # A row of each stream, then another one.
  streams, places = assembly.Turns(batch, data.config.streams).places(0, rows)
  order = np.lexsort([streams, places])
  filled = first['segments'].reshape(batch, -1)
  there = filled.any(axis=1)  # a stream may have nothing held out
  for row in order[there[order]][:examples]:
    shown = {name: values[row] for name, values in first.items()}
    print(show_row(shown, row, data.tokenizer, names, len(data.kinds)))

  # From the start: the rows that were made meanwhile would take no time.
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
  data.report_shares()


def show_row(
  row: dict[str, np.ndarray],
  number: int,
  tokenizer: Tokenizer,
  names: Sequence[str] = (),
  kinds: int = 1,
) -> str:
  """One row as a reader wants it: every segment's text, sizes and weights.

  `names` are those of a task's classes, and `kinds` how many kinds of rows the
  phases of the run make.
  """
  places = [
    f'epoch {epoch}, shard {shard}, chunk {chunk}, row {max(taken)}'
    for epoch, shard, chunk, *taken in cursors.places(
      row['cursor'], kinds
    ).tolist()
  ]
  weights = f'{row["weights"].sum():g}'
  lines = [f'row {number}: {" | ".join(places)}; weights sum to {weights}']
  if 'is_next' in row:
    said = 'comes next', 'is from another document'
    lines[0] += f'; the second part {said[row["is_next"]]}'
  if label := _label(row, tokenizer, names):
    lines.append(f'  {label}')
  for segment in range(1, row['segments'].max() + 1):
    for title, places, text in _parts(row, segment, tokenizer):
      size = f'{places[0]}..{places[-1]} ({len(places)} tokens)'
      lines.append(f'  segment {segment}, {title} {size}')
      lines += [f'    {line}' for line in textwrap.wrap(text, 76)]
  stacks = {'row': 'segments'}
  if 'encoder_inputs' in row:
    stacks = {'encoder_inputs': 'encoder_segments', 'targets': 'segments'}
  padding = [f'{(row[s] == 0).sum()} of {name}' for name, s in stacks.items()]
  lines.append(f'  padding: {", ".join(padding)}\n')
  return '\n'.join(lines)


def _label(row, tokenizer, names):
  """What is learnt of a row of a task for a head; '' of other rows."""
  if 'start' in row:
    begin, end = int(row['start']), int(row['end'])
    answer = spell(row['inputs'], np.arange(begin, end + 1), tokenizer)
    return f'answer {begin}..{end}: {answer}'
  if 'labels' not in row:
    return ''
  if not row['labels'].ndim:
    label = row['labels'].item()
    return f'label {names[label] if names else format(label, "g")}'
  (at,) = np.nonzero(row['weights'])
  words = [f'{tokenizer.piece(row["inputs"][i])}:{names[row["labels"][i]]}'
           for i in at.tolist()]  # fmt: skip
  return f'labels {" ".join(words)}'


def _parts(row, segment, tokenizer):
  """(title, places, text) of each part of a segment."""
  if row['segments'].ndim > 1:  # choices, or both orders of a pair
    return [
      (f'choice {n}, {title}', places, text)
      for n, own in enumerate(row['segments'])
      for title, places, text in _parts(
        {name: row[name][n] for name in ('inputs', 'types') if name in row}
        | {'segments': own},
        segment,
        tokenizer,
      )
    ]
  (here,) = np.nonzero(row['segments'] == segment)
  if 'encoder_inputs' in row:
    (there,) = np.nonzero(row['encoder_segments'] == segment)
    parts = [('inputs', there, row['encoder_inputs'])]
    parts.append(('targets', here, row['targets']))
  elif 'targets' not in row and 'types' not in row:
    parts = [('text', here, row['inputs'])]
  elif 'types' in row:
    parts = [
      (f'type {kind}', here[row['types'][here] == kind], row['inputs'])
      for kind in np.unique(row['types'][here])
    ]
  elif 'prefix' in row:
    target = row['weights'][here] > 0
    parts = [('inputs (prefix)', here[~target], row['targets'])]
    parts.append(('targets', here[target], row['targets']))
  else:
    parts = [('targets', here, row['targets'])]
  marks = _marks(row, tokenizer) if 'predict_at' in row else {}
  return [
    (title, places, spell(tokens, places, tokenizer, marks))
    for title, places, tokens in parts
    if len(places)
  ]


def _marks(row, tokenizer):
  """Place -> how a predicted token is shown there."""
  chosen, marks = row['weights'] > 0, {}
  predicted = np.stack([row['predict_at'], row['targets']], axis=1)[chosen]
  for place, target in predicted.tolist():
    read = int(row['inputs'][place])
    names = [target] if read == target else [target, read]
    marks[place] = f'{{{": ".join(map(tokenizer.piece, names))}}}'
  return marks


def spell(
  tokens: np.ndarray,
  places: np.ndarray,
  tokenizer: Tokenizer,
  marks: dict[int, str] | None = None,
) -> str:
  """The text at `places` of tokens [T], with names for special tokens."""
  marks, specials = marks or {}, set(tokenizer.specials)
  there = [(place, int(tokens[place])) for place in places.tolist()]
  words = []
  for named, run in itertools.groupby(
    there, lambda at: at[0] in marks or at[1] in specials
  ):
    if named:
      words += [marks.get(at) or tokenizer.piece(token) for at, token in run]
    else:
      words.append(tokenizer.decode([token for _, token in run]))
  return ' '.join(words)


def count(
  batch: dict[str, np.ndarray],
  tokenizer: Tokenizer,
  objective: str = 'span_corruption',
) -> dict[str, int]:
  """Sums over a batch of [B,...] arrays: rows, segments, places and tokens.

  `tokens` are read or predicted, `text` are those of the documents, and `noise`
  those of the text that are predicted from the others.
  """
  specials = np.array(tokenizer.specials)
  weights = batch['weights'] > 0
  segments = batch['segments'] > 0
  sums = {
    'rows': len(segments),
    'segments': int(batch['segments'].max(axis=-1).sum()),
    'places': segments.size,
    'tokens': int(segments.sum()),
  }
  if 'targets' not in batch:  # of a task, for a head
    read = int((segments & ~np.isin(batch['inputs'], specials)).sum())
    return sums | {'text': read}
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

  predicted = of_text(batch['targets'], weights)
  shown = 0
  if 'encoder_inputs' in batch:
    read = batch['encoder_segments'] > 0
    sums |= {'encoder_places': read.size, 'encoder': int(read.sum())}
    shown = of_text(batch['encoder_inputs'], read)
  elif 'prefix' in batch:
    shown = of_text(batch['targets'], segments & ~weights)
  if objective in WHOLE_TEXT:
    shown = 0
  if objective == 'causal':
    return sums | {'text': sums['tokens']}  # with an end of text each
  return sums | {'text': shown + predicted, 'noise': predicted}


def show_rates(sums: dict[str, int]) -> str:
  """Shares and means: filled places, tokens and segments a row, noise."""
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
  ARGUMENTS = (
    config_flags.DEFINE_config_file('config', None, 'configs/FILE.py[:ARG]'),
    flags.DEFINE_string(
      'workdir', None, "a run's folder, for its tokenizer; else it is not kept"
    ),
    flags.DEFINE_integer('examples', 2, 'rows shown', lower_bound=0),
    flags.DEFINE_integer('batches', 100, 'batches measured'),
    flags.DEFINE_bool('evaluation', False, 'the evaluation split'),
  )
  flags.mark_flag_as_required('config')
  command.run(lambda: show(*(flag.value for flag in ARGUMENTS)))

"""Decoding with a cache that is passed in and out.

`python -m train.generate --workdir=W [--step=N]` goes on from a few held-out
examples with a checkpoint: an encoder-decoder answers its inputs, a decoder
continues the first half of a text. Of texts of your own with --text (as often
as you like; to a model of span corruption 'A <extra_id_0> sat on the
<extra_id_1>.') or --file=FILE, a text a line; white space around a text counts.
It decodes greedily, or with --temperature=1 (and --top_k, --top_p) draws, the
same for the same --seed.
"""

import functools
import re
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from input_pipeline import pipeline
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import batch_shapes
from input_pipeline.sources.lines import read_lines
from input_pipeline.tokenizers import kinds
from models import decoding
from models.config import TransformerConfig
from train.parallel import processes
from train.runs import command, opening
from train.setup import Setup

SENTINEL = r'<extra_id_\d+>'


def first_examples(batch: dict[str, jax.Array], rows: int) -> dict:
  """The first example of each of the first rows, as `decode` reads it.

  Rows of padding come last: a stream may have nothing held out. Returns
  'source' and 'targets', and 'segments' and 'target_segments', which are 1
  where these have a token. Of a decoder's text the first half is the source,
  or the inputs where it has some.
  """
  empty = jnp.all(batch['segments'] == 0, axis=1)
  first = jnp.argsort(empty)[:rows]  # else in order
  batch = {name: x[first] for name, x in batch.items()}
  own = batch['segments'] == 1
  answered = own
  if 'encoder_inputs' in batch:
    read = batch['encoder_segments'] == 1
    source = jnp.where(read, batch['encoder_inputs'], 0)
  else:
    places = jnp.arange(own.shape[1])
    taken = jnp.sum(own, axis=1, keepdims=True) // 2 + 1
    if 'prefix' in batch:
      taken = jnp.sum(own * batch['prefix'], axis=1, keepdims=True)
    taken = jnp.where(jnp.any(own, axis=1, keepdims=True), taken, 0)
    at = places + taken - own.shape[1]
    read = at >= 0  # the last ones
    source = jnp.take_along_axis(batch['inputs'], jnp.maximum(at, 0), axis=1)
    source = jnp.where(read, source, 0)
    answered = own & (places >= taken - 1)
  return {
    'source': source,
    'segments': read.astype('int32'),
    'targets': jnp.where(answered, batch['targets'], 0),
    'target_segments': answered.astype('int32'),
  }


def make_sampling(
  setup: Setup, data: pipeline.Data, rows: int
) -> Callable[[Any, dict, DataConfig], str]:
  """params, batch, config of the data -> what the model writes, as text.

  The config is that of the phase whose rows the batch has. The first `rows`
  rows are decoded greedily.
  """
  run_decode = jax.jit(
    functools.partial(
      decoding.decode,
      model=setup.model,
      eos=data.tokenizer.eos,
      start=data.start_id,
      vocabulary=data.tokenizer.size,
    ),
    static_argnames='length',
  )
  first_rows = jax.jit(
    functools.partial(first_examples, rows=rows),
    out_shardings=NamedSharding(setup.mesh, PartitionSpec()),
  )

  def sample(params: Any, batch: dict, config: DataConfig) -> str:
    examples = first_rows(batch)
    length = target_length(setup.model.config, config)
    most = decoding.room(
      setup.model.config, jax.device_get(examples['segments'])
    )
    # A few rows need no rules of a mesh: all devices decode all of them.
    with jax.set_mesh(setup.mesh), nn.logical_axis_rules(()):
      tokens = run_decode(
        params,
        examples['source'],
        examples['segments'],
        length=length if most is None else min(length, most),
      )
    return show(
      data.tokenizer, jax.device_get(examples), jax.device_get(tokens)
    )

  return sample


def show(tokenizer: Any, examples: dict, predicted: np.ndarray) -> str:
  """Inputs, targets (if there are) and predictions as text, row by row.

  Rows of padding are left out. A prediction ends with its first EOS: any id,
  0 too, may be a word of the vocabulary.
  """
  lines = []
  for row, tokens in enumerate(predicted):
    read = examples['segments'][row] > 0
    if not read.any():
      continue
    source = tokenizer.decode(examples['source'][row][read])
    lines.append(f'input:      {source}')
    if 'targets' in examples:
      own = examples['target_segments'][row] > 0
      target = tokenizer.decode(examples['targets'][row][own])
      lines.append(f'target:     {target}')
    ends = np.flatnonzero(tokens == tokenizer.eos)
    text = tokenizer.decode(tokens[: ends[0]] if len(ends) else tokens)
    lines += [f'prediction: {text}', '']
  return '\n'.join(lines)


def encode(
  tokenizer: Any,
  texts: list[str],
  length: int,
  family: str,
  pairs: bool,
  start: int | None,
) -> dict[str, np.ndarray]:
  """Texts -> 'source', 'segments' [B,S], as `decode` reads them.

  As in training, a decoder's text begins with the id `start`, if there is one,
  and inputs, an encoder's or those of `pairs` of inputs and targets, end with
  EOS.

  Raises:
    ValueError: a text is too long, is empty, or has a sentinel that the
      tokenizer does not know.
  """
  source, segments = np.zeros((2, len(texts), length), np.int32)
  for row, text in enumerate(texts):
    ids = _ids(tokenizer, text)
    found = int(np.isin(ids, tokenizer.sentinels).sum())
    given = len(re.findall(SENTINEL, text))
    if found != given:
      count = len(tokenizer.sentinels)
      raise ValueError(
        f'The text {text[:60]!r} has {given} sentinels, of which the tokenizer '
        f'knows {found}; it has '
        + (f'<extra_id_0> to <extra_id_{count - 1}>.' if count else 'none.')
      )
    whole = [*ids, tokenizer.eos] if pairs else list(ids)
    if family != 'encoder_decoder' and start is not None:
      whole = [start, *whole]
    if not len(ids) or len(whole) > length:
      raise ValueError(
        f'The text {text[:60]!r} has {len(ids)} tokens; it needs one, and at '
        f'most {length - len(whole) + len(ids)} beside what ends or begins it '
        '(data.length).'
      )
    place = slice(len(whole))
    if family != 'encoder_decoder':
      place = slice(length - len(whole), length)
    source[row, place], segments[row, place] = whole, 1
  return {'source': source, 'segments': segments}


def target_length(config: TransformerConfig, data: DataConfig) -> int:
  """Tokens decoded where nobody says how many."""
  if config.family == 'encoder_decoder':
    return batch_shapes(data, config.family)['targets'][0][0]
  return data.length // 2


def _ids(tokenizer: Any, text: str) -> np.ndarray:
  """Ids of a text; a sentinel that the tokenizer has not is left out."""
  if tokenizer.reads_sentinels:  # where a word could begin
    spaced = re.sub(rf'(?<=[^ ])({SENTINEL})', r' \1', text)
    return tokenizer.encode_batch([spaced.encode()])[0]
  parts = re.split(rf' ?({SENTINEL})', text)
  ids = tokenizer.encode_batch([part.encode() for part in parts[::2]])
  for n, sentinel in enumerate(parts[1::2]):
    number = int(re.search(r'\d+', sentinel)[0])
    ids.insert(2 * n + 1, tokenizer.sentinels[number : number + 1])
  return np.concatenate(ids)


def generate(
  folder: str,
  step: int | None = None,
  texts: list[str] | None = None,
  samples: int = 4,
  length: int = 0,
  seed: int = 0,
  **sampling: float,
) -> str:
  """Inputs and what a run's checkpoint decodes of them, as text.

  Args:
    folder: the workdir.
    step: of the checkpoint; None: the newest.
    texts: the inputs; None: the first examples of the held-out split.
    samples: how many of those.
    length: tokens decoded at most; 0: as many as a target has, of a decoder
      half a row.
    seed: of what is drawn; a row's tokens do not depend on the other rows.
    **sampling: `temperature`, `top_k`, `top_p` of `decode`.

  Raises:
    ValueError: texts that cannot be encoded, or no run; see open_run.
  """
  run = opening.open_run(folder, step)
  family = run.model.config.family
  if family not in decoding.FAMILIES:
    raise ValueError(
      f'--workdir={folder} holds a model of family {family!r}, which writes no '
      f'text; {", ".join(decoding.FAMILIES)} do.'
    )
  if texts is None:
    data = opening.open_data(run)
    tokenizer, start = data.tokenizer, data.start_id
    everywhere = NamedSharding(run.setup.mesh, PartitionSpec())
    first_rows = jax.jit(
      functools.partial(first_examples, rows=run.data.batch),
      out_shardings=everywhere,
    )
    examples = first_rows(next(opening.evaluation_batches(run, data)))
    examples = jax.device_get(examples)
    # Streams without documents give rows of padding.
    kept = np.flatnonzero(examples['segments'].any(axis=1))[:samples]
    if not len(kept):
      raise ValueError('There is no held-out document: see data.holdout.')
    examples = {name: values[kept] for name, values in examples.items()}
  elif run.data.source == 'synthetic':
    raise ValueError('A run on synthetic data reads no text: leave it out.')
  else:
    tokenizer = opening.open_tokenizer(run)
    start = kinds.start_id(tokenizer, run.data)
    examples = encode(
      tokenizer, texts, run.data.length, family, run.data.pairs, start
    )

  length = length or target_length(run.model.config, run.data)
  most = decoding.room(run.model.config, examples['segments'])
  if most is not None and length > most:
    raise ValueError(
      f'--length={length}: model.max_length={run.model.config.max_length} has '
      f'positions for {most} tokens after this input.'
    )
  run_decode = jax.jit(
    functools.partial(
      decoding.decode,
      model=run.model,
      length=length,
      eos=tokenizer.eos,
      start=start,
      vocabulary=tokenizer.size,
      **sampling,
    ),
    out_shardings=NamedSharding(run.setup.mesh, PartitionSpec()),
  )
  count = len(examples['source'])
  together = min(count, run.data.batch)
  predicted = []
  for first in range(0, count, together):
    rows = np.arange(first, first + together)
    taken = np.minimum(rows, count - 1)  # the last ones fill up
    rngs = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)
    # A few rows need no rules of a mesh: all devices decode all of them.
    with jax.set_mesh(run.setup.mesh), nn.logical_axis_rules(()):
      tokens = run_decode(
        run.params,
        examples['source'][taken],
        examples['segments'][taken],
        rngs,
      )
    predicted += list(jax.device_get(tokens))
  return show(tokenizer, examples, np.stack(predicted[:count]))


def read_texts(path: str) -> list[str]:
  """The lines of a UTF-8 file that have text.

  Raises:
    ValueError: there is none, or a line is not UTF-8.
  """
  texts = []
  for number, line in enumerate(read_lines(path), 1):
    try:
      text = line.decode().rstrip('\r')
    except UnicodeDecodeError as error:
      raise ValueError(
        f'--file={path}, line {number} is not UTF-8 ({error.reason}).'
      ) from error
    if text.strip():
      texts.append(text)
  if not texts:
    raise ValueError(f'--file={path} holds no text.')
  return texts


def main():
  for name in ('samples', 'length', 'temperature', 'top_k'):
    _at_least(name, 1 if name == 'samples' else 0)
  if not 0 < _TOP_P.value <= 1:
    raise ValueError(f'--top_p={_TOP_P.value} must be above 0, at most 1.')
  drawn = _TOP_K.value or _TOP_P.value < 1
  if drawn and not _TEMPERATURE.value:
    raise ValueError('--top_k and --top_p need --temperature above 0.')
  processes.join()
  texts = list(_TEXT.value or ())
  if _FILE.value:
    texts += read_texts(_FILE.value)
  text = generate(
    _WORKDIR.value,
    _STEP.value,
    texts or None,
    _SAMPLES.value,
    _LENGTH.value,
    _SEED.value,
    temperature=_TEMPERATURE.value,
    top_k=_TOP_K.value,
    top_p=_TOP_P.value,
  )
  if jax.process_index() == 0:
    print(text)


def _at_least(name, least):
  value = flags.FLAGS[name].value
  if value < least:
    raise ValueError(f'--{name}={value} must be at least {least}.')


if __name__ == '__main__':
  _WORKDIR = flags.DEFINE_string('workdir', None, 'Of the run.', required=True)
  _STEP = flags.DEFINE_integer('step', None, 'Default: the newest checkpoint.')
  _TEXT = flags.DEFINE_multi_string(
    'text', None, 'An input, or what to go on from.'
  )
  _FILE = flags.DEFINE_string('file', None, 'Inputs, one a line.')
  _SAMPLES = flags.DEFINE_integer(
    'samples', 4, 'Held-out examples, where no text is given.'
  )
  _LENGTH = flags.DEFINE_integer(
    'length', 0, "Tokens decoded at most; 0: a target's, or half a row."
  )
  _SEED = flags.DEFINE_integer('seed', 0, 'Of what is drawn.')
  _TEMPERATURE = flags.DEFINE_float(
    'temperature', 0.0, 'Above 0: tokens are drawn; 0: the likeliest is taken.'
  )
  _TOP_K = flags.DEFINE_integer('top_k', 0, 'Draw from so many tokens; 0: all.')
  _TOP_P = flags.DEFINE_float(
    'top_p', 1.0, 'Draw from the likeliest tokens with this probability.'
  )
  processes.define_flags()
  flags.adopt_module_key_flags(processes)
  command.run(main)

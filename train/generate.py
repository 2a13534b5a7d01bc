"""Decoding with a cache that is passed in and out.

`python -m train.generate --workdir=W [--step=N]` fills the gaps of a few
held-out examples with a checkpoint; of texts of your own with
--text='A <extra_id_0> sat on the <extra_id_1>.' (as often as you like) or
--file=FILE, a text a line. It decodes greedily, or with --temperature=1 (and
--top_k, --top_p) draws, the same for the same --seed.
"""

import functools
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from input_pipeline import blocks
from train import command, opening, processes

SENTINEL = r'<extra_id_\d+>'


def decode(
  params: Any,
  encoder_inputs: jax.Array,
  encoder_segments: jax.Array,
  rngs: jax.Array | None = None,
  *,
  model: nn.Module,
  length: int,
  eos: int,
  start: int = 0,
  vocabulary: int | None = None,
  temperature: float = 0.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> jax.Array:
  """The likeliest token, or one that is drawn, step by step, until `eos`.

  Args:
    params: of an encoder-decoder.
    encoder_inputs: int [B,S].
    encoder_segments: int [B,S], above 0 where there is a token.
    rngs: keys [B], one a row; needed where `temperature` is not 0.
    model: the encoder-decoder.
    length: T, how many tokens at most.
    eos: ends a row; what follows it is 0.
    start: what the decoder reads first; T5 takes padding.
    vocabulary: ids from here on have no token, though the model's table has
      rows for them; None: all have one.
    temperature: 0: the likeliest token.
    top_k: see `limit`.
    top_p: see `limit`.

  Returns:
    int32 [B,T].
  """

  def choose(logits, index):
    logits = logits[:, :vocabulary].astype('float32')
    if temperature == 0:
      return jnp.argmax(logits, axis=-1).astype('int32')
    keys = jax.vmap(jax.random.fold_in, (0, None))(rngs, index)
    logits = limit(logits / temperature, top_k, top_p)
    return jax.vmap(jax.random.categorical)(keys, logits).astype('int32')

  def step(tokens, cache, index, encoded=None):
    logits, cache = model.apply(
      {'params': params},
      tokens[:, None],
      cache,
      index,
      encoder_segments,
      encoded,
      method='decode_step',
    )
    return choose(logits[:, 0], index), cache

  def advance(carry, index):
    tokens, done, cache = carry
    new, cache = step(tokens, cache, index)
    new = jnp.where(done, 0, new)
    return (new, done | (new == eos), cache), new

  encoded = model.apply(
    {'params': params}, encoder_inputs, encoder_segments, method='encode'
  )
  batch = encoder_inputs.shape[0]
  cache = model.start_cache(batch, length)
  first = jnp.full(batch, start, 'int32')
  tokens, cache = step(first, cache, jnp.int32(0), encoded)
  carry = (tokens, tokens == eos, cache)
  _, rest = jax.lax.scan(advance, carry, jnp.arange(1, length))
  return jnp.concatenate([tokens[:, None], rest.T], axis=1)


def limit(logits: jax.Array, top_k: int = 0, top_p: float = 1.0) -> jax.Array:
  """The logits, -inf where a token must not be drawn.

  Args:
    logits: float [B,V].
    top_k: only the so many likeliest tokens; 0: all (Fan et al. 2018, 5.4).
    top_p: only the likeliest tokens that together are as likely as this, or
      just above (Holtzman et al. 2020, 3.1), of those that top_k leaves.

  Example: of probabilities (.5, .3, .15, .05), top_p=.6 leaves the first two.
  """
  if top_k:
    least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
    logits = jnp.where(logits < least, -jnp.inf, logits)
  if top_p < 1:
    ordered = -jnp.sort(-logits, axis=-1)
    shares = jax.nn.softmax(ordered, axis=-1)
    before = jnp.cumsum(shares, axis=-1) - shares  # that of likelier tokens
    least = jnp.min(
      jnp.where(before < top_p, ordered, jnp.inf), axis=-1, keepdims=True
    )
    logits = jnp.where(logits < least, -jnp.inf, logits)
  return logits


def first_examples(batch: dict[str, jax.Array], rows: int) -> dict:
  """The first example of each of the first rows, the rest of a row padded."""
  result = {}
  for name, segments in (
    ('encoder_inputs', 'encoder_segments'),
    ('targets', 'segments'),
  ):
    own = batch[segments][:rows] == 1
    result[name] = jnp.where(own, batch[name][:rows], 0)
    result[segments] = own.astype('int32')
  return result


def show(tokenizer: Any, examples: dict, predicted: np.ndarray) -> str:
  """Inputs, targets (if there are) and predictions as text, row by row."""

  def text(tokens):
    return tokenizer.decode([int(token) for token in tokens if token])

  lines = []
  for row, tokens in enumerate(predicted):
    lines.append(f'input:      {text(examples["encoder_inputs"][row])}')
    if 'targets' in examples:
      lines.append(f'target:     {text(examples["targets"][row])}')
    lines += [f'prediction: {text(tokens)}', '']
  return '\n'.join(lines)


def encode(tokenizer: Any, texts: list[str], length: int) -> dict:
  """Texts with sentinels -> 'encoder_inputs', 'encoder_segments' [B,S].

  As in training, EOS ends a row.

  Raises:
    ValueError: a text is too long, is empty, or has a sentinel that the
      tokenizer does not know.
  """
  inputs = np.zeros((len(texts), length), np.int32)
  for row, text in enumerate(texts):
    # Tokenizers know a sentinel where a word could begin.
    spaced = re.sub(rf' ?({SENTINEL})', r' \1', text).strip()
    [ids] = tokenizer.encode_batch([spaced], 1)
    found = int(np.isin(ids, tokenizer.sentinels).sum())
    given = len(re.findall(SENTINEL, text))
    if found != given:
      raise ValueError(
        f'The text {text[:60]!r} has {given} sentinels, of which the tokenizer '
        f'knows {found}; it has <extra_id_0> to '
        f'<extra_id_{len(tokenizer.sentinels) - 1}>.'
      )
    if not 0 < len(ids) < length:
      raise ValueError(
        f'The text {text[:60]!r} has {len(ids)} tokens; it needs one, and with '
        f'EOS at most data.length={length}.'
      )
    inputs[row, : len(ids) + 1] = [*ids, tokenizer.eos]
  return {
    'encoder_inputs': inputs,
    'encoder_segments': (inputs > 0).astype('int32'),
  }


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
    length: tokens decoded at most; 0: as many as a target has.
    seed: of what is drawn; a row's tokens do not depend on the other rows.
    **sampling: `temperature`, `top_k`, `top_p` of `decode`.

  Raises:
    ValueError: texts that cannot be encoded, or no run; see open_run.
  """
  run = opening.open_run(folder, step)
  if run.model.config.family != 'encoder_decoder':
    raise ValueError(
      f'--workdir={folder} holds a model of family '
      f'{run.model.config.family!r}; only an encoder-decoder fills gaps.'
    )
  if texts is None:
    data = opening.open_data(run)
    tokenizer = data.tokenizer
    everywhere = NamedSharding(run.mesh, PartitionSpec())
    first_rows = jax.jit(
      functools.partial(first_examples, rows=run.data.batch),
      out_shardings=everywhere,
    )
    examples = first_rows(next(opening.evaluation_batches(run, data)))
    examples = jax.device_get(examples)
    # Streams without documents give rows of padding.
    kept = np.flatnonzero(examples['encoder_segments'].any(axis=1))[:samples]
    if not len(kept):
      raise ValueError('There is no held-out document: see data.holdout.')
    examples = {name: values[kept] for name, values in examples.items()}
  elif run.data.source == 'synthetic':
    raise ValueError('A run on synthetic data reads no text: leave it out.')
  else:
    tokenizer = opening.open_tokenizer(run)
    examples = encode(tokenizer, texts, run.data.length)

  shapes = blocks.batch_shapes(run.data, run.model.config.family)
  run_decode = jax.jit(
    functools.partial(
      decode,
      model=run.model,
      length=length or shapes['targets'][0][0],
      eos=tokenizer.eos,
      vocabulary=tokenizer.size,
      **sampling,
    ),
    out_shardings=NamedSharding(run.mesh, PartitionSpec()),
  )
  count = len(examples['encoder_inputs'])
  together = min(count, run.data.batch)
  predicted = []
  for first in range(0, count, together):
    rows = np.arange(first, first + together)
    taken = np.minimum(rows, count - 1)  # the last ones fill up
    rngs = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), rows)
    # A few rows need no rules of a mesh: all devices decode all of them.
    with jax.set_mesh(run.mesh), nn.logical_axis_rules(()):
      tokens = run_decode(
        run.params,
        examples['encoder_inputs'][taken],
        examples['encoder_segments'][taken],
        rngs,
      )
    predicted += list(jax.device_get(tokens))
  return show(tokenizer, examples, np.stack(predicted[:count]))


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
    with open(_FILE.value) as file:
      texts += [line.strip() for line in file if line.strip()]
    if not texts:
      raise ValueError(f'--file={_FILE.value} holds no text.')
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
  _TEXT = flags.DEFINE_multi_string('text', None, 'An input, with sentinels.')
  _FILE = flags.DEFINE_string('file', None, 'Inputs, one a line.')
  _SAMPLES = flags.DEFINE_integer(
    'samples', 4, 'Held-out examples, where no text is given.'
  )
  _LENGTH = flags.DEFINE_integer(
    'length', 0, "Tokens decoded at most; 0: a target's."
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

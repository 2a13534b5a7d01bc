"""Every config key there is, and how a config's argument is read.

A paper's file starts from `base()` and sets the choices of the paper. A key
that stays a placeholder is not used by the run; one that is needed and not
set, or set and not used, is an error when the run starts.
"""

import difflib
from collections.abc import Iterable

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def base() -> ConfigDict:
  """All keys, unlocked: `finish` locks them."""
  c = ConfigDict()
  c.seed = 0

  # models/config.py says what each field means.
  c.model = ConfigDict()
  for name, kind in (
    ('family', str),
    ('vocab_size', int),
    ('embed_dim', int),
    ('mlp_dim', int),
    ('heads', int),
    ('kv_heads', int),
    ('head_dim', int),
    ('position', str),
    ('norm', str),
    ('norm_epsilon', float),
    ('norm_placement', str),
    ('parallel', str),
    ('activation', str),
    ('gated', bool),
    ('bias', str),
    ('scale_attention', bool),
    ('embed_norm', bool),
    ('scale_embed', bool),
    ('tie_embeddings', bool),
    ('scale_output', bool),
    ('output_transform', bool),
    ('output_bias', bool),
    ('head', str),
    ('init', str),
    ('dropout', float),
    ('attention_dropout', float),
    ('dropout_kind', str),
  ):
    c.model[name] = placeholder(kind)
  for name in (  # read by some choices only; 0: not used
    'encoder_layers',
    'decoder_layers',
    'generator_divisor',
    'max_length',
    'position_offset',
    'relative_buckets',
    'relative_max_distance',
    'rope_dim',
    'window',
    'window_every',
    'table_dim',
    'token_types',
    'classes',
  ):
    c.model[name] = 0
  c.model.rope_theta = c.model.init_std = 0.0
  c.model.rope_scaling = ()
  c.model.prefix = False
  c.model.pooler_dropout = False
  c.model.dtype = 'bfloat16'
  c.model.scan = True
  c.model.remat = 'none'

  # input_pipeline/config.py says what each field means.
  c.data = ConfigDict()
  c.data.source = placeholder(str)
  c.data.mixture = ()  # (source, rate), ...; data.source is '' then
  c.data.documents = 0  # of each source only the first ones; 0: all
  c.data.epochs = 0  # times that every document is read; 0: without end
  c.data.tokenizer = ''  # a file or folder; '' trains one on the source
  c.data.tokenizer_kind = 'unigram'
  c.data.lowercase = False  # of wordpiece alone
  c.data.sentinels = 0
  c.data.objective = placeholder(str)
  c.data.loss_on_inputs = False  # in a decoder; False: on targets alone
  c.data.noise_density = 0.0
  c.data.mean_span_length = 0.0
  c.data.target_length = 0  # T where the objective's targets vary in length
  c.data.denoisers = ()  # UL2's
  c.data.predictions = 0  # P, at most so many masked tokens in a row
  c.data.masking = ''
  c.data.masked_share = c.data.random_share = 0.0
  c.data.whole_words = False
  c.data.duplicates = 0
  c.data.short_share = 0.0
  c.data.batch = placeholder(int)  # rows, over all devices and hosts
  c.data.length = placeholder(int)
  c.data.curriculum = ()  # (share of the steps, length, predictions), ...
  c.data.concatenate = True
  c.data.pack = True
  c.data.block = 128
  c.data.document_tokens = 0
  c.data.streams = 8
  c.data.holdout = 0
  c.data.max_bad_share = 0.001  # of 1,000 documents at least
  c.data.threads = 0  # 0: all cores; changes speed only

  c.optimizer = ConfigDict()
  c.optimizer.name = placeholder(str)
  c.optimizer.clip = 0.0  # global norm of the gradients; 0: no clipping
  for name in (
    'weight_decay',
    'b1',
    'b2',
    'epsilon',
    'decay_rate',
    'epsilon1',
    'epsilon2',
    'clip_threshold',
  ):
    c.optimizer[name] = placeholder(float)
  c.optimizer.decay = 'matrices'  # which weights decay: these, or all
  c.optimizer.factor_from = placeholder(int)
  c.optimizer.parameter_scale = placeholder(bool)
  c.optimizer.bias_correction = placeholder(bool)
  c.optimizer.multipliers = ConfigDict()  # of the rate, by parameter name

  c.schedule = ConfigDict()
  c.schedule.name = placeholder(str)
  c.schedule.learning_rate = placeholder(float)
  c.schedule.warmup_steps = placeholder(int)
  c.schedule.end_fraction = placeholder(float)
  c.schedule.constant_steps = placeholder(int)
  c.schedule.decay_steps = 0  # the decay's last step; 0: train.steps

  c.train = ConfigDict()
  c.train.steps = placeholder(int)
  c.train.accumulate = 1  # parts of a batch, one after the other
  c.train.z_loss = 0.0
  c.train.label_smoothing = 0.0
  c.train.max_logit_loss = 0.0  # half of it times the largest logit, squared
  c.train.log_every = 100

  c.eval = ConfigDict()
  c.eval.source = ''  # '': held-out documents of data.source
  c.eval.every = 10_000
  c.eval.batches = 0  # 0: the whole split
  c.eval.samples = 0  # rows decoded greedily after an evaluation

  c.checkpoint = ConfigDict()
  c.checkpoint.every = 5_000
  c.checkpoint.keep = 2  # the newest ones
  c.checkpoint.keep_every = 0  # and every one at a multiple of this; 0: none

  c.sharding = ConfigDict()
  c.sharding.rules = 'replicated'
  c.sharding.mesh = ConfigDict()  # sizes; one may be -1: the other devices
  for axis in ('data', 'fsdp', 'sequence', 'tensor', 'expert', 'stage'):
    c.sharding.mesh[axis] = 1
  c.sharding.mesh.data = -1
  return c


def finish(config: ConfigDict) -> ConfigDict:
  """Locks a config: from here on an unknown key is an error."""
  return config.lock()


def parse(arg: str, **options: tuple[str, ...]) -> dict[str, str]:
  """Reads what follows the colon of `--config=FILE.py:ARG`.

  Args:
    arg: a size, or 'key=value,key=value'.
    **options: the values each key may take, the default first; `size` is the
      key of a bare value.

  Returns:
    A value for every option.

  Raises:
    ValueError: an unknown key or value; names the nearest one.

  Example: parse('small', size=('base', 'small'), version=('1.0', '1.1')) is
  {'size': 'small', 'version': '1.0'}.
  """
  chosen = {key: values[0] for key, values in options.items()}
  for part in filter(None, arg.split(',')):
    key, value = part.split('=', 1) if '=' in part else ('size', part)
    if key not in options:
      raise ValueError(unknown('config argument', key, options))
    if value not in options[key]:
      raise ValueError(unknown(key, value, options[key]))
    chosen[key] = value
  return chosen


def unknown(what: str, value: str, known: Iterable[str]) -> str:
  """What is said of a value that is none of the known; names the nearest."""
  near = difflib.get_close_matches(value, known, 1, cutoff=0.4)
  hint = f' Did you mean {near[0]!r}?' if near else ''
  return f'{what} {value!r} is unknown.{hint} There are: {", ".join(known)}.'

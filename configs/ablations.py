"""A system with one field or several changed, and the keys that go with them.

`ablations.py:SYSTEM[:ARG],FIELD=VALUE[,FIELD=VALUE]`, where the system is named
as in `python -m configs.tree --diff`: `gpt2:tiny,position=rope`,
`llama:7b,version=2,objective=ul2`. The keys that only the new value reads
(rope's theta, UL2's denoisers) are set, those that only the old one read are
cleared, and those that both read stay. Sizes stay too, so that a gate, an
untied table or fewer key and value heads change the number of parameters.
`--diff=ablations:gpt2:tiny,position=rope` shows all that differs.

`python -m train.sweep --config=configs/ablations.py:gpt2:tiny` runs every such
change. A choice that the family cannot have is refused at the start of the run,
with the reason. A decoder's `model.prefix` stays: T5 (3.2) compares inputs that
see one another with inputs that do not.
"""

import difflib
import re
from collections.abc import Iterator

from ml_collections import ConfigDict

from configs import arguments, common, phases, tree, ul2

# Position -> the keys that it reads and no other position does.
POSITIONS = {
  'none': {},
  'sinusoidal': {},
  'learned': {'max_length': 0},  # becomes the length of the rows
  'relative_bias': {  # T5, 2.1
    'relative_buckets': 32,
    'relative_max_distance': 128,
  },
  'transformer_xl': {},
  # RoFormer, 3.2; rope_dim becomes H.
  'rope': {'rope_theta': 10_000.0, 'rope_dim': 0},
  'alibi': {},
}
_CHUNK = {'document_tokens': 65_536}  # T5's published code
_NOISE = {'noise_density': 0.15}  # T5, 3.1.4; BERT, 3.1
_SPANS = _CHUNK | _NOISE | {'sentinels': 100}  # T5, 3.1.4
_MASKS = _NOISE | {
  'predictions': 77,  # BERT's published code
  'masking': 'bert',
  'masked_share': 0.8,  # BERT, 3.1: 80%, 10%, and 10% stay
  'random_share': 0.1,
  'whole_words': False,
  'duplicates': 0,
}
# Objective -> the keys that it reads.
OBJECTIVES = {
  'causal': {},
  'prefix': _CHUNK | {'concatenate': False},  # T5's published code
  'span_corruption': _SPANS | {'mean_span_length': 3.0},  # T5, 3.3.4
  # T5, 3.3.1 and 3.3.2; the lengths are those of its published code.
  'iid_spans': _SPANS | {'target_length': 192},
  'drop_tokens': _CHUNK | _NOISE | {'target_length': 104},
  'bert_style': _SPANS | {'random_share': 0.1},  # 90% masked, 10% random
  'mass_style': _SPANS,
  'deshuffling': _CHUNK | {'concatenate': False},
  # UL2, table 1: the fourth of seven denoisers needs 128 sentinels in 512
  # tokens.
  'ul2': _CHUNK | {'denoisers': ul2.DENOISERS, 'sentinels': 128},
  'mlm': _MASKS,
  'sentence_pairs': _MASKS | {'short_share': 0.1},  # BERT's published code
  'full_sentences': _MASKS,
  'doc_sentences': _MASKS,
}
# Counts above are for rows of 512 tokens and grow or shrink with the rows. A
# vocabulary has at least T5's 100 sentinels, and keeps all that it has.
_COUNTS = ('predictions', 'target_length', 'sentinels')
# Keys that get the new objective's value even if the old one read them too.
_ITS_OWN = ('target_length', 'concatenate')

# Field -> its values.
FIELDS = {
  'position': common.KEYS['model.position'].choices,
  'norm': common.KEYS['model.norm'].choices,
  'norm_placement': common.KEYS['model.norm_placement'].choices,
  'activation': common.KEYS['model.activation'].choices,
  'gated': (False, True),
  'kv_heads': (),  # any divisor of model.heads
  'tie_embeddings': (False, True),
  'bias': common.KEYS['model.bias'].choices,
  'objective': tuple(OBJECTIVES),  # of text; tasks have others
}


def get_config(arg: str = '') -> ConfigDict:
  """The changed config.

  Raises:
    ValueError: no such system, field or value; the message names the nearest.
  """
  reference, fields = split(arg)
  config = tree.config_of(reference)
  for field, text in fields.items():
    overrides = change(config, field, _value(field, text))
    config.update_from_flattened_dict(overrides)
  return config


def sweep(arg: str = '') -> Iterator[dict]:
  """The system as it is, then with each of its fields changed.

  Yields a run's name and overrides: {'name': 'position=rope', 'model.position':
  'rope', 'model.rope_theta': 10000.0, ...}. Some are impossible: the run says
  why. `arg` is that of `get_config`.
  """
  config = get_config(arg)
  yield {'name': 'unchanged'}
  heads = config.model.heads
  divisors = tuple(n for n in range(1, heads + 1) if heads % n == 0)
  for field, values in FIELDS.items():
    if field == 'objective' and config.data.objective not in OBJECTIVES:
      continue  # it learns tasks
    for value in values or divisors:
      if overrides := change(config, field, value):
        yield {'name': f'{field}={value}'} | overrides


def split(arg: str) -> tuple[str, dict[str, str]]:
  """The argument's system 'NAME[:ARG]', and the values of the fields.

  Example: split('t5:tiny,bias=all,version=1.1') is ('t5:tiny,version=1.1',
  {'bias': 'all'}).

  Raises:
    ValueError: a name that is nearly a field's name.
  """
  name, *parts = re.split('[:,]', arg)
  own, fields = [], {}
  for part in parts:
    field, named, value = part.partition('=')
    if field in FIELDS:
      fields[field] = value
    elif named and difflib.get_close_matches(field, FIELDS, 1, 0.75):
      raise ValueError(arguments.unknown('field', field, FIELDS))
    else:
      own.append(part)
  return f'{name}:{",".join(own)}' if own else name, fields


def change(config: ConfigDict, field: str, value) -> dict:
  """The overrides, 'group.key': value, that give a field another value."""
  group = 'data' if field == 'objective' else 'model'
  if config[group][field] == value:
    return {}
  wanted = {f'{group}.{field}': value}
  if field == 'position':
    wanted |= _position(config, value)
  elif field == 'objective':
    wanted |= _objective(config, value)
  flat = {
    f'{g}.{k}': x
    for g in ('model', 'data', 'train')
    for k, x in config[g].items()
  }
  return {key: x for key, x in wanted.items() if flat[key] != x}


def _position(c, position):
  m, blank = c.model, common.base().model
  keys = [key for own in POSITIONS.values() for key in own]
  own = dict(POSITIONS[position])
  if 'max_length' in own:
    lengths = [phase.length for phase in phases.of(c)]
    own['max_length'] = max(lengths)
  if 'rope_dim' in own:
    own['rope_dim'] = m.head_dim // 2 * 2
  keys += ['position_offset', 'rope_scaling']  # only some papers set them
  return {f'model.{key}': own.get(key, blank[key]) for key in keys}


def _objective(c, objective):
  m, d = c.model, c.data
  if d.objective not in OBJECTIVES:
    raise ValueError(
      f'objective={objective}: this config learns tasks, not a text. Change the'
      ' objective of the one that it goes on from.'
    )
  blank = common.base().data
  keys = dict.fromkeys(key for own in OBJECTIVES.values() for key in own)
  old, own = OBJECTIVES[d.objective], dict(OBJECTIVES[objective])
  for key, value in own.items():
    scaled = -(-value * d.length // 512) if key in _COUNTS else value
    own[key] = d[key] if key in old and key not in _ITS_OWN else scaled
    if key == 'sentinels':
      own[key] = max(d[key], 100, scaled)
  if 'concatenate' not in {**old, **own}:
    del keys['concatenate']  # neither objective decides how documents meet
  wanted = {f'data.{key}': own.get(key, blank[key]) for key in keys}
  if objective != 'causal':  # 'none' is for causal rows alone
    wanted |= {'data.start': blank.start, 'data.bos': blank.bos}
  pairs = objective == 'sentence_pairs'
  if pairs or d.objective == 'sentence_pairs':
    wanted['data.pack'] = not pairs  # pairs: one a row
  if m.family == 'encoder' and m.head in ('mlm', 'mlm_nsp'):
    wanted['model.head'] = 'mlm_nsp' if pairs else 'mlm'
  if pairs and m.family in ('encoder', 'electra'):
    wanted['model.token_types'] = m.token_types or 2  # BERT, 3
  if 'predictions' not in own and any(p.predictions for p in phases.of(c)):
    wanted['train.phases'] = ()  # they are of masked tokens
  if objective == 'causal':
    wanted['model.prefix'] = wanted['data.loss_on_inputs'] = False
  return wanted


def _value(field, text):
  """The value that a text stands for."""
  if not FIELDS[field]:
    if not text.isdecimal():
      raise ValueError(f'{field} is {text!r}; it must be a whole number.')
    return int(text)
  values = {str(value): value for value in FIELDS[field]}
  if text not in values:
    raise ValueError(arguments.unknown(field, text, values))
  return values[text]

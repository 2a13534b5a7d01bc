"""What the layouts of decoders share; not a layout itself."""

from models.config import TransformerConfig
from models.pretrained.fields import Fields, labels
from models.pretrained.mapping import Spare, Weight, turned

# What most decoders have; a layout states what differs.
COMMON = {
  'family': 'decoder',
  'norm': 'layer_norm',
  'norm_placement': 'pre',
  'parallel': 'none',
  'gated': False,
  'bias': 'all',
  'scale_attention': True,
  'embed_norm': False,
  'scale_embed': False,
  'scale_output': False,
  'output_transform': False,
  'output_bias': False,
  'init': 'normal',
  'dropout_kind': 'residual',
  'dtype': 'float32',
  'scan': True,
  'remat': 'none',
}
# Types of rope that are not supported, and what they would change.
_ROPES = {
  'linear': 'every position would be divided by its factor',
  'dynamic': 'rope_theta would grow with the length of the row',
  'yarn': 'wavelengths would be stretched in another way, and logits scaled',
  'longrope': 'each wavelength would have a factor of its own',
}


def read_head(fields: Fields, names: dict[str, str], body: str) -> dict:
  """model.head and model.classes, from the class that `architectures` names.

  Args:
    fields: of config.json.
    names: our head -> the class.
    body: the class without a head. It is read as 'lm': with tied tables the
      body has all the weights of that head.
  """
  name = fields.architecture(names['lm'])
  heads = {name: head for head, name in names.items()} | {body: 'lm'}
  if name not in heads:
    fields.refuse('architectures', name, 'a head that is not supported here')
  head = heads[name]
  return {
    'head': head,
    'classes': fields.classes() if head == 'sequence' else 0,
  }


def write_head(config: TransformerConfig, names: dict[str, str]) -> dict:
  """`architectures`, and the labels of a classifier."""
  c = config
  if c.head not in names:
    raise ValueError(f'it has no model.head={c.head!r}')
  return {'architectures': [names[c.head]]} | labels(c.classes)


def either(fields: Fields, names: tuple[str, ...], default: int) -> int:
  """A size that has several names.

  Raises:
    ValueError: it is not a size, or two names have different values.
  """
  found = {name: fields.size(name, None) for name in names}
  found = {name: x for name, x in found.items() if x is not None}
  for name, x in found.items():
    if x != next(iter(found.values())):
      fields.refuse(name, x, f'{next(iter(found))} says otherwise')
  return next(iter(found.values()), default)


def heads(fields: Fields, width: int, name: str, default: int) -> dict:
  """Heads that share the model's width, as many as the field says."""
  number = either(fields, (name, 'num_attention_heads'), default)
  if width % number:
    fields.refuse(name, number, f'the width {width} is not a multiple of it')
  return {'heads': number, 'kv_heads': number, 'head_dim': width // number}


def dropout(fields: Fields, attention: str, *names: str) -> dict:
  """The rates of dropout.

  Args:
    fields: of config.json.
    attention: the field for attention weights, as 'name=default'.
    *names: fields for all other dropout, as 'name=default'; they must agree.
  """
  rates = {}
  for item in names:
    name, default = item.split('=')
    rates[name] = fields.get(name, float(default))
  first = next(iter(rates))
  for name, rate in rates.items():
    if rate != rates[first]:
      fields.refuse(
        name,
        rate,
        f'training would drop here at another rate than {first}, '
        f'{rates[first]}; if you do not train, make them equal',
      )
  name, default = attention.split('=')
  return {
    'dropout': rates[first],
    'attention_dropout': fields.get(name, float(default)),
  }


def rope(
  fields: Fields,
  theta: str = 'rope_theta',
  share: str = 'partial_rotary_factor',
  default: float = 1.0,
) -> tuple[float, float, tuple[float, ...]]:
  """Theta, the share of each head that rope turns, and model.rope_scaling.

  From version 5 on transformers writes all of them into `rope_parameters`.
  Before, each had a field of its own, and `rope_scaling` held what stretches
  wavelengths.

  Args:
    fields: of config.json.
    theta: the field for theta.
    share: the field for the share.
    default: of the share.
  """
  f = fields
  parameters, found = f.object('rope_parameters'), f.object('rope_scaling')
  name = 'rope_scaling' if found else 'rope_parameters'
  found = found or parameters
  kinds = [found.pop(key, None) for key in ('rope_type', 'type')]
  kind = kinds[0] or kinds[1] or 'default'
  base = found.pop('rope_theta', None)
  turned_share = found.pop('partial_rotary_factor', None)
  alone = f.get(theta, 10_000.0), f.get(share, default)
  scaling = ()
  if kind == 'llama3':
    length = f.size('max_position_embeddings', None)
    found.setdefault('original_max_position_embeddings', length)
    keys = (
      'factor',
      'low_freq_factor',
      'high_freq_factor',
      'original_max_position_embeddings',
    )
    scaling = tuple(found.pop(key, None) for key in keys)
    if None in scaling:
      lacking = keys[scaling.index(None)]
      f.refuse(name, f.get(name), f'it lacks {lacking}')
    scaling = tuple(
      f.number(f'{name}.{key}', x) for key, x in zip(keys, scaling, strict=True)
    )
  elif kind != 'default':
    f.refuse(
      name,
      f.get(name),
      _ROPES.get(str(kind), f'the rope type {kind!r} is unknown'),
    )
  if found:
    f.refuse(
      name,
      f.get(name),
      f'{min(found)} is unknown here and may change the wavelengths',
    )
  return (
    f.number(theta, alone[0] if base is None else base),
    f.number(share, alone[1] if turned_share is None else turned_share),
    scaling,
  )


def head_weights(
  config: TransformerConfig, table: str, output: str = 'lm_head'
) -> list[Weight]:
  """The token table, and the head that reads the last layer's output."""
  out = [Weight('embed/table', table)]
  if config.head != 'lm':
    return [*out, Weight('classes/dense/kernel', 'score.weight', turned)]
  if not config.tie_embeddings:
    out.append(Weight('vocabulary/output', f'{output}.weight', turned))
  if config.output_bias:
    out.append(Weight('vocabulary/bias', f'{output}.bias'))
  return out


def head_spares(
  config: TransformerConfig, table: str, output: str = 'lm_head'
) -> list[Spare]:
  """The copy of the token table, if it is tied."""
  tied = config.head == 'lm' and config.tie_embeddings
  return [Spare(f'{output}.weight', table)] if tied else []


def fused(config: TransformerConfig, ours: str, theirs: str) -> list[Weight]:
  """One linear layer for queries, keys and values, by head: [N,3,H,D]."""
  D, N, H = config.embed_dim, config.heads, config.head_dim
  out = []
  for i, name in enumerate(('query', 'key', 'value')):
    out.append(
      Weight(
        f'{ours}/{name}/kernel',
        f'{theirs}.weight',
        lambda x, i=i: x.reshape(N, 3, H, D)[:, i].transpose(2, 0, 1),
        (3 * N * H, D),
      )
    )
    if config.bias == 'all':
      out.append(
        Weight(
          f'{ours}/{name}/bias',
          f'{theirs}.bias',
          lambda x, i=i: x.reshape(N, 3, H)[:, i],
          (3 * N * H,),
        )
      )
  return out

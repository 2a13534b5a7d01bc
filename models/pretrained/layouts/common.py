"""What layouts share; not a layout itself."""

from models.config import TransformerConfig
from models.pretrained.fields import Fields, Table, labels, written
from models.pretrained.mapping import Spare, Weight, dense, parts, turned

# What most models have; a layout states what differs.
COMMON = {
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


def read_decoder(
  fields: Fields, table: Table, classes: dict[str, str], body: str
) -> dict:
  """The fields of our config that most decoders read alike.

  Args:
    fields: of config.json.
    table: the fields that need no more than a name and a default.
    classes: our head -> the class that `architectures` names.
    body: the class without a head. It is read as 'lm': with tied tables the
      body has all the weights of that head.
  """
  name = fields.architecture(classes['lm'])
  heads = {name: head for head, name in classes.items()} | {body: 'lm'}
  if name not in heads:
    fields.refuse('architectures', name, 'a head that is not supported here')
  head = heads[name]
  number = fields.classes() if head == 'sequence' else 0
  known = {'family': 'decoder', 'head': head, 'classes': number}
  ours = COMMON | known | fields.table(table)
  return ours | split_heads(fields, table, ours) if 'heads' in ours else ours


def split_heads(fields: Fields, table: Table, ours: dict) -> dict:
  """Heads that share the model's width."""
  width, heads = ours['embed_dim'], ours['heads']
  if width % heads:
    why = f'{table["embed_dim"][0]} is {width}, not a multiple of it'
    fields.refuse(table['heads'][0], heads, why)
  return {'kv_heads': heads, 'head_dim': width // heads}


def write(
  config: TransformerConfig,
  model_type: str,
  classes: dict[str, str],
  table: Table,
) -> dict:
  """The fields of config.json that a table names, and those of the head."""
  if config.head not in classes:
    raise ValueError(f'it has no model.head={config.head!r}')
  return {
    'model_type': model_type,
    'architectures': [classes[config.head]],
    **labels(config.classes),
    **written(config, table),
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

  def either(key, alone, default):
    former, value = f.get(alone, default), found.pop(key, None)
    return f.number(alone, former if value is None else value)

  theta = either('rope_theta', theta, 10_000.0)
  share = either('partial_rotary_factor', share, default)
  scaling = ()
  if kind == 'llama3':
    length = f.size('max_position_embeddings', None)
    found.setdefault('original_max_position_embeddings', length)
    for key in (
      'factor',
      'low_freq_factor',
      'high_freq_factor',
      'original_max_position_embeddings',
    ):
      value = found.pop(key, None)
      if value is None:
        f.refuse(name, f.get(name), f'it lacks {key}')
      scaling += (f.number(f'{name}.{key}', value),)
  elif kind != 'default':
    why = _ROPES.get(str(kind), f'the rope type {kind!r} is unknown')
    f.refuse(name, f.get(name), why)
  if found:
    why = f'{min(found)} is unknown here and may change the wavelengths'
    f.refuse(name, f.get(name), why)
  return theta, share, scaling


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


def megatron_layer(
  config: TransformerConfig, theirs: str, attention: str
) -> list[Weight]:
  """A layer of BLOOM and GPT-NeoX.

  One linear layer makes queries, keys and values, by head: [N,3,H,D].
  """
  D, N, H = config.embed_dim, config.heads, config.head_dim
  bias = config.bias == 'all'
  out = []
  for i, name in enumerate(('query', 'key', 'value')):

    def kernel(x, i=i):
      return x.reshape(N, 3, H, D)[:, i].transpose(2, 0, 1)

    def of_bias(x, i=i):
      return x.reshape(N, 3, H)[:, i]

    ours = f'decoder/*/attention/{name}'
    fused = f'{theirs}{attention}.query_key_value'
    shape = (3 * N * H, D)
    out.append(Weight(f'{ours}/kernel', f'{fused}.weight', kernel, shape))
    if bias:
      out.append(Weight(f'{ours}/bias', f'{fused}.bias', of_bias, shape[:1]))
  out += dense('decoder/*/attention/output', f'{theirs}{attention}.dense', bias)
  names = {
    'attention_norm': 'input_layernorm',
    'mlp_norm': 'post_attention_layernorm',
    'mlp/input': 'mlp.dense_h_to_4h',
    'mlp/output': 'mlp.dense_4h_to_h',
  }
  return out + parts(names, 'decoder/*/', theirs)

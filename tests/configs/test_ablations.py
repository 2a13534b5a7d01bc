"""Every system with one choice changed, as a config: nothing else is needed."""

import pytest

from configs import ablations, tree
from input_pipeline.choices import OBJECTIVES
from input_pipeline.config import DataConfig
from input_pipeline.objectives.rows import FAMILIES_OF, batch_shapes
from models.config import TransformerConfig
from tests.configs.recipes import pairs
from tests.helpers import runs
from tests.helpers.ablated import TINY, refusal, sweep
from train.loop import train
from train.settings import check_settings


def check(config):
  """What a run checks before anything is built."""
  check_settings(config, devices=1)
  TransformerConfig(**config.model)
  batch_shapes(DataConfig(**config.data), config.model.family)


@pytest.mark.parametrize('system', [*TINY, 'llama:version=2'])  # long rows
def test_a_change_needs_nothing_else(system):
  for overrides in sweep(system):
    config = tree.config_of(system)
    config.update_from_flattened_dict(overrides)
    data, family = config.data, config.model.family
    kind = 'causal'
    if data.objective != kind:
      kind = 'masked' if 'masking' in OBJECTIVES[data.objective][0] else 'pairs'
    reason = refusal(dict(config.model))
    if family not in FAMILIES_OF[kind]:
      reason = f'{data.objective!r} makes rows for model.family'
    if not reason:
      check(config)
      continue
    with pytest.raises(ValueError, match=reason):
      check(config)


def test_tasks_have_no_other_objective():
  with pytest.raises(ValueError, match='this config learns tasks, not a text'):
    ablations.get_config('flan_t5:objective=span_corruption')
  fields = {
    row['name'].partition('=')[0] for row in ablations.sweep('flan_t5:tiny')
  }
  assert 'position' in fields
  assert 'objective' not in fields


def test_companions_are_of_every_value():
  assert ablations.FIELDS['position'] == tuple(ablations.POSITIONS)
  assert ablations.FIELDS['objective'] == tuple(ablations.OBJECTIVES)


@pytest.mark.parametrize(
  ('arg', 'published'),
  [
    ('t5:objective=iid_spans', 't5:recipe=baseline'),
    ('t5:tiny,recipe=baseline,objective=span_corruption', 't5:tiny'),
    ('t5:version=1.1,objective=ul2', 'ul2'),
    ('llama:tiny,objective=ul2', 'ul2:tiny'),
    ('roberta:objective=sentence_pairs', 'bert:length=512'),
    ('bert:tiny,objective=full_sentences', 'roberta:tiny'),
    ('llama:version=2,position=relative_bias', 't5'),
    ('gpt2:tiny,position=rope', 'llama:tiny'),
    ('llama:tiny,version=3.1,position=learned', 'gpt2:tiny'),
  ],
)
def test_companions_are_the_papers(arg, published):
  """The keys that go with a value are those of a system that has it."""
  config, other = ablations.get_config(arg), tree.config_of(published)
  group, tables = 'model', ablations.POSITIONS
  keys, kept = ['position', 'position_offset', 'rope_scaling'], ()
  if 'objective' in arg:
    group, tables = 'data', ablations.OBJECTIVES
    keys, kept = ['objective', 'pack'], ('masking', 'duplicates')
  keys += [key for own in tables.values() for key in own if key not in kept]
  assert {k: config[group][k] for k in keys} == {
    k: other[group][k] for k in keys
  }


@pytest.mark.parametrize(
  ('arg', 'changed'),
  [
    (
      'llama:bias=mlp,tiny,kv_heads=1,version=3,gated=False',
      {
        'model.kv_heads': (2, 1),
        'model.gated': (True, False),
        'model.bias': ('none', 'mlp'),
      },
    ),
    (
      'gpt2:objective=bert_style',
      {
        'data.objective': ('causal', 'bert_style'),
        'data.noise_density': (0.0, 0.15),
        'data.random_share': (0.0, 0.1),
        'data.sentinels': (0, 200),
        'data.document_tokens': (0, 65_536),
        'data.start': ('none', 'pad'),
      },
    ),
    (
      'electra:large,objective=doc_sentences',
      {'data.objective': ('mlm', 'doc_sentences')},
    ),
    (
      'roberta:tiny,objective=sentence_pairs',
      {
        'model.token_types': (0, 2),
        'model.head': ('mlm', 'mlm_nsp'),
        'data.objective': ('full_sentences', 'sentence_pairs'),
        'data.short_share': (0.0, 0.1),
        'data.pack': (True, False),
      },
    ),
    ('gpt2:position=learned,norm=layer_norm', {}),
  ],
)
def test_nothing_else_differs(arg, changed):
  system = tree.config_of(ablations.split(arg)[0])
  assert tree.difference(system, ablations.get_config(arg)) == changed


@pytest.mark.parametrize(
  'system', sorted({key.partition(':')[0] for key in tree.SYSTEMS})
)
def test_every_argument_of_a_system_can_stand_beside_a_field(system):
  """The size 'base', for one, is spelled nearly like the field 'bias'."""
  args = []
  for size, value in tree.module_of(system).SIZES.items():
    if isinstance(value, dict):
      args += [f'{s},version={size}' for s in value]
    else:
      args += [size, f'size={size}']
  for arg in args:
    config = tree.config_of(f'{system}:{arg}')
    same = f'norm={config.model.norm}'
    for text in (f'{system}:{arg},{same}', f'{system}:{same},{arg}'):
      assert ablations.get_config(text) == config


# The keys that an objective sets where the old one did not read them, for rows
# of 512 tokens. Typed from T5's gin files, table 1 of UL2 and BERT's
# create_pretraining_data.py.
_CHUNK = {'document_tokens': 65536}
_SPANS = _CHUNK | {'noise_density': 0.15, 'sentinels': 100}
_MASKS = {
  'noise_density': 0.15,
  'predictions': 77,
  'masking': 'bert',
  'masked_share': 0.8,
  'random_share': 0.1,
}
BROUGHT = {
  'prefix': _CHUNK | {'concatenate': False},
  'span_corruption': _SPANS | {'mean_span_length': 3.0},
  'iid_spans': _SPANS | {'target_length': 192},
  'drop_tokens': _CHUNK | {'noise_density': 0.15, 'target_length': 104},
  'bert_style': _SPANS | {'random_share': 0.1},
  'mass_style': _SPANS,
  'deshuffling': _CHUNK | {'concatenate': False},
  'ul2': _CHUNK | {'denoisers': pairs.DENOISERS, 'sentinels': 128},
  'mlm': _MASKS,
  'sentence_pairs': _MASKS | {'short_share': 0.1, 'pack': False},
  'full_sentences': _MASKS,
  'doc_sentences': _MASKS,
}
# The keys that a position sets in GPT-1, whose heads are 64 wide: T5, 2.1;
# RoFormer, 3.2.
PLACED = {
  'none': {},
  'sinusoidal': {},
  'relative_bias': {'relative_buckets': 32, 'relative_max_distance': 128},
  'transformer_xl': {},
  'rope': {'rope_theta': 10_000.0, 'rope_dim': 64},
  'alibi': {},
}


@pytest.mark.parametrize(
  ('group', 'field', 'value', 'brought'),
  [
    *(('data', 'objective', *pair) for pair in BROUGHT.items()),
    *(('model', 'position', *pair) for pair in PLACED.items()),
  ],
)
def test_what_a_value_brings(group, field, value, brought):
  before = tree.config_of('gpt1')
  after = ablations.get_config(f'gpt1:{field}={value}')
  brought = brought | {field: value}
  if field == 'objective':
    brought['start'] = 'pad'  # only causal rows may be windows of T + 1 tokens
  if field == 'position':
    brought['max_length'] = 0  # of learned positions
  found = tree.difference(before, after)
  assert {k: new for k, (_, new) in found.items()} == {
    f'{group}.{key}': x for key, x in brought.items()
  }


@pytest.mark.parametrize(
  ('arg', 'length', 'joined'),
  [  # T5's published gin files: iid_15_d_d, iid_15_u_u, prefix_lm, all_permute
    ('t5:recipe=baseline,objective=drop_tokens', 104, True),
    ('t5:objective=drop_tokens', 104, True),
    ('t5:objective=iid_spans', 192, True),
    ('t5:objective=prefix', 0, False),
    ('t5:objective=deshuffling', 0, False),
    ('t5:objective=bert_style', 0, True),
    ('llama:8b,version=3,objective=span_corruption', 0, False),
    ('llama:8b,version=3,objective=prefix', 0, False),
    ('electra:objective=full_sentences', 0, False),
  ],
)
def test_targets_and_documents_of_an_objective(arg, length, joined):
  data = ablations.get_config(arg).data
  assert (data.target_length, data.concatenate) == (length, joined)


def test_another_objective_has_a_target_length_of_its_own():
  config = ablations.get_config('t5:objective=drop_tokens')
  config.update_from_flattened_dict(
    ablations.change(config, 'objective', 'iid_spans')
  )
  assert config.data.target_length == 192


def test_without_inputs_there_is_no_prefix():
  config = ablations.get_config('gpt2:tiny,objective=prefix')
  config.model.prefix = True
  changed = ablations.change(config, 'objective', 'causal')
  assert changed['model.prefix'] is False


@pytest.mark.parametrize(
  ('arg', 'message'),
  [
    ('gtp2,bias=all', "system 'gtp2' is unknown. Did you mean 'gpt2'?"),
    ('gpt2:tny,bias=all', "size 'tny' is unknown. Did you mean 'tiny'?"),
    ('gpt2:tiny,bais=all', "field 'bais' is unknown. Did you mean 'bias'?"),
    ('gpt2:tiny,bias', "bias '' is unknown. There are: none, mlp, all."),
    ('t5:bse,bias=all', "size 'bse' is unknown. Did you mean 'base'?"),
    ('t5:tiny,vrsion=1.1', "'vrsion' is unknown. Did you mean 'version'?"),
    ('gpt2:bias=al', "bias 'al' is unknown. Did you mean 'all'? There are: "),
    ('gpt2:objective=ul', "Did you mean 'ul2'? There are: causal, prefix,"),
    ('gpt2:tiny,gated=true', "gated 'true' is unknown. Did you mean 'True'?"),
    ('gpt2:tiny,kv_heads=few', "kv_heads is 'few'; it must be a whole number"),
    ('gpt4:bias=all', 'The architecture of GPT-4 was never published.'),
  ],
)  # fmt: skip
def test_mistakes(arg, message):
  with pytest.raises(ValueError) as caught:
    ablations.get_config(arg)
  assert message in str(caught.value)


def test_the_tree_shows_what_an_ablation_changes():
  text = tree.show_difference('ablations:gpt2:tiny,position=rope')
  shown = [line.split() for line in text.splitlines() if line[:2] == '  ']
  assert shown == [
    ['max_length', '128', '0'],
    ['position', 'learned', 'rope'],
    ['rope_dim', '0', '16'],
    ['rope_theta', '0', '10000'],
  ]


def test_an_ablation_trains(tmp_path):
  """A vocabulary of GPT-2's kind gets sentinels and mode tokens."""
  config = ablations.get_config('gpt2:tiny,position=alibi,objective=ul2')
  size = {'model.vocab_size': 512, 'model.embed_dim': 16, 'model.mlp_dim': 16}
  run = {
    'data.source': runs.write_text(tmp_path / 'text'),
    'data.batch': 8,
    'data.length': 128,
    'schedule.warmup_steps': 1,
    'train.steps': 2,
    'eval.samples': 0,
  }
  config.update_from_flattened_dict(runs.CONFIG | size | run)
  train(config, str(tmp_path / 'run'))
  assert len(runs.rows(tmp_path / 'run')) == 2

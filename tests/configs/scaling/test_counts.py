"""Parameters and FLOPs in plain Python against the model and its batches."""

import jax
import pytest

from configs import tree
from configs.scaling import counts, flops
from input_pipeline.config import data_config
from input_pipeline.objectives.rows import batch_shapes
from models.build import build
from models.config import TransformerConfig
from train.learning.state import abstract_params, count_params
from train.reporting.flops import step_flops

# One of each way to build a model.
SYSTEMS = (
  *('transformer:base', 'gpt1:base', 'bert:base', 'roberta:base', 't5:11b'),
  *('t5:size=small,version=1.1', 'electra:small', 'electra:large', 'gpt3:xl'),
  *('gopher:280b', 'jurassic:jumbo', 'lamda:137b', 'mt_nlg:530b', 'palm:540b'),
  *('ul2:20b', 'yalm:100b', 'bloom:176b', 'llama:70b,version=2', 'rwkv:14b'),
  'ablations:gpt2:tiny,position=relative_bias',
  'ablations:llama:tiny,bias=all',
)


@pytest.mark.parametrize('system', SYSTEMS)
def test_all_parameters_of_a_model(system):
  model = tree.config_of(system).model
  shapes, _ = abstract_params(build(TransformerConfig(**model)))
  assert counts.params(model) == count_params(shapes)


def test_embeddings_are_the_tables_and_an_untied_output():
  gpt2 = tree.config_of('gpt2:small').model
  assert counts.embedding_params(gpt2) == (50_257 + 1024) * 768
  llama = tree.config_of('llama:7b').model
  assert counts.embedding_params(llama) == 2 * 32_000 * 4096


@pytest.mark.parametrize(
  'system', [x for x in SYSTEMS if not x.startswith(('ul2', 'abl'))]
)
def test_products_of_a_batch_as_the_pipeline_makes_it(system):
  config = tree.config_of(system)
  shapes = batch_shapes(data_config(config), config.model.family)
  batch = {
    name: jax.ShapeDtypeStruct((config.data.batch, *tail), dtype)
    for name, (tail, dtype) in shapes.items()
  }
  expected = step_flops(TransformerConfig(**config.model), batch)
  assert flops.of_step(config, 'palm') == expected


def test_palms_formula():
  """6 N + 12 L H Q T a token (Chowdhery et al. 2022, appendix B).

  N without what is looked up alone, positions, and what makes no product.
  """
  config = tree.config_of('gpt3:xl')
  m, T = config.model, config.data.length
  N = counts.params(m) - m.max_length * m.embed_dim
  token = 6 * N + 12 * m.decoder_layers * m.heads * m.head_dim * T
  found = flops.of_step(config, 'palm') / config.data.batch / T
  assert found == pytest.approx(token, rel=1e-3)


def test_exact_counts_lookups_and_softmax_too():
  """Hoffmann et al. 2022, appendix F, of one layer by hand."""
  config = tree.config_of('gpt2:small').copy_and_resolve_references().unlock()
  m, d = config.model, config.data
  m.decoder_layers, d.batch, T, D = 1, 1, d.length, m.embed_dim
  embeddings = 2 * T * m.vocab_size * D
  attention = 2 * 3 * T * D * D + 2 * T * T * D + 3 * m.heads * T * T
  attention += 2 * T * T * D + 2 * T * D * D
  dense = 2 * T * (D * 4 * D + 4 * D * D)
  logits = 2 * T * D * m.vocab_size
  forward = embeddings + attention + dense + logits
  assert flops.of_step(config, 'exact') == 3 * forward
  assert flops.of_step(config, '6nd') == 6 * counts.params(m) * T


def test_what_cannot_be_counted():
  with pytest.raises(ValueError, match='count FLOPs by 6nd'):
    flops.of_step(tree.config_of('ul2:20b'), 'palm')
  with pytest.raises(ValueError, match='there are 6nd, palm, exact'):
    flops.of_step(tree.config_of('gpt2:small'), '6ND')

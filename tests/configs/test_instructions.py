"""FLAN's mixtures: every task exists, and what is held out is not learnt."""

import pytest

from configs import flan_t5, instructions, lamda, palm, tree, ul2
from configs.finetune import llama
from input_pipeline.config import data_config
from input_pipeline.instructions.catalog import WORDINGS, find


def names(mixture):
  return [name.removeprefix('task:flan/') for name, _ in mixture]


@pytest.mark.parametrize('heldout', instructions.HELDOUT)
def test_a_cluster_is_learnt_or_evaluated(heldout):
  """As FLAN holds out (Wei et al. 2022, 2.2)."""
  tiny = heldout in instructions.MADE
  size = 'tiny' if tiny else 'base'
  config = flan_t5.get_config(f'size={size},heldout={heldout}')
  clusters = instructions.MADE if tiny else instructions.CLUSTERS
  everything = [task for own in clusters.values() for task in own]
  assert len(everything) == len(set(everything))
  held = clusters.get(heldout, ())
  learnt = names(config.data.mixture)
  alike = instructions.ALIKE.get(heldout, ())
  out = [task for name in alike for task in clusters[name]]
  assert sorted(learnt + [*held, *out]) == sorted(everything)
  assert {*everything} <= {*WORDINGS}
  for source in config.eval.source.split():
    name, _, split = source.removeprefix('task:').partition('@')
    assert split in find(name).splits
    assert split.startswith('validation')
    assert name.removeprefix('flan/') in held
  data_config(config)


def test_what_is_like_a_cluster_is_not_learnt_either():
  """The splits between clusters of FLAN's published code."""
  for heldout, unlearnt in (
    ('nli', 'glue/mrpc'),
    ('paraphrase', 'glue/rte'),
    ('reading', 'super_glue/record'),
    ('commonsense', 'super_glue/record'),
    ('reading_commonsense', 'super_glue/copa'),
    ('reading_commonsense', 'squad/v1.1'),
  ):
    config = flan_t5.get_config(f'size=base,heldout={heldout}')
    assert unlearnt not in names(config.data.mixture)
    assert unlearnt not in config.eval.source


def test_bad_clusters():
  with pytest.raises(ValueError, match="Did you mean 'sentiment'"):
    flan_t5.get_config('size=base,heldout=sentiments')
  with pytest.raises(ValueError, match='heldout=sums is no cluster of this'):
    flan_t5.get_config('size=base,heldout=sums')
  for module in palm, lamda:
    with pytest.raises(ValueError, match='recipe=pretraining has none'):
      module.get_config('heldout=nli')
  with pytest.raises(ValueError, match='variant=ul2 has none'):
    ul2.get_config('heldout=nli')


def test_other_families_hold_out_too():
  for reference in (
    'palm:size=8b,recipe=flan',
    'lamda:size=137b,recipe=flan',
    'ul2:variant=flan',
  ):
    config = tree.config_of(f'{reference},heldout=nli')
    assert 'glue/mnli' not in names(config.data.mixture)
    assert 'task:flan/glue/rte@validation' in config.eval.source.split()


@pytest.mark.parametrize(
  ('arg', 'template'),
  [
    ('size=7b,version=2', 'llama2'),
    ('size=8b,version=3', 'llama3'),
    ('size=tiny,version=3', 'llama2'),
    ('', 'llama2'),
  ],
)
def test_llama_learns_chats(arg, template):
  config = llama.get_config(f'{arg},task=messages:a.jsonl,validation=b.jsonl')
  assert config.data.source == 'task:messages:a.jsonl,validation=b.jsonl'
  assert config.data.chat_template == template
  assert config.train.epochs == 2
  assert not config.data.pack  # or no epoch could be counted

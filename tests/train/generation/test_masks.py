"""What fits the gaps of a text, beside transformers; what is replaced."""

import dataclasses
import os

import numpy as np
import pytest
import torch
import transformers

from input_pipeline.prompted import catalog
from input_pipeline.prompted.task import Item
from tests.helpers import hf_reference as reference
from train import open_published
from train.evaluation.perplexity import pseudo_perplexity
from train.evaluation.prompted import Reader, ask
from train.evaluation.pseudo import pseudo_likelihoods
from train.generation import masks
from train.generation.options import GREEDY

WORDS = '[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on a mat . ##s so it goes'
SIZES = {
  'vocab_size': 16, 'hidden_size': 24, 'num_hidden_layers': 2,
  'num_attention_heads': 3, 'intermediate_size': 40,
  'max_position_embeddings': 20,
}  # fmt: skip


@pytest.fixture(scope='module')
def bert(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp('bert'))
  config = transformers.BertConfig(**SIZES)
  torch.manual_seed(0)
  model = reference.randomise(transformers.BertForPreTraining(config))
  model.save_pretrained(folder)
  with open(os.path.join(folder, 'vocab.txt'), 'w') as file:
    file.write('\n'.join(WORDS.split()))
  return model.eval(), folder


def test_gaps_beside_transformers(bert):
  theirs, folder = bert
  model = open_published(folder)
  text = 'the cat [MASK] on a [MASK].'
  found = masks.fill(model, text, top=4)
  names = WORDS.split()
  ids = [
    names.index(x)
    for x in [
      '[CLS]',
      'the',
      'cat',
      '[MASK]',
      'on',
      'a',
      '[MASK]',
      '.',
      '[SEP]',
    ]
  ]
  with torch.no_grad():
    logits = theirs(input_ids=torch.tensor([ids])).prediction_logits[0]
  chances = torch.softmax(logits, -1).numpy()
  places = [n for n, i in enumerate(ids) if i == names.index('[MASK]')]
  assert len(found) == len(places) == 2
  for gap, place in zip(found, places, strict=True):
    best = np.argsort(-chances[place])[:4]
    assert gap.pieces == tuple(names[i] for i in best)
    np.testing.assert_allclose(gap.probabilities, chances[place][best], 1e-4)
  (first, _) = masks.answer(model, text, 1)['gaps']
  assert first['pieces'] == found[0].pieces[:1]
  lines = masks.shown(model, text, 1).split('\n')
  assert lines[1] == (
    f'gap 1:      {found[0].pieces[0]} {found[0].probabilities[0]:.4f}'
  )
  for given, top, message in (
    ('the cat', 5, r'has no gap: write \[MASK\]'),
    (text, 17, 'top=17 must be 1 to 16'),
  ):
    with pytest.raises(ValueError, match=message):
      masks.fill(model, given, top)
  with pytest.raises(ValueError, match="model.head='mlm_nsp', which does not"):
    masks.replaced(model, text)


def test_replaced_tokens_beside_transformers(tmp_path):
  config = transformers.ElectraConfig(embedding_size=24, **SIZES)
  torch.manual_seed(0)
  theirs = reference.randomise(
    transformers.ElectraForPreTraining(config)
  ).eval()
  theirs.save_pretrained(tmp_path)
  (tmp_path / 'vocab.txt').write_text('\n'.join(WORDS.split()))
  model = open_published(str(tmp_path))
  found = masks.replaced(model, 'the cat sat.')
  names = ['[CLS]', 'the', 'cat', 'sat', '.', '[SEP]']
  assert [piece for piece, _ in found] == names
  ids = [WORDS.split().index(name) for name in names]
  with torch.no_grad():
    logits = theirs(input_ids=torch.tensor([ids])).logits[0]
  chances = torch.sigmoid(logits).numpy()
  np.testing.assert_allclose([chance for _, chance in found], chances, 1e-4)
  assert len(masks.shown(model, 'the cat sat.').split('\n')) == 8
  own = masks.answer(model, 'the cat sat.')['replaced']
  assert [(x['piece'], x['probability']) for x in own] == found
  with pytest.raises(ValueError, match='predicts no masked tokens'):
    masks.fill(model, 'the [MASK]')


def test_pseudo_likelihoods_beside_transformers(bert):
  """Each token is masked in turn (Salazar et al. 2020)."""
  theirs, folder = bert
  model = open_published(folder)
  names = WORDS.split()
  mask = names.index('[MASK]')

  def expected(context, own):
    ids = [names.index(x) for x in ['[CLS]', *context, *own, '[SEP]']]
    total, best = 0.0, True
    for place in range(1 + len(context), len(ids) - 1):
      hidden = torch.tensor([[*ids[:place], mask, *ids[place + 1 :]]])
      with torch.no_grad():
        logits = theirs(input_ids=hidden).prediction_logits[0, place]
      total += float(logits.log_softmax(-1)[ids[place]])
      best &= int(logits.argmax()) == ids[place]
    return total, best

  pairs = [('the cat', ' sat on a mat'), ('', 'so it goes .'), ('the', ' mat')]
  found = pseudo_likelihoods(model, pairs, batch=3)
  for own, pair in zip(found, pairs, strict=True):
    total, best = expected(*(x.split() for x in pair))
    assert own.log_prob == pytest.approx(total, rel=1e-4)
    assert (own.tokens, own.greedy) == (len(pair[1].split()), best)
  again = pseudo_likelihoods(model, pairs, batch=64)
  for own, other in zip(found, again, strict=True):
    assert own.log_prob == pytest.approx(other.log_prob, rel=1e-5)
  means = pseudo_perplexity(model, ['so it goes .', 'the mat'])
  logs = [expected((), x.split())[0] for x in ('so it goes .', 'the mat')]
  assert (means['documents'], means['tokens'], means['bytes']) == (2, 6, 19)
  loss = -sum(logs) / 6
  assert means['pseudo_perplexity'] == pytest.approx(np.exp(loss), rel=1e-4)
  # Choices are ranked by it.
  choices = ['cat', 'mat', 'goes']
  item = Item((*(('the cat sat on a', f' {x}') for x in choices),), 1)
  task = dataclasses.replace(catalog.find('piqa'), neutral='so', norm='none')
  row = ask(Reader(model), task, [item], GREEDY).rows[0]
  context = ['the', 'cat', 'sat', 'on', 'a']
  logs = [expected(context, [x])[0] for x in choices]
  np.testing.assert_allclose(row['log_probs'], logs, rtol=1e-4)
  assert row['chosen'] == np.argmax(logs)
  with pytest.raises(ValueError, match='holds an encoder, which writes no'):
    Reader(model).answers(['the'], GREEDY)
  with pytest.raises(ValueError, match='has no token'):
    pseudo_likelihoods(model, [('the', '')])
  with pytest.raises(ValueError, match='max_length=20'):
    pseudo_likelihoods(model, [('', 'the ' * 30)])

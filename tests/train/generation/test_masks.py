"""What fits the gaps of a text, beside transformers; what is replaced."""

import os

import numpy as np
import pytest
import torch
import transformers

from tests.helpers import hf_reference as reference
from train import open_published
from train.generation import masks

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
  with pytest.raises(ValueError, match='predicts no masked tokens'):
    masks.fill(model, 'the [MASK]')

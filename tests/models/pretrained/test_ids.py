"""Ids of special tokens in exported runs that begin without a checkpoint."""

import json
import os

import numpy as np
import pytest
import torch
import transformers

from configs import bert, bloom, gpt2, llama, palm, roberta, rwkv, t5
from input_pipeline.tokenizers import kinds
from models import pretrained
from models.build import build
from tests.helpers import hf_decoders
from tests.helpers import hf_reference as reference
from tests.helpers.checkpoints import edit, make
from tests.models.pretrained.conftest import MASKED, ODD, V
from tests.models.pretrained.test_special import ROBERTA, recipe
from train import pretrained as command

# Runs that begin without a checkpoint: bos, eos, pad, decoder start.
LAST = V - 1
RUNS = [
  (gpt2, ODD, [LAST, LAST, None, None]),  # texts come after EOS
  (rwkv, MASKED, [2, 2, 1, None]),
  (bloom, MASKED, [2, 2, 1, None]),
  (llama, ODD, [LAST, LAST, None, None]),
  (llama, MASKED, [0, 2, 1, None]),
  (palm, MASKED, [1, 2, 1, None]),
  (t5, ODD, [None, LAST, LAST, LAST]),
  (t5, MASKED, [None, 2, 1, 1]),
  (bert, MASKED, [0, 2, 1, None]),  # as <s> </s> frame its rows
  (roberta, MASKED, [0, 2, 1, None]),
]


@pytest.mark.parametrize(('file', 'name', 'expected'), RUNS)
def test_the_ids_of_a_run(file, name, expected, vocabulary, tmp_path):
  """The ids are those of its vocabulary and of its rows."""
  tokenizer = vocabulary[name]
  kinds.save(tokenizer, str(tmp_path / 'tokenizer.json'))
  config = file.get_config('tiny')
  config.data.tokenizer_kind, config.data.lowercase = 'byte_bpe', False
  config.data.sentinels = 0
  if file is t5:
    config.data.update({'objective': 'prefix', 'noise_density': 0.0})
    config.data.mean_span_length = 0.0
  data = {'tokenizer': tokenizer.fingerprint}
  _, ids, _ = command.tokenizer_files(str(tmp_path), config, data)
  roles = ('bos', 'eos', 'pad', 'decoder_start')
  assert [ids.get(f'{role}_token_id') for role in roles] == expected


@pytest.mark.parametrize('file', [bert, roberta])
def test_a_masked_vocabulary_without_padding(file, vocabulary, tmp_path):
  """Positions in transformers' RoBERTa follow <s> if it serves as padding.

  BERT's do not depend on it.
  """
  content = json.loads(vocabulary[MASKED].model.replace(b'<pad>', b'qqq'))
  content['added_tokens'] = [
    token for token in content['added_tokens'] if token['content'] != 'qqq'
  ]
  (tmp_path / 'tokenizer.json').write_text(json.dumps(content))
  tokenizer = kinds.load(str(tmp_path), 0, 'byte_bpe')
  assert tokenizer.pad == tokenizer.cls
  settings = file.get_config('tiny')
  settings.data.update({'tokenizer_kind': 'byte_bpe', 'lowercase': False})
  data = {'tokenizer': tokenizer.fingerprint}
  _, kept, _ = command.tokenizer_files(str(tmp_path), settings, data)
  assert list(kept.values()) == [0, 2, None]
  target = str(tmp_path / 'out')
  own = {'head': 'mlm', 'max_length': 32, 'vocab_size': V}
  config, params = make(**ROBERTA if file is roberta else own)
  if file is roberta:
    with pytest.raises(ValueError, match='vocabulary has no padding token'):
      pretrained.save(config, params, target, kept=kept)
    return
  pretrained.save(config, params, target, kept=kept)
  model = transformers.BertForMaskedLM.from_pretrained(target).eval()
  ids = np.array([[0, 20, 1, 21, 2]])
  with torch.no_grad():
    theirs = model(torch.from_numpy(ids)).logits
  outputs = build(config).apply(
    {'params': params}, ids, np.ones_like(ids), np.arange(5)[None],
    np.zeros_like(ids),
  )  # fmt: skip
  reference.close(outputs['logits'], theirs)


def test_the_ids_of_a_run_without_text(tmp_path):
  """Synthetic tokens have padding 0 and EOS 1."""
  config = llama.get_config('tiny')
  config.data.source = 'synthetic'
  _, ids, _ = command.tokenizer_files(str(tmp_path), config, {})
  assert ids == {'bos_token_id': 0, 'eos_token_id': 1, 'pad_token_id': 0}


@pytest.mark.parametrize(
  ('fields', 'generation', 'expected'),
  [
    ({}, None, 2),  # the default of OPTConfig
    ({'bos_token_id': 9}, None, 9),
    ({'bos_token_id': 9}, {'bos_token_id': [8, 9]}, 8),
    ({'bos_token_id': 9}, {'eos_token_id': 8}, 9),
    ({'bos_token_id': -1}, None, 2),
  ],
)
def test_which_file_and_field_name_the_start(
  fields, generation, expected, tmp_path
):
  model = hf_decoders.torch_model('opt')
  folder = reference.saved(model, tmp_path / 'in')
  edit(folder, **{'bos_token_id': None} | fields)
  os.remove(os.path.join(folder, 'generation_config.json'))
  if generation:
    with open(os.path.join(folder, 'generation_config.json'), 'w') as file:
      json.dump(generation, file)
  assert pretrained.start_token(folder) == expected
  edit(folder, bos_token_id='<s>')
  if not generation or 'bos_token_id' not in generation:
    with pytest.raises(ValueError, match="bos_token_id is '<s>': it must be"):
      pretrained.start_token(folder)


def test_a_start_beyond_the_vocabulary(tmp_path, capsys):
  """Files of tiny models may keep transformers' default start."""
  model = hf_decoders.torch_model('gpt2')
  folder = reference.saved(model, tmp_path / 'in')
  config = command.adopt(folder, recipe(gpt2, 'synthetic'))
  assert (config.data.start, config.data.bos) == ('none', -1)
  assert 'begin with 50256, which is not an id of 67' in capsys.readouterr().out


# ---- XLM-R -------------------------------------------------------------------


def test_xlm_r_keeps_its_type(tmp_path):
  cls = transformers.XLMRobertaForMaskedLM
  model = cls(
    transformers.XLMRobertaConfig(
      vocab_size=30, num_hidden_layers=2, hidden_size=12, type_vocab_size=1,
      num_attention_heads=3, intermediate_size=10,
    )
  )  # fmt: skip
  source = reference.saved(model, tmp_path / 'in')
  command.convert(source, str(tmp_path / 'out'), 'float32')
  again = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / 'out')
  assert type(again) is cls
  reference.same_state(model, again)
  # fairseq's ids differ from those of the SentencePiece model beside them.
  with open(os.path.join(source, 'sentencepiece.bpe.model'), 'wb') as file:
    file.write(b'')
  config = recipe(roberta, 'docs', tokenizer_kind='unigram')
  with pytest.raises(ValueError, match='an XLM-R: the ids of its SentencePi'):
    command.adopt(source, config)

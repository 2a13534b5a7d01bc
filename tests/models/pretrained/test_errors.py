"""Checkpoint folders with something wrong, and the errors that name it."""

import json
import os
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models import pretrained
from models.pretrained import files
from tests.helpers.checkpoints import TABLE, edit, make, refused, rewrite, shard

QUERY = 'bert.encoder.layer.1.attention.self.query.weight'


@pytest.fixture
def folder(tmp_path):
  config, params = make()
  pretrained.save(config, params, str(tmp_path / 'bert'))
  return str(tmp_path / 'bert')


def test_a_folder_that_is_not_a_checkpoint(tmp_path):
  refused(str(tmp_path / 'nowhere'), 'nowhere is not a folder')
  refused(str(tmp_path), r'has no config\.json')
  (tmp_path / 'config.json').write_text('{')
  refused(str(tmp_path), r'config\.json is not JSON')
  (tmp_path / 'config.json').write_text('{"model": {}}')
  refused(str(tmp_path), 'has no model_type')
  (tmp_path / 'config.json').write_text('{"model_type": "bert"}')
  refused(str(tmp_path), r'has no model\.safetensors')
  (tmp_path / 'pytorch_model.bin').write_text('')
  refused(str(tmp_path), 'pickle.*Convert.*save_pretrained')


def test_another_family(folder):
  edit(folder, model_type='vit')
  refused(folder, "model_type is 'vit'; there are layouts for .*bert.*t5")
  edit(folder, model_type='electra', embedding_size=12, architectures=None)
  refused(folder, 'lacks .* electra checkpoint .* electra.embeddings')
  edit(folder, architectures=['ElectraForSequenceClassification'])
  refused(
    folder,
    r"config\.json: architectures is 'ElectraForSequenceClassification': its "
    'head has a gelu where .* supported: ElectraForPreTraining, ',
  )


def test_files_cut_short_missing_or_without_a_tensor(folder):
  shards = shard(folder)
  first = os.path.join(folder, shards[0])
  whole = load_file(first)
  size = os.path.getsize(first)
  with open(first, 'r+b') as file:
    file.truncate(size - 8)
  refused(folder, f'{shards[0]} cannot be read.*cut short')
  name = min(whole)
  save_file({k: x for k, x in whole.items() if k != name}, first)
  refused(folder, f'{shards[0]} lacks {name}')
  os.remove(first)
  refused(folder, f'1 of the {len(shards)} files.*missing: .*{shards[0]}')


def test_a_tensor_that_the_index_does_not_list(folder):
  first = os.path.join(folder, shard(folder)[0])
  extra = {'bert.adapter.weight': np.ones(3, 'float32')}
  save_file(load_file(first) | extra, first)
  refused(folder, rf'{first} holds 1 tensors .* list there: bert\.adapter\.we')


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (lambda t: t.pop(QUERY), f'lacks 1 of .*{QUERY}'),
    (
      lambda t: t.update({'bert.extra.weight': np.ones(3, 'float32')}),
      r'1 weights have no place .*bert\.extra\.weight, in .*model\.safetens',
    ),
    (
      lambda t: t.update({QUERY: t[QUERY][:-1]}),
      rf'{QUERY} in .* has shape \(11, 12\); encoder/layers/attention/query',
    ),
    (
      lambda t: t.update({TABLE: t[TABLE][:-2]}),
      r'\(58, 12\).* vocabulary does not match: model\.vocab_size is 60',
    ),
    (
      lambda t: t.update({QUERY: t[QUERY].astype('int8')}),
      f'{QUERY} in .* stored as I8',
    ),
    (
      lambda t: t.update({'cls.predictions.decoder.weight': t[TABLE] + 1}),
      rf'cls\.predictions\.decoder\.weight in .* differs from {TABLE}',
    ),
    (
      lambda t: t.update(
        {'bert.embeddings.LayerNorm.gamma': np.ones(12, 'float32')}
      ),
      'are the same weight',
    ),
  ],
)
def test_weights_that_do_not_fit(folder, change, message):
  rewrite(folder, change)
  refused(folder, message)


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'hidden_act': 'mish'}, "hidden_act is 'mish'"),
    ({'position_embedding_type': 'relative_key'}, 'position_embedding_type'),
    ({'is_decoder': True}, 'is_decoder is True: a causal mask'),
    ({'tie_word_embeddings': False}, 'tie_word_embeddings is False'),
    ({'window': 3}, r"field window \(3\) is unknown for model_type 'bert'"),
    ({'quantization_config': {'bits': 4}}, 'quantised'),
    (
      {'architectures': ['BertForMultipleChoice']},
      'BertForMultipleChoice.* supported: BertForPreTraining, BertForMaskedLM',
    ),
    ({'num_attention_heads': 5}, 'hidden_size is 12'),
    ({'num_hidden_layers': 4}, r'lacks 16 of .*layer\.3'),
    ({'num_hidden_layers': 2}, r'16 weights have no place.*layer\.2'),
    ({'max_position_embeddings': 9}, r'shape \(10, 12\).*needs \(9, 12\)'),
  ],
)
def test_fields_that_change_the_model(folder, fields, message):
  edit(folder, **fields)
  refused(folder, message)


ABOVE_0 = 'must be a whole number above 0'


@pytest.mark.parametrize(
  ('field', 'value', 'message'),
  [
    ('num_attention_heads', 0, ABOVE_0),
    ('num_attention_heads', None, ABOVE_0),
    ('hidden_size', '12', ABOVE_0),
    ('hidden_size', 12.0, ABOVE_0),
    ('num_hidden_layers', True, ABOVE_0),
    ('vocab_size', [60], ABOVE_0),
    ('type_vocab_size', None, 'must be a whole number'),
    ('layer_norm_eps', '1e-12', 'must be a number'),
    ('hidden_dropout_prob', float('nan'), 'must be a number'),
    ('hidden_act', None, 'must be a string'),
    ('architectures', 'BertModel', 'must be a list of names'),
  ],
)
def test_fields_of_another_type_are_named_with_their_value(
  folder, field, value, message
):
  set_field(folder, field, value)
  value = re.escape(repr(value))
  refused(folder, rf'config\.json: {field} is {value}: it {message}')


def test_a_byte_order_mark_and_json_that_is_nested_deeply(folder):
  path = os.path.join(folder, 'config.json')
  fields = files.read_json(path)
  with open(path, 'rb') as file:
    content = file.read()
  with open(path, 'wb') as file:
    file.write(b'\xef\xbb\xbf' + content)
  assert files.read_json(path) == fields
  with open(path, 'w') as file:
    file.write('{"a":' * 5000 + '1' + '}' * 5000)
  refused(folder, r'config\.json is nested too deeply')


def set_field(folder, field, value):
  """Edits config.json as `edit` does, but None becomes null."""
  path = os.path.join(folder, 'config.json')
  with open(path) as file:
    fields = json.load(file)
  with open(path, 'w') as file:
    json.dump(fields | {field: value}, file)


def test_labels_of_a_classifier_and_padding_of_roberta(tmp_path):
  changes = {'head': 'sequence', 'classes': 2, 'position_offset': 2}
  folder = str(tmp_path / 'a')
  pretrained.save(*make(**changes), folder, layout='roberta')
  set_field(folder, 'id2label', 2)
  refused(folder, 'id2label is 2: it must be an object')
  set_field(folder, 'id2label', {'0': 'a', '1': 'b'})
  set_field(folder, 'pad_token_id', None)
  refused(folder, 'pad_token_id is None: it must be a whole number')


def _sentence_piece(count):
  """The parts of a SentencePiece model that matter: pieces, and its trainer."""
  return b'\x0a\x03\x0a\x01a' * count + b'\x12\x81\x02' + b'\x0a' * 257


def _tokenizer_json(vocab, *added):
  added = [{'id': i, 'content': f'<{i}>', 'special': True} for i in added]
  content = {'model': {'vocab': vocab}, 'added_tokens': added}
  return json.dumps(content).encode()


def _numbered(count):
  return {f'w{i}': i for i in range(count)}


@pytest.mark.parametrize(
  ('name', 'fits', 'exceeds'),
  [
    ('vocab.txt', b'word\n' * 60, b'word\n' * 60 + b'word'),
    *(
      (name, *(json.dumps(_numbered(n)).encode() for n in (60, 61)))
      for name in ('vocab.json', 'encoder.json')
    ),
    ('added_tokens.json', b'{"<a>": 59}', b'{"<a>": 60}'),
    *(
      (name, _sentence_piece(60), _sentence_piece(61))
      for name in ('spiece.model', 'tokenizer.model', 'sentencepiece.bpe.model')
    ),
    *(
      ('tokenizer.json', *(_tokenizer_json(*given) for given in both))
      for both in (
        [(_numbered(60),), (_numbered(61),)],
        [(_numbered(9), 59, 10), (_numbered(9), 60, 10)],
        [([['a', -1.5]] * 60,), ([['a', -1.5]] * 61,)],
      )
    ),
  ],
)
def test_a_vocabulary_larger_than_the_table(folder, name, fits, exceeds):
  path = os.path.join(folder, name)
  with open(path, 'wb') as file:
    file.write(fits)
  pretrained.check(folder)
  with open(path, 'wb') as file:
    file.write(exceeds)
  message = f'{path} has 61 tokens, but {folder}/config.json a vocab_size of 60'
  refused(folder, re.escape(message))


def test_a_file_that_is_not_a_vocabulary(folder):
  path = os.path.join(folder, 'tokenizer.json')
  for content in (b'{}', b'{"model": {"vocab": {"a": "0"}}}'):
    with open(path, 'wb') as file:
      file.write(content)
    refused(folder, rf'{path} must hold a whole number for each token\.')


def test_a_tokenizer_of_another_kind_is_not_counted(folder):
  with open(os.path.join(folder, 'tokenizer.model'), 'wb') as file:
    file.write(b'IWJhc2U= 12345\n' * 999)  # LLaMA 3's is tiktoken's
  pretrained.check(folder)


def test_a_vocabulary_larger_than_the_tables_of_a_pair(tmp_path):
  config, params = make(family='electra', head='rtd', generator_divisor=2)
  folder = str(tmp_path / 'pair')
  pretrained.save(config, params, folder)
  (tmp_path / 'pair' / 'vocab.txt').write_bytes(b'word\n' * 61)
  refused(folder, r'pair/vocab\.txt has 61 tokens, but .*discriminator/config')

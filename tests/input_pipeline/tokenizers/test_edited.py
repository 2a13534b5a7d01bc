"""Published files with something wrong, and the errors that name it."""

import json
import os

import pytest

from input_pipeline import tokenizing
from input_pipeline.tokenizers import kinds
from tests.helpers.objectives import masked_config


def edit(path, old, new, count=1):
  text = path.read_text()
  assert old in text
  path.write_text(text.replace(old, new, count))


@pytest.mark.parametrize(
  ('file', 'old', 'new', 'message'),
  [
    ('encoder.json', '{', '[', 'encoder.json is not JSON'),
    ('encoder.json', '"!": 0', '"!": 1', 'must count from 0|there twice'),
    ('encoder.json', '"!": 0', '"!": "0"', "'!' has id '0'"),
    ('encoder.json', '"!": 0', '"!!": 0', "no piece '!' for byte 33"),
    (
      'vocab.bpe',
      '#version',
      'version',
      "'version: 0.2' is not a pair",
    ),
    ('vocab.bpe', '\n', '\na b c\n', "line 2: 'a b c' is not a pair of pieces"),
    (
      'vocab.bpe',
      '\n',
      '\n! !\n',
      "line 2: '! !' is not a pair of pieces",
    ),
  ],
)
def test_edited_bpe(gpt2, file, old, new, message):
  edit(gpt2 / file, old, new)
  with pytest.raises(ValueError, match=message):
    kinds.load(str(gpt2), 0, 'byte_bpe')


def test_short_bpe(gpt2):
  for name in 'encoder.json', 'vocab.bpe':
    whole = (gpt2 / name).read_text()
    (gpt2 / name).write_text(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=f'{name} .*cut short. Fetch it again'):
      kinds.load(str(gpt2), 0, 'byte_bpe')
    (gpt2 / name).write_text(whole)
  (gpt2 / 'vocab.bpe').write_text('\n'.join(whole.split('\n')[:20]) + '\n')
  with pytest.raises(ValueError, match='makes .* more of the pieces in enc'):
    kinds.load(str(gpt2), 0, 'byte_bpe')


@pytest.mark.parametrize(
  ('rows', 'message'),
  [
    (['0 5', '1 4'], "lacks 318 of GPT-2's ids, the first 2"),
    (
      ['0 5', '0 4'],
      "line 2: '0 4' is not one of GPT-2's ids",
    ),
    (['999999 5'], 'dict.txt, line 1'),
    (['0'], 'dict.txt, line 1'),
  ],
)
def test_edited_dictionary(gpt2, rows, message):
  (gpt2 / 'dict.txt').write_text('\n'.join(rows))
  with pytest.raises(ValueError, match=message):
    kinds.load(str(gpt2), 0, 'byte_bpe')


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    ('\n[UNK]\n', '\n', r'vocab.txt has no \[UNK\], which WordPiece needs'),
    ('[CLS]\n', '[CLS]\n\n', 'vocab.txt, line 4 is empty'),
    ('[CLS]\n', '[CLS]\n[PAD]\n', r"vocab.txt, line 4 is '\[PAD\]' again"),
  ],
)
def test_edited_vocabulary(bert, old, new, message):
  edit(bert / 'vocab.txt', old, new)
  with pytest.raises(ValueError, match=message):
    kinds.load(str(bert), 0, 'wordpiece')


def test_vocabulary_that_is_not_text(bert):
  (bert / 'vocab.txt').write_bytes(b'[PAD]\n\xff\n')
  with pytest.raises(ValueError, match=r'vocab.txt is not UTF-8'):
    kinds.load(str(bert), 0, 'wordpiece')


@pytest.mark.parametrize(
  ('edited', 'message'),
  [
    (lambda c: c.pop('model'), 'has no model with a vocabulary'),
    (lambda c: c['model'].update(vocab=3), 'has no model with a vocabulary'),
    (
      lambda c: c['model'].update(type='WordLevel'),
      'of type WordLevel, which no data.tokenizer_kind reads',
    ),
    (lambda c: c['model'].update(dropout=0.1), 'dropout=0.1 gives other ids'),
    (lambda c: c['model']['merges'].append(['q', 'zz']), 'tokenizers library'),
    (lambda c: c['model']['vocab'].pop('!'), "no piece '!' for byte 33"),
    (lambda c: c['model']['vocab'].update(new=999), 'id 320 is missing'),
    (lambda c: c['model']['vocab'].update(new=3), 'id 4 is there twice|id'),
    (lambda c: c['model']['vocab'].update(new='3'), 'tokens without a number'),
    (lambda c: c['added_tokens'].append({}), 'tokens without a number'),
    (
      lambda c: c.update(pre_tokenizer={'type': 'X'}),
      'tokenizers library reads',
    ),
  ],
)
def test_edited_tokenizer_json(bpe, tmp_path, edited, message):
  content = json.loads(bpe.model)
  edited(content)
  path = tmp_path / 'tokenizer.json'
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match=message) as error:
    kinds.load(str(path), 0, 'byte_bpe')
  assert str(path) in str(error.value)
  path.write_text(json.dumps(content)[:-30])
  with pytest.raises(ValueError, match='is not JSON .*Fetch it again'):
    kinds.load(str(path), 0, 'byte_bpe')


def test_added_tokens_that_are_text(bpe, tmp_path):
  """Some models add tokens for runs of spaces, which a text may have."""
  content = json.loads(bpe.model)
  flags = dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'special'), False)
  content['added_tokens'] += [
    {'id': 320, 'content': '    ', 'normalized': True} | flags,
    {'id': 321, 'content': '<|im_start|>', 'normalized': False}
    | flags
    | {'special': True},
  ]
  (tmp_path / 'tokenizer.json').write_text(json.dumps(content))
  tokenizer = kinds.load(str(tmp_path), 2, 'byte_bpe')
  assert tokenizer.size == 324
  [ids] = tokenizer.encode_batch([b'a    b <|im_start|>'])
  assert 320 in ids
  assert 321 not in ids
  assert tokenizer.decode(ids) == 'a    b <|im_start|>'
  assert tokenizer.byte_lengths()[ids].sum() == 19
  kinds.save(tokenizer, str(tmp_path / 'again' / 'tokenizer.json'))
  again = kinds.load(str(tmp_path / 'again'), 2, 'byte_bpe')
  assert again.model == tokenizer.model


@pytest.mark.parametrize(
  ('objective', 'names'),
  [
    ('mlm', '<s>, </s>, <mask>, but .*lacks <s>, </s>, <mask>'),
    ('causal', r'an end of text \(EOS\)'),
  ],
)
def test_missing_special_tokens(gpt2, tmp_path, objective, names):
  edit(gpt2 / 'encoder.json', '<|endoftext|>', '<|other|>')
  config = masked_config(
    objective, source='docs', tokenizer=str(gpt2), tokenizer_kind='byte_bpe'
  )
  folder = tmp_path / 'run'
  folder.mkdir()
  message = rf"data\.objective='{objective}' needs {names}"
  with pytest.raises(ValueError, match=message):
    tokenizing.prepare(config, 0, 320, str(folder))
  assert os.listdir(folder) == []

"""Settings beside a vocabulary that change ids: followed, or refused."""

import json
import shutil

import pytest
import transformers

from input_pipeline.tokenizers import json_format, kinds, subwords
from tests.helpers.tokenizers import texts, write_gpt2

TEXTS = (
  'Über schön, naïve CAFÉ é e\u0301 \u0130',
  '中文 mixed中文 text，日本語',
  'don\u2019t [MASK] stop <|im_end|>\ttabs\x07 \u00a0 covid COVID covid19',
  ' two  spaces ',
  'Bada DUKU.',
)
MARKS = [
  'über',
  'schön',
  '##ön',
  'uber',
  'schon',
  'sch',
  '中文',
  '日',
  '##本語',
]


@pytest.fixture(scope='module')
def pieces():
  """A vocabulary with letters of both cases, accents and CJK characters."""
  found = kinds.train([*texts(), *TEXTS * 9], 330, 0, 'wordpiece').pieces
  letters = [c for c in 'éüöïABCDEFU中文日本語' if c not in found]
  letters += [f'##{c}' for c in 'éüöïABCDEF中文本語' if f'##{c}' not in found]
  return [*found, *letters, *(m for m in MARKS if m not in found)]


@pytest.fixture(scope='module')
def bpe():
  return kinds.train([*texts(), *TEXTS * 9], 340, 0, 'byte_bpe')


def bert(folder, pieces, config=None, **files):
  """A folder with vocab.txt and settings beside it."""
  (folder / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  if config is not None:
    files['tokenizer_config'] = config
  for name, content in files.items():
    (folder / f'{name}.json').write_text(json.dumps(content))
  return str(folder)


def ids_of(tokenizer):
  return [ids.tolist() for ids in tokenizer.encode_batch(list(TEXTS))]


# ---- WordPiece ---------------------------------------------------------------


@pytest.mark.parametrize('chinese', [True, False])
@pytest.mark.parametrize('strip', [True, False, None])
@pytest.mark.parametrize('lower', [True, False])
def test_wordpiece_settings(lower, strip, chinese, pieces, tmp_path):
  """A folder's and a tokenizer.json's settings mean what transformers means."""
  config = {
    'do_lower_case': lower,
    'strip_accents': strip,
    'tokenize_chinese_chars': chinese,
    'tokenizer_class': 'BertTokenizer',
    'never_split': ['[MASK]'],
    'mask_token': '[MASK]',
  }
  folder = bert(tmp_path, pieces, config)
  ours = kinds.load(folder, 0, 'wordpiece', lower)
  theirs = transformers.BertTokenizer.from_pretrained(folder)
  wanted = [
    theirs.encode(text, add_special_tokens=False, split_special_tokens=True)
    for text in TEXTS
  ]
  assert ids_of(ours) == wanted
  theirs.save_pretrained(str(tmp_path / 'whole'))
  whole = kinds.load(str(tmp_path / 'whole'), 0, 'wordpiece', lower)
  assert whole.fingerprint == ours.fingerprint


def test_accents_of_an_uncased_vocabulary_are_kept(pieces, tmp_path):
  """'Über schön' keeps its dots if strip_accents is false."""
  config = {'do_lower_case': True, 'strip_accents': False}
  ours = kinds.load(bert(tmp_path, pieces, config), 0, 'wordpiece', True)
  [ids] = ours.encode_batch(['Über schön'])
  assert [ours.piece(i) for i in ids] == ['über', 'schön']
  folder = bert(tmp_path, pieces, {'do_lower_case': True})
  plain = kinds.load(folder, 0, 'wordpiece', True)
  [ids] = plain.encode_batch(['Über schön'])
  assert [plain.piece(i) for i in ids] == ['uber', 'schon']


@pytest.mark.parametrize(
  ('config', 'message'),
  [
    ({'never_split': ['foo']}, r"never_split=\['foo'\] keeps words whole"),
    ({'do_basic_tokenize': False}, 'do_basic_tokenize=False gives other ids'),
    ({'tokenizer_class': 'BertJapaneseTokenizer'}, "class='BertJapaneseTok"),
    ({'word_tokenizer_type': 'mecab'}, "word_tokenizer_type='mecab' gives"),
    ({'wordpieces_prefix': '@@'}, "wordpieces_prefix='@@'"),
    ({'unk_token': '<unk>'}, r"unk_token='<unk>', but rows .*\[UNK\]"),
    ({'cls_token': {'content': '<s>'}}, r"cls_token='<s>', but rows .*\[CLS\]"),
    ({'strip_accents': 'no'}, "strip_accents='no' must be true or false"),
    ({'additional_special_tokens': ['<e1>']}, "'<e1>' has no id in the voc"),
    (
      {'added_tokens_decoder': {'3': {'content': '[X]', 'special': True}}},
      'ids must count from 0, each once, but id . is there twice',
    ),
    ({'added_tokens_decoder': {'7': 3}}, 'added_tokens_decoder .* not a token'),
    (
      {'added_tokens_decoder': {'2': {'content': '[PAD]', 'special': True}}},
      r"'\[PAD\]' was added as id 2, but it has id 0",
    ),
    (
      {
        'added_tokens_decoder': {
          '999': {'content': 'covid', 'single_word': True}
        }
      },
      "the added token 'covid' is not a piece of the vocabulary",
    ),
  ],
)
def test_settings_that_cannot_be_followed(config, message, pieces, tmp_path):
  folder = bert(tmp_path, pieces, {'do_lower_case': False} | config)
  with pytest.raises(ValueError, match=message) as error:
    kinds.load(folder, 0, 'wordpiece')
  assert str(tmp_path) in str(error.value)


def test_added_tokens_beside_a_vocabulary(pieces, tmp_path):
  """A text may have them unless they are special, as in transformers."""
  n = len(pieces)
  config = {'do_lower_case': False, 'additional_special_tokens': ['<|im_end|>']}
  added = {'covid': n, '<|im_end|>': n + 1}
  folder = bert(tmp_path, pieces, config, added_tokens=added)
  ours = kinds.load(folder, 3, 'wordpiece')
  assert ours.size == n + 2 + 3
  theirs = transformers.BertTokenizer.from_pretrained(folder)
  text = 'Bada covid covid19 duku'
  wanted = theirs.encode(text, add_special_tokens=False)
  [ids] = ours.encode_batch([text])
  assert ids.tolist() == wanted
  assert wanted.count(n) == 2
  [special] = ours.encode_batch(['<|im_end|>'])
  assert n + 1 not in special
  kinds.save(ours, str(tmp_path / 'run' / 'tokenizer.json'))
  kept = kinds.load(str(tmp_path / 'run'), 3, 'wordpiece')
  assert kept.encode_batch([text])[0].tolist() == wanted


# ---- Byte-level BPE ----------------------------------------------------------


def test_prefix_space(bpe, tmp_path):
  write_gpt2(bpe, tmp_path)
  config = tmp_path / 'tokenizer_config.json'
  config.write_text(json.dumps({'add_prefix_space': True}))
  ours = kinds.load(str(tmp_path), 0, 'byte_bpe')
  shifted = bpe.encode_batch([f' {text.lstrip(" ")}' for text in TEXTS[:2]])
  assert ids_of(ours)[:2] == [ids.tolist() for ids in shifted]
  whole = json.loads(bpe.model)
  (tmp_path / 'tokenizer.json').write_text(json.dumps(whole))
  with pytest.raises(ValueError, match='add_prefix_space=True, but tokenizer'):
    kinds.load(str(tmp_path), 0, 'byte_bpe')
  config.write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
  assert ids_of(kinds.load(str(tmp_path), 0, 'byte_bpe')) == ids_of(bpe)
  (tmp_path / 'tokenizer.json').unlink()
  with pytest.raises(ValueError, match="tokenizer_class='Qwen2Tokenizer' may"):
    kinds.load(str(tmp_path), 0, 'byte_bpe')


def test_added_tokens_of_byte_level_bpe(bpe, tmp_path):
  write_gpt2(bpe, tmp_path)
  added = {'  ': bpe.size, '<|im_end|>': bpe.size + 1}
  (tmp_path / 'added_tokens.json').write_text(json.dumps(added))
  names = {'additional_special_tokens': ['<|im_end|>']}
  (tmp_path / 'special_tokens_map.json').write_text(json.dumps(names))
  ours = kinds.load(str(tmp_path), 0, 'byte_bpe')
  assert ours.size == bpe.size + 2
  [ids] = ours.encode_batch(['a  b<|im_end|>'])
  assert bpe.size in ids
  assert bpe.size + 1 not in ids


def folder_with_both(folder, bpe, edit):
  """GPT-2's files and a tokenizer.json with more, or with other ids."""
  write_gpt2(bpe, folder)
  (folder / 'encoder.json').rename(folder / 'vocab.json')
  (folder / 'vocab.bpe').rename(folder / 'merges.txt')
  content = json.loads(bpe.model)
  edit(content)
  (folder / 'tokenizer.json').write_text(json.dumps(content))
  return str(folder)


def split_digits(content):
  """A split pattern like LLaMA 3's."""
  pattern = {'Regex': r'\p{N}{1,2}|\p{L}+| ?[^\s\p{L}\p{N}]+|\s+'}
  split = {'type': 'Split', 'pattern': pattern, 'behavior': 'Isolated'}
  split['invert'] = False
  level = json_format.BYTE_LEVEL | {'use_regex': False}
  both = {'type': 'Sequence', 'pretokenizers': [split, level]}
  content['pre_tokenizer'] = both


def compose(content):
  content['normalizer'] = {'type': 'NFC'}


def add_spaces(content):
  flags = dict.fromkeys(('single_word', 'lstrip', 'rstrip', 'special'), False)
  token = {'id': len(content['model']['vocab']), 'content': '  '}
  content['added_tokens'].append(token | flags | {'normalized': True})


@pytest.mark.parametrize('edit', [split_digits, compose, add_spaces])
def test_a_tokenizer_json_beside_plain_files_is_read(edit, bpe, tmp_path):
  folder = folder_with_both(tmp_path, bpe, edit)
  library = subwords.library().Tokenizer.from_file(f'{folder}/tokenizer.json')
  library.encode_special_tokens = True
  ours = kinds.load(folder, 0, 'byte_bpe')
  wanted = [library.encode(text).ids for text in TEXTS]
  assert ids_of(ours) == wanted
  assert wanted != ids_of(bpe)


def test_a_tokenizer_json_that_adds_nothing(bpe, tmp_path):
  """The fingerprint is that of the plain files, even in an older form."""

  def older(content):
    content['pre_tokenizer'].pop('use_regex')
    content['model'] |= {'continuing_subword_prefix': None, 'merges': [
      ' '.join(pair) for pair in content['model']['merges']
    ]}  # fmt: skip
    content['model'].pop('ignore_merges')
    content['post_processor'] = json_format.template(
      [('<|endoftext|>', bpe.eos)], []
    )

  ours = kinds.load(folder_with_both(tmp_path, bpe, older), 0, 'byte_bpe')
  assert ours.fingerprint == bpe.fingerprint
  assert json.loads(ours.model)['post_processor']  # for exports


@pytest.mark.parametrize(
  ('edit', 'message'),
  [
    (
      lambda m: m['vocab'].update({'!': 1, '"': 0}),
      "'!' has id 0 in vocab.json and 1 in tokenizer.json",
    ),
    (lambda m: m['vocab'].update(new=340), "'new' has id None in vocab.json"),
    (lambda m: m['merges'].pop(), 'tokenizer.json has other merges'),
    (lambda m: m.pop('merges'), "of data.tokenizer_kind='bytes', but"),
  ],
)
def test_two_files_that_differ(edit, message, bpe, tmp_path):
  folder = folder_with_both(tmp_path, bpe, lambda c: edit(c['model']))
  with pytest.raises(ValueError, match=message):
    kinds.load(folder, 0, 'byte_bpe')


def test_a_vocabulary_and_a_tokenizer_json_of_wordpiece(pieces, tmp_path):
  ids = {piece: i for i, piece in enumerate(pieces)}
  whole = json_format.wordpiece(ids, True)
  whole['normalizer']['strip_accents'] = False
  folder = bert(tmp_path, pieces, tokenizer=whole)
  ours = kinds.load(folder, 0, 'wordpiece', True)
  [found] = ours.encode_batch(['Über'])
  assert [ours.piece(i) for i in found] == ['über']
  config = {'strip_accents': True}
  with pytest.raises(
    ValueError, match='strip_accents=True, but tokenizer.json'
  ):
    kinds.load(
      bert(tmp_path, pieces, config, tokenizer=whole), 0, 'wordpiece', True
    )
  bert(tmp_path, pieces[:-1], {}, tokenizer=whole)
  with pytest.raises(ValueError, match='has id None in vocab.txt and'):
    kinds.load(folder, 0, 'wordpiece', True)


# ---- Folders -----------------------------------------------------------------


@pytest.mark.parametrize('name', ['run[lr=1e-3]', '*', '[!a]?', 'back\\slash'])
def test_a_folder_whose_name_looks_like_a_pattern(name, bpe, pieces, tmp_path):
  folder = tmp_path / name
  folder.mkdir()
  write_gpt2(bpe, folder)
  assert kinds.load(str(folder), 0, 'byte_bpe').model == bpe.model
  bert(folder, pieces, {'do_lower_case': False})
  assert kinds.load(str(folder), 0, 'wordpiece').pieces == pieces
  model = kinds.train(texts(), 90, 0, 'unigram')
  kinds.save(model, str(folder / 'some.model'))
  assert kinds.load(str(folder), 0, 'unigram').model == model.model
  shutil.copytree(folder, tmp_path / 'a')
  (folder / 'some.model').unlink()
  with pytest.raises(ValueError, match='holds no tokenizer'):
    kinds.load(str(folder), 0, 'unigram')

"""transformers reads an exported tokenizer and gives the same ids."""

import json
import random

import pytest
import transformers

from input_pipeline.tokenizers import (
  export,
  json_format,
  kinds,
  sentence_piece,
  subwords,
)
from tests.helpers.corpora import data_config
from tests.helpers.objectives import masked_config

TEXTS = (
  'A man is  eating a piece of bread, 1234 times.',
  'Ünïcode naïve CAPS and\nnewlines\t tabs',
  '日本語 ﬁ 😀',
  "don't stop, it's ok! ",
  '',
  ' begins with a space',
  'runs   of    spaces     here      and       there ',
)


def corpus():
  rng = random.Random(0)
  letters = 'etaoinshrdlucmfwypvbgkjqxzETAOI,.'
  words = [
    ''.join(rng.choices(letters, k=rng.randint(1, 9))) for _ in range(999)
  ]
  return [' '.join(rng.choices(words, k=50)) for _ in range(200)]


CASES = [  # kind, lowercase, specials, class in transformers, file
  ('unigram', False, False, 'T5Tokenizer', 'spiece.model'),
  ('bpe', False, False, '', 'tokenizer.json'),
  ('wordpiece', False, True, 'BertTokenizer', 'tokenizer.json'),
  ('wordpiece', True, True, 'BertTokenizer', 'tokenizer.json'),
  ('byte_bpe', False, True, '', 'tokenizer.json'),
  ('bytes', False, False, '', 'tokenizer.json'),
]


def written(folder, tokenizer, kind, *around, **sizes):
  """transformers' tokenizer, read from exported files."""
  found = export.files(tokenizer, kind, *around, **sizes)
  for file, content in found.items():
    (folder / file).write_bytes(content)
  # A model_type would choose a class, which would change the ids.
  (folder / 'config.json').write_text(json.dumps({'model_type': 'electra'}))
  return transformers.AutoTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize(
  ('kind', 'lowercase', 'specials', 'reader', 'name'), CASES
)
def test_transformers_makes_the_same_ids(
  kind, lowercase, specials, reader, name, tmp_path
):
  ours = kinds.train(corpus(), 420, 10, kind, lowercase, specials)
  around = {
    'T5Tokenizer': ((), (ours.eos,)),  # inputs of span corruption
    'BertTokenizer': ((ours.cls,), (ours.sep,)),
  }.get(reader, ((ours.pad if kind == 'bpe' else ours.eos,), ()))
  theirs = written(tmp_path, ours, kind, *around, length=77)
  assert (tmp_path / name).exists()
  assert reader in type(theirs).__name__
  assert len(theirs) == ours.size
  assert theirs.model_max_length == 77
  before, after = map(list, around)
  for text, ids in zip(TEXTS, ours.encode_batch(list(TEXTS)), strict=True):
    assert theirs.encode(text, add_special_tokens=False) == ids.tolist(), text
    assert theirs.encode(text) == [*before, *ids.tolist(), *after], text
  for role in ('eos', 'unk', 'cls', 'sep', 'mask'):
    theirs_id = getattr(theirs, f'{role}_token_id')
    assert theirs_id in (None, getattr(ours, role)), role
  if before and not after:  # what generation begins with
    assert theirs.bos_token_id == before[0]
  again = kinds.load(str(tmp_path), 10, kind, lowercase)
  assert again.fingerprint == ours.fingerprint


@pytest.mark.parametrize('spread', [1, 0])
def test_pieces_of_spaces_merge_as_sentencepiece_does(spread, tmp_path):
  """Ties of scores, which Mistral's have, go to the first in the text."""
  ours = kinds.train(corpus(), 420, 0, 'bpe')
  proto = pytest.importorskip('sentencepiece.sentencepiece_model_pb2')
  model = proto.ModelProto.FromString(ours.model)
  normal = [p for p in model.pieces if p.type == 1 and len(p.piece) > 1]
  for n, piece in enumerate(normal[-5:]):  # replaces the rarest
    piece.piece = '▁' * (n + 2)
    piece.score = -1e6 - n * spread
  ours = sentence_piece.SentencePiece(model.SerializeToString(), 0, 'x')
  theirs = written(tmp_path, ours, 'bpe')
  words = ['man', 'eating', 'a', 'of', 'the', 'e', 'T']
  rng = random.Random(1)
  for _ in range(200):
    text = ''.join(' ' * rng.randint(0, 9) + rng.choice(words) for _ in 'abcde')
    [ids] = ours.encode_batch([text])
    assert theirs.encode(text) == ids.tolist(), text


def test_a_vocabulary_without_specials_is_exported_as_its_rows_are(tmp_path):
  """Rows have no special token, or one on each side of a text."""
  ours = kinds.train(corpus(), 420, 10, 'byte_bpe')
  [ids] = ours.encode_batch(['a man'])
  for around in ((), ()), ((ours.eos,), (int(ours.sentinels[0]),)):
    theirs = written(tmp_path, ours, 'byte_bpe', *around)
    before, after = map(list, around)
    assert theirs.encode('a man') == [*before, *ids.tolist(), *after]
  names = theirs('a man').keys()
  assert {*names} == {'input_ids', 'attention_mask'}  # GPT-2 would add types


@pytest.mark.parametrize('types', [False, True])
def test_pairs_of_texts(types, tmp_path):
  """RoBERTa's have two </s> between them, BERT's token types."""
  kind = 'wordpiece' if types else 'byte_bpe'
  ours = kinds.train(corpus(), 420, 0, kind, specials=True)
  one, two = (i.tolist() for i in ours.encode_batch(['a man', 'of bread']))
  cls, sep = ours.cls, ours.sep
  theirs = written(tmp_path, ours, kind, (cls,), (sep,), types=types)
  found = theirs('a man', 'of bread')
  between = [sep] if types else [sep, sep]
  assert found['input_ids'] == [cls, *one, *between, *two, sep]
  assert ('token_type_ids' in found) == types
  if types:
    second = [*[0] * (len(one) + 2), *[1] * (len(two) + 1)]
    assert found['token_type_ids'] == second
  assert (theirs.cls_token_id, theirs.sep_token_id) == (cls, sep)
  assert theirs.mask_token_id == ours.mask


def bert_like(content):
  """A setting that transformers' BertTokenizer lacks."""
  content['normalizer'] |= {'clean_text': False}
  content['post_processor'] = json_format.template(
    [('[CLS]', 2)], [('[SEP]', 3)]
  )
  return (('[CLS]',), ('[SEP]',))


def llama3_like(content):
  """Gives LLaMA 3's split pattern, and BOS before a text."""
  vocab = content['model']['vocab']
  ids = {'<|begin_of_text|>': len(vocab), '<|end_of_text|>': len(vocab) + 1}
  flags = dict.fromkeys(('single_word', 'lstrip', 'rstrip'), False)
  flags |= {'normalized': False, 'special': True}
  content['added_tokens'] = [
    {'id': i, 'content': name} | flags for name, i in ids.items()
  ]
  del vocab['<|endoftext|>']
  vocab['<|other|>'] = len(vocab)
  pattern = r'[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+'
  step = {
    'type': 'ByteLevel',
    'add_prefix_space': False,
    'trim_offsets': True,
    'use_regex': False,
  }
  split = {
    'type': 'Split',
    'pattern': {'Regex': pattern},
    'behavior': 'Isolated',
    'invert': False,
  }
  content['pre_tokenizer'] = {
    'type': 'Sequence',
    'pretokenizers': [split, step],
  }
  bos = {'SpecialToken': {'id': '<|begin_of_text|>', 'type_id': 0}}
  text = {'Sequence': {'id': 'A', 'type_id': 0}}
  known = {
    'id': '<|begin_of_text|>',
    'ids': [ids['<|begin_of_text|>']],
    'tokens': ['<|begin_of_text|>'],
  }
  content['post_processor'] = {
    'type': 'Sequence',
    'processors': [
      step,
      {
        'type': 'TemplateProcessing',
        'single': [bos, text],
        'pair': [bos, text, text | {'Sequence': {'id': 'B', 'type_id': 1}}],
        'special_tokens': {'<|begin_of_text|>': known},
      },
    ],
  }
  return (('<|begin_of_text|>',), ())


@pytest.mark.parametrize(
  ('kind', 'edit'), [('byte_bpe', llama3_like), ('wordpiece', bert_like)]
)
def test_a_published_tokenizer_comes_out_as_it_went_in(kind, edit, tmp_path):
  """The post-processor, split pattern and pairs of texts are its own."""
  ours = kinds.train(corpus(), 420, 0, kind, specials=kind == 'wordpiece')
  content = json.loads(ours.model)
  names = edit(content)
  for name in 'in', 'run', 'out':
    (tmp_path / name).mkdir()
  path = tmp_path / 'in' / 'tokenizer.json'
  path.write_text(json.dumps(content))
  published = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
  loaded = kinds.load(str(path.parent), 4, kind)
  kinds.save(loaded, str(tmp_path / 'run' / 'tokenizer.json'))
  kept = kinds.load(str(tmp_path / 'run'), 4, kind)
  around = [tuple(map(loaded.pieces.index, side)) for side in names]
  theirs = written(tmp_path / 'out', kept, kind, *around)
  for text in TEXTS:
    for special in True, False:
      wanted = published.encode(text, add_special_tokens=special)
      assert theirs.encode(text, add_special_tokens=special) == wanted
  if kind == 'byte_bpe':
    wanted = published.encode('a man', 'of bread')
    assert theirs.encode('a man', 'of bread') == wanted
    # If rows add no tokens, the published post-processor stays.
    theirs = written(tmp_path / 'out', kept, kind)
    assert theirs.encode('a man', 'of bread') == wanted


def test_a_post_processor_does_not_change_the_fingerprint():
  ours = kinds.train(corpus(), 420, 0, 'byte_bpe')
  content = json.loads(ours.model)
  content['post_processor'] = json_format.template(
    [('<|endoftext|>', ours.eos)], []
  )
  both = subwords.ByteBpe(content, 0, 'x.json')
  assert both.fingerprint == ours.fingerprint
  assert both.model != ours.model


@pytest.mark.parametrize(
  ('edit', 'message'),
  [
    ({'type': 'X'}, "no such post_processor .*type 'X'"),
    ({'type': 'RobertaProcessing', 'sep': ['</s>', 2]}, 'no such post_pro'),
    (
      {'type': 'BertProcessing', 'sep': ['!', 0], 'cls': ['"', 7]},
      "adds '\"' as id 7, but that token has id 1",
    ),
    (json_format.template([('<s>', 0)], []), "'<s>' as id 0.*has id None"),
  ],
)
def test_a_post_processor_that_does_not_fit_the_vocabulary(edit, message):
  ours = kinds.train(corpus(), 420, 0, 'byte_bpe')
  content = json.loads(ours.model) | {'post_processor': edit}
  with pytest.raises(ValueError, match=message):
    subwords.ByteBpe(content, 0, 'x.json')


def test_ids_around_a_text():
  masked = kinds.train(corpus(), 420, 0, 'byte_bpe', specials=True)
  t5 = kinds.train(corpus(), 420, 10, 'unigram')
  around = export.around
  config = masked_config('mlm', source='docs')
  assert around(masked, config, 'encoder', None) == ((0,), (2,))
  config = masked_config('causal')
  assert around(t5, config, 'decoder', 7) == ((7,), ())
  assert around(t5, config, 'decoder', None) == ((), ())
  config = data_config(
    objective='prefix', sentinels=0, noise_density=0.0, mean_span_length=0.0
  )
  assert around(t5, config, 'decoder', 7) == ((7,), (1,))
  assert around(t5, config, 'encoder_decoder', 7) == ((), (1,))


def test_a_model_that_transformers_cannot_read_is_refused():
  unigram = kinds.train(corpus(), 420, 10, 'unigram')
  with pytest.raises(ValueError, match='it changes characters'):
    export.files(unigram, 'bpe')
  bpe = kinds.train(corpus(), 420, 10, 'bpe')
  with pytest.raises(ValueError, match='it keeps several spaces'):
    export.files(bpe, 'unigram')
  for around in ((), ()), ((unigram.pad,), ()):
    with pytest.raises(ValueError, match='T5 has no token and </s>'):
      export.files(unigram, 'unigram', *around)

"""SentencePiece's kinds as transformers 5 saves them: only tokenizer.json."""

import gzip
import json
import os
import shutil
from pathlib import Path

import pytest
import transformers

from input_pipeline import tokenizing
from input_pipeline.tokenizers import export, json_format, kinds, subwords
from input_pipeline.tokenizers.plain_files import NEVER
from tests.helpers import tokenizer_references as references
from tests.helpers.corpora import data_config
from tests.helpers.tokenizers import TEXT, texts

NAMES = {'unigram': 'spiece.model', 'bpe': 'tokenizer.model'}
CLASSES = {
  'unigram': transformers.T5Tokenizer,
  'bpe': transformers.LlamaTokenizer,
}


def saved(model, kind, folder, **options):
  """The folder that transformers 5 saves of a SentencePiece model."""
  (folder / 'model').mkdir()
  (folder / 'model' / NAMES[kind]).write_bytes(model)
  theirs = CLASSES[kind].from_pretrained(str(folder / 'model'), **options)
  theirs.save_pretrained(str(folder / 'saved'))
  assert not list((folder / 'saved').glob('*.model'))
  return str(folder / 'saved')


@pytest.fixture(scope='module')
def models():
  odd = [*texts(), *[TEXT] * 9, 'digits 1 22 333', '日本 本日 日'] * 3
  return {
    kind: kinds.train(odd, size, 7, kind).model
    for kind, size in (('unigram', 140), ('bpe', 420))
  }


@pytest.fixture(params=['unigram', 'bpe'])
def kind(request):
  return request.param


@pytest.fixture
def folder(kind, models, tmp_path):
  options = {'unigram': {'extra_ids': 0}, 'bpe': {'bos_token': '<pad>'}}
  return saved(models[kind], kind, tmp_path, **options[kind])


def same_as_transformers(ours, folder, lines):
  theirs = transformers.AutoTokenizer.from_pretrained(folder)
  for line, ids in zip(lines, ours.encode_batch(lines, 2), strict=True):
    wanted = theirs.encode(
      line.decode(errors='replace'), add_special_tokens=False
    )
    assert ids.tolist() == wanted, line


def test_ids(kind, folder):
  lines = [text.encode() for text in [*texts(60), TEXT]]
  lines += references.odd_texts(100)
  ours = kinds.load(folder, 7, kind)
  same_as_transformers(ours, folder, lines)
  assert ours.file == 'tokenizer.json'
  assert (ours.pad, ours.eos, ours.unk) == (0, 1, 2)
  assert ours.bos is ours.cls is ours.mask is None
  last = range(ours.size - 1, ours.size - 8, -1)
  assert ours.sentinels.tolist() == list(last)
  names = [ours.piece(i) for i in ours.sentinels]
  assert names == [f'<extra_id_{n}>' for n in range(7)]


def test_special_names_are_text(kind, folder):
  ours = kinds.load(folder, 7, kind)
  names = '</s> <pad><unk> <extra_id_0> a<extra_id_1>'
  [ids] = ours.encode_batch([names])
  assert {*ids.tolist()} & {*ours.specials} <= {ours.unk}


def test_decoded(kind, folder):
  ours = kinds.load(folder, 7, kind)
  for text in texts(20):
    [ids] = ours.encode_batch([text])
    assert ours.decode(ids) == text
    assert ours.decode([ours.pad, *ids, ours.eos]) == text
    assert ours.byte_lengths()[ids].sum() == len(text.encode()) + 1
    assert ours.word_starts[ids].sum() == len(text.split())
  [ids] = ours.encode_batch(['bada'])
  named = [*ids, ours.sentinels[1], *ids, ours.eos]
  assert ours.decode(named) == 'bada <extra_id_1> bada'
  if kind == 'bpe':
    odd = ' a\0b\n\tc  d né\u0301 😀\r\n'
    [ids] = ours.encode_batch([odd])
    assert ours.decode(ids) == odd.removeprefix(' ')


def test_in_a_workdir(kind, folder, tmp_path):
  """The file is kept as tokenizer.json, reopened, and bound to the run."""
  source = tmp_path / 'text'
  source.write_text('\n\n'.join(texts()))
  config = data_config(
    source=f'text:{source}', tokenizer_kind=kind, sentinels=7, tokenizer=folder
  )
  run = tmp_path / 'run'
  run.mkdir()
  size = kinds.load(folder, 7, kind).size
  made = tokenizing.prepare(config, 0, size, str(run))
  assert os.listdir(run) == ['tokenizer.json']
  found = tokenizing.path_in(str(run), config.tokenizer_kind)
  assert found == str(run / 'tokenizer.json')
  shutil.rmtree(folder)
  again = tokenizing.prepare(config, 0, size, str(run))
  assert again.fingerprint == made.fingerprint
  assert again.model == made.model
  other = data_config(
    source=f'text:{source}', tokenizer_kind=kind, sentinels=7,
    tokenizer=str(next((tmp_path / 'model').iterdir())),
  )  # fmt: skip
  with pytest.raises(ValueError, match='is not the tokenizer that'):
    tokenizing.prepare(other, 0, size, str(run))


def test_exported(kind, folder, tmp_path):
  """Exported files give the ids that were read, with and without specials."""
  ours = kinds.load(folder, 7, kind)
  lines = [*texts(20), TEXT, ' a  b ']
  around = ((), (ours.eos,)) if kind == 'unigram' else ((ours.pad,), ())
  found = export.files(ours, kind, *around, length=9)
  for name, content in found.items():
    (tmp_path / name).write_bytes(content)
  (tmp_path / 'config.json').write_text('{"model_type": "llama"}')
  theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
  assert len(theirs) == ours.size
  for line, ids in zip(lines, ours.encode_batch(lines), strict=True):
    assert theirs.encode(line, add_special_tokens=False) == ids.tolist()
    wanted = [*around[0], *ids.tolist(), *around[1]]
    assert theirs.encode(line) == wanted


def test_a_model_beside_it(kind, models, folder):
  """The .model is read, and a tokenizer.json with other ids is an error."""
  shutil.copy(Path(folder).parent / 'model' / NAMES[kind], folder)
  ours = kinds.load(folder, 7, kind)
  assert ours.model == models[kind]
  path = Path(folder) / 'tokenizer.json'
  content = json.loads(path.read_text())
  token = {'id': ours.size, 'content': '<new>', 'special': True}
  content['added_tokens'].append(token)
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="'<new>' has id None in .*model and"):
    kinds.load(folder, 7, kind)
  path.unlink()
  config = Path(folder) / 'tokenizer_config.json'
  for edit, message in (
    ({'tokenizer_class': 'AlbertTokenizer'}, "tokenizer_class='AlbertTok"),
    ({'do_lower_case': True}, 'do_lower_case=True gives other ids'),
    ({'sp_model_kwargs': {'nbest_size': -1}}, 'sp_model_kwargs='),
    (
      {'added_tokens_decoder': {'999': {'content': '<new>'}}},
      "'<new>' was added as id 999, where the .model has none",
    ),
  ):
    config.write_text(json.dumps(edit))
    with pytest.raises(ValueError, match=message):
      kinds.load(folder, 7, kind)


def test_added_tokens(kind, folder):
  """A token that unigram would match in more places is refused."""
  path = Path(folder) / 'tokenizer.json'
  content = json.loads(path.read_text())
  flags = dict.fromkeys(('single_word', 'lstrip', 'rstrip'), False)
  token = {'id': kinds.load(folder, 7, kind).size, 'content': 'x y'}
  token |= flags | {'normalized': False, 'special': False}
  content['added_tokens'].append(token)
  path.write_text(json.dumps(content))
  if kind == 'unigram':
    for place in folder, str(path):
      with pytest.raises(ValueError, match="added token 'x y' is not a piece"):
        kinds.load(place, 7, kind)
  else:
    ours = kinds.load(folder, 7, kind)
    same_as_transformers(ours, folder, [b'ax yb x  y', b'x y'])


def test_another_kind(kind, folder):
  other = {'unigram': 'bpe', 'bpe': 'unigram'}[kind]
  for name in other, 'byte_bpe', 'wordpiece':
    with pytest.raises(
      ValueError, match=f"kind='{kind}', but the config says '{name}'"
    ):
      kinds.load(folder, 7, name)


def test_a_piece_twice(folder, kind):
  if kind == 'unigram':
    path = Path(folder) / 'tokenizer.json'
    content = json.loads(path.read_text())
    content['model']['vocab'][5] = content['model']['vocab'][6]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='without a number'):
      kinds.load(folder, 7, kind)


def test_bytes_that_no_text_has_need_no_piece(tmp_path):
  """GPT-NeoX's vocabulary lacks some; all other bytes need one."""
  bpe = kinds.train(texts(), 320, 0, 'byte_bpe')
  characters = json_format.byte_characters()
  never = {characters[byte] for byte in NEVER}
  assert len(never) == 13
  content = json.loads(bpe.model)
  kept = [piece for piece in bpe.pieces if piece not in never]
  content['model']['vocab'] = {piece: i for i, piece in enumerate(kept)}
  content['added_tokens'][0]['id'] = kept.index('<|endoftext|>')
  path = tmp_path / 'tokenizer.json'
  path.write_text(json.dumps(content))
  ours = kinds.load(str(path), 0, 'byte_bpe')
  library = subwords.library().Tokenizer.from_file(str(path))
  lines = [TEXT.encode(), *references.odd_texts(100)]
  for line, ids in zip(lines, ours.encode_batch(lines), strict=True):
    text = line.decode(errors='replace')
    assert ids.tolist() == library.encode(text).ids
    assert ours.decode(ids) == text
  content['model']['vocab'].pop('!')
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="no piece '!' for byte 33"):
    kinds.load(str(path), 0, 'byte_bpe')


@pytest.mark.parametrize(
  ('kind', 'file'),
  [
    ('unigram', 'tok_t5/t5_cc_all_derived_32100.model'),
    ('bpe', 'tok_mistral/tokenizer.mistral-v1'),
  ],
)
def test_published_vocabularies(kind, file, tmp_path):
  """1,000 documents of C4 and odd texts have the ids of transformers."""
  data = os.environ.get('TREELINE_DATA')
  if not data:
    pytest.skip('set TREELINE_DATA to a folder with real data (README.md)')
  data = Path(data)
  options = {'extra_ids': 0} if kind == 'unigram' else {}
  folder = saved((data / file).read_bytes(), kind, tmp_path, **options)
  c4 = data / 'c4_sample_1k' / 'c4-sample.00000-of-00001.json.gz'
  with gzip.open(c4) as lines:
    documents = [json.loads(line)['text'].encode() for line in lines]
  assert len(documents) == 1000
  ours = kinds.load(folder, 0, kind)
  same_as_transformers(ours, folder, documents + references.odd_texts())

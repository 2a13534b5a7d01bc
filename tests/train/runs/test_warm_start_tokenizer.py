"""The tokenizer of a run that begins with another's parameters."""

import os
import shutil
import tempfile

import pytest

from configs import palm
from input_pipeline.config import DataConfig
from input_pipeline.tokenizers import kinds
from tests.helpers.corpora import texts
from tests.helpers.warm_starts import BYTES, PALM, begun, config_of, new_run
from tests.input_pipeline.tokenizers.test_sentence_piece_json import saved
from train.runs import warm_start_tokenizer

pytestmark = pytest.mark.slow


def test_tokenizers(language_model, source, tmp_path):
  """A tokenizer that is not the source's is reported; its size must agree."""
  folder = tmp_path / 'run'
  shutil.copytree(language_model[0], folder)
  own = BYTES, PALM, {'data.source': source}
  origin, _ = begun(tmp_path, config_of(palm, 'tiny', *own), folder)

  def prepare(**changes):
    changes = {f'data.{key}': value for key, value in changes.items()}
    config = config_of(palm, 'tiny', *own, changes)
    target = tempfile.mkdtemp(dir=tmp_path)
    data = DataConfig(**config.data)
    return warm_start_tokenizer.prepare(origin, data, 0, 300, target)

  path = folder / 'tokenizer.json'
  message = prepare(tokenizer=str(path))
  assert message.endswith(f'is the tokenizer of the parameters, {path}.')
  with pytest.raises(ValueError, match=r"has 'bytes': give --config.data.tok"):
    prepare(tokenizer_kind='unigram')
  for pieces in (259, 260):
    model = tmp_path / f'{pieces}.model'
    kinds.save(kinds.train(texts(4000), pieces, 0), str(model))
    named = {'tokenizer': str(model), 'tokenizer_kind': 'unigram'}
    if pieces == 259:
      assert 'ids have other meanings' in prepare(**named)
      continue
    with pytest.raises(ValueError, match='has 260 pieces, that of .*'):
      prepare(**named)
  # It was changed after the checkpoint was saved; then it is gone.
  path.write_text(path.read_text().replace('<pad>', '<pax>'))
  with pytest.raises(ValueError, match=r'tokenizer.json'):
    prepare()
  path.unlink()
  with pytest.raises(ValueError, match='holds no tokenizer'):
    prepare()


def test_a_unigram_tokenizer_in_json(source, tmp_path):
  """A run that was given a tokenizer.json has no .model to copy."""
  model = kinds.train(texts(4000), 140, 0).model
  kind = {
    'data.tokenizer': saved(model, 'unigram', tmp_path, extra_ids=0),
    'data.tokenizer_kind': 'unigram',
    'data.source': source,
  }
  folder, new = tmp_path / 'run', tmp_path / 'new'
  new_run(folder, config_of(palm, 'tiny', BYTES, PALM, kind))
  new.mkdir()
  config = config_of(palm, 'tiny', BYTES, PALM, kind | {'data.tokenizer': ''})
  origin, _ = begun(new, config, folder)
  data = DataConfig(**config.data)
  warm_start_tokenizer.prepare(origin, data, 0, 300, str(new))
  ours, theirs = (x / 'tokenizer.json' for x in (new, folder))
  assert os.listdir(new) == ['tokenizer.json']
  assert ours.read_bytes() == theirs.read_bytes()

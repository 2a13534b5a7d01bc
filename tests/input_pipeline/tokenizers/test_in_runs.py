"""Tokenizers of runs: in a workdir, in prompts, bound to the run."""

import os

import pytest

from input_pipeline import tokenizing
from input_pipeline.choices import TOKENIZERS
from input_pipeline.tokenizers import kinds
from tests.helpers.corpora import data_config
from tests.helpers.tokenizers import SENTINELS, SIZES, texts


@pytest.mark.parametrize('kind', TOKENIZERS)
def test_in_a_workdir(kind, tmp_path):
  """A tokenizer is trained, saved and opened; another size is refused."""
  source = tmp_path / 'text'
  source.write_text('\n\n'.join(texts()))
  size = SIZES.get(kind, 266)
  config = data_config(
    source=f'text:{source}', tokenizer_kind=kind, sentinels=SENTINELS
  )
  folder = tmp_path / 'run'
  folder.mkdir()
  made = tokenizing.prepare(config, 0, size, str(folder))
  assert os.listdir(folder) == [kinds.file_name(kind)]
  again = tokenizing.prepare(config, 0, size, str(folder))
  assert again.fingerprint == made.fingerprint
  path = os.path.join(folder, kinds.file_name(kind))
  given = data_config(
    source=f'text:{source}', tokenizer_kind=kind, sentinels=SENTINELS,
    tokenizer=path,
  )  # fmt: skip
  other = tmp_path / 'other'
  other.mkdir()
  with pytest.raises(
    ValueError, match=rf'{size} pieces.*vocab_size={size - 1}'
  ):
    tokenizing.prepare(given, 0, size - 1, str(other))
  assert os.listdir(other) == []


def test_sentinels_in_prompts(made):
  """Generation reads them if the tokenizer itself does not."""
  from train.generation import prompts

  for kind in TOKENIZERS:
    tokenizer = made(kind, False)
    first, second = tokenizer.sentinels[:2].tolist()
    text = 'bada <extra_id_0> duku<extra_id_1> 7 limes'
    found = prompts.encode(tokenizer, [text], 99, 'encoder_decoder', True, 0)
    ids = found['source'][0][found['segments'][0] > 0].tolist()
    assert ids.count(first) == ids.count(second) == 1
    assert ids[-1] == tokenizer.eos
    decoded = tokenizer.decode(ids[: ids.index(first)])
    assert decoded == 'bada'
    decoded = tokenizer.decode(ids[:-1])
    assert decoded.replace(' ', '') == text.replace(' ', '')
    with pytest.raises(ValueError, match='knows 0; it has <extra_id_0> to <e'):
      prompts.encode(
        tokenizer, ['a <extra_id_99>'], 99, 'encoder_decoder', True, 0
      )


def test_a_failed_starts_tokenizer_is_put_aside(tmp_path):
  """And its chat template; a run that has begun keeps its tokenizer."""
  from train.runs import workdir

  names = 'chat_template.jinja', 'tokenizer.json', 'tokenizer.model'
  for name in names:
    (tmp_path / name).write_text('x')
  workdir.put_tokenizer_aside(str(tmp_path))
  assert sorted(os.listdir(tmp_path)) == [f'{name}.unused' for name in names]
  (tmp_path / 'tokenizer.json').write_text('x')
  (tmp_path / 'metrics.jsonl').write_text('{}')
  workdir.put_tokenizer_aside(str(tmp_path))
  assert (tmp_path / 'tokenizer.json').exists()


def test_the_kind_of_a_run_is_bound():
  """A run may change the path of the file, but not its kind."""
  from train.runs import changes

  keys = ('data.tokenizer', 'data.tokenizer_kind', 'data.lowercase')
  assert [changes.is_free(key) for key in keys] == [True, False, False]
  assert changes.is_free('sharding.mesh.data')

"""`python -m models.pretrained`: begins and exports runs, rewrites files."""

import os
import shutil
import sys

import pytest
import transformers

from configs import llama, roberta
from input_pipeline.tokenizers import kinds, subwords
from models import pretrained
from models.pretrained import files
from models.pretrained import layout as layouts
from tests.helpers import runs
from tests.helpers.checkpoints import T5, assert_equal, make
from train import pretrained as command
from train.runs.checkpoint import CheckpointError, Checkpoints

SYNTHETIC = (
  '--config.data.source=synthetic',
  '--config.data.batch=8',
  '--config.train.steps=10',
)


def run(*arguments):
  command = [sys.executable, '-m', 'models.pretrained', *arguments]
  return runs.run(command)


def test_a_run_begins_with_published_weights_and_is_exported(tmp_path):
  config, params = make(**T5)
  published, workdir = str(tmp_path / 'published'), str(tmp_path / 'run')
  pretrained.save(config, params, published)
  flags = (
    '--config=configs/t5.py:tiny',
    *SYNTHETIC,
    '--config.data.sentinels=10',
    '--config.data.length=32',
    '--config.model.dropout=0.1',
    '--config.model.attention_dropout=0.1',
  )
  done = run(f'--from={published}', f'--workdir={workdir}', *flags)
  assert done.returncode == 0, done.stderr
  assert 'model.embed_dim: 12 (the config had 128)' in done.stdout
  assert runs.checkpoints(tmp_path / 'run') == [0]
  exported = str(tmp_path / 'exported')
  done = run(f'--workdir={workdir}', f'--to={exported}')
  assert done.returncode == 0, done.stderr
  again, loaded = pretrained.load(exported)
  assert again == config
  assert_equal(loaded, params)
  assert 'No tokenizer was written' in done.stdout

  done = run(f'--from={workdir}', f'--to={tmp_path / "other"}')
  assert done.returncode == 1
  assert done.stderr.startswith('Error: ')
  assert 'has no model_type' in done.stderr
  assert 'Traceback' not in done.stderr


def test_a_run_begins_with_the_pair_of_electra(tmp_path):
  config, params = make(
    family='electra', head='rtd', generator_divisor=2, max_length=32
  )
  published, workdir = str(tmp_path / 'pair'), str(tmp_path / 'run')
  pretrained.save(config, params, published)
  done = run(
    f'--from={published}',
    f'--workdir={workdir}',
    '--config=configs/electra.py:tiny',
    *SYNTHETIC,
    '--config.data.length=32',
    '--config.schedule.warmup_steps=1',
  )
  assert done.returncode == 0, done.stderr
  state = Checkpoints(workdir, read_only=True).restore_arrays(0, 'params')
  assert state.keys() == {'params'}  # and no state of the optimizer
  assert_equal(state['params'], params)


def test_the_tokenizer_of_a_run_is_exported_with_it(begun, tmp_path, capsys):
  target = tmp_path / 'exported'
  command.export(begun, str(target), 'float32')
  assert ', as tokenizer.json and tokeni' in capsys.readouterr().out
  for folder in begun, str(target):  # the same vocabulary
    loaded = kinds.load(folder, 10, 'bytes')
    assert loaded.fingerprint == subwords.Bytes(10).fingerprint
  theirs = transformers.AutoTokenizer.from_pretrained(str(target))
  # As T5's inputs, they end with EOS.
  assert theirs.encode('a b') == [100, 35, 101, 1]
  assert theirs.encode('a b', add_special_tokens=False) == [100, 35, 101]
  assert theirs.model_max_length == 32
  config, _ = pretrained.load(str(target))
  assert config.vocab_size == len(theirs)


def test_a_run_is_exported_with_the_length_of_its_rows(
  begun, tmp_path, monkeypatch
):
  seen = {}
  monkeypatch.setattr(
    pretrained, 'save', lambda *_, **given: seen.update(given)
  )
  command.export(begun, str(tmp_path / 'exported'), 'float32')
  assert seen['length'] == 32
  assert seen['kept'] == {
    'decoder_start_token_id': 0,
    'eos_token_id': 1,
    'pad_token_id': 0,
  }


def test_the_ids_of_special_tokens_of_a_decoder(tmp_path):
  """The ids are those of the run's tokenizer, not transformers' defaults."""
  config = llama.get_config('tiny').copy_and_resolve_references().unlock()
  config.data.update({'tokenizer_kind': 'bytes', 'sentinels': 0})
  tokenizer = kinds.train([], 300, 0, 'bytes')
  kinds.save(tokenizer, str(tmp_path / 'tokenizer.json'))
  data = {'tokenizer': tokenizer.fingerprint}
  _, ids, _ = command.tokenizer_files(str(tmp_path), config, data)
  assert ids == {'bos_token_id': 0, 'eos_token_id': 1, 'pad_token_id': 0}


def test_the_tokenizer_of_a_masked_model_frames_texts_as_its_rows(tmp_path):
  config = roberta.get_config('tiny')
  texts = ['a man is eating bread', 'a mango'] * 9
  tokenizer = kinds.train(texts, 270, 0, 'byte_bpe', specials=True)
  kinds.save(tokenizer, str(tmp_path / 'tokenizer.json'))
  data = {'tokenizer': tokenizer.fingerprint}
  found, _, _ = command.tokenizer_files(str(tmp_path), config, data)
  for name, content in found.items():
    (tmp_path / name).write_bytes(content)
  (tmp_path / 'config.json').write_text('{"model_type": "roberta"}')
  theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
  [ids] = tokenizer.encode_batch(['a man'])
  assert theirs.encode('a man') == [0, *ids.tolist(), 2]
  assert theirs.encode('a<mask>')[-2] == tokenizer.mask
  # The positions that the model has, from 2 on.
  assert theirs.model_max_length == config.model.max_length - 2


@pytest.mark.parametrize('pair', [False, True])
def test_a_rewritten_checkpoint_keeps_its_tokenizer(pair, tmp_path, capsys):
  changes = {'family': 'electra', 'head': 'rtd', 'generator_divisor': 2}
  config, params = make(**changes if pair else T5)
  source, target = str(tmp_path / 'source'), tmp_path / 'target'
  content = {'vocab.txt': b'[PAD]\na\n', 'tokenizer_config.json': b'{}'}
  pretrained.save(config, params, source, beside=content)
  command.convert(source, str(target), 'float16')
  for folder in ('discriminator', 'generator') if pair else ('',):
    for name, data in content.items():
      assert (target / folder / name).read_bytes() == data
  said = capsys.readouterr().out
  assert 'Copied its tokenizer: tokenizer_config.json, vocab.txt.' in said


def test_a_rewritten_checkpoint_means_the_same(tmp_path):
  """The checkpoint keeps its class, labels and special tokens."""
  names = {'id2label': {0: 'a', 1: 'b', 2: 'c'}, 'pad_token_id': 2}
  sizes = {'vocab_size': 30, 'num_hidden_layers': 2, 'hidden_size': 12}
  sizes |= {'num_attention_heads': 3, 'intermediate_size': 10}
  long = {'max_position_embeddings': 8192, 'bos_token_id': 5, 'eos_token_id': 6}
  for kind, fields in (
    ('LlamaForSequenceClassification', names | long),
    ('ElectraForMaskedLM', {'embedding_size': 12, 'pad_token_id': 2}),
    ('XLMRobertaForMaskedLM', {'pad_token_id': 2, 'type_vocab_size': 1}),
    (
      'RwkvForCausalLM',
      {'context_length': 50, 'rescale_every': 3, 'num_attention_heads': None},
    ),
    (
      'GPTJForCausalLM',
      {'n_positions': 50, 'n_inner': 44, 'rotary_dim': 4}
      | {'intermediate_size': None},
    ),
  ):
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**sizes | fields))
    source, target = str(tmp_path / kind), str(tmp_path / f'{kind}-again')
    model.save_pretrained(source)
    command.convert(source, target, 'float32')
    again = transformers.AutoConfig.from_pretrained(target)
    for name, value in fields.items():
      assert getattr(again, name, None) == value, (kind, name)
    assert again.architectures == [kind]
    loaded = getattr(transformers, kind).from_pretrained(target)
    for name, weight in model.state_dict().items():
      assert loaded.state_dict()[name].equal(weight), name


def flip(path):
  """Flips one bit."""
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


@pytest.mark.parametrize(
  'name', ['state/d/*', 'state/manifest.ocdbt', 'state/_METADATA', 'run/*']
)
@pytest.mark.parametrize('summed', [True, False])
def test_a_damaged_checkpoint_is_not_exported(begun, tmp_path, name, summed):
  shutil.copytree(begun, tmp_path / 'run')
  step = tmp_path / 'run' / 'checkpoints' / '0'
  damaged = max(step.glob(name), key=lambda file: file.stat().st_size)
  if summed:
    flip(damaged)
  else:  # while there are no checksums that show the bit
    (step / 'checksums.json').unlink()
    damaged.write_bytes(damaged.read_bytes()[:40])
  with pytest.raises((CheckpointError, ValueError), match=str(step)):
    command.export(str(tmp_path / 'run'), str(tmp_path / 'to'), 'float32')
  assert not (tmp_path / 'to').exists()


def test_exported_files_follow_the_umask(published, tmp_path):
  before = os.umask(0o022)
  try:
    command.convert(published, str(tmp_path / 'to'), 'float32')
  finally:
    os.umask(before)
  modes = {f.name: f.stat().st_mode & 0o777 for f in tmp_path.glob('to/*')}
  assert 'model.safetensors' in modes
  assert set(modes.values()) == {0o644}
  assert (tmp_path / 'to').stat().st_mode & 0o777 == 0o755


def test_a_full_disk_while_exporting(published, tmp_path):
  """One line names the folder; no part of the export is left."""
  target = tmp_path / 'to'
  arguments = ['-m', 'models.pretrained', f'--from={published}']
  done = runs.run([sys.executable, *arguments, f'--to={target}'], largest=2000)
  assert done.returncode == 1
  (line,) = done.stderr.strip().splitlines()
  assert line.startswith(f'Error: [Errno 27] {target} cannot be written: File')
  assert os.listdir(tmp_path) == []


def test_what_a_killed_export_left_is_cleared(published, tmp_path):
  """The same command clears it, unless another process still writes."""
  target = tmp_path / 'to'
  with files.new_folder(str(target)) as partial:
    with pytest.raises(ValueError, match='to: another process writes to it'):
      command.convert(published, str(target), 'float32')
    with open(os.path.join(partial, 'shard-0'), 'w') as file:
      file.write('half')
    os.mkdir(os.path.join(partial, 'generator'))
    shutil.copytree(partial, tmp_path / 'killed')
  shutil.rmtree(target)
  (tmp_path / 'killed').rename(partial)
  command.convert(published, str(target), 'float32')
  assert os.listdir(tmp_path) == ['to']
  assert not (target / 'shard-0').exists()
  assert not (target / 'generator').exists()


def test_what_cannot_be_written_is_refused_before_weights_are_read(
  published, begun, unread, tmp_path, monkeypatch
):
  full, free = published, str(tmp_path / 'free')
  for write, source in ((command.convert, published), (command.export, begun)):
    with pytest.raises(ValueError, match='t5 exists and is not empty'):
      write(source, full, 'float32')
    with pytest.raises(ValueError, match="dtype is 'int4'"):
      write(source, free, 'int4')
    with monkeypatch.context() as context:
      context.setattr(layouts.t5, 'write', layouts.gpt1.write)
      with pytest.raises(ValueError, match='No layout of transformers'):
        write(source, free, 'float32')
  assert os.listdir(tmp_path) == []

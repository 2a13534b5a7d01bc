"""The harness's tasks on our models, beside the harness's own HFLM."""

import dataclasses
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest
import transformers

from configs import gpt2
from input_pipeline.tokenizers import export, kinds, settings
from models.build import build
from tests.helpers import hf_reference as reference
from tests.helpers import tokenizers
from tests.helpers.checkpoints import make
from tests.helpers.decoders import tiny_decoder
from tests.helpers.harness import (
  LENGTH,
  TASKS,
  checkpoint,
  torch_model,
  write_tasks,
)
from tests.helpers.letters import Letters
from tests.helpers.runs import program
from tests.helpers.t5_reference import random_params
from train.applying import Published, open_published
from train.evaluation.likelihoods import windows
from train.generation.options import Options
from train.generation.writer import Writer
from train.runs.opening import open_run
from train.setup import set_up

pytest.importorskip('lm_eval', reason='install the extra lm_eval')

import lm_eval
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from train.evaluation import harness_tasks
from train.evaluation.harness import Harness


class Reference(HFLM):
  """HFLM whose encoder-decoders write as many tokens as the task says."""

  def _model_generate(self, context, max_length, stop, **kwargs):
    if self.backend == 'seq2seq':
      max_length += 1 - context.shape[1]
    return super()._model_generate(context, max_length, stop, **kwargs)


def scored(lm, folder):
  """Task -> metrics, and responses to each request."""
  tasks = harness_tasks.Tasks(include_path=folder, include_defaults=False)
  found = lm_eval.simple_evaluate(
    lm, tasks=[*TASKS], task_manager=tasks, bootstrap_iters=0
  )
  responses = {
    name: [row['filtered_resps'] for row in rows]
    for name, rows in found['samples'].items()
  }
  return found['results'], responses


def same(found, expected, tolerance):
  """Asserts the same metrics and responses; strings and choices are equal."""
  (ours, own), (theirs, their) = found, expected
  assert ours.keys() == theirs.keys() == TASKS.keys()
  for name in TASKS:
    for metric, value in theirs[name].items():
      if isinstance(value, float):
        value = pytest.approx(value, rel=tolerance)
      assert ours[name][metric] == value, (name, metric)
    for a, b in zip(own[name], their[name], strict=True):
      if name == 'write':
        assert a == b
        continue
      a, b = (np.array(x, float).reshape(-1) for x in (a, b))
      np.testing.assert_allclose(a, b, rtol=tolerance, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['gpt2', 'llama1', 't5', 'rwkv'])
def test_numbers_are_those_of_hflm(name, tmp_path, capsys):
  folder = checkpoint(name, tmp_path)
  tasks = write_tasks(tmp_path)
  ours = open_published(folder)
  lm = harness_tasks.make_harness(ours, 3)
  found = scored(lm, tasks)
  said = capsys.readouterr()[1]
  assert 'requests are too long: they lose their first' in said
  # transformers' RWKV knows no padding.
  theirs = Reference(
    folder, device='cpu', dtype='float32', batch_size=1 + 3 * (name != 'rwkv')
  )
  assert lm.max_length == theirs.max_length == LENGTH
  same(found, scored(theirs, tasks), 1e-4)
  _, responses = found
  assert len({text for (text,) in responses['write']}) > 2
  if name in ('gpt2', 't5'):
    for batch in (1, 8):
      lm = harness_tasks.make_harness(ours, batch)
      same(scored(lm, tasks), found, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['gpt2', 'llama1', 't5'])
def test_published_tokenizers_and_real_texts(name, tmp_path):
  """Lines of LAMBADA and of WikiText-2."""
  data = os.environ.get('TREELINE_DATA')
  if not data:
    pytest.skip('set TREELINE_DATA to a folder with real data (README.md)')
  data = pathlib.Path(data)
  given = {
    'gpt2': {
      'tok_gpt2/encoder.json': 'vocab.json',
      'tok_gpt2/vocab.bpe': 'merges.txt',
    },
    'llama1': {'tok_mistral/tokenizer.mistral-v1': 'tokenizer.model'},
    't5': {'tok_t5/t5_cc_all_derived_32100.model': 'spiece.model'},
  }[name]
  for file, own in given.items():
    shutil.copy(data / file, tmp_path / own)
  kind, tokenizer = {
    'gpt2': ('byte_bpe', 'GPT2Tokenizer'),
    'llama1': ('bpe', 'LlamaTokenizer'),
    't5': ('unigram', 'T5Tokenizer'),
  }[name]
  beside = {'tokenizer_class': tokenizer}
  (tmp_path / settings.CONFIG).write_text(json.dumps(beside))
  if name == 'llama1':
    # Before a text with a space transformers adds none; SentencePiece does.
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    theirs.save_pretrained(str(tmp_path))
    (tmp_path / 'tokenizer.model').unlink()
  made = kinds.load(str(tmp_path), 100 * (name == 't5'), kind)
  begins = {'gpt2': made.eos, 'llama1': made.bos}
  ids = {'bos_token_id': begins[name]} if name in begins else {}
  reference.saved(torch_model(name, made, **ids), tmp_path)
  rows = (data / 'lambada/lambada_openai.jsonl').read_text().split('\n')[:20]
  rows = [json.loads(row) for row in rows]
  texts = [f'{row["context"]} {row["continuation"]}' for row in rows]
  lines = (data / 'wikitext2_eval/wiki.test.raw').read_text().split('\n')
  tasks = write_tasks(tmp_path, [*texts, max(lines, key=len).strip()])
  theirs = Reference(str(tmp_path), device='cpu', dtype='float32', batch_size=4)
  lm = harness_tasks.make_harness(open_published(str(tmp_path)))
  same(scored(lm, tasks), scored(theirs, tasks), 1e-4)


class Named(Letters):
  """Letters with what every tokenizer has."""

  bos, specials = None, (0, 1, 2)

  def piece(self, i):
    return ('<pad>', '</s>', '<unk>')[i]


def requests(kind, *arguments):
  return [Instance(kind, {}, given, 0) for given in arguments]


PAIRS = [('so it', ' goes'), ('', 'on'), ('a b c ', 'd'), ('x' * 60, 'yz')]
TEXTS = [('so it goes on and on',), ('z',), ('once upon a time ' * 4,), ('',)]
PROMPTS = [
  ('so it', {'until': ['7'], 'max_gen_toks': 9}),
  ('', {'until': ['7'], 'max_gen_toks': 9}),
  ('once', {'do_sample': True, 'temperature': 1.0, 'max_gen_toks': 6}),
  ('once', {'do_sample': True, 'temperature': 1.0, 'max_gen_toks': 6}),
  ('upon', {'do_sample': True, 'temperature': 1.0, 'max_gen_toks': 6}),
]


def answers(lm):
  return (
    lm.loglikelihood(requests('loglikelihood', *PAIRS)),
    lm.loglikelihood_rolling(requests('loglikelihood_rolling', *TEXTS)),
    lm.generate_until(requests('generate_until', *PROMPTS)),
  )


def test_eight_devices_answer_as_one():
  config = gpt2.get_config('tiny')
  config.model.vocab_size = 48
  config.data.source = 'synthetic'
  config.sharding.rules = 'fsdp_tensor'
  config.sharding.mesh.update({'data': 2, 'fsdp': 2, 'tensor': 2})
  setup = set_up(config)
  params = random_params(setup.model)
  writer = Writer(setup.model, params, Named(), 0, False, 32, 8)
  mesh = dataclasses.replace(
    writer,
    params=jax.device_put(params, setup.places.params),
    mesh=setup.mesh,
    rules=setup.rules,
  )
  expected, found = (answers(Harness(x, 32, 0)) for x in (writer, mesh))
  for own, one in zip(found[0], expected[0], strict=True):
    assert own == (pytest.approx(one[0], rel=1e-4), one[1])
  assert found[1] == pytest.approx(expected[1], rel=1e-4)
  assert found[2] == expected[2]
  # What is drawn depends on the request's place, not on the batch.
  assert answers(Harness(writer, 32, 0, batch=2))[2] == expected[2]
  assert len({*expected[2][2:]}) == 3
  assert expected[1][-1] == 0


@pytest.fixture(scope='module')
def tiny():
  model = build(tiny_decoder(decoder_layers=1))
  writer = Writer(model, random_params(model), Named(), 0, False, None, 8)
  return Harness(writer, 40, 0, True)


def test_a_token_of_both_texts_is_neither_s(tiny):
  """Where 'yz' is one token, as the harness itself encodes a pair."""

  class Spanning(Named):
    def encode_batch(self, texts):
      return super().encode_batch([x.replace(b'yz', b'9') for x in texts])

  class Theirs:
    backend = 'causal'

    def tok_encode(self, text):
      return [*Spanning().encode_batch([text.encode()])[0]]

  writer = dataclasses.replace(tiny._writer, tokenizer=Spanning())
  ours = Harness(writer, 40, 0)
  for pair in (('xy', 'zzx'), ('xy  ', 'zz'), ('x', 'yz')):
    theirs = lm_eval.api.model.TemplateLM._encode_pair(Theirs(), *pair)
    assert ours._pair(*pair) == theirs
  assert len(ours._pair('xy', 'zzx')[1]) == 2


def test_windows_are_the_harness_s(tiny):
  """Each window's tokens, and what stands before them."""
  ids = [*range(5, 100)]
  ours = [*windows(ids, tiny.max_length, tiny.max_length, 0)]
  theirs = lm_eval.utils.get_rolling_token_windows(ids, 0, 40, 1)
  assert ours == [lm_eval.utils.make_disjoint_window(x) for x in theirs]


def test_generation_kwargs(tiny):
  greedy = Options(length=256, stop=('</s>',))
  drawn = dataclasses.replace(greedy, temperature=0.7, top_k=50)
  for given, expected in (
    ({}, greedy),
    ({'temperature': 0.0, 'do_sample': False, 'num_beams': 1}, greedy),
    ({'temperature': 0.7, 'do_sample': False, 'top_p': 0.5}, greedy),
    ({'temperature': 0.7}, drawn),
    (
      {'temperature': 0.7, 'do_sample': True, 'top_k': 5, 'top_p': 0.5},
      dataclasses.replace(drawn, top_k=5, top_p=0.5),
    ),
    (
      {'until': ['b', ''], 'max_new_tokens': 3},
      dataclasses.replace(greedy, length=3, stop=('b', '</s>')),
    ),
  ):
    assert tiny._options(given) == expected, given
  for given, message in (
    ({'num_beams': 4}, 'generation_kwargs have num_beams; what is read'),
    ({'do_sample': True}, 'do_sample needs a temperature above 0'),
    ({'max_gen_toks': 40}, 'max_gen_toks=40 .* no token of the 40'),
  ):
    with pytest.raises(ValueError, match=message):
      tiny.generate_until(requests('generate_until', ('a', given)))


def test_errors(tiny, tmp_path):
  for pair, message in (
    (('so it', ''), "continuation '' of the context 'so it' has 0 tokens"),
    (('so', ' it' * 30), 'has 90 tokens: .* at most 40'),
  ):
    with pytest.raises(ValueError, match=message):
      tiny.loglikelihood(requests('loglikelihood', pair))
  folder = write_tasks(tmp_path)
  tasks = harness_tasks.Tasks(include_path=folder, include_defaults=False)
  assert tasks.found(['w*', 'choice', 'write']) == ['write', 'choice']
  with pytest.raises(ValueError, match="no task 'last_wort'.*are last_word"):
    tasks.found(['last_wort'])
  with pytest.raises(ValueError, match='Chat templates are not supported'):
    lm_eval.simple_evaluate(
      tiny, tasks=['choice'], task_manager=tasks, apply_chat_template=True
    )
  (tmp_path / 'rows.jsonl').unlink()
  with pytest.raises(ValueError, match='tasks choice cannot be loaded: .*rows'):
    tasks.load(['choice'])


def test_which_texts_begin_with_bos(tmp_path):
  """By a tokenizer's files, as transformers reads them."""
  made = kinds.train(tokenizers.texts(), 400, 0, 'byte_bpe')
  for before in (), (made.eos,):
    for file, content in export.files(made, 'byte_bpe', before).items():
      (tmp_path / file).write_bytes(content)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert theirs.encode('') == [*before]
    assert settings.begins(str(tmp_path)) == bool(before)
  (tmp_path / settings.CONFIG).write_text('{"add_bos_token": false}')
  assert not settings.begins(str(tmp_path))
  for file in tmp_path.iterdir():
    file.unlink()
  (tmp_path / 'tokenizer.model').write_bytes(b'')
  assert settings.begins(str(tmp_path))


@pytest.mark.slow
def test_the_command(evaluated, tmp_path):
  """A run's numbers are those of Python, in a table, as JSON and in a file."""
  folder, out = write_tasks(tmp_path), tmp_path / 'out.json'
  flags = (
    '--lm_eval=last_word,choice', f'--include_path={folder}', '--limit=4',
    f'--out={out}',
  )  # fmt: skip
  done = program('evaluate', evaluated, *flags)
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert sum(line.startswith('|last_word') for line in lines) == 1
  assert sum('Tasks' in line for line in lines) == 1
  printed = [json.loads(line) for line in lines if line.startswith('{')]
  tasks = harness_tasks.Tasks(include_path=folder, include_defaults=False)
  names = ['last_word', 'choice']
  expected = harness_tasks.evaluate_tasks(
    open_run(str(evaluated)), names, limit=4, tasks=tasks
  )['results']
  assert [row.pop('lm_eval') for row in printed] == names
  assert {row.pop('step') for row in printed} == {8}
  written = json.loads(out.read_text())
  assert written['config']['model'] == str(evaluated)
  for name, row in zip(names, printed, strict=True):
    assert row['sample_len'] == 4
    for key, value in row.items():
      assert written['results'][name][key] == value
      assert expected[name][key] == pytest.approx(value, rel=1e-4), key
  before = out.read_bytes()
  done = program('evaluate', evaluated, *flags)
  assert (done.returncode, done.stdout) == (1, '')
  assert (
    done.stderr == f'Error: --out={out} is there already: name another file.\n'
  )
  assert out.read_bytes() == before


def test_encoders_answer_no_request():
  config, params = make()
  published = Published('bert', build(config), params, Named(), None)
  with pytest.raises(ValueError, match="bert holds .*'encoder', which gener"):
    harness_tasks.make_harness(published)

"""Special tokens of runs that begin with checkpoints, and of what runs export.

Every layout has a vocabulary of odd ids. transformers must have the same ids,
logits and greedy text after the published start.
"""

import json
import os

import numpy as np
import pytest
import torch
import transformers

from configs import (
  bert,
  electra,
  gpt2,
  llama,
  roberta,
  rwkv,
  t5,
)
from input_pipeline.config import DataConfig
from input_pipeline.tokenizers import kinds
from models import pretrained
from models.build import build
from tests.helpers import hf_decoders, runs
from tests.helpers import hf_reference as reference
from tests.helpers.checkpoints import make
from tests.models.pretrained.conftest import MASKED, ODD, V
from train import generate, make_writer, open_published
from train import pretrained as command
from train.generation.options import Options
from train.runs import opening
from train.runs.workdir import read_config


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  return runs.write_text(tmp_path_factory.mktemp('text') / 'files')


def recipe(file, source, **data):
  """A tiny config for a checkpoint with a byte-level vocabulary."""
  config = file.get_config('tiny')
  config.data.update(
    {'source': source, 'holdout': 10, 'block': 16, 'batch': 8, 'length': 16}
    | {'tokenizer_kind': 'byte_bpe'}
    | data
  )
  config.train.steps, config.train.phases = 500, ()
  return config


def run_and_export(model, tokenizer, config, folder):
  """A checkpoint, the run that begins with it, and what the run exports."""
  published, run, target = (str(folder / x) for x in ('in', 'run', 'out'))
  model.save_pretrained(published)
  kinds.save(tokenizer, os.path.join(published, 'tokenizer.json'))
  command.begin(published, config, run)
  command.export(run, target, 'float32')
  return run, target


def ids_of(folder):
  """(bos, eos, pad, decoder start) in config.json; generation's are equal."""
  found = []
  for name in ('config.json', 'generation_config.json'):
    with open(os.path.join(folder, name)) as file:
      fields = json.load(file)
    roles = ('bos', 'eos', 'pad', 'decoder_start')
    found.append([fields.get(f'{role}_token_id') for role in roles])
  assert found[0] == found[1]
  return found[0]


def greedy(folder, cls, text, start):
  """What transformers writes after `start` and the ids of a text."""
  model = cls.from_pretrained(folder)
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  ids = tokenizer.encode(text, add_special_tokens=False)
  source = torch.tensor([[*start, *ids]])
  with torch.no_grad():
    found = model.generate(
      source, attention_mask=torch.ones_like(source), max_new_tokens=6,
      do_sample=False,
    )  # fmt: skip
  return found[0, source.shape[1] :].tolist()


def ours(run, tokenizer, text):
  """The text that `train.generate` writes."""
  found = generate.generate(run, texts=[text], options=Options(length=6))
  return found.partition('prediction: ')[2].removesuffix('\n')


def from_published(target, text):
  """The text that the exported checkpoint writes, read by Treeline again."""
  writer = make_writer(open_published(target))
  ((answer,),) = writer.answers([text], Options(length=6))
  return answer.text


@pytest.mark.parametrize('name', [*hf_decoders.LAYOUTS])
def test_decoders_begin_and_end_texts_as_published(
  name, text, vocabulary, tmp_path
):
  tokenizer = vocabulary[ODD]
  model = hf_decoders.torch_model(
    name, vocab_size=V, bos_token_id=7, eos_token_id=V - 1, pad_token_id=None
  )
  file = {'rwkv': rwkv, 'llama3.1': llama}.get(name, gpt2)
  run, target = run_and_export(model, tokenizer, recipe(file, text), tmp_path)
  data = DataConfig(**read_config(run).data)
  assert (data.start, data.bos) == ('bos' if file is llama else 'none', 7)
  assert ids_of(target) == [7, V - 1, None, None]
  again = type(model).from_pretrained(target)
  ids = torch.arange(12)[None] + V - 12
  with torch.no_grad():
    reference.close(again(ids).logits.numpy(), model(ids).logits)
  prompt = 'abcde fghij'
  [own] = tokenizer.encode_batch([prompt])
  theirs = transformers.AutoTokenizer.from_pretrained(target)
  assert theirs.encode(prompt, add_special_tokens=False) == own.tolist()
  # Rows of windows have no start; a published tokenizer keeps what it adds.
  assert theirs.encode(prompt) == [7] * (file is llama) + own.tolist()
  wanted = greedy(target, type(model), prompt, [7])
  assert ours(run, tokenizer, prompt) == tokenizer.decode(wanted)
  assert from_published(target, prompt) == tokenizer.decode(wanted)


def test_opt_keeps_its_ids(text, vocabulary, tmp_path):
  """bos and eos are </s>, 2; the vocabulary alone would say <s>, 0."""
  tokenizer = vocabulary[MASKED]
  ids = {'bos_token_id': 2, 'eos_token_id': 2, 'pad_token_id': 1}
  model = hf_decoders.torch_model('opt', vocab_size=V, **ids)
  config = recipe(gpt2, text, start='pad')  # as rows were
  run, target = run_and_export(model, tokenizer, config, tmp_path)
  assert ids_of(target) == [2, 2, 1, None]
  data = opening.open_data(opening.open_run(run))
  rows = next(data.batches(data.start(), np.arange(8)))
  begins = (rows['positions'] == 0) & (rows['segments'] > 0)
  assert {*rows['inputs'][begins]} == {2}
  prompt = 'abcde fghij'
  theirs = transformers.AutoTokenizer.from_pretrained(target)
  [own] = tokenizer.encode_batch([prompt])
  assert theirs.encode(prompt) == [2, *own]
  wanted = greedy(target, type(model), prompt, [2])
  assert ours(run, tokenizer, prompt) == tokenizer.decode(wanted)


def test_the_start_of_the_decoder_of_t5(text, vocabulary, tmp_path):
  tokenizer = vocabulary[ODD]
  torch.manual_seed(0)
  model = reference.randomise(
    transformers.T5ForConditionalGeneration(
      transformers.T5Config(
        vocab_size=V,
        d_model=24,
        d_kv=10,
        d_ff=40,
        num_layers=2,
        num_heads=3,
        decoder_start_token_id=5,
        pad_token_id=3,
        eos_token_id=V - 1,
      )  # fmt: skip
    )
  )
  config = recipe(
    t5, text, objective='prefix', sentinels=0, noise_density=0.0,
    mean_span_length=0.0,
  )  # fmt: skip
  run, target = run_and_export(model, tokenizer, config, tmp_path)
  assert read_config(run).data.start == '5'
  assert ids_of(target) == [None, V - 1, V - 1, 5]
  again = type(model).from_pretrained(target)
  prompt = 'abcde fghij'
  theirs = transformers.AutoTokenizer.from_pretrained(target)
  source = theirs(prompt, return_tensors='pt')
  [own] = tokenizer.encode_batch([prompt])
  assert source['input_ids'].tolist() == [[*own, V - 1]]
  with torch.no_grad():
    found = again.generate(
      input_ids=source['input_ids'], attention_mask=source['attention_mask'],
      max_new_tokens=6, do_sample=False,
    )  # fmt: skip
  assert found[0, 0] == 5
  wanted = tokenizer.decode(found[0, 1:].tolist())
  assert ours(run, tokenizer, prompt) == wanted
  assert from_published(target, prompt) == wanted


ROBERTA = {'position_offset': 2, 'norm_epsilon': 1e-5, 'pooler_dropout': True}
ROBERTA |= {'vocab_size': V, 'max_length': 34, 'token_types': 0, 'head': 'mlm'}
PAIR = {'family': 'electra', 'head': 'rtd', 'generator_divisor': 2}


@pytest.mark.parametrize(
  ('file', 'model'),
  [
    (bert, {'head': 'mlm', 'max_length': 32}),
    (roberta, ROBERTA),
    (electra, PAIR | {'max_length': 32}),
  ],
)
def test_encoders_frame_texts_as_their_rows(
  file, model, text, vocabulary, tmp_path
):
  tokenizer = vocabulary[MASKED]
  published, run, target = (str(tmp_path / x) for x in ('in', 'run', 'out'))
  config, params = make(**model | {'vocab_size': V})
  pretrained.save(
    config, params, published, beside={'tokenizer.json': tokenizer.model}
  )
  own = {'objective': 'mlm', 'pack': True, 'short_share': 0.0}
  own |= {'lowercase': False, 'predictions': 4, 'length': 32}
  settings = recipe(file, text, **own)
  settings.model.head = config.head
  command.begin(published, settings, run)
  command.export(run, target, 'float32')
  for folder in ('discriminator', 'generator') if file is electra else ('',):
    folder, before = (os.path.join(x, folder) for x in (target, published))
    found = transformers.AutoConfig.from_pretrained(folder)
    ids = found.bos_token_id, found.eos_token_id, found.pad_token_id
    assert ids == (0, 2, 1)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    [one] = tokenizer.encode_batch(['abcde fghij'])
    assert theirs.encode('abcde fghij') == [0, *one, 2]
    assert theirs.encode('abcde fghij', add_special_tokens=False) == [*one]
    assert theirs.mask_token_id == tokenizer.mask
    cls = getattr(transformers, found.architectures[0])
    ids = torch.randint(3, V, [2, 20], generator=torch.manual_seed(0))
    with torch.no_grad():
      first, second = (cls.from_pretrained(x)(ids) for x in (before, folder))
    reference.close(first.logits, second.logits)


@pytest.mark.parametrize('pad', [0, 1, 6])
def test_positions_of_roberta_follow_its_padding(pad, tmp_path):
  """No other id matters, nor does that of <pad> in RoBERTa's own vocabulary."""
  config, params = make(**ROBERTA)
  folder = str(tmp_path / 'out')
  kept = {'pad_token_id': pad, 'bos_token_id': 3, 'eos_token_id': 4}
  pretrained.save(config, params, folder, kept=kept)
  model = transformers.RobertaForMaskedLM.from_pretrained(folder).eval()
  assert model.config.pad_token_id == pad
  assert (model.config.bos_token_id, model.config.eos_token_id) == (3, 4)
  ids = np.random.default_rng(0).permutation(12)[None].astype('int32')
  ids[ids == pad] = 20
  with torch.no_grad():
    theirs = model(torch.from_numpy(ids).long()).logits
  outputs = build(config).apply(
    {'params': params}, ids, np.ones_like(ids), np.arange(12)[None]
  )
  reference.close(outputs['logits'], theirs)

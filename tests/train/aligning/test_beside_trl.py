"""Losses and gradients equal to trl's, on the same weights.

trl.json has trl's own: trl_numbers.py writes it. What trl no longer has, an
encoder-decoder's, is transcribed here.
"""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
import transformers

from input_pipeline.config import data_config
from models import pretrained
from models.build import build
from models.pretrained.layouts import llama, t5
from tests.helpers import answers, compared
from tests.helpers import hf_reference as reference
from train.aligning import criteria
from train.generation.prompts import padded

TRL = json.loads((Path(__file__).parent / 'trl.json').read_text())
METHODS = 'dpo', 'ipo', 'kto', 'orpo', 'simpo'


@pytest.fixture(scope='module')
def llamas(tmp_path_factory):
  """The config, and the parameters of the policy and of the reference."""
  found = []
  for seed in 0, 1:
    folder = tmp_path_factory.mktemp(f'llama{seed}')
    saved = reference.saved(compared.torch_llama(seed), folder)
    found.append(pretrained.load(saved))
  return found[0][0], found[0][1], found[1][1]


def loss_of(config, model, params, batch):
  """The loss as training has it, from sums and means."""
  criterion = criteria.criterion_for(config.align)
  sums = criterion.sums(model, params, batch)
  return criterion.means(sums | criterion.weights(batch))['loss'], sums


@pytest.mark.parametrize('method', METHODS)
def test_a_decoder_learns_as_with_trl(method, llamas):
  described, policy, start = llamas
  config = answers.config_of(method)
  model = build(described)
  batch = answers.batch_of(data_config(config), 'decoder', padding=1)
  batch['reference'], _ = criteria.log_probs(model, start, batch)
  of = functools.partial(loss_of, config, model, batch=batch)
  (loss, _), grads = jax.jit(jax.value_and_grad(of, has_aux=True))(policy)
  theirs = TRL[method]
  np.testing.assert_allclose(loss, theirs['loss'], rtol=3e-6)
  named = reference.under_their_names(described, grads, llama)
  assert named.keys() == theirs['gradients'].keys()
  for name, ours in compared.projections(named).items():
    wanted = theirs['gradients'][name]
    np.testing.assert_allclose(
      ours, wanted, rtol=0, atol=2e-5 * wanted[0], err_msg=name
    )


# ---- An encoder-decoder ------------------------------------------------------


@pytest.fixture(scope='module')
def t5s(tmp_path_factory):
  """Two torch T5s; the config, and the parameters of both."""
  found = []
  for seed in 0, 1:
    config = transformers.T5Config(
      vocab_size=compared.V, d_model=16, d_kv=6, d_ff=24, num_layers=2,
      num_heads=2, dropout_rate=0.0, pad_token_id=0, eos_token_id=compared.EOS,
      decoder_start_token_id=0, tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.T5ForConditionalGeneration(config)
    model = reference.randomise(model, seed).eval()
    saved = reference.saved(model, tmp_path_factory.mktemp(f't5{seed}'))
    found.append((model, *pretrained.load(saved)))
  return found


def torch_log_probs(model, answers_):
  """log p of each target, 0 beyond the answer, and the answers' lengths."""
  sources = [[*prompt, compared.EOS] for prompt in compared.PROMPTS]
  targets = [[*answer, compared.EOS] for answer in answers_]
  (source, read), (target, real) = (
    (torch.tensor(x) for x in padded(rows, max(map(len, rows))))
    for rows in (sources, targets)
  )
  logits = model(
    input_ids=source,
    attention_mask=read,
    decoder_input_ids=model._shift_right(target),
  ).logits
  found = torch.log_softmax(logits, -1).gather(-1, target[..., None])[..., 0]
  return found * real, real.sum(1)


def transcribed(method, policy, start):
  """The papers' formulas in torch."""
  single = method == 'kto'
  seconds = compared.next_answers() if single else compared.REJECTED
  (first, n), (second, m) = (
    torch_log_probs(policy, x) for x in (compared.CHOSEN, seconds)
  )
  with torch.no_grad():
    ref = [
      torch_log_probs(start, x)[0].sum(1) for x in (compared.CHOSEN, seconds)
    ]
  c, r, beta = first.sum(1), second.sum(1), compared.BETA
  log_sigmoid = torch.nn.functional.logsigmoid
  match method:
    case 'dpo':
      return -log_sigmoid(beta * ((c - ref[0]) - (r - ref[1]))).mean()
    case 'ipo':
      gap = (c - ref[0]) / n - (r - ref[1]) / m
      return ((gap - 1 / (2 * beta)) ** 2).mean()
    case 'kto':
      kl = (r - ref[1]).mean().detach().clamp(min=0)
      good, bad = compared.WEIGHTS
      up = good * (1 - torch.sigmoid(beta * (c - ref[0] - kl)))
      down = bad * (1 - torch.sigmoid(beta * (kl - c + ref[0])))
      return torch.where(torch.tensor(compared.LABELS) > 0, up, down).mean()
    case 'orpo':
      p, q = torch.exp(c / n), torch.exp(r / m)
      odds = torch.log(p / (1 - p)) - torch.log(q / (1 - q))
      return -c.sum() / n.sum() - beta * log_sigmoid(odds).mean()
  gap = beta * (c / n - r / m) - compared.MARGIN
  return -log_sigmoid(gap).mean()


@pytest.mark.parametrize('method', METHODS)
def test_an_encoder_decoder_learns_by_the_papers_formulas(method, t5s):
  (policy, described, params), (start, _, others) = t5s
  config = answers.config_of(method, 'encoder_decoder')
  model = build(described)
  batch = answers.batch_of(data_config(config), 'encoder_decoder', padding=1)
  batch['reference'], _ = criteria.log_probs(model, others, batch)
  of = functools.partial(loss_of, config, model, batch=batch)
  (loss, _), grads = jax.jit(jax.value_and_grad(of, has_aux=True))(params)
  policy.zero_grad()
  theirs = transcribed(method, policy, start)
  theirs.backward()
  np.testing.assert_allclose(loss, theirs.item(), rtol=3e-6)
  reference.gradients_close(described, grads, policy, t5)


# ---- Parts of a batch --------------------------------------------------------


@pytest.mark.parametrize('method', ['dpo', 'orpo'])
def test_parts_of_a_batch_add_up(method, llamas):
  """So do the means of parts, with the weights of the whole batch."""
  described, policy, start = llamas
  config = answers.config_of(method)
  model = build(described)
  batch = answers.batch_of(data_config(config), 'decoder')
  batch['reference'], _ = criteria.log_probs(model, start, batch)
  criterion = criteria.criterion_for(config.align)
  whole, sums = loss_of(config, model, policy, batch)
  weights = criterion.weights(batch)
  assert weights == {name: sums[name] for name in weights}
  parts = [{k: x[n : n + 2] for k, x in batch.items()} for n in (0, 2)]
  found = [
    criterion.means(criterion.sums(model, policy, x) | weights)['loss']
    for x in parts
  ]
  np.testing.assert_allclose(sum(found), whole, rtol=1e-5)

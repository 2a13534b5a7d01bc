"""Writes trl.json: the losses and gradients of trl's own trainers.

It runs where trl is installed, which Treeline does not need:

  pip install trl torch
  PYTHONPATH=. python tests/train/aligning/trl_numbers.py
"""

import json
import os
import tempfile

os.environ['TRL_EXPERIMENTAL_SILENCE'] = '1'

import datasets
import torch
import transformers
import trl
from trl.experimental import cpo, orpo

from tests.helpers import compared

PLACE = os.path.join(os.path.dirname(__file__), 'trl.json')


def trainer(cls, config, kind, **own):
  """A trainer of a fresh policy; its data set is not read."""
  import tokenizers

  words = {f'w{n}': n for n in range(compared.V)}
  model = tokenizers.models.WordLevel(words, unk_token='w3')
  found = tokenizers.Tokenizer(model)
  found.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
  tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_object=found, pad_token='w0', bos_token='w1', eos_token='w2'
  )
  row = {'prompt': 'w5', 'chosen': ' w6', 'rejected': ' w7'}
  if kind == 'kto':
    row = {'prompt': 'w5', 'completion': ' w6', 'label': True}
  args = config(
    tempfile.mkdtemp(), report_to='none', use_cpu=True, bf16=False,
    beta=compared.BETA, per_device_train_batch_size=4, disable_dropout=True,
    gradient_checkpointing=False, **own,
  )  # fmt: skip
  given = {} if kind in ('orpo', 'simpo') else {
    'ref_model': compared.torch_llama(1)
  }  # fmt: skip
  return cls(
    model=compared.torch_llama(0), args=args, processing_class=tokenizer,
    train_dataset=datasets.Dataset.from_list([row] * 4), **given,
  )  # fmt: skip


def pairs(prefix=''):
  """The batch of trl's DPO: chosen rows, then rejected ones."""
  prompts = [*compared.PROMPTS] * 2
  return compared.padded(prompts, [*compared.CHOSEN, *compared.REJECTED])


def separate():
  """The batch of trl's ORPO and CPO."""
  found = {}
  for name, answers in (
    ('chosen', compared.CHOSEN), ('rejected', compared.REJECTED),
  ):  # fmt: skip
    rows = compared.padded(compared.PROMPTS, answers)
    ids, answered = rows['input_ids'], rows['completion_mask']
    found[f'{name}_input_ids'] = ids
    found[f'{name}_attention_mask'] = rows['attention_mask']
    found[f'{name}_labels'] = torch.where(answered == 1, ids, -100)
  return found


def answers_alone():
  """The batch of trl's KTO."""
  found = compared.padded(compared.PROMPTS, compared.CHOSEN)
  others = compared.padded(compared.PROMPTS, compared.next_answers())
  found |= {f'KL_{name}': x for name, x in others.items()}
  return found | {'label': torch.tensor(compared.LABELS, dtype=torch.bool)}


def loss_of(name):
  """The loss of a method, and the trainer that has its gradients."""
  good, bad = compared.WEIGHTS
  match name:
    case 'dpo' | 'ipo':
      kind = {'dpo': 'sigmoid', 'ipo': 'ipo'}[name]
      made = trainer(trl.DPOTrainer, trl.DPOConfig, name, loss_type=[kind])
      return made.compute_loss(made.model, pairs()), made
    case 'kto':
      made = trainer(
        trl.KTOTrainer, trl.KTOConfig, name, desirable_weight=good,
        undesirable_weight=bad,
      )  # fmt: skip
      return made.compute_loss(made.model, answers_alone()), made
    case 'orpo':
      made = trainer(orpo.ORPOTrainer, orpo.ORPOConfig, name)
    case 'simpo':
      made = trainer(
        cpo.CPOTrainer, cpo.CPOConfig, name, loss_type='simpo', cpo_alpha=0.0,
        simpo_gamma=compared.MARGIN,
      )  # fmt: skip
  return made.get_batch_loss_metrics(made.model, separate())[0], made


def main():
  found = {'trl': trl.__version__, 'transformers': transformers.__version__}
  for name in ('dpo', 'ipo', 'kto', 'orpo', 'simpo'):
    loss, made = loss_of(name)
    made.model.zero_grad()
    loss.backward()
    gradients = compared.projections(
      {name: x.grad.numpy() for name, x in made.model.named_parameters()}
    )
    found[name] = {'loss': loss.item(), 'gradients': gradients}
  with open(PLACE, 'w') as file:
    json.dump(found, file, indent=1)
    file.write('\n')


if __name__ == '__main__':
  main()

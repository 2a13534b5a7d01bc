"""Recipes as they are: what their data decide, and what is made up."""

import json

import jax
import pytest

from configs import t5
from configs.align import dpo, grpo, reward
from configs.finetune import bert, llama
from train import fit
from train.fitting import resolving

MODEL = "sizes of the model are the config's"


def resolved(config):
  notes = []
  config = resolving.resolve(config, notes.append)
  assert MODEL in notes[0]
  return config, notes[1:]


def test_a_recipe_has_the_steps_that_its_data_give(tmp_path, capsys):
  chat = [{'role': x, 'content': 'hello'} for x in ('user', 'assistant')]
  path = tmp_path / 'a.jsonl'
  path.write_text(f'{json.dumps({"messages": chat})}\n' * 40)
  task = f'messages:{path}'
  config, notes = resolved(llama.get_config(f'size=tiny,task={task}'))
  assert (config.train.steps, config.train.epochs) == (2 * 40 / 16, 0)
  assert notes == []
  assert capsys.readouterr().out == ''  # it is the report's, or JSON


@pytest.mark.parametrize(
  'config',
  [
    llama.get_config('size=tiny'),
    dpo.get_config('size=tiny'),
    reward.get_config('family=encoder,size=tiny'),
    grpo.get_config('family=encoder_decoder,size=tiny'),
  ],
)
def test_a_recipe_without_data_has_a_step(config):
  found, (note,) = resolved(config)
  assert note.startswith('No data are named')
  _, batch = fit.prepared(found, jax.devices()[:1])
  assert {len(x.shape) for x in batch.values()} >= {2}
  if found.align.method == 'grpo':
    with pytest.raises(ValueError, match='To see what its model and optim'):
      fit.compiled_step(found, jax.devices()[:1])


def test_a_task_that_decides_the_head_must_be_named():
  with pytest.raises(ValueError, match='name it, --config=finetune/FILE.py'):
    resolving.resolve(bert.get_config('size=tiny'), print)


def test_other_configs_are_unchanged():
  config, notes = t5.get_config('tiny'), []
  assert resolving.resolve(config, notes.append) == config
  assert notes == []

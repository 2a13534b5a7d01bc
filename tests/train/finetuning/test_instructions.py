"""A tiny LLaMA learns chats, and a tiny FLAN-T5 tasks in words."""

import builtins
import dataclasses
import json
import math
import shutil
import types

import jax
import numpy as np
import pytest
import transformers
from flax.traverse_util import flatten_dict

from configs import flan_t5
from configs.finetune import llama, t5
from input_pipeline import pipeline
from input_pipeline.chat import encoding
from input_pipeline.chat.messages import exchange
from input_pipeline.config import data_config
from input_pipeline.instructions.catalog import find
from models import pretrained as published
from models.pretrained.peft import writing
from tests.helpers import runs
from train import evaluate, finetune, generate, open_published, pretrained
from train.finetuning import adoption
from train.generation.files import answering, read_prompts
from train.generation.making import make_writer
from train.generation.options import Options
from train.reporting.metrics import read_metrics
from train.runs import opening, workdir
from train.setup import set_up

SMALL = {
  'model.embed_dim': 16, 'model.mlp_dim': 32, 'model.heads': 2,
  'model.kv_heads': 2, 'model.head_dim': 8, 'model.decoder_layers': 1,
  'data.length': 96, 'data.batch': 8, 'data.streams': 2, 'eval.samples': 0,
  'train.steps': 4, 'train.log_every': 1, 'eval.every': 4,
  'checkpoint.every': 4,
}  # fmt: skip


@pytest.fixture(scope='module')
def chats(tmp_path_factory):
  """A LLaMA of a few steps on chats of one or two turns."""
  folder = tmp_path_factory.mktemp('chats')
  path = folder / 'chats.jsonl'
  rows = [
    exchange(f'say {n}', str(n)) + exchange('again', str(n)) * (n % 2)
    for n in range(40)
  ]
  path.write_text(''.join(json.dumps({'messages': x}) + '\n' for x in rows))
  task = f'task=messages:{path},validation={path},name=say,metric=accuracy'
  config = runs.set_keys(
    llama.get_config(f'size=tiny,version=2,{task}'),
    SMALL | {
      'model.rope_dim': 8, 'data.tokenizer_kind': 'bytes', 'train.epochs': 0.0,
      'model.vocab_size': 259,
    },
  )  # fmt: skip
  finetune.finetune(config, str(folder / 'run'))
  return folder / 'run', path


def test_a_chat_model_trains_and_is_scored(chats):
  run, _ = chats
  rows = [*read_metrics(str(run))]
  losses = [row['train/loss'] for row in rows if 'train/loss' in row]
  assert np.isfinite(losses).all()
  assert losses[-1] < losses[0]
  again = evaluate.evaluate_run(str(run))
  assert (
    again['messages/say/accuracy'] == rows[-1]['eval/messages/say/accuracy']
  )


def test_an_epoch_is_a_row_for_each_answer(chats):
  """An encoder-decoder has one for each turn, a decoder for each chat."""
  _, path = chats
  config = t5.get_config(f'size=tiny,task=messages:{path}').unlock()
  config.data.batch, config.data.pack = 8, False
  config.train.epochs, config.train.steps = 2.0, 0
  config.eval.every = config.checkpoint.every = 0
  resolved = adoption.resolve(config.lock())
  assert resolved.train.steps == 2 * (40 + 20) // 8
  assert resolved.eval.every == -(-(40 + 20) // 8)

  config = llama.get_config(f'size=tiny,task=messages:{path}').unlock()
  config.data.batch, config.train.epochs = 8, 2.0
  assert adoption.resolve(config.lock()).train.steps == 2 * 40 // 8


def test_held_out_chats_are_in_no_epoch(chats):
  """Chats 9, 19, 29 and 39, of two turns, are neither learnt nor shown."""
  _, path = chats
  for module, rows in (t5, 36 + 16), (llama, 36):
    config = module.get_config(f'size=tiny,task=messages:{path}').unlock()
    config.data.batch, config.data.pack, config.data.holdout = 1, False, 10
    config.data.tokenizer_kind, config.model.vocab_size = 'bytes', 384
    config.train.epochs, config.train.steps = 1.0, 0
    config = adoption.resolve(config.lock())
    assert config.train.steps == rows
    setup = set_up(config, jax.devices()[:1])
    data = pipeline.open_data(
      setup.data, 0, config.model.vocab_size, family=config.model.family
    )
    assert len(data.corpora[0].labels.others) == 36
    assert len(data.evaluated[0].examples) == 4


def test_a_prompt_is_what_the_user_says(chats):
  run, path = chats
  writer = make_writer(opening.open_run(str(run)))
  data = opening.open_data(opening.open_run(str(run)))
  wanted = encoding.prompt(exchange('say 3', 'x')[:1], data.template,
                           data.tokenizer)  # fmt: skip
  assert writer.encoded('say 3').tolist() == [*wanted]
  assert wanted[0] == data.start_id
  assert writer.end == data.template.end == data.end_id
  with pytest.raises(ValueError, match='as a chat; there is room for 96'):
    writer.encoded('say 3' * 40)


CHAT = [*exchange('say 3', '3'), *exchange('say 4', 'x')[:1]]


def test_a_prompt_is_a_chat(chats, tmp_path, capsys):
  """Several turns are read, from a file and at the terminal."""
  run, _ = chats
  writer = make_writer(opening.open_run(str(run)))
  data = opening.open_data(opening.open_run(str(run)))
  wanted = encoding.prompt(CHAT, data.template, data.tokenizer)
  assert writer.encoded(CHAT).tolist() == [*wanted]
  bare = dataclasses.replace(writer, template=None)
  text = 'User: say 3\n\nAssistant: 3\n\nUser: say 4\n\nAssistant:'
  assert bare.encoded(CHAT).tolist() == bare.encoded(text).tolist()

  path = tmp_path / 'chats.jsonl'
  path.write_text(json.dumps({'prompt': CHAT}) + '\n')
  assert read_prompts(str(path)) == [{'prompt': CHAT}]
  answer = answering(writer, Options(length=4))([CHAT], 0)
  assert answer[0]['answers'][0]['tokens']
  path.write_text(json.dumps({'prompt': CHAT[:2]}) + '\n')
  with pytest.raises(ValueError, match='line 1, prompt: the last message must'):
    read_prompts(str(path))


def test_a_conversation(chats, monkeypatch, capsys):
  """Each line is a turn of a chat; an empty one begins another."""
  run, _ = chats
  model = opening.open_run(str(run))
  writer = make_writer(model)
  seen, lines = [], iter(['say 3', 'say 4', '', 'say 5'])

  def typed(_):
    try:
      return next(lines)
    except StopIteration:
      raise EOFError from None

  def stream(prompt, options):
    seen.append([x['content'] for x in prompt])
    yield from ('an ', 'answer')

  monkeypatch.setattr(builtins, 'input', typed)
  spied = types.SimpleNamespace(
    template=writer.template, stream=stream, unread=''
  )
  generate._converse(model, spied, Options())
  assert seen == [['say 3'], ['say 3', 'an answer', 'say 4'], ['say 5']]
  assert 'an empty one begins a new chat' in capsys.readouterr().out


@pytest.fixture(scope='module')
def exported(chats, tmp_path_factory):
  """The run in transformers' layout."""
  folder = str(tmp_path_factory.mktemp('exported') / 'hf')
  pretrained.export(str(chats[0]), folder, 'float32')
  return folder


def test_an_export_has_the_template(chats, exported):
  run, path = chats
  theirs = transformers.AutoTokenizer.from_pretrained(exported)
  chat = json.loads(path.read_text().splitlines()[1])['messages']
  opened = opening.open_data(opening.open_run(str(run)))
  ours = encoding.encode(chat, opened.template, opened.tokenizer)
  wanted = theirs.apply_chat_template(chat, return_dict=False)
  assert ours.ids.tolist() == wanted


def test_a_base_with_an_adapter_of_peft_answers(exported, tmp_path):
  """As the checkpoint into which the adapter was merged."""
  adapter, merged = str(tmp_path / 'peft'), str(tmp_path / 'merged')
  config, params = published.load(exported)
  flat = flatten_dict(params, sep='/')
  at = 'decoder/layers/mlp/output'
  _, rows, columns = flat[f'{at}/kernel'].shape
  rng = np.random.default_rng(0)
  factors = {
    f'{at}/{name}': rng.standard_normal((1, *shape)).astype('float32')
    for name, shape in (('a', (rows, 2)), ('b', (2, columns)))
  }
  writing.save(config, flat, factors, adapter, rank=2, alpha=4.0)
  pretrained.convert(exported, merged, 'float32', adapter)

  def answer(*folders):  # opened as the command does
    writer = make_writer(open_published(*folders, scan=False))
    ((found,),) = writer.answers(['say 3'], Options(length=8))
    return found.tokens

  assert answer(exported, adapter) == answer(merged) != answer(exported)


def test_a_published_template_writes_chats_alone(chats, exported, tmp_path):
  """A text is read as it is, also beside a chat."""
  writer = make_writer(open_published(exported, scan=False))
  theirs = transformers.AutoTokenizer.from_pretrained(exported)
  wanted = theirs.apply_chat_template(
    CHAT, add_generation_prompt=True, return_dict=False
  )
  assert writer.encoded(CHAT).tolist() == wanted
  text = theirs('say 3')['input_ids'][:-1]  # without EOS
  assert writer.encoded('say 3').tolist() == text
  (chat,), (alone,) = writer.answers([CHAT, 'say 3'], Options(length=8))
  own = make_writer(opening.open_run(str(chats[0])))
  ((known,),) = own.answers([CHAT], Options(length=8))
  assert chat.tokens == known.tokens
  ((known,),) = writer.of_texts.answers(['say 3'], Options(length=8))
  assert alone.tokens == known.tokens
  assert ''.join(writer.stream('say 3', Options(length=8))) == alone.text

  broken = tmp_path / 'broken'
  shutil.copytree(exported, broken)
  (broken / 'chat_template.jinja').write_text('{{ messages[0].content }}')
  writer = make_writer(open_published(str(broken), scan=False))
  assert writer.encoded('say 3').tolist() == text
  with pytest.raises(ValueError, match='template of .*broken does not suit'):
    writer.encoded(CHAT)


def test_a_published_template_is_adopted(chats, exported, tmp_path, capsys):
  """Unless the config says how, or a run goes on that had none."""
  _, path = chats
  config = llama.get_config(f'size=tiny,task=messages:{path}')

  def adopted(folder=tmp_path, **changes):
    changes = {f'data.{key}': value for key, value in changes.items()}
    found = adoption.adopt_published_template(
      runs.set_keys(config, changes), str(folder), exported
    )
    return found.data.chat_template

  assert adopted(chat_template='') == 'own'
  said = "data.chat_template: 'own' (the config had ''; 'plain' leaves"
  assert said in capsys.readouterr().out
  assert adopted(chat_template='plain') == 'plain'
  assert adopted(chat_template='', objective='classification') == ''
  (tmp_path / 'tokenizer.json').write_text('{}')
  other = str(tmp_path / 'tokenizer.json')
  assert adopted(chat_template='', tokenizer=other) == ''
  assert 'tokenizer.json' in capsys.readouterr().out
  before = runs.set_keys(config, {'data.chat_template': ''})
  workdir.claim(str(tmp_path), before)
  assert adopted(chat_template='') == ''


def test_a_template_of_one_turn_is_refused_at_the_start(chats, tmp_path):
  """Before anything is compiled, and only if a chat has several turns."""
  _, path = chats
  template = tmp_path / 'last.jinja'
  template.write_text(
    '{% for m in messages %}{{ m.content }}'
    "{{ eos_token if loop.last or m.role == 'user' }}{% endfor %}"
  )
  single = tmp_path / 'single.jsonl'
  rows = path.read_text().splitlines()
  single.write_text('\n'.join(rows[::2]))

  def opened(file):
    config = llama.get_config(f'size=tiny,task=messages:{file},name=say')
    changes = {'chat_template': str(template), 'tokenizer_kind': 'bytes'}
    changes |= {'length': 96, 'holdout': 5}
    config = runs.set_keys(config, {f'data.{k}': x for k, x in changes.items()})
    return pipeline.open_data(data_config(config), 0, 259, family='decoder')

  assert opened(single).template.name == str(template)
  message = (
    'chats.jsonl.* has chats of several turns. The chat .* once the chat'
  )
  with pytest.raises(ValueError, match=message):
    opened(path)


def test_flan_t5_holds_a_cluster_out(tmp_path):
  """The run evaluates the held-out cluster alone, from its first step."""
  run = tmp_path / 'flan'
  config = runs.set_keys(
    flan_t5.get_config('size=tiny,heldout=numbers_yes_no'),
    SMALL | {
      'model.encoder_layers': 1, 'data.target_length': 32,
      'model.relative_buckets': 8, 'data.tokenizer_kind': 'bytes',
      'model.vocab_size': 259, 'data.documents': 16,
    },
  )  # fmt: skip
  finetune.finetune(config, str(run))
  *_, last = read_metrics(str(run))
  scored = {key for key in last if key.endswith('/accuracy') and 'flan' in key}
  assert scored == {
    'eval/flan/numbers/more/accuracy',
    'eval/flan/numbers/even/accuracy',
  }
  assert runs.checkpoints(run) == [4]


def test_epochs_of_packed_rows_are_refused():
  config = runs.set_keys(
    flan_t5.get_config('tiny'), {'train.epochs': 2.0, 'train.steps': 0}
  )
  with pytest.raises(ValueError, match='train.epochs is 2.0, but with data.p'):
    adoption.resolve(config)
  config = runs.set_keys(config, {'data.pack': False, 'data.batch': 1000})
  counts = [
    len(find(name.removeprefix('task:')).make('train'))
    for name, _ in config.data.mixture
  ]
  assert adoption.resolve(config).train.steps == math.ceil(
    2 * sum(counts) / 1000
  )

"""Tasks of lm-evaluation-harness, and tiny checkpoints that answer them."""

import json

import transformers

from input_pipeline.tokenizers import export, kinds
from tests.helpers import hf_decoders, tokenizers
from tests.helpers import hf_reference as reference

LENGTH = 48  # tokens that each model reads at once
LAST = "{{text.split(' ')[-1]}}"
MEAN = {'aggregation': 'mean', 'higher_is_better': True}
TASKS = {
  # The last word, as in LAMBADA.
  'last_word': {
    'output_type': 'loglikelihood',
    'doc_to_text': "{{text.split(' ')[:-1]|join(' ')}}",
    'doc_to_target': LAST,
    'metric_list': [
      {'metric': 'perplexity', 'aggregation': 'perplexity'},
      {'metric': 'acc', **MEAN},
    ],
  },
  'choice': {
    'output_type': 'multiple_choice',
    'doc_to_text': '{{question}}',
    'doc_to_choice': '{{choices}}',
    'doc_to_target': '{{label}}',
    'fewshot_split': 'test',
    'num_fewshot': 1,
    'metric_list': [{'metric': x, **MEAN} for x in ('acc', 'acc_norm')],
  },
  'rolling': {
    'output_type': 'loglikelihood_rolling',
    'doc_to_text': '',
    'doc_to_target': '{{text}}',
    'metric_list': [
      {'metric': 'word_perplexity'},
      {'metric': 'bits_per_byte'},
    ],
  },
  'write': {
    'output_type': 'generate_until',
    'doc_to_text': '{{question}}',
    'doc_to_target': LAST,
    'generation_kwargs': {'until': ['q'], 'max_gen_toks': 9},
    'metric_list': [{'metric': 'exact_match', **MEAN}],
  },
}


def write_tasks(folder, texts=()):
  """YAML files (JSON is YAML) of TASKS on a file of texts; returns a folder."""
  texts = texts or tokenizers.texts(5)
  texts = [*texts, ' '.join(texts)[:500], 'alone']  # too long, and no context
  rows = []
  for n, text in enumerate(texts):
    words = text.split(' ')
    question = ' '.join(words[: n + 2]) + ' ' * (n % 2)
    choices = [words[-1], *words[:1], f'{words[-1]} {words[0]}']
    choices = [*dict.fromkeys(choices)]  # no two are equally likely
    label = n % len(choices)
    rows.append(
      {'text': text, 'question': question, 'choices': choices, 'label': label}
    )
  data = folder / 'rows.jsonl'
  data.write_text('\n'.join(map(json.dumps, rows)))
  path = folder / 'tasks'
  path.mkdir()
  for name, task in TASKS.items():
    beside = {'data_files': {'test': str(data)}, 'cache_dir': str(folder)}
    own = {'task': name, 'dataset_path': 'json', 'dataset_kwargs': beside}
    own |= {'test_split': 'test', 'metadata': {'version': 1}} | task
    (path / f'{name}.yaml').write_text(json.dumps(own))
  return str(path)


def torch_model(name, tokenizer, **ids):
  size = {'vocab_size': tokenizer.size, 'eos_token_id': tokenizer.eos} | ids
  if name != 't5':
    places = {
      'gpt2': 'n_positions',
      'rwkv': 'context_length',
      'llama1': 'max_position_embeddings',
    }[name]
    return hf_decoders.torch_model(name, **size | {places: LENGTH})
  config = transformers.T5Config(
    **size | {'d_model': 24, 'd_kv': 8, 'd_ff': 40, 'num_layers': 2},
    num_heads=3, decoder_start_token_id=0, pad_token_id=0, n_positions=LENGTH,
  )  # fmt: skip
  model = transformers.T5ForConditionalGeneration(config)
  return reference.randomise(model)


def checkpoint(name, folder):
  """A folder with a model of random weights and a tokenizer of its own."""
  kind = 'unigram' if name == 't5' else 'byte_bpe'
  made = kinds.train(tokenizers.texts(), tokenizers.SIZES[kind], 0, kind)
  around = {'llama1': ((made.eos,), ()), 't5': ((), (made.eos,))}
  ids = {} if name == 't5' else {'bos_token_id': made.eos}
  reference.saved(torch_model(name, made, **ids), folder)
  written = export.files(made, kind, *around.get(name, ((), ())))
  for file, content in written.items():
    (folder / file).write_bytes(content)
  return str(folder)

"""How full the rows of every recipe are, on a sample of C4.

  python -m benchmarks.packing --data=DIR

DIR is the folder of benchmarks/samples.py. Chunks of the sample's documents
become rows as in training. Each document is read once; a corpus smaller than a
chunk is repeated until it fills one. Each kind of rows that systems and sizes
have is one line; the vocabulary is a published one of the recipe's kind, or
T5's. `python -m input_pipeline.inspect` shows the same of one config.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks import samples
from configs import tree
from configs.commands import command
from input_pipeline.config import data_config
from input_pipeline.objectives import features
from input_pipeline.objectives.rows import batch_shapes, encode, make_rows
from input_pipeline.tokenizers import kinds

# One of each kind of rows, and the recipes whose rows are alike.
RECIPES = {
  'transformer:base': 'Transformer base, big',
  'gpt1': 'GPT-1',
  'gpt2:xl': 'GPT-2, all sizes',
  'rwkv:14b': 'RWKV-4, all sizes',
  'lamda': 'LaMDA',
  'yalm': 'YaLM',
  'gpt3:175b': 'GPT-3, Jurassic-1, Gopher, Chinchilla, MT-NLG, BLOOM',
  'palm:540b': 'PaLM, all sizes',
  'llama:7b': 'LLaMA, all sizes',
  'llama:7b,version=2': 'LLaMA 2, all sizes',
  'llama:8b,version=3': 'LLaMA 3, all sizes',
  'llama:8b,version=3.1': 'LLaMA 3.1, all sizes',
  't5:11b': 'T5, all sizes',
  't5:recipe=baseline': "T5's baseline",
  'ablations:t5,objective=prefix': 'T5 with `prefix`',
  'ablations:t5,objective=deshuffling': 'T5 with `deshuffling`',
  'ablations:t5,objective=bert_style': 'T5 with `bert_style`, `mass_style`',
  'ablations:t5,objective=drop_tokens': 'T5 with `drop_tokens`',
  'ul2:20b': 'UL2',
  'bert:base': 'BERT, all sizes',
  'roberta:large': 'RoBERTa, all sizes',
  'ablations:roberta,objective=doc_sentences': 'RoBERTa, `doc_sentences`',
  'electra:small': 'ELECTRA small',
  'electra:base': 'ELECTRA base, large',
  't5:tiny': 'tiny T5',
  'ul2:tiny': 'tiny UL2',
  'gpt2:tiny': 'tiny decoders with `data.start=none`',
  'llama:tiny': 'tiny LLaMA, PaLM, LaMDA',
  'llama:tiny,version=3': 'tiny LLaMA 3',
  'bert:tiny': 'tiny BERT',
  'roberta:tiny': 'tiny RoBERTa',
  'electra:tiny': 'tiny ELECTRA',
}

_DATA = flags.DEFINE_string('data', None, 'The folder.', required=True)


def measure(phase, family, documents, tokenizer):
  """Rows, and share of the places filled: of each side where there are two."""
  shapes = batch_shapes(phase, family)
  names = [n for n in ('encoder_segments', 'segments') if n in shapes]
  filled, rows = np.zeros(len(names)), 0
  if phase.repeats:
    documents = documents * max(1, phase.block // len(documents))
  for first in range(0, len(documents), phase.block):
    chunk = documents[first : first + phase.block]
    rng = np.random.default_rng(first)
    made = make_rows(chunk, tokenizer, phase, shapes, rng, family)
    batch = features.split(made, shapes)
    filled += [(batch[name] > 0).sum() for name in names]
    rows += len(made)
  return rows, filled / [rows * shapes[name][0][0] for name in names]


def main(_):
  data = samples.root(_DATA.value)
  texts = [text.encode() for text in samples.texts(data)]
  encoded = {}
  print(
    '| recipe | objective | length | block | rows | filled |\n'
    '|---|---|---|---|---|---|'
  )
  with tempfile.TemporaryDirectory() as folder:
    published = samples.vocabularies(data, Path(folder))
    for reference, name in RECIPES.items():
      config = tree.config_of(reference)
      settings = data_config(config)
      kind = settings.tokenizer_kind
      if kind == 'byte_bpe':
        path = published['roberta' if settings.masks else 'gpt2'][0]
      elif kind == 'wordpiece':
        path = published['bert'][0]
      else:
        kind, path = 'unigram', published['t5'][0]
      # T5's file has 100 sentinels; one of them is used for all further ones.
      sentinels = settings.sentinels
      tokenizer = kinds.load(
        path, min(sentinels, 100), kind, settings.lowercase
      )
      if sentinels > 100:
        tokenizer.sentinels = np.resize(tokenizer.sentinels, sentinels)
      if settings.start == 'bos' and tokenizer.bos is None:
        settings = dataclasses.replace(settings, bos=0)
      key = path, settings.sentences
      if key not in encoded:
        encoded[key] = encode(texts, tokenizer, settings)
      for phase in settings.kinds:
        rows, filled = measure(
          phase, config.model.family, encoded[key], tokenizer
        )
        shares = ' and '.join(f'{share:.1%}' for share in filled)
        print(
          f'| {name} | `{phase.objective}` | {phase.length:,} |'
          f' {phase.block:,} | {rows:,} | {shares} |',
          flush=True,
        )


if __name__ == '__main__':
  command.start(main)

"""Texts and sizes of small tokenizers, and published files of one."""

import json
import random

from input_pipeline.tokenizers import kinds

SENTINELS = 7
SIZES = {'unigram': 90, 'bpe': 400, 'wordpiece': 200, 'byte_bpe': 400}
TEXT = 'Bad banana, got 7 limes: ŝtelo 汉字 😀'


def texts(count=400):
  """Sentences of made-up words, with capitals, accents and punctuation."""
  rng = random.Random(0)
  syllables = [a + b for a in 'bdfgklmnprst' for b in 'aeiouéü']
  words = [
    ''.join(rng.choices(syllables, k=rng.randint(1, 3))) for _ in range(99)
  ]
  sentences = (rng.choices(words, k=12) for _ in range(count))
  return [' '.join(w).capitalize() + rng.choice('.!?,7') for w in sentences]


def write_gpt2(tokenizer, folder):
  """The files that GPT-2's vocabulary is published as."""
  content = json.loads(tokenizer.model)['model']
  (folder / 'encoder.json').write_text(json.dumps(content['vocab']))
  lines = ['#version: 0.2', *map(' '.join, content['merges'])]
  (folder / 'vocab.bpe').write_text('\n'.join(lines) + '\n')


def with_specials(kind, names):
  """A trained tokenizer whose last ids are further special tokens."""
  made = kinds.train(texts(), 400, 0, kind)
  if not names:
    return made
  content = json.loads(made.model)
  for n, name in enumerate(names, made.size):
    content['model']['vocab'][name] = n
    token = {'id': n, 'content': name, 'special': True}
    flags = dict.fromkeys(
      ('single_word', 'lstrip', 'rstrip', 'normalized'), False
    )
    content['added_tokens'].append(token | flags)
  return type(made)(content, 0, 'made')

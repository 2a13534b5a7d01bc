"""The real data that benchmarks read: a sample of C4, published vocabularies.

A folder has c4_sample_1k/c4-sample*.json.gz, as allenai/c4 publishes it, and
tok_bert/vocab.txt, tok_gpt2/{encoder.json,vocab.bpe}, tok_roberta/dict.txt
(fairseq's, of which the first 50,260 rows are RoBERTa's) and
tok_t5/t5_cc_all_derived_32100.model.
"""

import gzip
import json
import random
import shutil
from pathlib import Path

FILE = 'c4_sample_1k/c4-sample.00000-of-00001.json.gz'
FILES = (
  FILE,
  'tok_bert/vocab.txt',
  'tok_gpt2/encoder.json',
  'tok_gpt2/vocab.bpe',
  'tok_roberta/dict.txt',
  'tok_t5/t5_cc_all_derived_32100.model',
)


def root(name: str) -> Path:
  """The folder that --data names; ends the program where it lacks a file."""
  for file in FILES:
    if not Path(name, file).exists():
      raise SystemExit(
        f'Error: --data={name} has no {file}; benchmarks/samples.py says what '
        'must be there.'
      )
  return Path(name).resolve()


def lines(data: str) -> list[bytes]:
  """The sample's documents, a line of JSON each, of the data's folder."""
  sample = gzip.decompress(Path(data, FILE).read_bytes())
  return [line for line in sample.split(b'\n') if line.strip()]


def texts(data: str) -> list[str]:
  return [json.loads(line)['text'] for line in lines(data)]


def write(folder: Path, data: str, files: int, copies: int) -> str:
  """Writes files as allenai/c4 publishes them; returns their data.source.

  Each has `copies` shuffled copies of the sample.
  """
  documents, rng = lines(data), random.Random(0)
  for number in range(files):
    mixed = rng.sample(documents, len(documents)) * copies
    path = folder / f'c4-train.{number:05d}-of-{files:05d}.json.gz'
    path.write_bytes(gzip.compress(b'\n'.join(mixed), 6))
  return f'json:{folder}/*.json.gz'


def vocabularies(data: str, folder: Path) -> dict[str, tuple[str, int]]:
  """Vocabularies by name, and the rows of the table that each needs.

  RoBERTa's is put together in `folder`, of GPT-2's files and the rows of
  dict.txt that it has.
  """
  roberta = folder / 'roberta'
  roberta.mkdir()
  for name in ('encoder.json', 'vocab.bpe'):
    shutil.copy(Path(data, 'tok_gpt2', name), roberta)
  rows = Path(data, 'tok_roberta/dict.txt').read_text().splitlines()
  (roberta / 'dict.txt').write_text('\n'.join(rows[:50260]) + '\n')
  return {
    't5': (f'{data}/tok_t5/t5_cc_all_derived_32100.model', 32128),
    'bert': (f'{data}/tok_bert/vocab.txt', 30522),
    'gpt2': (f'{data}/tok_gpt2', 50257),
    'roberta': (str(roberta), 50265),
  }

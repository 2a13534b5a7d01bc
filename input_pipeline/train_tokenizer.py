"""Trains a tokenizer of a config's kind on its source, for data.tokenizer.

  python -m input_pipeline.train_tokenizer --config=configs/t5.py:tiny \\
    --out=t5.model
  python -m input_pipeline.train_tokenizer --config=configs/bert.py:base \\
    --config.data.source='json:c4/*.json.gz' --config.model.vocab_size=30522 \\
    --config.data.tokenizer_kind=wordpiece --config.data.lowercase=True \\
    --out=bert.json

The config decides the tokenizer: data.source (without held-out documents),
tokenizer_kind, lowercase, normalization, lossless, sentinels, the special
tokens of data.objective, and model.vocab_size. The same text gives the same
bytes.
"""

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()

import os
import time

from absl import flags
from ml_collections import ConfigDict, config_flags

from configs.commands import command
from input_pipeline import config as data_config
from input_pipeline import tokenizing
from input_pipeline.sources import paths
from input_pipeline.streams import corpus
from input_pipeline.tokenizers import kinds
from input_pipeline.tokenizers.interface import Tokenizer, check_size


def run(config: ConfigDict, out: str) -> None:
  """Trains, writes and describes a tokenizer.

  Raises ValueError when `out` exists or has not the ending of the kind's files,
  and when nothing can be trained.
  """
  data = data_config.data_config(config)
  if data.tokenizer_kind == 'bytes':
    raise ValueError(
      "data.tokenizer_kind='bytes' needs no training: set data.tokenizer=''."
    )
  out = os.path.expanduser(out)
  if paths.is_remote(out):
    raise ValueError(f'--out={out} must be a local file: copy it there later.')
  suffix = os.path.splitext(kinds.file_name(data.tokenizer_kind))[1]
  if not out.endswith(suffix):
    raise ValueError(
      f'--out={out} must end in {suffix}, as files of'
      f' data.tokenizer_kind={data.tokenizer_kind!r} do.'
    )
  if os.path.exists(out):
    raise ValueError(f'--out={out} exists: name another file, or delete it.')
  if data.tokenizer:
    raise ValueError(
      f'data.tokenizer={data.tokenizer!r} is a tokenizer already: leave the key'
      ' out to train another.'
    )
  start, seen = time.perf_counter(), []
  try:
    tokenizer = tokenizing.train(
      data, config.seed, config.model.vocab_size, seen
    )
  finally:  # the reason for too little text may be unreadable documents
    bad = [what for what in seen if what]
    if bad:
      corpus.check_share(len(bad), len(seen), data, bad[0])
      print(f'{len(bad)} of {len(seen)} documents were left out. {bad[0]}')
  check_size(tokenizer, config.model.vocab_size)
  kinds.save(tokenizer, out, '--out')
  print(describe(tokenizer, data.tokenizer_kind))
  print(f'Wrote {out} after {time.perf_counter() - start:.1f} s.')


def describe(tokenizer: Tokenizer, kind: str) -> str:
  """A tokenizer's size and special tokens, as text."""
  named = ', '.join(
    f'{role} {i} ({tokenizer.piece(i)})'
    for role in ('pad', 'bos', 'eos', 'unk', 'cls', 'sep', 'mask')
    if (i := getattr(tokenizer, role)) is not None
  )
  lines = [f'{kind}: {tokenizer.size:,} ids', f'  {named}']
  if len(tokenizer.sentinels):
    first, last = tokenizer.sentinels[[0, -1]]
    lines.append(f'  sentinels {first} down to {last}')
  lines.append(f'  sha256 {tokenizer.fingerprint}')
  return '\n'.join(lines)


if __name__ == '__main__':
  CONFIG = config_flags.DEFINE_config_file(
    'config', None, 'configs/FILE.py[:ARG]'
  )
  OUT = flags.DEFINE_string(
    'out',
    None,
    'the new file: NAME.model of SentencePiece, NAME.json of others',
  )
  flags.mark_flags_as_required(['config', 'out'])
  command.run(lambda: run(CONFIG.value, OUT.value))

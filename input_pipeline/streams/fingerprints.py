"""The fingerprint of opened data: everything that decides its rows, as JSON.

A checkpoint stores it, and a run that resumes compares it with its data's.
"""

import dataclasses
import json
from typing import Any

from configs.differences import differences
from input_pipeline.config import DataConfig
from input_pipeline.streams.corpus import Corpus

FORMAT = 5  # of the rows: raised when the same config gives other rows


def of(
  config: DataConfig,
  seed: int,
  tokenizer: str,
  corpora: list[Corpus],
  evaluated: list[Corpus],
) -> dict[str, Any]:
  """The fingerprint, as a checkpoint gives it back: JSON has no tuples.

  `tokenizer` is the tokenizer's own fingerprint. `corpora` are trained on and
  `evaluated` evaluated on; what is held out of a corpus adds nothing new.
  """
  sources = [corpus.source.fingerprint for corpus in corpora]
  others = [c.source.fingerprint for c in evaluated if not c.held_out]
  found = {
    'format': FORMAT,
    'seed': seed,
    'data': _described(config),
    'tokenizer': tokenizer,
    'source': sources if config.mixture else sources[0],
    'eval_source': others[0] if len(others) == 1 else others or '',
  }
  return json.loads(json.dumps(found))


def _described(config):
  """The fields that decide the rows.

  Paths are not among them: contents have fingerprints of their own.
  """
  fields = dataclasses.asdict(config)
  for key in (
    *('tokenizer', 'tokenizer_kind', 'lowercase', 'normalization', 'lossless'),
    *('max_bad_share', 'threads', 'epochs', 'task_folder'),
  ):
    del fields[key]
  fields['curriculum'] = ()  # a key that older runs have
  fields['source'] = config.source.partition(':')[0]
  fields['mixture'] = [
    [name.partition(':')[0], rate] for name, rate in config.mixture
  ]
  # Older runs do not have these keys: they are left out while unused.
  for key in (
    *('mixture', 'documents', 'loss_on_inputs'),
    *('framing', 'choices', 'label_scale', 'orders', 'single_sentences'),
    *('phases', 'borrow_sentinels', 'chat_template', 'prompts', 'dimensions'),
    *('shots', 'shot_share', 'option_share', 'inverted_share'),
  ):
    if not fields[key]:
      del fields[key]
  if config.text_field == 'text':
    del fields['text_field']
  if config.rates == 'given':
    for key in ('rates', 'rate_cap', 'rate_temperature'):
      del fields[key]
  return fields


def changes(old: Any, new: Any, path: str = '') -> list[str]:
  """A readable line for each difference between two fingerprints."""
  found = []
  for key, a, b in differences({path: old}, {path: new}):
    key = key.removeprefix('.')
    if not (isinstance(a, list) and isinstance(b, list)):
      hint = ' (CHANGELOG.md lists what each version makes differently)'
      found.append(f'{key}: {a!r}, now {b!r}{hint * (key == "format")}')
    elif len(a) != len(b):
      found.append(f'{key}: {_entries(a, b)}, now {_entries(b, a)}')
    else:
      for n, pair in enumerate(zip(a, b, strict=True)):
        found += changes(*pair, f'{key}[{_file(pair[0]) or n}]')
  return found


def _entries(entries, others):
  """How many entries there are, and files among them that `others` lack."""
  known = {_file(entry) for entry in others}
  own = [name for name in map(_file, entries) if name and name not in known]
  shown = ', '.join(own[:3]) + ', ...' * (len(own) > 3)
  return f'{len(entries)} entries' + f' ({shown} among them)' * bool(own)


def _file(entry):
  """The file that an entry of a source's fingerprint describes, or None."""
  return entry.get('file') if isinstance(entry, dict) else None

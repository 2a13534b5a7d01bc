"""Prints every config key as Markdown, with its type, default and meaning.

`python -m configs.keys > docs/config.md` writes the document again.
"""

from configs import common
from configs.commands import command

INTRODUCTION = """\
# Config keys

Every key of a config, from the table `KEYS` in `configs/common.py`. This file
is written by `python -m configs.keys > docs/config.md`.

`python -m train --config=FILE.py[:ARG] --workdir=DIR --config.KEY=VALUE` sets a
key for one run. FILE.py is a path, or the name of a packaged config: `t5.py`,
or just `t5`. `--help` beside `--config` shows the values of that config.

A key without a default (-) gets its value in the paper's file. A default of
`0`, `''`, `()` or `False` means that the feature is off, unless the meaning
says otherwise. The letters are those of `models/__init__.py`: D is the width of
the model, H that of a head, T the length of a row, and so on."""

GROUPS = {
  '': 'The run',
  'model': 'The model',
  'data': 'The data',
  'optimizer': 'The optimizer',
  'tuning': 'What is trained',
  'align': 'Alignment',
  'schedule': 'The learning rate',
  'train': 'Training',
  'eval': 'Evaluation',
  'checkpoint': 'Checkpoints',
  'sharding': 'Devices',
}


def markdown() -> str:
  """The whole of docs/config.md."""
  lines = [INTRODUCTION]
  for group, title in GROUPS.items():
    lines += ['', f'## {title}', '']
    lines += ['| key | type | default | meaning |', '|---|---|---|---|']
    for name, key in common.KEYS.items():
      if name.rpartition('.')[0].partition('.')[0] == group:
        default = '-' if isinstance(key.default, type) else f'`{key.default!r}`'
        cells = (f'`{name}`', key.type.__name__, default, _meaning(key))
        lines.append(f'| {" | ".join(cells)} |')
  return '\n'.join(lines)


def main(argv: list[str]) -> None:
  if len(argv) > 1:
    raise SystemExit(f'Error: unknown arguments: {" ".join(argv[1:])}.')
  print(markdown())


def _meaning(key: common.Key) -> str:
  choices = ', '.join(f'`{choice or repr("")}`' for choice in key.choices)
  text = f'{key.meaning}; one of {choices}' if choices else key.meaning
  return text.replace('|', r'\|').replace('[', r'\[').replace('<', r'\<')


if __name__ == '__main__':
  command.start(main)

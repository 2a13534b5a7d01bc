"""What the page says of a system and of an edge.

Everything is read where the repository keeps it: the configs and what their
files say, the published counts and tables of configs/papers, the proofs in
docs/measured.md and the runs in benchmarks/results. An installed package has
only the first two.
"""

import functools
import json
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from configs import lineage, phases
from configs.lineage import config_of, key_of, shown
from configs.papers import records
from configs.papers.parameters import PUBLISHED
from configs.papers.tables import TABLES
from configs.systems import SYSTEMS, UNDISCLOSED

ROOT = pathlib.Path(__file__).parents[2]
PROOFS = 'docs/measured.md'
RUNS = 'benchmarks/results/recipes.json'
# Keys that a row of a table may change and still be of the system itself.
TEXTS = {'data.source', 'data.mixture', 'data.rates', 'data.target_length'}
DROPOUT = {'model.dropout', 'model.attention_dropout', 'model.remat'}


class Grid(NamedTuple):
  """A table: what its columns are, and its rows, whose first cell names it."""

  title: str
  columns: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ''


class Change(NamedTuple):
  """An edge: two configs, and every key in which they differ, by group."""

  old: str
  new: str
  why: str  # there is no difference to show; '': there is
  groups: dict[str, list[tuple[str, str, str]]]


def change_of(key: str) -> Change:
  """What separates a system from its ancestor, as `--diff=KEY` shows it."""
  old, new = lineage.compared(key)
  try:
    rows = lineage.difference(config_of(old), config_of(new))
  except ValueError as error:
    return Change(old, new, str(error), {})
  groups = {}
  for name, (before, after) in rows.items():
    group, _, rest = name.partition('.')
    cells = rest or group, shown(before), shown(after)
    groups.setdefault(group, []).append(cells)
  return Change(old, new, '', groups)


def about(key: str) -> list[str]:
  """What the config's file says: the paper, choices, cost, scores."""
  text = lineage.module_of(key).__doc__.strip()
  paragraphs = re.split(r'\n\n|\n(?=Cost\b|Reached\b)', text)
  return [' '.join(paragraph.split()) for paragraph in paragraphs]


def is_trained(key: str) -> bool:
  """Whether there is a config that trains it."""
  return SYSTEMS[key].changed != UNDISCLOSED


def sizes(key: str) -> Grid | None:
  """Every size with a published count, its shape and its recipe."""
  rows = []
  for reference, (published, counted) in PUBLISHED.items():
    if key_of(reference) != key:
      continue
    c = config_of(reference)
    m = c.model
    heads = f'{m.heads}' if m.heads else '-'
    if m.kv_heads != m.heads:
      heads += f' ({m.kv_heads} of keys)'
    rows.append((
      _size(reference, key),
      published,
      f'{counted:,}',
      ' + '.join(str(n) for n in (m.encoder_layers, m.decoder_layers) if n),
      f'{m.embed_dim:,}',
      f'{m.mlp_dim:,}',
      heads,
      f'{c.data.batch:,} x {c.data.length:,}',
      f'{c.train.steps:,}',
      _short(phases.counts(phases.of(c), c.train.steps)['tokens']),
      f'{c.schedule.learning_rate:.3g}',
    ))  # fmt: skip
  if not rows:
    return None
  columns = (
    'size', 'published', 'counted here', 'layers', 'width', 'MLP', 'heads',
    'batch x length', 'steps', 'tokens', 'rate',
  )  # fmt: skip
  return Grid(f'Sizes: {lineage.sizes_of(key)}', columns, rows)


def recipe(key: str) -> Grid:
  """How the default size is made and trained."""
  c = config_of(key)
  m, d, o, s, t = c.model, c.data, c.optimizer, c.schedule, c.train
  family = f'{m.family}, head {m.head}'
  gate = 'gated ' if m.gated else ''
  block = (
    f'{m.norm_placement} {m.norm}, {gate}{m.activation}, '
    f'positions {m.position}, bias {m.bias}'
  )
  if m.parallel != 'none':
    block += ', attention and MLP side by side'
  corrupted = f', {d.noise_density:g} of the tokens' if d.noise_density else ''
  made = _set(o, ('b1', 'b2', 'epsilon', 'decay_rate', 'weight_decay', 'clip'))
  rate = f'{s.name}, {s.learning_rate:.3g}'
  if s.warmup_steps:
    rate += f' after {s.warmup_steps:,} {s.unit} of warm-up'
  rest = _set(t, ('label_smoothing', 'z_loss', 'max_logit_loss'))
  rows = [
    ('model', family),
    ('block', block),
    ('dropout', shown(m.dropout)),
    ('tokenizer', f'{d.tokenizer_kind}, {m.vocab_size:,} rows'),
    ('objective', d.objective + corrupted),
    ('data', d.source or 'a mixture'),
    ('batch', f'{d.batch:,} rows of {d.length:,} tokens'),
    ('steps', f'{t.steps:,}'),
    ('optimizer', ', '.join([o.name, *made])),
    ('rate', rate),
    *[('loss', ', '.join(rest))][: len(rest)],
  ]
  return Grid(f'Recipe of configs/{_file(key)}', ('', ''), rows)


def proofs(key: str) -> Grid | None:
  """The rows of docs/measured.md that speak of the system, or of all."""
  names = {SYSTEMS[key].name, SYSTEMS[key.partition(':')[0]].name}
  old, new = lineage.compared(key)
  if old:
    changed = lineage.difference(config_of(old), config_of(new))
    if {k for k in changed if k.startswith('model.')} <= DROPOUT:
      names.add(SYSTEMS[key_of(old)].name)  # its model is the ancestor's
  words = '|'.join(re.escape(name) for name in names)
  spoken = re.compile(
    rf'(?<![\w-])(?:{words})(?![\w-])|\bevery (recipe|system)\b'
  )
  rows = [row for row in _proven() if spoken.search(row[0])]
  if not rows:
    return None
  columns = 'proven', 'against', 'by'
  return Grid(f'Proven by tests ({PROOFS})', columns, rows)


def published(key: str) -> list[Grid]:
  """The system's own rows of the papers' tables, a column each."""
  found = []
  for table in TABLES.values():
    rows = {}
    for row in table.rows:
      cells = [cell.text for cell in records.cells(table, row)]
      if _system_of(table, row) == key and set(cells) != {'-'}:
        rows[row.name] = cells
    if rows:
      note = table.note
      if any(text.endswith('m') for cells in rows.values() for text in cells):
        note = f'{note} Numbers with m are from memory.'.strip()
      lines = [
        (column.name, *(cells[i] for cells in rows.values()))
        for i, column in enumerate(table.columns)
        if any(cells[i] != '-' for cells in rows.values())
      ]
      title = f'Published, {table.name}: {table.title}'
      found.append(Grid(title, ('', *rows), lines, note))
  return found


def ours(key: str) -> Grid | None:
  """What the tiny recipe reached here."""
  path = ROOT / RUNS
  if ':' in key or not path.exists():  # a version shares the recipe
    return None
  run = json.loads(path.read_text(encoding='utf-8')).get(key)
  if run is None:
    return None
  names = [n for n in run['last'] if n in run['first'] and n != 'tokens']
  rows = [
    (
      name.replace('_', ' '),
      f'{run["first"][name]:g}',
      f'{run["last"][name]:g}',
    )
    for name in names
  ]
  machine = run['machine']
  return Grid(
    f'Ours: configs/{_file(key + ":tiny")}, held-out text',
    ('', 'step 0', f'step {run["steps"]}'),
    rows,
    f'{run["seconds"]:.0f} s on {machine["cores"]} cores of an '
    f'{machine["processor"]}, {machine["date"]} ({RUNS}).',
  )


def _short(number):
  """1_050_000_000 -> '1.05B'."""
  for unit, size in (('T', 1e12), ('B', 1e9), ('M', 1e6)):
    if number >= size:
      return f'{number / size:.3g}{unit}'
  return f'{number:,}'


def _set(group, names):
  """'name value' of the keys that are on."""
  return [
    f'{name.replace("_", " ")} {shown(group[name])}'
    for name in names
    if group[name]
  ]


def _file(key):
  name, _, arg = key.partition(':')
  return f'{name}.py' + f':{arg}' * bool(arg)


def _size(reference, key):
  """The argument of a reference, without the version that its key names."""
  named = [part for part in key.split(',') if '=' in part]
  named = [part.rpartition(':')[2] for part in named]
  parts = reference.partition(':')[2].split(',')
  return ', '.join(p.removeprefix('size=') for p in parts if p not in named)


def _system_of(table, row):
  """The key of the system whose result a row is; '' if it changes one."""
  if row.checkpoint:  # published weights; the paper's own
    name = table.name.partition('.')[0]
    return name if name in SYSTEMS else ''
  if row.why or row.tuned:
    return ''
  home, source = records.resolve(TABLES, table, row)
  place = records.begun_from(TABLES, home, source)
  name, _, origin = place.partition('/')
  origin = next(r for r in TABLES[name].rows if r.name == origin)
  file = origin.config.replace('.py', '')
  ablated = file.startswith('ablations') or 'recipe=' in file
  other = [
    k for k in origin.keys
    if k not in TEXTS and not k.startswith(('eval.', 'checkpoint.'))
  ]  # fmt: skip
  return '' if ablated or other or not file else key_of(file)


@functools.cache
def _proven() -> list[tuple[str, ...]]:
  """(proven, against, by) of the first table of docs/measured.md."""
  path = ROOT / PROOFS
  if not path.exists():
    return []
  text = path.read_text(encoding='utf-8').partition('\n| proven |')[2]
  lines = text.partition('\n\n')[0].split('\n')[2:]
  return [
    tuple(cell.strip() for cell in line.strip('|').split('|')) for line in lines
  ]

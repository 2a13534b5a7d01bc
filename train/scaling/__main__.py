"""Fits scaling laws to runs, and predicts with them (docs/scaling.md).

  python -m train.scaling fit RUNS.csv --out=DIR
  python -m train.scaling fit FOLDER --law=chinchilla,isoflop --out=DIR
  python -m train.scaling predict DIR --budgets=1e20,1e21
  python -m train.scaling predict DIR --params=70e9 --tokens=1.4e12

RUNS.csv has a header and a run a line, with its loss and two of its parameters,
tokens and FLOPs; FOLDER holds the workdirs of finished runs. --out gets
law.json, which predict reads, and pictures: residuals, profiles, envelope.

Laws: chinchilla (approach 3 of Hoffmann et al. 2022), isoflop (2), envelope
(1), kaplan, kaplan_n, kaplan_d, kaplan_c and kaplan_steps (Kaplan et al. 2020),
muennighoff (repeated data, Muennighoff et al. 2023; its table has a column
unique or epochs).
"""

import os

from configs.commands import startup

if __name__ == '__main__':
  startup.begin()
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # a fit needs no accelerator

import json

from absl import flags

from configs.arguments import unknown
from configs.commands import command
from configs.scaling.flops import CONVENTIONS
from configs.scaling.laws import LAWS
from input_pipeline.sources import paths
from train.reporting.metrics import writing
from train.scaling import findings, plots, profiles, show, solving
from train.scaling.forms import FORMS
from train.scaling.points import Points, read_csv

NAME = 'law.json'
APPROACHES = ('isoflop', 'envelope')


def fit(points: Points, laws: list[str], options) -> dict:
  """The values of law.json; draws pictures where there is an --out.

  Raises ValueError if the points cannot determine a law.
  """
  out, saved, fitted = options.out, [], {}
  for name in laws:
    if name in FORMS:
      made = solving.fit(FORMS[name], points, options.bootstrap, options.seed)
    elif name == 'isoflop':
      made = profiles.isoflop(
        points, numbers('budgets', options.budgets), options.width,
        options.bootstrap, options.seed,
      )  # fmt: skip
    else:
      made = profiles.envelope(points, options.bootstrap, options.seed)
    found = findings.found_of(name, made, points, options.interval)
    fitted[name] = found
    if name in FORMS:
      said = findings.warnings_of(made, found, points)
    else:
      said = made.warnings
    one = findings.as_json(found, said)
    if name in FORMS:
      one['objective'], one['agreeing'] = made.objective, made.agreeing
    if name == 'chinchilla':
      one['beside'] = [
        findings.beside(LAWS[x], found, points) for x in options.beside
      ]
    saved.append(one)
    if out:
      law = fitted.get('chinchilla')
      path = os.path.join(out, f'{name}.png')
      if name in FORMS:
        plots.draw_residuals(path, made, points)
      elif name == 'isoflop':
        plots.draw_profiles(path, points, made, law)
      else:
        plots.draw_envelope(path, points, made)
  return {
    'source': points.source,
    'runs': len(points),
    'notes': list(points.notes),
    'laws': saved,
  }


def numbers(flag: str, texts: list[str]) -> tuple[float, ...]:
  """The positive numbers of a flag. Raises ValueError for others."""
  try:
    values = tuple(map(float, texts))
  except ValueError:
    values = (0.0,)
  if any(not 0 < x < float('inf') for x in values):
    raise ValueError(
      f'--{flag}={",".join(texts)} must be positive numbers, such as 1e20,1e21.'
    )
  return values


def pairs(flag: str, texts: list[str]) -> dict[str, str]:
  """NAME=VALUE of a flag. Raises ValueError for others."""
  for text in texts:
    if '=' not in text.strip('='):
      raise ValueError(f'--{flag}={text} must be NAME=VALUE.')
  return dict(text.split('=', 1) for text in texts)


def read(path: str, options, curves: bool = False) -> Points:
  """The points of a table or of a folder of runs, perhaps their `curves`."""
  if not paths.exists(path):
    raise ValueError(f'there is no {path}.')
  if not paths.is_folder(path):
    scales = pairs('units', options.units)
    scales = {k: numbers('units', [x])[0] for k, x in scales.items()}
    points = read_csv(path, pairs('columns', options.columns), scales)
  else:
    from train.scaling import runs  # imports the models

    points = runs.read_folder(path, options.count, options.flops, curves)
  if not 0 <= options.drop_highest < len(points):
    raise ValueError(
      f'--drop_highest={options.drop_highest}: {path} has {len(points)} runs.'
    )
  return points.without_highest(options.drop_highest)


def parts(path: str, laws: list[str]) -> list[tuple[bool, list[str]]]:
  """The laws that read the same points, and whether these are curves.

  Of a folder's runs an envelope reads all evaluations, the others the last.
  """
  if not paths.is_folder(path):
    return [(False, laws)]
  others = [x for x in laws if x != 'envelope']
  found = [(False, others), (True, [x for x in laws if x == 'envelope'])]
  return [x for x in found if x[1]]


def saved_law(path: str, name: str) -> findings.Found:
  """A law of DIR/law.json; '': the first that predicts losses.

  Raises ValueError if there is none.
  """
  path = os.path.join(path, NAME) if paths.is_folder(path) else path
  if not paths.exists(path):
    raise ValueError(f'there is no {path}: run fit with --out first.')
  try:
    found = [
      findings.from_json(x) for x in json.loads(paths.read(path))['laws']
    ]
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f'{path} is no law that fit has written ({error}): run fit again.'
    ) from error
  by_name = {law.name: law for law in found}
  if name and name not in by_name:
    raise ValueError(unknown('law', name, by_name))
  losses = [law for law in found if law.form]
  return by_name[name] if name else (losses or found)[0]


def main(words: list[str]) -> None:
  options = flags.FLAGS
  if len(words) != 2 or words[0] not in ('fit', 'predict'):
    raise ValueError(
      "give 'fit RUNS.csv', 'fit FOLDER' or 'predict DIR'. See --help."
    )
  verb, path = words
  if verb == 'predict':
    laws = options['law'].value if options['law'].present else ['']
    if len(laws) > 1:
      raise ValueError('predict takes one --law.')
    found, rows = saved_law(path, laws[0]), []
    if options.budgets:
      for budget in numbers('budgets', options.budgets):
        rows.append(found.best(budget, options.unique))
    if options.params or options.tokens:
      if not found.form:
        raise ValueError(f'{found.name} predicts no losses, only optima.')
      C = found.per_pair * options.params * options.tokens
      sizes = {'params': options.params, 'tokens': options.tokens}
      sizes |= {'flops': C, 'unique': options.unique or options.tokens}
      rows.append(found.loss(**sizes, steps=options.steps))
    if not rows:
      raise ValueError('predict needs --budgets, or --params and --tokens.')
    print(json.dumps(rows, indent=2) if options.json else show.rows(rows))
    return
  for name in options.law:
    if name not in (*FORMS, *APPROACHES):
      raise ValueError(unknown('law', name, (*FORMS, *APPROACHES)))
  for name in options.beside:
    if name not in LAWS:
      raise ValueError(unknown('published law', name, LAWS))
  if not 0 < options.interval < 1 or options.bootstrap < 0:
    raise ValueError(
      f'--interval={options.interval} must lie between 0 and 1, and '
      f'--bootstrap={options.bootstrap} must not be negative.'
    )
  tables = [
    (read(path, options, curves), laws)
    for curves, laws in parts(path, options.law)
  ]
  if options.out:
    paths.make_folder(options.out)
  result, *others = (fit(points, laws, options) for points, laws in tables)
  for other in others:
    result['laws'] += other['laws']
    result['notes'] += [x for x in other['notes'] if x not in result['notes']]
  text = json.dumps(result, indent=1)
  if options.out:
    written = os.path.join(options.out, NAME)
    with writing(written):
      paths.write(written, f'{text}\n'.encode())
  print(text if options.json else show.fit(result))
  if options.out and not options.json:
    print(f'\nWritten: {written}, and pictures beside it.')


if __name__ == '__main__':
  flags.DEFINE_list('law', ['chinchilla'], 'the laws to fit, or that predicts')
  flags.DEFINE_string('out', '', 'fit: the folder that gets law.json')
  flags.DEFINE_list(
    'columns', [], 'fit: names of columns: params=NAME,tokens=NAME,loss=NAME'
  )
  flags.DEFINE_list('units', [], 'fit: units of columns: params=1e6,tokens=1e9')
  flags.DEFINE_integer(
    'drop_highest', 0, 'fit: so many points of highest loss are left out'
  )
  flags.DEFINE_integer('bootstrap', 1000, 'fit: resampled tables')
  flags.DEFINE_integer('seed', 0, 'fit: of the resampling')
  flags.DEFINE_float('interval', 0.8, 'fit: the share that an interval holds')
  flags.DEFINE_list(
    'budgets', [], 'FLOPs. fit: of the isoFLOP profiles; predict: of the runs'
  )
  flags.DEFINE_float(
    'width', 1.2, 'fit: largest FLOPs of a profile over the smallest'
  )
  flags.DEFINE_list(
    'beside', [], f'fit: published laws on these runs: {", ".join(LAWS)}'
  )
  flags.DEFINE_enum(
    'count', 'total', ['total', 'non_embedding'], 'fit FOLDER: what N counts'
  )
  flags.DEFINE_enum('flops', '6nd', CONVENTIONS, 'fit FOLDER: what FLOPs count')
  flags.DEFINE_float('params', 0.0, 'predict: N of a run')
  flags.DEFINE_float('tokens', 0.0, 'predict: D of a run')
  flags.DEFINE_float('unique', 0.0, 'predict: tokens of the text; 0: D')
  flags.DEFINE_float('steps', 0.0, 'predict: S of a run')
  flags.DEFINE_bool('json', False, 'print JSON')
  command.run_words(main)

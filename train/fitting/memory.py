"""A device's memory by category, and its largest buffers by name.

Every byte of `buffers.Assignment.total` is in one category, at the moment when
most is in use:

- parameters, optimizer, average, batch: the step's arguments, which the new
  state replaces in place.
- activations: what the forward pass makes and saves: there before the first
  product of the backward pass, and read by it.
- gradients: what the backward pass leaves, or adds up, for the update: there
  when its last product has run.
- weights: copies of parameters, cast or gathered: computed from nothing else.
- temporaries: the rest of what is computed: it is made and read within a layer,
  the loss or the update.
- other: place in the data, step number, constants, metrics.
- gaps: between buffers, where nothing fits.
"""

import dataclasses
import re

from train.fitting import buffers, hlo
from train.fitting.program import flops

CATEGORIES = (
  *('parameters', 'optimizer', 'average', 'batch', 'activations', 'gradients'),
  *('weights', 'temporaries', 'other', 'gaps'),
)
# The start of an argument's name -> its category.
_ARGUMENTS = {
  'state.params': 'parameters',
  'state.opt_state': 'optimizer',
  'state.average': 'average',
  'batch': 'batch',
}
_CODES = {'get-tuple-element': 'carried by a loop'}
_PARAMETERS, _REST = 1, 2  # what a value is computed from


@dataclasses.dataclass(frozen=True)
class Held:
  """A buffer that has a name.

  Attributes:
    name: of the argument, or where in the model it is made.
    category: of CATEGORIES.
    bytes, type: with padding; as 'bf16[8,2048]'.
    source: 'FILE:LINE' that makes it, or ''.
  """

  name: str
  category: str
  bytes: int
  type: str
  source: str


def split(assignment: buffers.Assignment, text: str) -> list[Held]:
  """What is in memory at the fullest moment, largest first, with categories.

  `text` is of the program that the assignment belongs to. The gaps are left
  out, see `sizes`.
  """
  program = hlo.parse(text)
  entry = program.computations[program.entry]
  arguments = {
    int(x.rest.partition(')')[0]): x
    for x in entry.values()
    if x.code == 'parameter'
  }
  origins = _origins(program)
  passes = _passes(program, assignment.order)
  found = []
  for buffer in assignment.buffers:
    if buffer.parameter is not None:
      line = arguments[buffer.parameter]
      starts = (x for x in _ARGUMENTS if line.path.startswith(x))
      category = _ARGUMENTS.get(next(starts, ''), 'other')
      name = named(line.path)
    else:
      category = _category(buffer, origins, passes)
      line = _representative(program, buffer)
      if category == 'activations' and line and 'transpose(' in line.path:
        category = 'temporaries'  # read or made before its first product
      name = named(line.path) if line and _said(line) else ''
      name = name or _CODES.get(line.code, line.code) if line else 'constant'
    source = program.source(line) if line else ''
    type_ = buffer.type.partition('{')[0]
    found.append(Held(name, category, buffer.bytes, type_, source))
  return sorted(found, key=lambda x: -x.bytes)


def sizes(assignment: buffers.Assignment, held: list[Held]) -> dict[str, int]:
  """Category -> bytes; the values sum to the assignment's total."""
  found = dict.fromkeys(CATEGORIES, 0)
  for buffer in held:
    found[buffer.category] += buffer.bytes
  return found | {'gaps': assignment.gaps}


def named(path: str) -> str:
  """A path of JAX in few words: the function's name and its wrappers left out.

  >>> named("state.params['decoder']['norm']['scale']")
  'params/decoder/norm/scale'
  >>> named(
  ...   'jit(train_step)/transpose(jvp(Decoder))/while/body/mlp/dot_general'
  ... )
  'backward: mlp/dot_general'
  """
  if path.startswith(('state.', 'batch')):
    return '/'.join(re.findall(r'\w+', path.removeprefix('state.')))
  parts = path.partition(':')[0].rstrip(')').split('/')  # of several, one
  backward = 'transpose(' in path
  forward = not backward and 'jvp(' in path
  left_out = {'while', 'body', 'closed_call', 'checkpoint', 'cond', 'branch'}
  left_out |= {'shard_map', 'rematted_computation', 'remat'}
  kept = [x for x in parts if x not in left_out and '(' not in x]
  start = 'backward: ' if backward else 'forward: ' if forward else ''
  return start + '/'.join(kept[-4:])


def _representative(program, buffer):
  """The line of a buffer that says most of where it is made."""
  own = [program.lines.get(name.partition('{')[0]) for name in buffer.names]
  lines = [program.maker(name) for name in buffer.names] + own
  lines = [x for x in lines if x]
  with_path = [x for x in lines if _said(x)]
  telling = [x for x in with_path if not _PLAIN.search(x.path)]
  return next(iter(telling + with_path + lines), None)


def _said(line):
  """Whether a path says where a line is from."""
  return '/' in line.path or line.path.startswith('state.')


# What fills or moves an array, and does not say what it is.
_PLAIN = re.compile(
  r'(broadcast_in_dim|dynamic_(update_)?slice|copy|squeeze|while)$'
)


def _category(buffer, origins, passes):
  if buffer.names[0] in ('thread-local', 'constant'):
    return 'other'
  origin = 0
  for name in buffer.names:
    origin |= origins.get(name.partition('{')[0], 0)
  if origin == _PARAMETERS:
    return 'weights'
  first, last = passes
  if first is None:
    return 'temporaries'
  if buffer.start < first <= buffer.end:
    # What the passes of all parts of a batch add to lies around them.
    return 'gradients' if buffer.end > last else 'activations'
  if first <= buffer.start <= last < buffer.end:
    return 'gradients'
  return 'temporaries'


def _passes(program, order):
  """Places of the backward pass's first product and of its end; or Nones.

  The pass ends with its last product, or with the loop that has it if the
  forward pass is not in the same loop.
  """
  owner = {
    name: computation
    for computation, lines in program.computations.items()
    for name in lines
  }
  places = {name: place for place, name in enumerate(order)}
  forward, backward = set(), []
  for place, name in enumerate(order):
    line = program.lines.get(name)
    if not line or line.code not in _WORK or 'jvp(' not in line.path:
      continue
    if not flops(program, program.computations[owner[name]], line):
      continue
    if 'transpose(' in line.path:
      backward.append(place)
    else:
      forward.add(owner[name])
  if not backward:
    return None, None
  loops = {
    line.called('body'): line.name
    for line in program.lines.values()
    if line.code == 'while'
  }
  for body in [*forward]:  # what is in a loop is in those around it
    while body in loops:
      body = owner[loops[body]]
      forward.add(body)
  last = order[backward[-1]]
  while owner[last] in loops and owner[last] not in forward:
    last = loops[owner[last]]
  return backward[0], places.get(last, backward[-1])


_WORK = {'fusion', 'dot', 'convolution', 'custom-call', 'call'}


def _origins(program):
  """Instruction -> what it is computed from: bits of _PARAMETERS, _REST.

  An instruction that makes several arrays has the bits of all, but for a loop,
  where each array has its own.
  """
  origins = {}

  def bits(values):
    total = 0
    for value in values if isinstance(values, list) else [values]:
      total |= bits(value) if isinstance(value, list) else value
    return total

  def walk(name, given):
    """Values of a computation whose parameters have `given`; its result's."""
    values, result = {}, 0
    for line in program.computations[name].values():
      reads = [values.get(x, 0) for x in line.operands]
      match line.code:
        case 'parameter':
          number = int(line.rest.partition(')')[0])
          value = given[number] if number < len(given) else _REST
        case 'tuple':
          value = reads
        case 'get-tuple-element':
          index = int(re.search(r'index=(\d+)', line.rest)[1])
          value = reads[0][index] if isinstance(reads[0], list) else reads[0]
        case 'while':
          value = loop(line.called('body'), reads[0])
        case 'call':
          value = walk(line.called('to_apply'), reads)
        case 'rng-bit-generator' | 'partition-id' | 'rng':
          value = _REST
        case _:
          value = bits(reads)
      values[line.name] = value
      origins[line.name] = origins.get(line.name, 0) | bits(value)
      if line.root:
        result = value
    return result

  def loop(body, carried):
    carried = carried if isinstance(carried, list) else [carried]
    carried = [bits(x) for x in carried]
    while True:  # bits are only added: it ends
      after = walk(body, [carried])
      after = after if isinstance(after, list) else [after] * len(carried)
      new = [x | bits(y) for x, y in zip(carried, after, strict=False)]
      if new == carried:
        return carried
      carried = new

  entry = program.computations[program.entry].values()
  given = {}
  for line in entry:
    if line.code == 'parameter':
      number = int(line.rest.partition(')')[0])
      own = line.path.startswith('state.params')
      given[number] = _PARAMETERS if own else _REST
  walk(program.entry, [given.get(n, _REST) for n in range(len(given))])
  return origins

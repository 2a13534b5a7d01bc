"""Where the time of a compiled step goes on a CPU, from a profile of it.

XLA's runtime records each operation of the compiled program that it executes:
which, from when to when, on which thread. The program's text says what the
operation is and, as `op_name`, which part of the model it comes from. A fusion
counts whole, as a product if it holds one, else by its root. On one core the
times add up to the process' CPU time; on a busy machine they hold what it
waited for the core, too.
"""

import collections
import os
import re
import tempfile
import time

import jax

GROUPS = (
  'products: layers',
  'products: attention',  # queries and keys, weights and values
  'products: vocabulary',
  'attention: softmax',  # and mask, bias, rotation, scaling
  'elementwise',  # norms, activations, biases, residuals, embeddings
  'dropout',
  'loss',  # and what else is done to logits
  'copies',  # transpositions too, and what is fused with them
  'optimizer',  # and the norm of the gradients
  'rest',
)
STEPS = 3
TOP = 12
_INSTRUCTION = re.compile(
  r'\s*(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)'
)
_COMPUTATION = re.compile(r'(?:ENTRY )?%?([\w.\-]+) \(.*\{$')
# These enclose operations which have events of their own.
_ENCLOSING = ('while', 'call', 'conditional')


def profile(step, compiled):
  """Makes some steps under JAX's profiler.

  Args:
    step: makes one step and waits for its end.
    compiled: the program that it executes.

  Returns:
    Means over the steps, in milliseconds: 'groups', by the names in GROUPS;
    'operations', their sum; 'cpu', of the process; 'step', by the clock; 'top',
    what took longest, alike in all layers summed: [ms, group, what].
  """
  options = jax.profiler.ProfileOptions()
  options.python_tracer_level = 0
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder, profiler_options=options):
      clock, cpu = time.perf_counter(), time.process_time()
      for _ in range(STEPS):
        step()
      cpu = time.process_time() - cpu
      clock = time.perf_counter() - clock
    paths = [
      os.path.join(place, name)
      for place, _, names in os.walk(folder)
      for name in names
      if name.endswith('.xplane.pb')
    ]
    seconds = operation_seconds(jax.profiler.ProfileData.from_file(paths[0]))
  operations = read_program(compiled.as_text())
  groups = dict.fromkeys(GROUPS, 0.0)
  alike = collections.Counter()
  total = 0.0
  for name, spent in seconds.items():
    opcode, shape, op_name, product = operations.get(name, ('', '', '', ''))
    if opcode in _ENCLOSING:
      continue
    ms = 1e3 * spent / STEPS
    group = group_of(name, opcode, op_name, product)
    groups[group] += ms
    total += ms
    kind = re.sub(r'[.\d]*$', '', name)
    alike[group, f'{_plain(op_name)} {kind} {shape}'.strip()] += ms
  return {
    'groups': groups,
    'operations': total,
    'cpu': 1e3 * cpu / STEPS,
    'step': 1e3 * clock / STEPS,
    'top': [[ms, *key] for key, ms in alike.most_common(TOP)],
  }


def operation_seconds(data):
  """Seconds of each operation of the step's program, without nested ones."""
  seconds = collections.Counter()
  for plane in data.planes:
    for line in plane.lines:
      events = []
      for event in line.events:
        stats = dict(event.stats)
        if 'train_step' in stats.get('hlo_module', ''):
          end = event.start_ns + event.duration_ns
          events.append((event.start_ns, -end, stats['hlo_op']))
      around = []
      for start, end, name in sorted(events):
        while around and -around[-1][0] <= start:
          around.pop()
        spent = 1e-9 * (-end - start)
        seconds[name] += spent
        if around:  # the thread did this while it waited for that
          seconds[around[-1][1]] -= spent
        around.append((end, name))
  return seconds


def read_program(text):
  """Of each instruction: opcode, shape, op_name, and what product it is.

  That is 'matrix'; 'batched', one for each row or head; or '', none.
  """
  operations, products, calls = {}, {}, {}
  computation = ''
  for line in text.splitlines():
    if found := _COMPUTATION.match(line):
      computation = found[1]
    elif found := _INSTRUCTION.match(line):
      name, shape, opcode, rest = found.groups()
      op_name = re.search(r'op_name="([^";]*)', rest)
      operations[name] = opcode, shape.split('{')[0], op_name and op_name[1]
      if opcode == 'dot':
        kind = 'batched' if 'lhs_batch_dims={0' in rest else 'matrix'
        products[name] = products[computation] = kind
      if called := re.search(r'calls=%?([\w.\-]+)', rest):
        calls[name] = called[1]
  return {
    name: (
      opcode,
      shape,
      op_name or '',
      products.get(name) or products.get(calls.get(name), ''),
    )
    for name, (opcode, shape, op_name) in operations.items()
  }


def group_of(name, opcode, op_name, product):
  """One of GROUPS; knows the module names of Treeline and of the Flax peer."""

  def within(*patterns):
    return re.search('|'.join(patterns), op_name) is not None

  vocabulary = within('/vocabulary/', '/lm_head', '/predictions/')
  if product:
    # XLA drops the names of some, but only attention's are batched.
    if product == 'batched' or within('BKTS', 'hqk'):
      return 'products: attention'
    if vocabulary:
      return 'products: vocabulary'
    return 'products: layers'
  if within(r'^jit\(\w+\)/') and not within('jvp'):
    return 'optimizer'
  if 'copy' in name or 'transpose' in name or opcode in ('copy', 'transpose'):
    return 'copies'
  if not op_name:
    return 'rest'
  if within('[Dd]ropout', 'bernoulli', 'random_bits', 'threefry'):
    return 'dropout'
  if vocabulary or not within(r'jvp\((?!jit)\w'):  # by no module
    return 'loss'
  # A layer's part in lower case or not: 'attention', 'SelfAttention', 'attn'.
  if within('[Aa]ttention', 'attn') and not within('[Nn]orm', r'/ln_\d'):
    return 'attention: softmax'
  return 'elementwise'


def _plain(op_name):
  """jit(train_step)/transpose(jvp(M))/decoder/layer_3/x -> backward .../x."""
  name = re.sub(r'^jit\(train_step\)/', '', op_name)
  name = re.sub(r'^transpose\(jvp\(\w*\)\)', 'backward', name)
  name = re.sub(r'^jvp\(\w*\)', 'forward', name)
  return re.sub(r'(?<=[/_])\d+(?=/)', '*', name)


def report(name, found):
  """Prints the table of one process."""
  total = found['operations']
  print(
    f'  {name}: profile of a step on one core: {found["step"]:.0f} ms, of CPU '
    f'time {found["cpu"]:.0f}, in operations {total:.0f}:'
  )
  for group, ms in found['groups'].items():
    if ms:
      print(f'    {group:21} {ms:8.1f} ms  {100 * ms / total:5.1f} %')
  print('    most of all, alike in all layers summed:')
  for ms, group, what in found['top']:
    print(f'    {ms:8.1f} ms  {group:21} {what}')

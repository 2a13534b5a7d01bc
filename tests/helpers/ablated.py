"""The systems that tests change, their changes, and those a model refuses."""

from configs import ablations, tree


def tiny(system: str) -> str:
  """A system of tree.SYSTEMS in the size `tiny`; '' if none was published."""
  name, _, arg = system.partition(':')
  versions = [part for part in arg.split(',') if '=' in part]
  published = tree.module_of(name).SIZES
  return f'{name}:' + ','.join(['tiny', *versions]) if published else ''


TINY = tuple(filter(None, map(tiny, tree.SYSTEMS)))


def refusal(fields: dict) -> str:
  """A part of the message that refuses a model; '' if it can be built."""
  if fields['family'] == 'rwkv':
    if fields['position'] != 'none':
      return 'no attention'
    if fields['norm_placement'] == 'post' or fields['gated']:
      return 'a block of its own'
    return '' if fields['bias'] == 'none' else 'a block of its own'
  if fields['parallel'] != 'none' and fields['norm_placement'] == 'post':
    return "needs model.norm_placement='pre'"
  if (
    fields['table_dim']
    and fields['tie_embeddings']
    and not fields['output_transform']
    and fields['head'] != 'rtd'
  ):
    return 'needs model.output_transform'
  return ''


def sweep(reference: str) -> list[dict]:
  """The overrides of every change of one field of a system, 'NAME[:ARG]'."""
  _, *found = ablations.sweep(reference)
  return [{k: x for k, x in run.items() if k != 'name'} for run in found]

"""adapter_config.json of peft: what it says, and what it is given."""

import dataclasses
import re
from typing import Any

CONFIG = 'adapter_config.json'
# Fields that say nothing about what an adapter computes.
_HARMLESS = (
  *('auto_mapping', 'base_model_name_or_path', 'corda_config', 'eva_config'),
  *('exclude_modules', 'fan_in_fan_out', 'inference_mode', 'layers_pattern'),
  *('loftq_config', 'megatron_config', 'megatron_core', 'modules_to_save'),
  *('peft_type', 'peft_version', 'revision', 'runtime_config'),
  *('layers_to_transform', 'target_modules', 'task_type', 'qalora_group_size'),
  'ensure_weight_tying',
)
_READ = (
  *('r', 'lora_alpha', 'lora_dropout', 'use_rslora', 'bias'),
  *('init_lora_weights', 'rank_pattern', 'alpha_pattern'),
)
# Ways to begin that leave the base as it is. Others (PiSSA, OLoRA, ...) take
# something out of it.
_BEGINNINGS = True, False, 'gaussian', 'eva', 'orthogonal', None
_TASKS = {'decoder': 'CAUSAL_LM', 'encoder_decoder': 'SEQ_2_SEQ_LM'}


@dataclasses.dataclass(frozen=True)
class Terms:
  """What the config says.

  Attributes:
    rank, alpha: of our formula, W + alpha / rank A B.
    notes: what was read in another way than it is written.
  """

  rank: int
  alpha: float
  notes: tuple[str, ...]

  @property
  def scale(self) -> float:
    return self.alpha / self.rank


def terms(fields: dict, where: str) -> Terms:
  """Reads every field, or knows it to be harmless, or refuses it by name.

  Raises:
    ValueError: a field asks for something else than LoRA here.
  """

  def refuse(name, why):
    raise ValueError(f'{where}: {name} is {fields[name]!r}: {why}.')

  if fields.get('peft_type') != 'LORA':
    raise ValueError(
      f'{where}: peft_type is {fields.get("peft_type")!r}; only LORA is read.'
    )
  rank, alpha = fields.get('r'), fields.get('lora_alpha', 8)
  if type(rank) is not int or rank < 1:
    raise ValueError(f'{where}: r is {rank!r}; it must be a whole number.')
  if type(alpha) not in (int, float) or not alpha > 0:
    raise ValueError(f'{where}: lora_alpha is {alpha!r}; it must be above 0.')
  notes = []
  if fields.get('bias', 'none') != 'none':
    refuse('bias', 'LoRA here trains no biases')
  if fields.get('init_lora_weights') not in _BEGINNINGS:
    why = 'it changes the base, and the factors are of no use without that'
    refuse('init_lora_weights', why)
  if fields.get('lora_dropout'):
    notes.append(
      f'lora_dropout={fields["lora_dropout"]} is left out: it concerns '
      'training alone, and LoRA here has no dropout.'
    )
  patterns = [fields.get(f'{x}_pattern') or {} for x in ('rank', 'alpha')]
  for key in {**patterns[0], **patterns[1]}:
    own = patterns[1].get(key, alpha) / patterns[0].get(key, rank)
    if fields.get('use_rslora') or abs(own - alpha / rank) > 1e-9 * own:
      name = 'rank_pattern' if key in patterns[0] else 'alpha_pattern'
      refuse(name, 'LoRA here has one alpha / rank for all matrices')
  if fields.get('use_rslora'):
    notes.append(
      f'use_rslora: lora_alpha={alpha} divided by the root of r is read as '
      f'tuning.alpha={alpha * rank**0.5:g} divided by r.'
    )
    alpha *= rank**0.5
  for name, value in fields.items():
    if value and name not in (*_HARMLESS, *_READ):
      refuse(name, 'LoRA here does not do that')
  return Terms(rank, float(alpha), tuple(notes))


def written(
  ranks: dict[str, int],
  modules: list[str],
  rank: int,
  alpha: float,
  *,
  saved: list[str],
  turned: bool,
  base: str,
  head: str,
  family: str,
) -> dict[str, Any]:
  """The fields of the file.

  Args:
    ranks: of the modules that have factors, by name.
    modules: the names of all that could have some.
    rank, alpha: of ours; a fused module has a multiple of both.
    saved: names of modules that are in the file whole.
    turned: whether kernels are [in, out].
    base: name or folder of the base.
    head, family: of the model.
  """
  targets = _targets([*ranks], modules)
  fused = {targets[name]: own for name, own in ranks.items() if own != rank}
  names = sorted({*targets.values()})
  plain = not any('\\' in name for name in names)
  return {
    'peft_type': 'LORA',
    'task_type': _TASKS.get(family) if head == 'lm' else None,
    'base_model_name_or_path': base or None,
    'r': rank,
    'lora_alpha': int(alpha) if alpha == int(alpha) else alpha,
    'lora_dropout': 0.0,
    'bias': 'none',
    'fan_in_fan_out': turned,
    'inference_mode': True,
    'init_lora_weights': True,
    'target_modules': names if plain else '|'.join(map(_regex, names)),
    'modules_to_save': saved or None,
    'rank_pattern': fused,
    'alpha_pattern': {key: alpha * own / rank for key, own in fused.items()},
    'use_dora': False,
    'use_rslora': False,
  }


def _targets(changed, modules):
  """What peft finds each changed module by: the end of its name, or a regex.

  peft takes every module whose name ends so. The shortest end that no other
  module has is taken; where there is none, a regex of the whole name.
  """
  found = {}
  for name in changed:
    parts = name.split('.')
    for count in range(1, len(parts) + 1):
      if any(x.isdecimal() for x in parts[-count:]):
        break
      end = '.'.join(parts[-count:])
      alike = {x for x in modules if f'.{x}'.endswith(f'.{end}')}
      if alike <= {*changed}:
        found[name] = end
        break
    if name not in found:
      found[name] = re.sub(r'\\\.\d+', r'\\.\\d+', re.escape(name))
  return found


def _regex(name):
  return name if '\\' in name else rf'.*\b{re.escape(name)}'

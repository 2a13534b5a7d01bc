"""config.json, field by field: each is read, harmless or refused."""

import math
from typing import Any

from models.config import TransformerConfig

# Fields that do not change what a model computes from its weights: how the file
# was made and how a program runs the model (layouts read a head's class and
# labels among these),
_RUN = """
  _attn_implementation _attn_implementation_autoset
  _attn_implementation_internal _commit_hash _flash_attn_2_enabled
  _from_model_config _name_or_path _num_labels architectures attn_implementation
  auto_map chunk_size_feed_forward custom_pipelines dtype finetuning_task
  gradient_checkpointing id2label is_encoder_decoder keys_to_ignore_at_inference
  label2id model_type name num_labels output_attentions output_hidden_states
  output_past problem_type return_dict task_specific_params tf_legacy_loss
  torch_dtype torchscript transformers.js_config transformers_version
  unsloth_fixed unsloth_version use_bfloat16 use_flash_attention_2
"""
# how text becomes tokens,
_TOKENS = """
  bos_token bos_token_id cls_token_id decoder_start_token_id eos_token
  eos_token_id language mask_token_id model_max_length pad_token pad_token_id
  prefix sep_token_id tokenizer_class unk_token unk_token_id
"""
# and how a program generates.
_GENERATION = """
  assistant_confidence_threshold assistant_early_exit assistant_ensemble_weight
  assistant_lookbehind bad_words_ids begin_suppress_tokens cache_config
  cache_implementation compile_config constraints disable_compile
  diversity_penalty do_sample dola_layers early_stopping
  encoder_no_repeat_ngram_size encoder_repetition_penalty epsilon_cutoff
  eta_cutoff exponential_decay_length_penalty force_words_ids
  forced_bos_token_id forced_decoder_ids forced_eos_token_id guidance_scale
  is_assistant length_penalty low_memory max_cache_len max_length
  max_matching_ngram_size max_new_tokens max_time min_length min_new_tokens
  min_p no_repeat_ngram_size num_assistant_tokens num_assistant_tokens_schedule
  num_beam_groups num_beams num_return_sequences output_logits output_scores
  penalty_alpha prefill_chunk_size prompt_lookup_num_tokens
  remove_invalid_values renormalize_logits repetition_penalty
  return_dict_in_generate sequence_bias stop_strings suppress_tokens
  target_lookbehind temperature token_healing top_h top_k top_p typical_p
  use_cache watermarking_config
"""
HARMLESS = frozenset((_RUN + _TOKENS + _GENERATION).split())
# Fields that any file may have, turned off: how, and what they would mean.
OFF = {
  'add_cross_attention': ((False,), 'a second attention'),
  'cross_attention_hidden_size': ((), 'a second attention'),
  'neftune_noise_alpha': ((0,), 'noise in the embeddings, in training'),
  'pruned_heads': (({}, []), 'layers of unequal size'),
  'tie_encoder_decoder': ((False,), 'one set of weights for two stacks'),
}
# Fields that matter to those who use the model in transformers.
KEPT = (
  *('id2label', 'label2id', 'problem_type', 'task_specific_params'),
  *('pad_token_id', 'bos_token_id', 'eos_token_id', 'unk_token_id'),
  *('cls_token_id', 'sep_token_id', 'mask_token_id'),
  *('decoder_start_token_id', 'max_position_embeddings'),
  *('n_positions', 'context_length', 'rescale_every'),
)
# Hugging Face's names of activations -> ours.
ACTIVATIONS = {
  'relu': 'relu',
  'gelu': 'gelu',
  'gelu_python': 'gelu',
  'gelu_new': 'gelu_tanh',
  'gelu_fast': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'silu': 'silu',
  'swish': 'silu',
  'relu2': 'squared_relu',
}
# And back. The names listed first are those that every version knows.
ACTIVATION_NAMES = {
  ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())
}
# What a value must be, by the type of its default.
_TYPES = {
  bool: 'true or false',
  int: 'a whole number',
  float: 'a number',
  str: 'a string',
}
_NEEDED = object()
# Our field -> its names in config.json, of which the first is written, and the
# default of the family's config class. A whole number is a size, above 0.
Table = dict[str, tuple]


class Fields:
  """The fields of a config.json; a layout must read every one.

  Args:
    fields: the JSON object.
    where: the file, for messages.
  """

  def __init__(self, fields: dict, where: str = 'config.json'):
    self._fields = fields
    self._where = where
    self._read = set()

  def get(self, name: str, default: Any = _NEEDED) -> Any:
    """A field's value; `default` is that of the family's config class.

    Raises:
      ValueError: the field is missing and has no default, or its value is not
        of the default's type (a number, a string or a bool).
    """
    value = self._raw(name, default)
    kind = type(default)
    if kind in _TYPES and not _is(value, kind):
      self.refuse(name, value, f'it must be {_TYPES[kind]}')
    return value

  def size(self, name: str, default: int | None) -> int | None:
    """A whole number above 0; with a default of None it may be null."""
    value = self._raw(name, default)
    if value is None and default is None:
      return None
    if not _is(value, int) or value < 1:
      self.refuse(name, value, 'it must be a whole number above 0')
    return value

  def number(self, name: str, value: Any) -> float:
    """A value inside the field `name`, which must be a number."""
    if not _is(value, float):
      self.refuse(name, value, 'it must be a number')
    return float(value)

  def either(self, names: list[str], default: int) -> int:
    """A size that has several names; `default` where all are null or absent.

    Raises:
      ValueError: it is not a size, or two names have different values.
    """
    found = {name: self.size(name, None) for name in names}
    found = {name: x for name, x in found.items() if x is not None}
    first = next(iter(found), None)
    for name, x in found.items():
      if x != found[first]:
        self.refuse(name, x, f'{first} says otherwise')
    return found.get(first, default)

  def table(self, table: Table) -> dict:
    """The fields of our config that a table names."""
    out = {}
    for ours, (*names, default) in table.items():
      if len(names) > 1:
        out[ours] = self.either(names, default)
      elif ours == 'activation':
        out[ours] = self.activation(*names, default)
      elif type(default) is int:
        out[ours] = self.size(*names, default)
      else:
        out[ours] = self.get(*names, default)
    return out

  def object(self, name: str) -> dict:
    """A copy of a field that is an object; empty where it is null or absent."""
    value = self._raw(name, None)
    if not isinstance(value, dict | None):
      self.refuse(name, value, 'it must be an object')
    return dict(value or {})

  def architecture(self, default: str) -> str:
    """The class that `architectures` names first."""
    names = self._raw('architectures', None) or [default]
    if not isinstance(names, list) or not _is(names[0], str):
      self.refuse('architectures', names, 'it must be a list of names')
    return names[0]

  def _raw(self, name, default):
    self._read.add(name)
    if name in self._fields:
      return self._fields[name]
    if default is _NEEDED:
      raise ValueError(f'{self._where} lacks {name}.')
    return default

  def activation(self, name: str, default: str) -> str:
    """The value of `model.activation` for a field that names an activation."""
    value = self.get(name, default)
    if value not in ACTIVATIONS:
      self.refuse(
        name, value, 'an activation that model.activation does not have'
      )
    return ACTIVATIONS[value]

  def classes(self) -> int:
    """How many classes a classifier has: one for each label."""
    labels, number = self.object('id2label'), self.size('num_labels', None)
    if labels and number not in (None, len(labels)):
      self.refuse('num_labels', number, f'id2label has {len(labels)} labels')
    return len(labels) or number or 2

  def expect(self, name: str, *values: Any, why: str) -> None:
    """Reads a field that must be absent or one of `values`.

    Raises:
      ValueError: it has another value, which would mean `why`.
    """
    value = self._raw(name, values[0])
    if value not in values:
      self.refuse(name, value, why)

  def refuse(self, name: str, value: Any, why: str) -> None:
    """Raises ValueError: the field has this value, which would mean `why`."""
    raise ValueError(f'{self._where}: {name} is {value!r}: {why}.')

  def done(self, *harmless: str) -> None:
    """Checks that every field has been read or is known to be harmless.

    Args:
      *harmless: further fields of this family that change nothing.

    Raises:
      ValueError: a field is unknown: it could change the mathematics.
    """
    if self._fields.get('quantization_config') is not None:
      why = 'quantised weights are not read'
      self.refuse('quantization_config', '...', why)
    for name, (off, why) in OFF.items():
      self.expect(name, None, *off, why=why)
    known = self._read | HARMLESS | set(harmless)
    for name, value in self._fields.items():
      if name not in known and value is not None:
        raise ValueError(
          f'{self._where}: the field {name} ({value!r}) is unknown for '
          f'model_type {self._fields.get("model_type")!r} and may change what '
          'the model computes. If it does not, remove it from the file.'
        )


def written(config: TransformerConfig, table: Table) -> dict:
  """The fields of config.json that a table names; `Fields.table` reads them."""
  out = {theirs: getattr(config, ours) for ours, (theirs, *_) in table.items()}
  if 'activation' in table:
    out[table['activation'][0]] = ACTIVATION_NAMES[config.activation]
  if 'init_std' in table:  # some of our initialisations have none
    out[table['init_std'][0]] = config.init_std or 0.02
  return out


def labels(classes: int) -> dict:
  """The fields of config.json that name a classifier's classes, if any."""
  if not classes:
    return {}
  names = [f'LABEL_{i}' for i in range(classes)]
  return {
    'id2label': {str(i): name for i, name in enumerate(names)},
    'label2id': {name: i for i, name in enumerate(names)},
  }


def _is(value, kind):
  """Whether a JSON value is of a type; a whole number is a float too."""
  if kind is float and type(value) in (int, float):
    return math.isfinite(value)
  return type(value) is kind

"""Folders in Hugging Face layout: config.json and safetensors."""

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np

try:
  from safetensors import SafetensorError, safe_open
  from safetensors.numpy import save_file
except ImportError as error:
  raise ImportError(
    "Published checkpoints need safetensors: pip install 'treeline-lm"
    "[pretrained]'."
  ) from error

CONFIG = 'config.json'
SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'
# The types that a weight may be stored in; float32 holds all of them exactly.
DTYPES = {'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16'}


def dtype_of(name: str) -> np.dtype:
  """NumPy's dtype of a name; JAX adds bfloat16.

  Raises:
    ValueError: checkpoints are not written in it.
  """
  if name not in DTYPES.values():
    raise ValueError(
      f'dtype is {name!r}; it must be one of {", ".join(DTYPES.values())}.'
    )
  return np.dtype(jnp.bfloat16 if name == 'bfloat16' else name)


def read_config(folder: str) -> dict:
  """The fields of config.json.

  Raises:
    ValueError: it is missing, or not a JSON object with a `model_type`.
  """
  path = os.path.join(folder, CONFIG)
  if not os.path.isdir(folder):
    raise ValueError(f'{folder} is not a folder.')
  if not os.path.exists(path):
    raise ValueError(f'{folder} has no {CONFIG}: it is not a checkpoint.')
  fields = read_json(path)
  if not isinstance(fields.get('model_type'), str):
    raise ValueError(
      f'{path} has no model_type: it is not the config of a checkpoint in '
      "Hugging Face layout (a Treeline run's workdir is not such a checkpoint)."
    )
  return fields


def read_json(path: str) -> dict:
  """The JSON object in a file.

  Raises:
    ValueError: the file holds something else.
  """
  try:
    with open(path, encoding='utf-8-sig') as file:
      found = json.load(file)
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
  except RecursionError:
    raise ValueError(f'{path} is nested too deeply.') from None
  if not isinstance(found, dict):
    raise ValueError(f'{path} is not a JSON object.')
  return found


class Tensors:
  """The tensors of a folder, each of which is read on demand.

  Attributes:
    shapes: by name, from the headers of the files; no tensor is read for them.
    types: by name, such as 'F32'.
    metadata: what the files say of themselves.

  Raises:
    ValueError: there are no safetensors, a shard is missing or cut short, or a
      tensor and the index disagree.
  """

  def __init__(self, folder: str, single: str = SINGLE):
    self._where = {}  # tensor -> path, open file
    self.shapes = {}
    self.types = {}
    self.metadata = {}
    with contextlib.ExitStack() as stack:
      for path, names in _shards(folder, single).items():
        file = stack.enter_context(_open(path))
        self.metadata |= file.metadata() or {}
        held = set(file.keys())
        if names is not None:
          _check_index(path, held, set(names))
        for name in sorted(held):
          piece = file.get_slice(name)
          self.types[name] = piece.get_dtype()
          self.shapes[name] = tuple(piece.get_shape())
          self._where[name] = path, file
      self._open_files = stack.pop_all()

  def read(self, name: str) -> np.ndarray:
    """A whole tensor in the dtype of the file."""
    return self._where[name][1].get_tensor(name)

  def file(self, name: str) -> str:
    """The path of the file that holds a tensor."""
    return self._where[name][0]

  def __enter__(self) -> 'Tensors':
    return self

  def __exit__(self, *_) -> None:
    self._open_files.close()


def _open(path):
  try:
    return safe_open(path, framework='numpy')
  except (SafetensorError, OSError) as error:
    raise ValueError(
      f'{path} cannot be read, it may be cut short ({error}): copy it again.'
    ) from error


def _shards(folder: str, name: str) -> dict[str, list[str] | None]:
  """path -> the tensors that the index lists for it; None: all it holds."""
  single, index = (os.path.join(folder, x) for x in (name, INDEX))
  if os.path.exists(single):
    return {single: None}
  if name != SINGLE:
    raise ValueError(f'{folder} has no {name}.')
  if not os.path.exists(index):
    bins = [n for n in sorted(os.listdir(folder)) if n.endswith('.bin')]
    hint = ''
    if any(name.startswith('pytorch_model') for name in bins):
      hint = (
        ' pytorch_model.bin is a Python pickle, which is not read. Convert it '
        'once, where torch is installed: '
        f'transformers.AutoModel.from_pretrained({folder!r})'
        ".save_pretrained(NEW_FOLDER) (with the class that config.json's "
        '`architectures` names, so that its head is kept).'
      )
    raise ValueError(f'{folder} has no {SINGLE} and no {INDEX}.{hint}')
  weight_map = read_json(index).get('weight_map')
  if not isinstance(weight_map, dict) or not all(
    isinstance(file, str) for file in weight_map.values()
  ):
    raise ValueError(f'{index} has no weight_map of tensors to files.')
  shards = {}
  for name, file in weight_map.items():
    shards.setdefault(os.path.join(folder, file), []).append(name)
  missing = sorted(path for path in shards if not os.path.exists(path))
  if missing:
    raise ValueError(
      f'{len(missing)} of the {len(shards)} files that {index} lists are '
      f'missing: {", ".join(missing[:3])}.'
    )
  return shards


def _check_index(path, held, listed):
  """Raises ValueError unless a shard holds exactly what the index lists."""
  for name in sorted(listed - held):
    raise ValueError(f'{path} lacks {name}, which {INDEX} says it has.')
  extra = sorted(held - listed)
  if extra:
    raise ValueError(
      f'{path} holds {len(extra)} tensors that {INDEX} does not list there: '
      f'{", ".join(extra[:4])}. They belong to different checkpoints: copy '
      'both again, or add the tensors to its weight_map.'
    )


def check_free(folder: str) -> None:
  """Checks that a checkpoint can be written without overwriting anything.

  Raises:
    ValueError: the folder is a file, or is not empty.
  """
  if os.path.isdir(folder) and not os.listdir(folder):
    return
  if os.path.lexists(folder):
    raise ValueError(
      f'{folder} exists and is not empty. Nothing is overwritten: name a new '
      'folder.'
    )


@contextlib.contextmanager
def new_folder(folder: str) -> Iterator[str]:
  """A folder to write into, which gets its name once all is written.

  What a killed program left there is deleted first.

  Raises:
    ValueError: the folder exists, or another process writes to it.
    OSError: it cannot be made or written.
  """
  folder = os.path.abspath(folder)
  check_free(folder)
  parent, name = os.path.split(folder)
  partial = os.path.join(parent, f'.{name}.partial')
  try:
    os.makedirs(partial, exist_ok=True)
  except OSError as error:
    raise OSError(
      f'{folder} cannot be made ({error.strerror}): name another folder.'
    ) from error
  lock = _lock(partial, folder)
  try:
    with os.scandir(partial) as left:
      for entry in left:
        shutil.rmtree(entry.path) if entry.is_dir() else os.remove(entry.path)
    yield partial
    os.replace(partial, folder)
  except BaseException as error:
    shutil.rmtree(partial, ignore_errors=True)
    if isinstance(error, OSError) and error.errno is not None:
      raise OSError(
        error.errno,
        f'{folder} cannot be written: {error.strerror}. Nothing of it is left: '
        'make room, or name another folder.',
      ) from error
    raise
  finally:
    os.close(lock)


def _lock(partial, folder):
  """Locks a folder until the result is closed or the process ends."""
  lock = os.open(partial, os.O_RDONLY)
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(lock)
    raise ValueError(f'{folder}: another process writes to it.') from None
  except OSError:
    pass  # a file system without locks
  return lock


def write(
  folder: str,
  config: dict,
  tensors: Iterator[tuple[str, np.ndarray]],
  shard_bytes: int,
  beside: dict[str, bytes],
  names: tuple[str, str] = (CONFIG, SINGLE),
  metadata: dict[str, str] | None = None,
) -> None:
  """Writes a checkpoint: the whole folder, or nothing.

  Args:
    folder: the new folder; an empty one may exist.
    config: the fields of config.json.
    tensors: one after the other; at most one shard of them is held in memory.
    shard_bytes: the most that a file has, unless one tensor is larger.
    beside: name -> content of other files.
    names: of config.json and of the file of tensors, if there is one alone.
    metadata: of the files of tensors.

  Raises:
    ValueError: the folder is not empty.
  """
  with new_folder(folder) as partial:
    about = {'format': 'pt'} | (metadata or {})
    _write_weights(partial, tensors, shard_bytes, names[1], about)
    _write_json(os.path.join(partial, names[0]), config)
    for name, content in beside.items():
      path = os.path.join(partial, name)
      with open(path, 'wb') as file:
        file.write(content)
      _sync(path)


def _write_weights(folder, tensors, shard_bytes, single, metadata):
  shards, held, size, total = [], {}, 0, 0  # shards: the names of each

  def flush():
    path = os.path.join(folder, f'shard-{len(shards)}')
    try:
      save_file(held, path, metadata=metadata)
    except SafetensorError as error:
      raise _as_os_error(error) from error
    os.chmod(path, 0o666 & ~_umask())  # safetensors lets only the owner read
    _sync(path)
    shards.append(list(held))
    held.clear()

  for name, tensor in tensors:
    if held and size + tensor.nbytes > shard_bytes:
      flush()
      size = 0
    held[name] = tensor
    size += tensor.nbytes
    total += tensor.nbytes
  flush()
  weight_map = {}
  for i, names in enumerate(shards):
    file = f'model-{i + 1:05}-of-{len(shards):05}.safetensors'
    file = single if len(shards) == 1 else file
    os.replace(os.path.join(folder, f'shard-{i}'), os.path.join(folder, file))
    weight_map |= dict.fromkeys(names, file)
  if len(shards) > 1:
    index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
    _write_json(os.path.join(folder, INDEX), index)


def _write_json(path, value):
  with open(path, 'w', encoding='utf-8') as file:
    json.dump(value, file, indent=2, sort_keys=True)
    file.write('\n')
  _sync(path)


def _as_os_error(error):
  """The OSError that safetensors reports as text: '... (os error 28)'."""
  found = re.search(r'os error (\d+)', str(error))
  number = int(found[1]) if found else errno.EIO
  return OSError(number, os.strerror(number) if found else str(error))


def _sync(path):
  with open(path, 'rb') as file:
    os.fsync(file.fileno())


def _umask():
  mask = os.umask(0)
  os.umask(mask)
  return mask

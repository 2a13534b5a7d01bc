"""Tokens a second of Treeline's decoding beside transformers' generate.

  python -m benchmarks.decode [--models=gpt2,llama,t5] [--rounds=5] [--tiny]

GPT-2 of 124M parameters, a LLaMA of 134M and T5 small, with random weights that
both sides read from one checkpoint: greedy decoding and a beam search of 4, of
one prompt and of 16, and of 16 prompts of different lengths. Each writes 128
tokens after 64 (the ragged ones after 16 to 128, padded on the left); no text
ends before. Precision is float32 on a CPU and bfloat16 elsewhere. transformers
runs as it comes, with its cache, SDPA attention and no gradients.

The sides take turns in one process. Reported: the median and quartiles of
tokens a second of each, and Treeline's over transformers' (above 1: Treeline is
faster); how long Treeline's first call compiles; how many of the tokens are the
same; and, of one prompt, the share of the memory's bandwidth that reading all
parameters once for each token takes. The bandwidth is measured here, by adding
up an array of 1 GiB.
"""

import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from absl import flags

from benchmarks import machine
from configs.commands import command
from models import pretrained
from models.build import build
from train.generation.options import Options
from train.generation.writer import Writer

HERE = Path(__file__).resolve()
MODELS = 'gpt2', 'llama', 't5'
EOS = 2  # no side may write it
# name -> (rows, ragged, beams)
SETTINGS = {
  'greedy-1': (1, False, 1),
  'greedy-16': (16, False, 1),
  'greedy-16-ragged': (16, True, 1),
  'beam4-1': (1, False, 4),
  'beam4-16': (16, False, 4),
}

_MODELS = flags.DEFINE_list('models', list(MODELS), 'Which models.')
_SETTINGS = flags.DEFINE_list('settings', list(SETTINGS), 'Which settings.')
_ROUNDS = flags.DEFINE_integer('rounds', 5, 'Timed calls of each side.')
_TINY = flags.DEFINE_bool('tiny', False, 'Small models, and few tokens.')
_OUT = flags.DEFINE_string(
  'out',
  str(HERE.parent / 'results' / 'decode.json'),
  "JSON file of the results; '' writes none.",
)


def make_torch(name, tiny):
  """transformers' model with random weights."""
  torch.manual_seed(0)
  if name == 'gpt2':
    small = {'n_embd': 32, 'n_layer': 2, 'n_head': 2} if tiny else {}
    config = transformers.GPT2Config(**small)
    return transformers.GPT2LMHeadModel(config)
  if name == 'llama':
    # The sizes of SmolLM-135M.
    config = transformers.LlamaConfig(
      vocab_size=49152,
      hidden_size=36 if tiny else 576,
      intermediate_size=64 if tiny else 1536,
      num_hidden_layers=2 if tiny else 30,
      num_attention_heads=9,
      num_key_value_heads=3,
      max_position_embeddings=2048,
      tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config)
  config = transformers.T5Config(
    d_model=32 if tiny else 512,
    d_kv=16 if tiny else 64,
    d_ff=64 if tiny else 2048,
    num_layers=2 if tiny else 6,
    num_heads=2 if tiny else 8,
  )
  return transformers.T5ForConditionalGeneration(config)


class Ids:
  """A tokenizer that shows no text."""

  eos = EOS
  sentinels = ()

  def __init__(self, size):
    self.size = size

  def decode(self, ids):
    return ''


class Sides:
  """A model on both sides."""

  def __init__(self, name, tiny):
    on_cpu = jax.default_backend() == 'cpu'
    dtype = 'float32' if on_cpu else 'bfloat16'
    self.device = 'cpu' if on_cpu else 'cuda'
    model = make_torch(name, tiny).eval()
    with tempfile.TemporaryDirectory() as folder:
      model.save_pretrained(folder)
      config, params = pretrained.load(folder, dtype=dtype)
    self.torch = model.to(self.device, getattr(torch, dtype))
    self.pair = config.family == 'encoder_decoder'
    params = jax.device_put(
      jax.tree.map(lambda x: jnp.asarray(x, dtype), params)
    )
    self.writer = Writer(
      build(config), params, Ids(config.vocab_size), 0, self.pair, None, 128
    )
    self.size = sum(x.nbytes for x in jax.tree.leaves(params))

  def treeline(self, prompts, beams, length):
    options = Options(length=length, minimum=length, beams=beams)
    found = self.writer.answers(prompts, options, len(prompts))
    return np.array([answers[0].tokens for answers in found])

  def transformers(self, prompts, beams, length):
    width = max(map(len, prompts))
    ids, mask = np.zeros((2, len(prompts), width), np.int64)
    for n, row in enumerate(prompts):
      place = slice(len(row)) if self.pair else slice(width - len(row), None)
      ids[n, place], mask[n, place] = row, 1
    with torch.inference_mode():
      found = self.torch.generate(
        torch.from_numpy(ids).to(self.device),
        attention_mask=torch.from_numpy(mask).to(self.device),
        generation_config=transformers.GenerationConfig(
          max_new_tokens=length,
          min_new_tokens=length,
          num_beams=beams,
          do_sample=False,
          **({'length_penalty': 0.0} if beams > 1 else {}),
          pad_token_id=0,
          eos_token_id=EOS,
          bos_token_id=1,
          decoder_start_token_id=0,
        ),
      )
    return found.cpu().numpy()[:, -length:]


def bandwidth():
  """Bytes a second at which an array of 1 GiB is added up."""
  array = jnp.ones((2**28,), 'float32')
  add = jax.jit(jnp.sum)
  add(array).block_until_ready()
  seconds = []
  for _ in range(5):
    start = time.perf_counter()
    add(array).block_until_ready()
    seconds.append(time.perf_counter() - start)
  return array.nbytes / statistics.median(seconds)


def prompts_of(rows, ragged, longest, vocabulary):
  rng = np.random.default_rng(0)
  lengths = [longest] * rows
  if ragged:
    lengths = np.linspace(longest // 4, 2 * longest, rows).astype(int)
  return [rng.integers(3, vocabulary, n).tolist() for n in lengths]


def measure(sides, name, tiny, rounds):
  rows, ragged, beams = SETTINGS[name]
  longest, length = (8, 8) if tiny else (64, 128)
  prompts = prompts_of(rows, ragged, longest, sides.writer.tokenizer.size)
  run = {'treeline': sides.treeline, 'transformers': sides.transformers}
  first, texts = {}, {}
  for side, write in run.items():
    start = time.perf_counter()
    texts[side] = write(prompts, beams, length)
    first[side] = time.perf_counter() - start
  seconds = {side: [] for side in run}
  for n in range(rounds):
    for side in [*run][:: 1 if n % 2 else -1]:
      start = time.perf_counter()
      run[side](prompts, beams, length)
      seconds[side].append(time.perf_counter() - start)
  found = {}
  for side, own in seconds.items():
    rates = [rows * length / x for x in own]
    found[side] = {
      'tokens_per_second': statistics.median(rates),
      'quartiles': statistics.quantiles(rates, n=4)[::2],
    }
  rate = found['treeline']['tokens_per_second']
  compiled = first['treeline'] - statistics.median(seconds['treeline'])
  found |= {
    'ratio': rate / found['transformers']['tokens_per_second'],
    'compile_seconds': max(compiled, 0.0),  # 0: a row before has compiled it
    'same_tokens': float((texts['treeline'] == texts['transformers']).mean()),
  }
  if rows == 1 and beams == 1:
    found['bandwidth_share'] = sides.size * rate / bandwidth()
  return found


def line(name, found):
  text = (
    f'{name:24} {found["treeline"]["tokens_per_second"]:9.1f}'
    f' {found["transformers"]["tokens_per_second"]:13.1f}'
    f' {found["ratio"]:6.2f} {found["compile_seconds"]:10.1f}'
    f' {found["same_tokens"]:6.1%}'
  )
  if 'bandwidth_share' in found:
    text += f' {found["bandwidth_share"]:9.2f}'
  return text


def main(_):
  results = {}
  known = [f'{model}/{setting}' for model in MODELS for setting in SETTINGS]
  print(
    f'{"":24} {"Treeline":>9} {"transformers":>13} {"ratio":>6}'
    f' {"compile s":>10} {"same":>6} {"bandwidth":>9}'
  )
  for model in _MODELS.value:
    sides = Sides(model, _TINY.value)
    for setting in _SETTINGS.value:
      name = f'{model}/{setting}'
      results[name] = measure(sides, setting, _TINY.value, _ROUNDS.value)
      print(line(name, results[name]), flush=True)
    if _OUT.value:
      machine.write(Path(_OUT.value), known, results)


if __name__ == '__main__':
  command.start(main)

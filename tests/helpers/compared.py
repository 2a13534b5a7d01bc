"""Answers that are compared, as ids, and a tiny torch LLaMA that reads them.

trl's environment imports this file too: it needs NumPy, torch and transformers
alone.
"""

import numpy as np
import torch
import transformers

V, EOS = 41, 2
BETA, MARGIN, WEIGHTS = 0.3, 0.7, (1.5, 0.5)  # of KTO: desirable, undesirable
# Prompts, chosen and rejected answers of several lengths; EOS follows.
PROMPTS = ([5, 6, 7], [8, 9], [10, 11, 12, 13], [14])
CHOSEN = ([20, 21], [22], [23, 24, 25], [26, 27])
REJECTED = ([30, 31, 32], [33, 34], [35], [36, 37, 38, 39])
LABELS = (1, 0, 1, 0)  # of the chosen answers, for KTO


def torch_llama(seed: int) -> transformers.LlamaForCausalLM:
  """A LLaMA of two layers, whose weights NumPy draws by the seed."""
  config = transformers.LlamaConfig(
    vocab_size=V, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
    num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=32,
    tie_word_embeddings=False, pad_token_id=0, bos_token_id=1,
    eos_token_id=EOS, attn_implementation='eager',
  )  # fmt: skip
  model = transformers.LlamaForCausalLM(config)
  rng = np.random.default_rng(seed)
  with torch.no_grad():
    for name, weight in sorted(model.named_parameters()):
      mean = 1.0 if 'norm' in name else 0.0
      drawn = mean + 0.3 * rng.standard_normal(tuple(weight.shape))
      weight.copy_(torch.tensor(drawn, dtype=weight.dtype))
  return model.eval()


def padded(prompts, answers) -> dict[str, torch.Tensor]:
  """Prompts and answers, EOS at their ends, as rows of ids and masks."""
  lines = [[*p, *a, EOS] for p, a in zip(prompts, answers, strict=True)]
  length = max(map(len, lines))
  ids, read, answered = np.zeros((3, len(lines), length), int)
  for n, line in enumerate(lines):
    ids[n, : len(line)], read[n, : len(line)] = line, 1
    answered[n, len(prompts[n]) : len(line)] = 1
  names = 'input_ids', 'attention_mask', 'completion_mask'
  return {
    name: torch.tensor(x)
    for name, x in zip(names, (ids, read, answered), strict=True)
  }


def next_answers() -> list[list[int]]:
  """The answer of each next prompt, which KTO's KL divergence needs."""
  return [*CHOSEN[1:], CHOSEN[0]]


def projections(gradients: dict[str, np.ndarray]) -> dict[str, list[float]]:
  """Each gradient's norm, and its products with three vectors.

  NumPy draws the vectors, standard normal, by the sizes alone.
  """
  found = {}
  for name, x in gradients.items():
    vectors = np.random.default_rng(0).standard_normal((3, x.size))
    products = vectors @ x.reshape(-1).astype('float64')
    found[name] = [float(np.linalg.norm(x)), *products.tolist()]
  return found

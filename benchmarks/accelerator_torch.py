"""The torch side of benchmarks/accelerator.py: transformers' classes.

Attention by `sdpa`, or `eager` where a class has no sdpa; bfloat16 by autocast
over float32 weights; torch's fused AdamW for all, also where Treeline has
Adafactor. Greedy decoding has bfloat16 weights, as its users have.
"""

import torch
import transformers

from benchmarks import accelerator_models, kernel_times
from benchmarks.accelerator_workers import (
  gib,
  prompts,
  timed,
  tokens_per_second,
)
from benchmarks.train_step_workers import peak_bytes


def measure(setting):
  """A training step, compiled or not, or greedy decoding."""
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  if device == 'cpu' and not setting['tiny']:
    raise RuntimeError('torch has no GPU here.')
  found = {
    'device': torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
    'platform': device,
  }
  config = accelerator_models.make_config(setting['model'], setting['tiny'])
  torch.manual_seed(0)
  model, found['attention'] = build(config.model, device)
  if setting['what'] == 'decode':
    return found | decode(setting, model.to(torch.bfloat16).eval(), device)
  step, wait = make_step(config, model.train(), device, **setting['fields'])
  found |= timed(step, wait, setting['seconds'])
  found['optimizer'] = 'adamw'
  if device == 'cuda':
    found |= {'peak_gib': gib(torch.cuda.max_memory_allocated())}
    found['memory_of'] = 'device'
  else:
    found |= {'peak_gib': gib(peak_bytes()), 'memory_of': 'process'}
  if setting['profile']:
    found['kernels'] = kernel_times.of_torch(step, wait)
  return found


def build(m, device):
  """transformers' model of a config's group `model`, and its attention."""
  sizes = {'vocab_size': m.vocab_size, 'use_cache': False}
  wide = {
    'hidden_size': m.embed_dim,
    'intermediate_size': m.mlp_dim,
    'num_attention_heads': m.heads,
  }
  match m.family, m.position:
    case 'encoder', _:
      auto = transformers.AutoModelForMaskedLM
      config = transformers.BertConfig(
        **sizes, **wide, num_hidden_layers=m.encoder_layers,
        hidden_act='gelu_pytorch_tanh', hidden_dropout_prob=m.dropout,
        attention_probs_dropout_prob=m.attention_dropout,
      )  # fmt: skip
    case 'encoder_decoder', _:
      auto = transformers.AutoModelForSeq2SeqLM
      config = transformers.T5Config(
        **sizes, d_model=m.embed_dim, d_kv=m.head_dim, d_ff=m.mlp_dim,
        num_layers=m.encoder_layers, num_heads=m.heads, dropout_rate=0.0,
        feed_forward_proj='gated-gelu', tie_word_embeddings=False,
        decoder_start_token_id=0,
      )  # fmt: skip
    case 'decoder', 'rope':
      auto = transformers.AutoModelForCausalLM
      config = transformers.LlamaConfig(
        **sizes, **wide, num_hidden_layers=m.decoder_layers,
        num_key_value_heads=m.kv_heads, head_dim=m.head_dim,
        max_position_embeddings=4096, tie_word_embeddings=False,
      )  # fmt: skip
    case 'decoder', 'learned':
      auto = transformers.AutoModelForCausalLM
      config = transformers.GPT2Config(
        **sizes, n_embd=m.embed_dim, n_inner=m.mlp_dim, n_head=m.heads,
        n_layer=m.decoder_layers, n_positions=m.max_length,
        activation_function='gelu_pytorch_tanh', resid_pdrop=m.dropout,
        embd_pdrop=m.dropout, attn_pdrop=m.attention_dropout,
      )  # fmt: skip
    case _:
      raise ValueError(f'torch has no peer of model.family={m.family!r}.')
  with torch.device(device):
    try:
      kind = 'sdpa'
      model = auto.from_config(config, attn_implementation=kind)
    except ValueError:  # the class has none
      kind = 'eager'
      model = auto.from_config(config, attn_implementation=kind)
  return model.to(device), kind


def make_step(config, model, device, compiled):
  """A function that makes a step and returns its loss, and one that waits."""
  torch.set_float32_matmul_precision('high')
  batch = {
    name: torch.from_numpy(x).long().to(device)
    for name, x in accelerator_models.tokens(config).items()
  }
  given = {'input_ids': batch['inputs'], 'labels': batch['labels']}
  if 'decoder_inputs' in batch:
    given['decoder_input_ids'] = batch['decoder_inputs']
  elif 'predict_at' not in batch:
    given['labels'] = batch['inputs']  # it shifts them itself
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
  run = torch.compile(model) if compiled else model

  def step():
    with torch.autocast(device, torch.bfloat16):
      loss = run(**given).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()

  return step, torch.cuda.synchronize if device == 'cuda' else lambda: None


def decode(setting, model, device):
  rows, prompt, length = setting['decode']
  source = torch.from_numpy(prompts(setting, model.config.vocab_size))
  source = source.long().to(device)

  @torch.inference_mode()
  def write():
    return model.generate(
      source,
      attention_mask=torch.ones_like(source),
      max_new_tokens=length,
      min_new_tokens=length,
      do_sample=False,
      use_cache=True,
      pad_token_id=0,
    ).cpu()

  return tokens_per_second(write, rows * length)

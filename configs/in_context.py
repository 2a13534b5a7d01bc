"""In-context learning on synthetic prompts, after Garg et al. 2022.

`in_context.py:prompts=PROMPTS,model=MODEL,layers=N`. The prompts, which
input_pipeline/objectives/in_context.py draws: linear (functions of numbers:
Garg et al.), copying (a text that repeats: Olsson et al. 2022) or
classification (new classes in each prompt: Chan et al. 2022). The models:
transformer (GPT-2's block, as Garg et al. have it) or rwkv. `layers` is 1, 2 or
3; by default 3 for linear functions and 2 for the others.

All numbers but the batch are ours, for runs of minutes on two CPU cores. Garg
et al.'s tiny model has 3 layers of width 64 and 2 heads, and learns functions
of 20 numbers in 500,001 steps at a rate of 1e-4, with a curriculum of 5 to 20
numbers and 11 to 41 examples (their released code).
`python -m benchmarks.in_context` trains and scores them (docs/in_context.md).
"""

from ml_collections import ConfigDict

from configs import arguments, common, gpt2, rwkv

PROMPTS = 'linear', 'copying', 'classification'
MODELS = {'transformer': gpt2, 'rwkv': rwkv}
LAYERS = {'linear': 3, 'copying': 2, 'classification': 2}
# prompts: data.length, data.dimensions, model.vocab_size, steps.
TASKS = {
  'linear': (20, 3, 16, 1500),  # 10 examples; no token is read
  'copying': (48, 0, 67, 500),
  'classification': (24, 2, 27, 4000),  # 8 examples
}


def get_config(arg: str = '') -> ConfigDict:
  chosen = arguments.parse(
    arg, prompts=PROMPTS, model=MODELS, layers=('', '1', '2', '3')
  )
  prompts = chosen['prompts']
  c = MODELS[chosen['model']].get_config('tiny').unlock()

  d = c.data
  d.source, d.holdout = 'synthetic', 8
  d.objective, d.prompts = 'in_context', prompts
  d.length, d.dimensions, vocabulary, steps = TASKS[prompts]
  d.pack, d.start = False, 'pad'
  d.batch = 64  # Garg et al.'s code

  m = c.model
  m.vocab_size = vocabulary
  m.decoder_layers = int(chosen['layers'] or LAYERS[prompts])
  m.embed_dim, m.mlp_dim = 64, 256
  if chosen['model'] == 'transformer':
    m.heads = m.kv_heads = 4
    m.head_dim, m.max_length = 16, d.length
  m.tie_embeddings = False  # RWKV's are not either
  m.scan = False
  if prompts == 'linear':
    m.head, m.classes, m.input_dim = 'tokens', 1, d.dimensions
    # RWKV's norm of what it reads would take the size of x away.
    m.embed_norm = False
    c.train.max_logit_loss = 0.0

  c.optimizer.weight_decay = 0.0
  c.schedule.name = 'linear'
  c.schedule.learning_rate, c.schedule.end_fraction = 2e-3, 0.0
  c.schedule.warmup_steps = 100
  c.schedule.constant_steps = None
  c.train.steps = steps
  c.train.log_every = 100
  c.eval.every = c.checkpoint.every = 1000
  c.eval.batches, c.eval.samples = 16, 0
  return common.finish(c)

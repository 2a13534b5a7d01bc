"""Chinchilla: "Training Compute-Optimal Large Language Models".

Hoffmann et al. 2022. `chinchilla.py:SIZE`: 70b, or any of the models that its
law was fitted to, by their printed millions of parameters (44m to 16183m);
`tiny` is ours, for a run in minutes.

Gopher's block, trained on twenty tokens for each parameter. 70b's batch doubles
midway (table 4).

Cost: 70b 1.4T tokens (table 4), the FLOPs of Gopher: 5.76e23 (table 3).
Reached (70b): MMLU 67.6 with 5 examples (table 6), perplexity 7.16 on
WikiText-103 (4.2.1).
"""

from ml_collections import ConfigDict

from configs import arguments, common, gopher, paper, phases

ANCESTOR = 'gopher:280b'

# size: D, H, heads, layers. Table 4 and table A9; F is 4 D.
SIZES = {
  '70b': (8192, 128, 64, 80),
  '44m': (512, 64, 8, 8),
  '57m': (576, 64, 9, 9),
  '74m': (640, 64, 10, 10),
  '90m': (640, 64, 10, 13),
  '106m': (640, 64, 10, 16),
  '117m': (768, 64, 12, 12),
  '140m': (768, 64, 12, 15),
  '163m': (768, 64, 12, 18),
  '175m': (896, 64, 14, 14),
  '196m': (896, 64, 14, 16),
  '217m': (896, 64, 14, 18),
  '251m': (1024, 64, 16, 16),
  '278m': (1024, 64, 16, 18),
  '306m': (1024, 64, 16, 20),
  '425m': (1280, 128, 10, 18),
  '489m': (1280, 128, 10, 21),
  '509m': (1408, 128, 11, 18),
  '552m': (1280, 128, 10, 24),
  '587m': (1408, 128, 11, 21),
  '632m': (1536, 128, 12, 19),
  '664m': (1408, 128, 11, 24),
  '724m': (1536, 128, 12, 22),
  '816m': (1536, 128, 12, 25),
  '893m': (1792, 128, 14, 20),
  '1018m': (1792, 128, 14, 23),
  '1143m': (1792, 128, 14, 26),
  '1266m': (2048, 128, 16, 22),
  '1424m': (2176, 128, 17, 22),
  '1429m': (2048, 128, 16, 25),
  '1593m': (2048, 128, 16, 28),
  '1609m': (2176, 128, 17, 25),
  '1731m': (2304, 128, 18, 24),
  '1794m': (2176, 128, 17, 28),
  '2007m': (2304, 128, 18, 28),
  '2283m': (2304, 128, 18, 32),
  '2298m': (2560, 128, 20, 26),
  '2639m': (2560, 128, 20, 30),
  '2980m': (2560, 128, 20, 34),
  '3530m': (2688, 128, 22, 36),
  '3802m': (2816, 128, 22, 36),
  '4084m': (2944, 128, 22, 36),
  '4516m': (3072, 128, 24, 36),
  '6796m': (3584, 128, 28, 40),
  '9293m': (4096, 128, 32, 42),
  '11452m': (4352, 128, 32, 47),
  '12295m': (4608, 128, 36, 44),
  '12569m': (4608, 128, 32, 47),
  '13735m': (4864, 128, 32, 47),
  '14940m': (4992, 128, 32, 49),
  '16183m': (5120, 128, 40, 47),
  'tiny': (),  # Gopher's
}
# Least millions of such sizes; their TPU slice, and how they go there
# (docs/pods.md).
SLICES = (
  (70_000, {'topology': 'v4:8x8x8', 'tensor': 2, 'accumulate': 3}),
  (1500, {'topology': 'v4:4x4x8', 'accumulate': 4}),
  (1000, {'topology': 'v4:4x4x4'}),
)


def get_config(arg: str = '') -> ConfigDict:
  size = arguments.parse(arg, size=tuple(SIZES))['size']
  if size == 'tiny':
    c = gopher.get_config('tiny').unlock()
    c.optimizer.weight_decay = 0.1
    c.data.normalization = ''  # 4.1: no NFKC
    return common.finish(c)
  millions = 70_000 if size == '70b' else int(size[:-1])
  c = gopher.get_config('280b' if millions > 1000 else '417m').unlock()
  m, d = c.model, c.data

  m.embed_dim, m.head_dim, m.heads, m.decoder_layers = SIZES[size]
  m.kv_heads = m.heads
  m.mlp_dim = 4 * m.embed_dim

  d.normalization = ''  # 4.1: no NFKC

  # 70b: table 4, 3M tokens, 1.5M at first. The batches of the others are not
  # stated: they are Gopher's for these sizes (its table 1).
  d.batch = 1536 if size == '70b' else 1024 if millions > 1500 else 128

  tokens = 20e6 * millions
  c.train.phases = ()
  if size == '70b':
    c.train.phases = ((('tokens', tokens / 2), 768, 0, 0, ''),)
  c.optimizer.clip = 1.0  # not stated
  c.optimizer.weight_decay = 0.1  # 4.1: AdamW; the number is not stated
  # 70b: table 4. The paper gives the rate of the smallest model, 2e-4, and of
  # the largest, 1.25e-4.
  c.schedule.learning_rate = 1e-4 if size == '70b' else 2e-4
  if 7000 < millions < 70_000:
    c.schedule.learning_rate = 1.25e-4
  # The cosine ends with the last token (B). 70b: 1.4T tokens, table 4. The
  # others were trained several times; this is the optimal length (table 3).
  c.train.steps = phases.steps_in(c, 'tokens', tokens)

  for least, how in SLICES:
    if millions >= least:
      paper.on_slice(c, **how)
      break
  return common.finish(c)

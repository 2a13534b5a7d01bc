"""What the picture says of an edge is what the two configs differ in."""

import pytest

from configs import lineage, phases
from configs.systems import SYSTEMS, UNDISCLOSED

# A word of an edge -> keys of the new config, some of which differ from the old
# one's. Typed from the papers; the recipes' own tests have all other numbers.
WORDS = {
  '1.4T tokens': {'train.steps': 667_572},
  '105 layers': {'model.decoder_layers': 105},
  '128k context': {'data.length': 131_072},
  '128k vocabulary': {'model.vocab_size': 128_256},
  '251k vocabulary': {'model.vocab_size': 250_880},
  '256k vocabulary': {'model.vocab_size': 256_000},
  '2T tokens': {'train.steps': 476_837},
  '2k context': {'data.length': 2048},
  '2k inputs': {'data.length': 2048},
  '4k context': {'data.length': 4096},
  'ALiBi': {'model.position': 'alibi'},
  'Adafactor': {'optimizer.name': 'adafactor'},
  'AdamW': {'optimizer.name': 'adamw'},
  'RMSNorm': {'model.norm': 'rms_norm'},
  'RoPE': {'model.position': 'rope'},
  'SwiGLU': {'model.activation': 'silu', 'model.gated': True},
  'Transformer-XL positions': {'model.position': 'transformer_xl'},
  'banded attention': {'model.window': 256, 'model.window_every': 2},
  'batches of 8k': {'data.batch': 8192},
  'byte BPE': {'data.tokenizer_kind': 'byte_bpe'},
  'causal': {'model.family': 'decoder', 'data.objective': 'causal'},
  'dense attention': {'model.window': 0},
  'embedding norm': {'model.embed_norm': True},
  'gated MLP': {'model.gated': True},
  'grouped queries': {'model.heads': 32, 'model.kv_heads': 8},
  'half as wide': {'model.embed_dim': 16_384 // 2},
  'instructions': {'data.objective': 'text_to_text'},
  'learned positions': {'model.position': 'learned'},
  'masked tokens': {'data.masking': 'bert'},
  'mixture of denoisers': {'data.objective': 'ul2'},
  'multi-query': {'model.kv_heads': 1},
  'next sentence': {'model.head': 'mlm_nsp'},
  'no next sentence': {'model.head': 'mlm'},
  'parallel blocks': {'model.parallel': 'one_norm'},
  'pre-norm': {'model.norm_placement': 'pre'},
  'relative bias': {'model.position': 'relative_bias'},
  'replaced tokens': {'model.head': 'rtd'},
  'scaled RoPE': {'model.rope_scaling': (8.0, 1.0, 4.0, 8192.0)},
  'serial blocks': {'model.parallel': 'none'},
}
EDGES = [key for key in lineage.edges() if SYSTEMS[key].changed != UNDISCLOSED]


@pytest.mark.parametrize('key', EDGES)
def test_each_word_of_an_edge_is_in_the_difference(key):
  old, new = map(lineage.config_of, lineage.compared(key))
  found = lineage.difference(old, new)
  for word in SYSTEMS[key].changed.split(', '):
    wanted = WORDS[word]
    for name, value in wanted.items():
      group, _, rest = name.partition('.')
      assert new[group][rest] == value, (word, name)
    assert any(name in found for name in wanted), word


@pytest.mark.parametrize('key', EDGES)
def test_tokens_of_an_edge_are_those_of_the_run(key):
  for word in SYSTEMS[key].changed.split(', '):
    if word.endswith('T tokens'):
      c = lineage.config_of(key)
      tokens = phases.counts(phases.of(c), c.train.steps)['tokens']
      assert tokens == pytest.approx(1e12 * float(word[:-8]), rel=0.001)


def test_every_edge_says_something_and_no_root():
  edges = lineage.edges()
  for key, s in SYSTEMS.items():
    assert bool(s.changed) == (key in edges)
    # Nothing is known of a system without a config, and of no other.
    disclosed = bool(lineage.module_of(key).SIZES)
    assert disclosed == (s.changed != UNDISCLOSED)
  used = {w for key in EDGES for w in SYSTEMS[key].changed.split(', ')}
  assert used == set(WORDS)

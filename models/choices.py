"""What each choice of a model may be: one table for each field of the config.

A table's keys are the values that the field may take. Beside each are the
fields of the config that only this value reads: they must be above 0 where it
is chosen, and 0 everywhere else.
"""

# model.family, the topology: models/families/.
FAMILIES = {
  'encoder': ('encoder_layers',),
  'decoder': ('decoder_layers',),
  'encoder_decoder': ('encoder_layers', 'decoder_layers'),
  'electra': ('encoder_layers',),
  'rwkv': ('decoder_layers',),
}

# model.generator, what ELECTRA's generator is and how it learns, and
# model.generator_shares, which of its weights are the discriminator's:
# models/families/electra.py.
GENERATORS = {
  'mlm': (),  # an encoder that learns masked tokens (Clark et al. 2020, 2)
  'unigram': (),  # one distribution for all places (3.2)
  'adversarial': (),  # an encoder that learns to mislead (appendix F)
}
SHARED = {
  'none': (),
  'tokens': (),  # the table of tokens
  'tables': (),  # and those of positions and types, with their norm
  'all': (),  # all but the heads
}

# model.position, how a token's place reaches the model: models/positions.py.
POSITIONS = {
  'none': (),
  'sinusoidal': (),  # Vaswani et al. 2017, 3.5
  'learned': ('max_length',),  # GPT, BERT
  'relative_bias': ('relative_buckets', 'relative_max_distance'),  # T5, 2.1
  'transformer_xl': (),  # Dai et al. 2019, 3.3
  'rope': ('rope_theta', 'rope_dim'),  # Su et al. 2021, 3.2
  'alibi': (),  # Press et al. 2022, 3
}
# Fields that only one position reads, and that may be 0 (or empty) there too.
OPTIONAL = {'position_offset': 'learned', 'rope_scaling': 'rope'}

# model.head, what the last layer's output is read for: models/heads.py.
HEADS = {
  'lm': (),
  'lm_value': (),  # and a value of each place, for PPO
  'mlm': (),
  'mlm_nsp': (),
  'rtd': (),
  'rtd_masked': (),  # this and the next two: Clark et al. 2020, table 5
  'replace_mlm': (),
  'all_tokens_mlm': (),
  'sequence': ('classes',),
  'sequence_lm': ('classes',),
  'choice': (),
  'tokens': ('classes',),
  'span': (),
  'span_joint': (),
  'pooler': (),
  'none': (),
}
OF_PAIRS = 'rtd', 'rtd_masked', 'replace_mlm', 'all_tokens_mlm'
# The heads that each family has.
HEADS_OF = {
  'encoder': tuple(
    x
    for x in HEADS
    if x not in ('lm', 'lm_value', 'sequence_lm', *OF_PAIRS[1:])
  ),
  'decoder': (
    *('lm', 'lm_value', 'sequence', 'sequence_lm', 'choice', 'tokens'),
    'span',
  ),
  'encoder_decoder': ('lm', 'lm_value', 'sequence'),
  'electra': OF_PAIRS,
  'rwkv': ('lm', 'tokens'),
}

# The heads of a decoder that learn labels alone.
LABELS = ('sequence', 'choice', 'tokens', 'span')

# model.features, the layers that an LSTM reads (Devlin et al. 2019, table 7; a
# decoder's last one: table 5): models/lstm.py.
FEATURES = (
  *('embeddings', 'second_to_last', 'last', 'sum_last_four'),
  *('concat_last_four', 'sum_all'),
)


def _plain(*names):
  """Choices without fields of their own."""
  return dict.fromkeys(names, ())


# Field of the config -> its table.
CHOICES = {
  'family': FAMILIES,
  'generator': GENERATORS,
  'generator_shares': SHARED,
  'position': POSITIONS,
  # The block: models/block.py; norms and activations: models/layers.py.
  'norm': _plain('layer_norm', 'layer_norm_no_bias', 'rms_norm'),
  'norm_placement': _plain('pre', 'post'),
  'parallel': _plain('none', 'one_norm', 'two_norms'),
  'activation': _plain('relu', 'gelu', 'gelu_tanh', 'silu', 'squared_relu'),
  'bias': _plain('none', 'mlp', 'all'),
  # How weights are initialised: `initializer` in models/layers.py.
  'init': _plain('t5', 'fan_in', 'glorot', 'rwkv')
  | dict.fromkeys(
    ('normal', 'truncated_normal', 'gpt2', 'megatron'), ('init_std',)
  ),
  'dropout_kind': _plain('t5', 'residual'),
  'head': HEADS,
  'features': _plain('', *FEATURES),
  # How the model runs: models/stack.py; attention: models/kernels/.
  'attention': _plain('auto', 'xla', 'flash'),
  'remat': _plain(
    'auto', 'none', 'full', 'mlp', 'dots', 'attention', 'offload'
  ),
  'dtype': _plain('float32', 'bfloat16'),
}

# What a choice becomes on a machine, which no config may say: `attention` by
# models/kernels/choice.py.
RESOLVED = {'attention': ('cudnn', 'cudnn_unpacked', 'triton')}

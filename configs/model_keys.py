"""The keys of the model, and what a reader must know of a key.

See common.py, which has all keys.
"""

from typing import Any, NamedTuple


class Key(NamedTuple):
  """What a reader must know of a config key."""

  default: Any  # or a type: it has no default, the paper's file sets it
  meaning: str
  choices: tuple[str, ...] = ()  # its values, if they are a fixed list

  @property
  def type(self) -> type:
    fixed = isinstance(self.default, type)
    return self.default if fixed else type(self.default)

  def __str__(self) -> str:
    """The meaning and the choices."""
    listed = ', '.join(choice or "''" for choice in self.choices)
    return f'{self.meaning}; one of {listed}' if listed else self.meaning


# The letters are those of models/__init__.py. A default of 0, '', () or False
# means that the feature is off, unless the meaning says otherwise.
# fmt: off
MODEL = {
  # Sizes.
  'model.family': Key(str, 'the topology', (
    'encoder', 'decoder', 'encoder_decoder', 'electra', 'rwkv')),
  'model.vocab_size': Key(int, 'V, rows of the token table with padding'),
  'model.embed_dim': Key(int, 'D, width of the residual stream'),
  'model.mlp_dim': Key(int, 'F, inner width of the MLP'),
  'model.heads': Key(int, 'N, attention heads'),
  'model.kv_heads': Key(int, 'K, heads of keys and values; 1: multi-query'),
  'model.head_dim': Key(int, 'H, width of a head'),
  'model.encoder_layers': Key(0, 'layers of the encoder'),
  'model.decoder_layers': Key(0, 'layers of the decoder'),
  'model.shared_stacks': Key(
    False, 'encoder and decoder have the same weights, but for the '
    "decoder's cross-attention (T5, 3.2.2)"),
  'model.base_dim': Key(
    0, 'muP: D of the base model, whose learning rate fits this one; it is '
    'this one, but as many times narrower in all widths; 0: no muP'),
  'model.base_head_dim': Key(
    0, "muP: H of the base model; 0: the same, so that heads grow in number"),
  'model.generator': Key(
    'mlm', 'ELECTRA: what fills masks. mlm: an encoder trained for it; '
    'unigram: frequencies; adversarial: an encoder trained to mislead',
    ('mlm', 'unigram', 'adversarial')),
  'model.generator_shares': Key(
    'tables', "ELECTRA: the generator's weights that the discriminator has "
    'too. tables: all embeddings; tokens: of tokens; all: all but the heads',
    ('none', 'tokens', 'tables', 'all')),
  'model.generator_divisor': Key(
    0, "ELECTRA: the generator's widths are the model's divided by this"),
  'model.generator_dim': Key(0, "ELECTRA: or this is the generator's D"),
  'model.generator_heads': Key(0, "ELECTRA: its N; 0: in proportion to D"),
  'model.generator_layers': Key(0, 'ELECTRA: its layers; 0: the same number'),
  # Positions.
  'model.position': Key(str, 'how the model sees the order of tokens', (
    'none', 'sinusoidal', 'learned', 'relative_bias', 'transformer_xl', 'rope',
    'alibi')),
  'model.max_length': Key(0, 'learned positions: rows of their table'),
  'model.position_offset': Key(
    0, 'learned positions: the first row in use; RoBERTa and OPT: 2'),
  'model.relative_buckets': Key(
    0, 'relative bias: buckets of distances, both directions together'),
  'model.relative_max_distance': Key(
    0, 'relative bias: all distances from here on share one bucket'),
  'model.causal_bias': Key(
    False, 'relative bias under a prefix: buckets of one direction, as without '
    'a prefix; keys after a query count as being at distance 0'),
  'model.rope_theta': Key(0.0, 'rope: base of the wavelengths'),
  'model.rope_dim': Key(0, 'rope: how many dimensions of a head are rotated'),
  'model.rope_scaling': Key(
    (), 'rope of LLaMA 3.1: factor, low and high frequency factor, old length'),
  # The block.
  'model.norm': Key(str, 'the normalisation', (
    'layer_norm', 'layer_norm_no_bias', 'rms_norm')),
  'model.norm_epsilon': Key(float, 'added to the variance in norms'),
  'model.norm_placement': Key(
    str, 'pre is x + f(norm(x)), post is norm(x + f(x))', ('pre', 'post')),
  'model.parallel': Key(
    str, 'attention and MLP side by side, after one norm or one norm each',
    ('none', 'one_norm', 'two_norms')),
  'model.activation': Key(str, 'the nonlinearity of the MLP', (
    'relu', 'gelu', 'gelu_tanh', 'silu', 'squared_relu')),
  'model.gated': Key(bool, 'the MLP is act(x Wg) * (x Wi), not act(x Wi)'),
  'model.adapter_dim': Key(0, 'adapters: width of the layer after each MLP'),
  'model.bias': Key(
    str, 'which matrices of the blocks have a bias', ('none', 'mlp', 'all')),
  'model.scale_attention': Key(bool, 'multiply queries by H^-1/2'),
  'model.window': Key(0, 'keys that a query sees in banded layers'),
  'model.window_every': Key(0, 'n: one layer in n is banded'),
  'model.prefix': Key(False, 'the inputs of a decoder see one another'),
  # Embeddings and heads.
  'model.table_dim': Key(0, 'width of the token table; 0: D'),
  'model.token_types': Key(0, "kinds of segments; BERT's A and B: 2"),
  'model.input_dim': Key(
    0, 'I: vectors of I numbers are read by a linear layer, in place of tokens '
    'by their table; 0: tokens'),
  'model.embed_norm': Key(bool, 'a norm right after the embeddings'),
  'model.scale_embed': Key(bool, 'multiply token embeddings by D^1/2'),
  'model.tie_embeddings': Key(bool, 'the output projection is the token table'),
  'model.scale_output': Key(bool, 'multiply the last output by D^-1/2'),
  'model.output_transform': Key(
    bool, 'a dense layer, an activation and a norm before the logits'),
  'model.output_bias': Key(bool, 'a bias on the logits'),
  'model.head': Key(str, "what the last layer's output is read for", (
    'lm', 'lm_value', 'mlm', 'mlm_nsp', 'rtd', 'rtd_masked', 'replace_mlm',
    'all_tokens_mlm', 'sequence', 'sequence_lm', 'choice', 'tokens', 'span',
    'span_joint', 'pooler', 'none')),
  'model.classes': Key(0, 'classes of heads sequence and tokens; 1: a number'),
  'model.features': Key(
    '', "layers that a bidirectional LSTM under an encoder's head tokens reads "
    "(BERT, table 7), or 'last' of a decoder (table 5); '': there is none",
    ('', 'embeddings', 'second_to_last', 'last', 'sum_last_four',
     'concat_last_four', 'sum_all')),
  'model.pooler': Key(
    True, 'heads sequence and choice have a dense layer before the classes'),
  'model.pooler_dropout': Key(
    False, 'the head sequence has dropout before its dense layer too'),
  # Initialisation and regularisation.
  'model.init': Key(str, 'how weights are initialised', (
    't5', 'fan_in', 'glorot', 'rwkv', 'normal', 'truncated_normal', 'gpt2',
    'megatron')),
  'model.init_std': Key(
    0.0, 'standard deviation of normal, truncated_normal, gpt2 and megatron'),
  'model.dropout': Key(float, 'rate of dropout'),
  'model.attention_dropout': Key(float, 'rate for the attention weights'),
  'model.dropout_kind': Key(str, 'where dropout acts', ('t5', 'residual')),
  # How the model runs; the results are the same up to rounding.
  'model.dtype': Key(
    'bfloat16', 'type of the activations', ('float32', 'bfloat16')),
  'model.scan': Key(True, 'compile one layer and loop over stacked weights'),
  'model.scan_unroll': Key(
    1, 'layers in a turn of that loop: more copy less, and compile longer'),
  'model.attention': Key(
    'auto', "what computes attention, or RWKV's mean over the past. xla: all "
    'in memory; flash: a kernel that works in blocks; auto: flash if devices '
    'and config allow it',
    ('auto', 'xla', 'flash')),
  'model.remat': Key(
    'auto', 'what the backward pass recomputes. full: whole layers; dots: all '
    'but products with weights; mlp: as dots, and what is as wide as the MLP; '
    'offload: as dots, kept in host memory; attention: the attention weights; '
    'auto: dots with model.attention=flash, else none',
    ('auto', 'none', 'full', 'mlp', 'dots', 'attention', 'offload')),
}
# fmt: on

"""Every config key there is, and how a config's argument is read.

A paper's file starts from `base()` and sets the choices of the paper. A key
without a value is not used by the run; one that is needed and not set, or set
and not used, is an error when the run starts.
"""

import difflib
from collections.abc import Iterable

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# Key -> (default, meaning). A type in the place of a default: no value yet. 0,
# '' and () stand for a choice that is not made.
KEYS = {
  'seed': (0, 'of everything random'),
  # Sizes of the model.
  'model.family': (str, 'encoder, decoder, encoder_decoder, electra or rwkv'),
  'model.vocab_size': (int, 'rows of the token table, padding included'),
  'model.embed_dim': (int, 'width of the residual stream'),
  'model.mlp_dim': (int, 'inner width of the MLP'),
  'model.heads': (int, 'attention heads'),
  'model.kv_heads': (int, 'heads of keys and values; 1: multi-query'),
  'model.head_dim': (int, 'width of a head'),
  'model.encoder_layers': (0, 'layers of the encoder'),
  'model.decoder_layers': (0, 'layers of the decoder'),
  'model.generator_divisor': (0, "how much narrower ELECTRA's generator is"),
  # Positions.
  'model.position': (
    str,
    'none, sinusoidal, learned, relative_bias, transformer_xl, rope or alibi',
  ),
  'model.max_length': (0, 'rows of the table of learned positions'),
  'model.position_offset': (0, 'its first row in use; RoBERTa, OPT: 2'),
  'model.relative_buckets': (0, 'of the relative bias, both directions'),
  'model.relative_max_distance': (0, 'from here on one bucket'),
  'model.rope_theta': (0.0, 'base of the wavelengths of rope'),
  'model.rope_dim': (0, 'how much of a head rope turns'),
  'model.rope_scaling': (
    (),
    'LLaMA 3.1: factor, low and high frequency factor, former length',
  ),
  # The block.
  'model.norm': (str, 'layer_norm, layer_norm_no_bias or rms_norm'),
  'model.norm_epsilon': (float, 'added to the variance'),
  'model.norm_placement': (str, 'pre: x + f(norm(x)); post: norm(x + f(x))'),
  'model.parallel': (
    str,
    'attention beside the MLP: none, one_norm or two_norms',
  ),
  'model.activation': (
    str,
    'of the MLP: relu, gelu, gelu_tanh, silu or squared_relu',
  ),
  'model.gated': (bool, 'act(x Wg) * (x Wi) instead of act(x Wi)'),
  'model.bias': (str, 'of the matrices in the blocks: none, mlp or all'),
  'model.scale_attention': (bool, 'queries times head_dim^-1/2'),
  'model.window': (0, 'keys that a query of a banded layer sees'),
  'model.window_every': (0, 'every so many layers one is banded'),
  'model.prefix': (False, "a decoder's inputs see one another"),
  # Embeddings and heads.
  'model.table_dim': (0, 'width of the token table where it is another'),
  'model.token_types': (0, "BERT's segments A and B: 2"),
  'model.embed_norm': (bool, 'a norm right after the embeddings'),
  'model.scale_embed': (bool, 'token embeddings times embed_dim^1/2'),
  'model.tie_embeddings': (bool, 'the output projection is the token table'),
  'model.scale_output': (bool, 'the last output times embed_dim^-1/2'),
  'model.output_transform': (bool, 'dense, activation and norm before logits'),
  'model.output_bias': (bool, 'a bias on the logits'),
  'model.head': (
    str,
    'lm, mlm, mlm_nsp, rtd, sequence, tokens, span, pooler or none',
  ),
  'model.classes': (0, 'of the heads sequence and tokens'),
  'model.pooler_dropout': (
    False,
    'the head sequence drops before its dense layer too',
  ),
  # Birth and regularisation.
  'model.init': (
    str,
    't5, fan_in, glorot, rwkv, normal, truncated_normal, gpt2 or megatron',
  ),
  'model.init_std': (0.0, 'of the last four'),
  'model.dropout': (float, 'rate'),
  'model.attention_dropout': (float, 'rate of the attention weights'),
  'model.dropout_kind': (str, 'where it acts: t5 or residual'),
  # How the model runs.
  'model.dtype': ('bfloat16', 'of activations: float32 or bfloat16'),
  'model.scan': (True, 'compile one layer and loop over stacked weights'),
  'model.remat': ('none', 'recomputed in the backward pass: none, dots, full'),
  # Where text comes from.
  'data.source': (
    str,
    'json:, parquet:, text:, textfile:GLOB, tfds:NAME, cache:DIR, docs, ...',
  ),
  'data.text_field': ('text', 'of json, parquet and tfds: what holds the text'),
  'data.mixture': ((), "(source, rate), ... in place of data.source, then ''"),
  'data.documents': (0, 'only the first ones of each source; 0: all'),
  'data.epochs': (0, 'times that every document is read; 0: without end'),
  'data.holdout': (0, 'every holdout-th document is for evaluation; 0: none'),
  'data.max_bad_share': (
    0.001,
    'of unreadable documents, among 1,000 at least',
  ),
  # How it is tokenized.
  'data.tokenizer': ('', "a file or folder; '' trains one on the source"),
  'data.tokenizer_kind': (
    'unigram',
    'unigram, bpe, wordpiece, byte_bpe or bytes',
  ),
  'data.lowercase': (False, 'wordpiece: no capitals, no accents'),
  'data.normalization': (
    '',
    (
      "of a trained unigram or bpe: none, nfkc or nmt_nfkc; '': nmt_nfkc of a "
      'unigram that is not lossless, else none'
    ),
  ),
  'data.lossless': (
    False,
    (
      'a trained unigram keeps white space, parts digits and spells rare '
      'characters in bytes; all kinds but wordpiece do so anyhow'
    ),
  ),
  'data.sentinels': (0, '<extra_id_N> pieces'),
  # What is learnt.
  'data.objective': (
    str,
    (
      'causal, prefix, span_corruption, iid_spans, drop_tokens, bert_style, '
      'mass_style, deshuffling, ul2, mlm, sentence_pairs, full_sentences or '
      'doc_sentences'
    ),
  ),
  'data.loss_on_inputs': (False, "of a decoder's pairs; False: targets alone"),
  'data.noise_density': (0.0, 'share of tokens that is corrupted or masked'),
  'data.mean_span_length': (0.0, 'tokens of a corrupted span, on average'),
  'data.target_length': (0, 'of a row, where targets vary in length'),
  'data.denoisers': ((), 'UL2: (mode, rate, mean span, share), ...'),
  'data.predictions': (0, 'at most so many masked tokens in a row'),
  'data.masking': ('', 'whose rule of masking: bert, roberta or electra'),
  'data.masked_share': (0.0, 'of the chosen tokens, those that read [MASK]'),
  'data.random_share': (0.0, 'those that read a random token'),
  'data.whole_words': (False, 'words are masked whole'),
  'data.duplicates': (0, 'n: epochs e and e + n mask alike; 0: none do'),
  'data.short_share': (0.0, 'of the documents whose pairs are shorter'),
  # Rows and batches.
  'data.batch': (int, 'rows, over all devices and hosts'),
  'data.length': (int, 'tokens of a row'),
  'data.curriculum': (
    (),
    '(share of the steps, length, predictions), ... before the last phase',
  ),
  'data.concatenate': (True, 'join documents before cutting rows'),
  'data.start': (
    'pad',
    "what a text begins with: 'none' (windows), 'bos', 'eos', 'pad' or an id",
  ),
  'data.bos': (-1, "the id of BOS; -1: the vocabulary's own"),
  'data.pack': (True, 'short examples share a row'),
  'data.block': (
    0,
    'documents read, shuffled and packed together; 0: 128, or data.length / 32',
  ),
  'data.document_tokens': (
    0,
    'longer documents give one random chunk; 0: all of it',
  ),
  'data.streams': (8, 'independent readers; divides data.batch'),
  'data.threads': (0, 'of the pipeline; 0: all cores; changes speed only'),
  # The optimizer.
  'optimizer.name': (str, 'adafactor or adamw'),
  'optimizer.clip': (0.0, 'global norm of the gradients; 0: no clipping'),
  'optimizer.weight_decay': (float, 'factor of a weight in its update'),
  'optimizer.decay': ('matrices', 'which weights decay: matrices or all'),
  'optimizer.b1': (float, 'decay of the first moment'),
  'optimizer.b2': (float, 'decay of the second moment'),
  'optimizer.epsilon': (float, 'AdamW: added to the root'),
  'optimizer.decay_rate': (float, 'Adafactor: exponent of the second moment'),
  'optimizer.epsilon1': (float, 'Adafactor: added to squared gradients'),
  'optimizer.epsilon2': (float, 'Adafactor: least scale of a parameter'),
  'optimizer.clip_threshold': (float, 'Adafactor: largest RMS of an update'),
  'optimizer.factor_from': (int, 'Adafactor: least size of factored dims'),
  'optimizer.parameter_scale': (bool, 'Adafactor: rates relative to weights'),
  'optimizer.bias_correction': (bool, 'AdamW: of both moments'),
  # The learning rate.
  'schedule.name': (
    str,
    (
      'constant, inverse_sqrt, noam, linear, linear_from_start, '
      'linear_throughout, cosine or exponential'
    ),
  ),
  'schedule.learning_rate': (float, 'the largest one'),
  'schedule.warmup_steps': (int, 'steps of linear warm-up'),
  'schedule.end_fraction': (float, 'of the largest rate, at the end'),
  'schedule.constant_steps': (int, 'steps at the largest rate'),
  'schedule.decay_steps': (0, "the decay's last step; 0: train.steps"),
  # Training, evaluation, checkpoints.
  'train.steps': (int, 'updates'),
  'train.accumulate': (1, 'parts of a batch, one after the other'),
  'train.z_loss': (0.0, 'factor of log_z^2'),
  'train.label_smoothing': (0.0, 'share spread over all tokens'),
  'train.max_logit_loss': (0.0, 'times the largest logit squared, over 2'),
  'train.log_every': (100, 'steps'),
  'eval.source': ('', "'': held-out documents of data.source"),
  'eval.every': (10_000, 'steps'),
  'eval.batches': (0, 'at most so many; 0: the whole split'),
  'eval.samples': (0, 'rows decoded greedily after an evaluation'),
  'checkpoint.every': (5_000, 'steps'),
  'checkpoint.keep': (2, 'the newest ones'),
  'checkpoint.keep_every': (0, 'and each at a multiple of this; 0: none'),
  'checkpoint.best': (
    '',
    'and the best by this number of the evaluations: loss, accuracy, ...',
  ),
  # Devices.
  'sharding.rules': (
    'replicated',
    'replicated, fsdp, tensor or fsdp_tensor',
  ),
  'sharding.mesh.data': (-1, 'size of this axis; -1: the other devices'),
  'sharding.mesh.fsdp': (1, 'size of this axis'),
  'sharding.mesh.sequence': (1, 'size of this axis'),
  'sharding.mesh.tensor': (1, 'size of this axis'),
  'sharding.mesh.expert': (1, 'size of this axis'),
  'sharding.mesh.stage': (1, 'size of this axis'),
}


def base() -> ConfigDict:
  """All keys, unlocked: `finish` locks them."""
  config = ConfigDict()
  for key, (default, _) in KEYS.items():
    *groups, name = key.split('.')
    group = config
    for part in groups:
      if part not in group:
        group[part] = ConfigDict()
      group = group[part]
    group[name] = placeholder(default) if isinstance(default, type) else default
  config.optimizer.multipliers = ConfigDict()  # of the rate, by parameter name
  return config


def finish(config: ConfigDict) -> ConfigDict:
  """Locks a config: from here on an unknown key is an error."""
  return config.lock()


def parse(arg: str, **options: tuple[str, ...]) -> dict[str, str]:
  """Reads what follows the colon of `--config=FILE.py:ARG`.

  Args:
    arg: a size, or 'key=value,key=value'.
    **options: the values each key may take, the default first; `size` is the
      key of a bare value.

  Returns:
    A value for every option.

  Raises:
    ValueError: an unknown key or value; names the nearest one.

  Example: parse('small', size=('base', 'small'), version=('1.0', '1.1')) is
  {'size': 'small', 'version': '1.0'}.
  """
  chosen = {key: values[0] for key, values in options.items()}
  for part in filter(None, arg.split(',')):
    key, value = part.split('=', 1) if '=' in part else ('size', part)
    if key not in options:
      raise ValueError(unknown('config argument', key, options))
    if value not in options[key]:
      raise ValueError(unknown(key, value, options[key]))
    chosen[key] = value
  return chosen


def unknown(what: str, value: str, known: Iterable[str]) -> str:
  """What is said of a value that is none of the known; names the nearest."""
  near = difflib.get_close_matches(value, known, 1, cutoff=0.4)
  hint = f' Did you mean {near[0]!r}?' if near else ''
  return f'{what} {value!r} is unknown.{hint} There are: {", ".join(known)}.'

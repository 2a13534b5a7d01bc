"""Blocks: where an objective and a family of models meet.

A block's documents become rows in one pure function of them, the data's config
and a generator: shuffled, tokenized, cut, corrupted, laid out and packed.
"""

from input_pipeline import corruption, features

# The topologies that an objective's examples can be laid out for.
FAMILIES = {
  'span_corruption': ('encoder_decoder',),
  'causal': ('decoder', 'rwkv'),
  'mlm': ('encoder', 'electra'),
  'sentence_pairs': ('encoder', 'electra'),
}


def batch_shapes(config, family):
  """Name -> (shape without the batch, dtype), without opening any data.

  family is the model's topology. Raises ValueError when the objective has no
  rows for it or a row needs more sentinels than data.sentinels.
  """
  families = FAMILIES[config.objective]
  if family not in families:
    raise ValueError(
      f'data.objective={config.objective!r} makes rows for model.family'
      f' {" or ".join(families)}, not for {family!r}.'
    )
  if config.objective == 'causal':
    return features.decoder_shapes(config.length)
  if config.masks:
    pairs = config.objective == 'sentence_pairs'
    return features.encoder_shapes(config.length, config.predictions, pairs)
  noise = config.noise_density, config.mean_span_length
  raw_length, target_length = corruption.span_lengths(config.length, *noise)
  _, spans = corruption.noise_counts(raw_length, *noise)
  if spans > config.sentinels:
    raise ValueError(
      f'data.length={config.length}, data.noise_density={noise[0]} and'
      f' data.mean_span_length={noise[1]} need {spans} sentinels in a row, but'
      f' data.sentinels={config.sentinels}: raise data.mean_span_length, or'
      ' lower data.length or data.noise_density.'
    )
  return features.encoder_decoder_shapes(config.length, target_length)


def make_rows(texts, tokenizer, config, shapes, rng, family):
  """Documents of a block -> rows: shuffled, tokenized, cut, corrupted, packed.

  texts are UTF-8 bytes or ids. Returns [rows, W] (see features), cursors zero.
  """
  texts = [texts[i] for i in rng.permutation(len(texts))]
  documents = tokenizer.encode_batch(texts, 1)
  documents = [
    corruption.random_chunk(ids, rng, config.document_tokens or len(ids))
    for ids in documents
    if len(ids)
  ]
  if config.objective == 'causal':
    documents = corruption.end(documents, tokenizer.eos)
    pieces = corruption.cut(documents, config.length, config.concatenate)
    return features.decoder(pieces, shapes, rng, config.pack)
  if config.masks:
    return _masked_rows(documents, tokenizer, config, shapes, rng, family)
  noise = config.noise_density, config.mean_span_length
  raw_length, _ = corruption.span_lengths(config.length, *noise)
  examples = [
    corruption.span_corruption(
      pieces, rng, config.noise_density, config.mean_span_length,
      tokenizer.sentinels, tokenizer.eos,
    )
    for pieces in corruption.cut(documents, raw_length, config.concatenate)
  ]  # fmt: skip
  return features.encoder_decoder(examples, shapes, rng, config.pack)


def _masked_rows(documents, tokenizer, config, shapes, rng, family):
  """Rows of an encoder that predicts masked tokens."""
  cls, sep, length = tokenizer.cls, tokenizer.sep, config.length
  others = {}
  if config.objective == 'sentence_pairs':
    pairs = corruption.sentence_pairs(documents, rng, length - 3)
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    tokens, positions, segments, others['types'], others['is_next'] = (
      features.pairs_rows(pairs, length, cls, sep)
    )
  else:
    pieces = corruption.cut(documents, length - 2, config.concatenate)
    pieces = [corruption.frame(piece, cls, sep) for piece in pieces]
    tokens, positions, segments = features.lay_out(
      pieces, length, rng, config.pack
    )
  maskable = (segments > 0) & (tokens != cls) & (tokens != sep)
  counts = corruption.masked_counts(
    (segments > 0).sum(axis=1),
    maskable.sum(axis=1),
    config.noise_density,
    config.predictions,
  )
  electra = family == 'electra'  # its released code's choices
  at, chosen = corruption.choose(
    rng, maskable, counts, config.predictions, again=electra
  )
  shares = (0.85, 0.0) if electra else (0.8, 0.1)
  inputs = corruption.mask_tokens(
    tokens, at, chosen, rng, tokenizer.mask, tokenizer.size, *shares
  )
  others |= {'positions': positions, 'segments': segments}
  return features.encoder(tokens, inputs, at, chosen, shapes, **others)

"""Blocks: where an objective and a family of models meet.

A block's documents become rows in one pure function of them, the data's config
and a generator: shuffled, cut, corrupted, laid out and packed.
"""

import itertools

import numpy as np

from input_pipeline.objectives import (
  corruption,
  features,
  lengths,
  masking,
  prefixes,
  sentences,
  ul2,
)
from input_pipeline.tokenizers import kinds

# What each kind of objective can be laid out for.
FAMILIES = {
  'pairs': ('encoder_decoder', 'decoder', 'rwkv'),
  'masked': ('encoder', 'electra'),
  'causal': ('decoder', 'rwkv'),
}
SENTENCE = 16  # tokens in a sentence of documents without (synthetic ones)


def batch_shapes(config, family):
  """Name -> (shape without the batch, dtype), without opening any data.

  family is the model's topology. Raises ValueError when the objective has no
  rows for it, an example has no room in one, or needs more sentinels than
  data.sentinels.
  """
  kind = 'pairs' if config.pairs else 'masked' if config.masks else 'causal'
  if family not in FAMILIES[kind]:
    raise ValueError(
      f'data.objective={config.objective!r} makes rows for model.family'
      f' {" or ".join(FAMILIES[kind])}, not for {family!r}.'
    )
  if config.masks:
    pairs = config.objective == 'sentence_pairs'
    return features.encoder_shapes(config.length, config.predictions, pairs)
  if config.pairs:
    lengths.check(config, family)
    if family == 'encoder_decoder':
      if config.loss_on_inputs:
        raise ValueError(
          'data.loss_on_inputs=True is for decoders: an encoder_decoder'
          ' predicts none of its inputs. Set it to False.'
        )
      return features.encoder_decoder_shapes(
        config.length, lengths.target_length(config, family)
      )
  return features.decoder_shapes(config.length, config.pairs)


def encode(texts, tokenizer, config):
  """UTF-8 texts -> documents: ids each, or ids of each sentence."""
  if not config.sentences:
    return tokenizer.encode_batch(texts, 1)
  parts = [sentences.split(text) for text in texts]
  ids = iter(tokenizer.encode_batch(list(itertools.chain(*parts)), 1))
  documents = [list(itertools.islice(ids, len(part))) for part in parts]
  return [[ids for ids in document if len(ids)] for document in documents]


def make_rows(documents, tokenizer, config, shapes, rng, family):
  """Documents of a block -> rows: shuffled, cut, corrupted, packed.

  documents come from encode(), or are a source's that has tokens. Returns
  [rows, W] (see features), cursors zero.
  """
  documents = [documents[i] for i in rng.permutation(len(documents))]
  documents = [document for document in documents if len(document)]
  if config.masks:
    rows = _masked_rows(documents, tokenizer, config, rng)
    return features.encoder(shapes, *rows)
  if config.document_tokens:
    documents = [
      corruption.random_chunk(ids, rng, config.document_tokens)
      for ids in documents
    ]
  if not config.pairs:
    documents = corruption.end(documents, tokenizer.eos)
    start = kinds.start_id(tokenizer, config)
    if config.start == 'none':
      pieces, start = corruption.windows(
        documents, config.length, config.concatenate
      )
    else:
      pieces = corruption.cut(documents, config.length, config.concatenate)
    return features.decoder(pieces, shapes, rng, config.pack, start)
  start, groups = kinds.start_id(tokenizer, config), None
  if family != 'encoder_decoder':
    examples = _examples(documents, tokenizer, config, rng, family)
    return features.decoder_pairs(
      examples, shapes, rng, config.pack, start, config.loss_on_inputs
    )
  if config.objective == 'prefix' and config.pack:
    (raw_length,) = lengths.raw_lengths(config, family)
    pieces = corruption.cut(documents, raw_length, config.concatenate)
    examples, groups = prefixes.mirrored(
      pieces, rng, config.length, tokenizer.eos
    )
  else:
    examples = _examples(documents, tokenizer, config, rng, family)
  return features.encoder_decoder(
    examples, shapes, rng, config.pack, start, groups
  )


def _examples(documents, tokenizer, config, rng, family):
  """Documents -> (inputs, targets) arrays, one pair for each length."""
  noise, eos = config.noise_density, tokenizer.eos
  sentinels = tokenizer.sentinels[: config.sentinels]
  if config.objective == 'ul2':
    modes = mode_ids(tokenizer, config)
    return ul2.denoise(
      documents, rng, config.denoisers, modes,
      lengths.raw_lengths(config, family, modes), sentinels, eos,
      config.concatenate,
    )  # fmt: skip
  (raw_length,) = lengths.raw_lengths(config, family)

  def corrupt(tokens):
    match config.objective:
      case 'span_corruption':
        mean = config.mean_span_length
        return corruption.span_corruption(
          tokens, rng, noise, mean, sentinels, eos
        )
      case 'prefix':
        return corruption.prefix_lm(tokens, rng, eos)
      case 'iid_spans':
        return corruption.iid_spans(
          tokens, rng, noise, sentinels, eos, config.target_length
        )
      case 'drop_tokens':
        return corruption.drop_tokens(
          tokens, rng, noise, eos, config.target_length
        )
      case 'bert_style' | 'mass_style':
        ids = masking.ordinary(tokenizer.size, tokenizer.specials)
        return corruption.bert_style(
          tokens, rng, noise, config.random_share, sentinels[0], ids, eos
        )
      case 'deshuffling':
        return corruption.deshuffling(tokens, rng, eos)

  pieces = corruption.cut(documents, raw_length, config.concatenate)
  return [corrupt(tokens) for tokens in pieces]


def mode_ids(tokenizer, config):
  """Ids of each denoiser's mode, those of its text, which may be several.

  Raises ValueError where the vocabulary cannot tell two modes apart.
  """
  names = [mode for mode, *_ in config.denoisers]
  ids = tokenizer.encode_batch([name.encode() for name in names], 1)
  found = {tuple(mode.tolist()) for mode in ids}
  if len(found) < len(set(names)) or () in found:
    raise ValueError(
      f'data.denoisers: data.tokenizer={config.tokenizer!r} cannot tell the'
      f' modes {", ".join(sorted(set(names)))} apart: give them names whose'
      ' signs it has.'
    )
  return ids


def _masked_rows(documents, tokenizer, config, rng):
  """Documents -> tokens, what is read instead, positions to predict and which
  of them are, and the other arrays of an encoder's batch."""
  cls, sep, length = tokenizer.cls, tokenizer.sep, config.length
  if config.sentences:
    documents = [_sentences(document) for document in documents]
  if config.objective == 'sentence_pairs':
    most = length - 3
    documents = [sentences.shorten(d, most) for d in documents]
    pairs = sentences.sentence_pairs(documents, rng, most, config.short_share)
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    tokens, others = features.pairs_rows(pairs, length, cls, sep)
  else:
    if config.sentences:
      across = config.objective == 'full_sentences'
      documents = [sentences.shorten(d, length - 2) for d in documents]
      pieces = [sentences.full_sentences(documents, length, cls, sep, across)]
    else:
      pieces = corruption.cut(documents, length - 2, config.concatenate)
      pieces = [masking.frame(piece, cls, sep) for piece in pieces]
    tokens, positions, segments = features.lay_out(
      pieces, length, rng, config.pack
    )
    others = {'positions': positions, 'segments': segments}

  read = others['segments'] > 0
  special = read & ((tokens == cls) | (tokens == sep))
  # RoBERTa's code masks these as well (fairseq's MaskTokensDataset).
  maskable = read if config.masking == 'roberta' else read & ~special
  counts = masking.masked_counts(
    config.masking, read.sum(axis=1), maskable.sum(axis=1),
    config.noise_density, config.predictions, rng,
  )  # fmt: skip
  if config.whole_words:
    starts = tokenizer.word_starts()[tokens] | special
    starts[:, 1:] |= special[:, :-1]
    at, chosen = masking.choose_words(
      rng, maskable, starts, counts, config.predictions
    )
  else:
    again = config.masking == 'electra'
    at, chosen = masking.choose(
      rng, maskable, counts, config.predictions, again
    )
  # BERT draws of the whole vocabulary.
  ids = masking.ordinary(
    tokenizer.size, tokenizer.specials if config.masking == 'roberta' else ()
  )
  inputs = masking.mask_tokens(
    tokens, at, chosen, rng, tokenizer.mask, ids, config.masked_share,
    config.random_share,
  )  # fmt: skip
  return tokens, inputs, at, chosen, others


def _sentences(document):
  """A document's sentences; tokens without any are cut evenly."""
  if isinstance(document, np.ndarray):
    return np.split(document, range(SENTENCE, len(document), SENTENCE))
  return document

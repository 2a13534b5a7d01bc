"""Rows: where an objective meets a family of models.

The documents of a chunk become rows in one pure function of the documents, the
data's config and a generator. It shuffles, cuts, corrupts, lays out and packs.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from input_pipeline.config import DataConfig
from input_pipeline.objectives import (
  features,
  in_context,
  labelled_rows,
  lengths,
  masking,
  pieces,
  preferences,
  prefixes,
  sentences,
  spans,
  t5_ablations,
  ul2,
)
from input_pipeline.tokenizers.interface import (
  Tokenizer,
  sentinel_ids,
  start_id,
)

# The families that each kind of objective has rows for.
FAMILIES_OF = {
  'pairs': ('encoder_decoder', 'decoder', 'rwkv'),
  'masked': ('encoder', 'electra'),
  'causal': ('decoder', 'rwkv'),
  'labelled': ('encoder', 'decoder'),
  'in_context': ('decoder', 'rwkv'),  # each example predicted from those before
}
SENTENCE = 16  # tokens in a sentence of documents without any (synthetic ones)

# A document: the ids of its text, or of each of its sentences.
Document = np.ndarray | Sequence[np.ndarray]


def batch_shapes(config: DataConfig, family: str) -> features.Shapes:
  """Name -> (shape without the batch, dtype), without opening any data.

  Raises ValueError if the objective has no rows for model.family, or if an
  example has no room in a row or needs more sentinels than data.sentinels.
  """
  if config.preferences:
    return preferences.shapes(config, family)
  kind = 'pairs' if config.pairs else 'masked' if config.masks else 'causal'
  kind = 'labelled' if config.labelled else kind
  kind = config.objective if config.objective == 'in_context' else kind
  if family not in FAMILIES_OF[kind]:
    raise ValueError(
      f'data.objective={config.objective!r} makes rows for model.family'
      f' {" or ".join(FAMILIES_OF[kind])}, not for {family!r}.'
    )
  if config.labelled:
    return labelled_rows.shapes(config, family)
  if config.objective == 'in_context':
    return in_context.shapes(config)
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


def encode(
  texts: Sequence[bytes], tokenizer: Tokenizer, config: DataConfig
) -> list[Document]:
  """UTF-8 texts -> documents: the ids of each, or of each of its sentences."""
  if not config.sentences:
    return tokenizer.encode_batch(texts, 1)
  parts = [sentences.split(text) for text in texts]
  ids = iter(tokenizer.encode_batch(list(itertools.chain(*parts)), 1))
  documents = [list(itertools.islice(ids, len(part))) for part in parts]
  return [[ids for ids in document if len(ids)] for document in documents]


def make_rows(
  documents: Sequence[Document],
  tokenizer: Tokenizer,
  config: DataConfig,
  shapes: features.Shapes,
  rng: np.random.Generator,
  family: str,
  whole: Sequence[bool] | None = None,
) -> np.ndarray:
  """The documents of a chunk -> rows: shuffled, cut, corrupted, packed.

  documents come from encode(), or from a source that has tokens. `whole` says
  which of them have the end of their text (see remainders); None: all. Returns
  [rows, W] (see features); cursors are zero.
  """
  if config.objective == 'in_context':
    return in_context.make_rows(len(documents), tokenizer, config, shapes, rng)
  documents, ends = shuffled(documents, whole, rng)
  if config.labelled:
    return labelled_rows.make_rows(documents, shapes, rng)
  if config.preferences:
    return preferences.make_rows(documents, shapes, rng)
  if config.masks:
    return _masked_rows(documents, tokenizer, config, shapes, rng)
  if config.document_tokens:
    documents = [
      pieces.random_part(ids, rng, config.document_tokens) for ids in documents
    ]
  if config.pairs:
    return _pair_rows(documents, tokenizer, config, shapes, rng, family)
  return _causal_rows(documents, ends, tokenizer, config, shapes, rng)


def shuffled(
  documents: Sequence[Document],
  whole: Sequence[bool] | None,
  rng: np.random.Generator,
) -> tuple[list[Document], list[bool]]:
  """The documents that have a token in random order, and their `whole`."""
  order = [i for i in rng.permutation(len(documents)) if len(documents[i])]
  ends = [True if whole is None else bool(whole[i]) for i in order]
  return [documents[i] for i in order], ends


def _causal_rows(documents, ends, tokenizer, config, shapes, rng):
  """Documents -> rows [rows, W] of a decoder, each token predicted."""
  eos = np.int32(tokenizer.eos)  # which a decoder learns to write
  documents = [
    np.append(tokens, eos) if end else tokens
    for tokens, end in zip(documents, ends, strict=True)
  ]
  start = start_id(tokenizer, config)
  if config.start == 'none':
    cut, start = pieces.windows(documents, config.length, config.concatenate)
  else:
    cut = pieces.cut(documents, config.length, config.concatenate)
  return features.decoder(cut, shapes, rng, config.pack, start)


def _pair_rows(documents, tokenizer, config, shapes, rng, family):
  """Documents -> rows [rows, W] of inputs and targets."""
  layout = shapes, rng, config.pack, start_id(tokenizer, config)
  if family != 'encoder_decoder':
    examples = _examples(documents, tokenizer, config, rng, family)
    return features.decoder_pairs(examples, *layout, config.loss_on_inputs)
  groups = None
  if config.objective == 'prefix' and config.pack:
    (raw_length,) = lengths.raw_lengths(config, family)
    cut = pieces.cut(documents, raw_length, config.concatenate)
    examples, groups = prefixes.mirrored(cut, rng, config.length, tokenizer.eos)
  else:
    examples = _examples(documents, tokenizer, config, rng, family)
  return features.encoder_decoder(examples, *layout, groups)


def _examples(documents, tokenizer, config, rng, family):
  """Documents -> (inputs, targets) arrays, one pair for each length."""
  if config.objective == 'text_to_text':
    return labelled_rows.examples(documents)
  noise, eos = config.noise_density, tokenizer.eos
  sentinels = sentinel_ids(tokenizer, config)
  if config.objective == 'ul2':
    modes = ul2.mode_ids(tokenizer, config)
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
        return spans.span_corruption(tokens, rng, noise, mean, sentinels, eos)
      case 'prefix':
        return prefixes.prefix_lm(tokens, rng, eos)
      case 'iid_spans':
        most = config.target_length
        return t5_ablations.iid_spans(tokens, rng, noise, sentinels, eos, most)
      case 'drop_tokens':
        most = config.target_length
        return t5_ablations.drop_tokens(tokens, rng, noise, eos, most)
      case 'bert_style' | 'mass_style':
        ids = masking.ordinary(tokenizer.size, tokenizer.specials)
        return t5_ablations.bert_style(
          tokens, rng, noise, config.random_share, sentinels[0], ids, eos
        )
      case 'deshuffling':
        return t5_ablations.deshuffling(tokens, rng, eos)

  cut = pieces.cut(documents, raw_length, config.concatenate)
  return [corrupt(tokens) for tokens in cut]


def _masked_rows(documents, tokenizer, config, shapes, rng):
  """Documents -> rows [rows, W] of an encoder, some tokens predicted."""
  cls, sep, limit = tokenizer.cls, tokenizer.sep, config.predictions
  tokens, others = framed_rows(documents, cls, sep, config, rng)
  read = others['segments'] > 0
  special = read & ((tokens == cls) | (tokens == sep))
  # RoBERTa's code masks [CLS] and [SEP] too (fairseq's MaskTokensDataset).
  roberta = config.masking == 'roberta'
  maskable = read if roberta else read & ~special
  counts = masking.masked_counts(
    config.masking, read.sum(axis=1), maskable.sum(axis=1),
    config.noise_density, limit, rng,
  )  # fmt: skip
  if config.whole_words:
    starts = tokenizer.word_starts[tokens] | special
    starts[:, 1:] |= special[:, :-1]
    at, chosen = masking.choose_words(rng, maskable, starts, counts, limit)
  else:
    again = config.masking == 'electra'
    at, chosen = masking.choose(rng, maskable, counts, limit, again)
  # BERT's random tokens are of the whole vocabulary.
  ids = masking.ordinary(tokenizer.size, tokenizer.specials if roberta else ())
  inputs = masking.mask_tokens(
    tokens, at, chosen, rng, tokenizer.mask, ids, config.masked_share,
    config.random_share,
  )  # fmt: skip
  return features.encoder(shapes, tokens, inputs, at, chosen, others)


def framed_rows(
  documents: Sequence[Document],
  cls: int,
  sep: int,
  config: DataConfig,
  rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Documents -> an encoder's tokens [rows, T] before masking, other arrays."""
  length = config.length
  if config.sentences:
    room = length - (3 if config.objective == 'sentence_pairs' else 2)
    documents = [sentences.shorten(_sentences(d), room) for d in documents]
  if config.objective == 'sentence_pairs':
    pairs = sentences.sentence_pairs(
      documents, rng, room, config.short_share, config.single_sentences
    )
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    return features.pairs_rows(pairs, length, cls, sep)
  if config.sentences:
    across = config.objective == 'full_sentences'
    framed = [sentences.full_sentences(documents, length, cls, sep, across)]
  else:
    cut = pieces.cut(documents, length - 2, config.concatenate)
    framed = [masking.frame(piece, cls, sep) for piece in cut]
  rows = features.lay_out(framed, length, rng, config.pack)
  return rows[0], {'positions': rows[1], 'segments': rows[2]}


def _sentences(document):
  """A document's sentences; tokens without sentences are cut evenly."""
  if isinstance(document, np.ndarray):
    return np.split(document, range(SENTENCE, len(document), SENTENCE))
  return document

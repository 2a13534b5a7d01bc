"""What some keys of data.* can be: one table for each choice."""

import difflib
from collections.abc import Iterable
from typing import NamedTuple


class Keys(NamedTuple):
  """The keys that only some objectives read, for one objective.

  With an objective that does not list it, a key must be 0, '' or False.
  """

  needed: tuple[str, ...]  # must be set
  optional: tuple[str, ...] = ()  # 0 and False turn the feature off


_SPANS = ('sentinels', 'noise_density')
_PAIR = ('document_tokens', 'loss_on_inputs')
_BORROW = 'borrow_sentinels'
# Keys of tasks in words, and what the names of these tasks begin with.
WORDED = ('shots', 'shot_share', 'option_share', 'inverted_share')
IN_WORDS = 'task:flan/'
_CHATS = ('chat_template', *WORDED)
_ANSWERS = ('sentinels', 'target_length', 'chat_template')
_MASKS = ('noise_density', 'predictions', 'masking', 'masked_share')
_MASKS_TOO = ('random_share', 'whole_words', 'duplicates')

# Objectives whose examples are inputs and targets.
PAIRS = {
  # The first part of a text, then the rest.
  'prefix': Keys((), ('sentinels', *_PAIR)),  # for an objective that follows
  # T5's objective, then those it is compared with (T5, section 3.3).
  'span_corruption': Keys(
    (*_SPANS, 'mean_span_length', 'document_tokens'),
    # Tasks beside it may have longer targets.
    ('loss_on_inputs', 'target_length', _BORROW),
  ),
  'iid_spans': Keys((*_SPANS, 'target_length'), (*_PAIR, _BORROW)),
  'drop_tokens': Keys(('noise_density', 'target_length'), _PAIR),
  'bert_style': Keys(_SPANS, ('random_share', *_PAIR)),
  'mass_style': Keys(_SPANS, _PAIR),
  'deshuffling': Keys((), _PAIR),
  # A mixture of denoisers.
  'ul2': Keys(('sentinels', 'denoisers'), (*_PAIR, _BORROW)),
  # A labelled task as T5 writes it: an input and a target.
  'text_to_text': Keys(
    (), ('sentinels', 'target_length', 'loss_on_inputs', *_CHATS)
  ),
}
# Objectives of PAIRS whose targets are the whole text.
WHOLE_TEXT = ('bert_style', 'mass_style', 'deshuffling')
# Objectives that predict some tokens of a row.
MASKED = {
  'mlm': Keys(_MASKS, _MASKS_TOO),  # rows are cut anywhere in a text
  # BERT's: two parts of a text, and whether the second follows the first.
  'sentence_pairs': Keys(
    _MASKS, (*_MASKS_TOO, 'short_share', 'single_sentences')
  ),
  # RoBERTa's: whole sentences, across documents or of one document.
  'full_sentences': Keys(_MASKS, _MASKS_TOO),
  'doc_sentences': Keys(_MASKS, _MASKS_TOO),
}
# Objectives of a labelled task for a head of an encoder, or of GPT-1.
LABELLED = {
  'classification': Keys(('framing',), ('orders',)),
  'regression': Keys(('framing', 'label_scale'), ('orders',)),
  'choice': Keys(('framing', 'choices')),
  'tagging': Keys(('framing',)),
  'span': Keys(('framing',)),
}
# Objectives of train.align: a prompt and answers to it.
PREFERENCES = {
  # A chosen and a rejected answer, for a model that writes.
  'preference': Keys((), _ANSWERS),
  # An answer that is desirable or not, and another prompt's (KTO).
  'desirable': Keys((), _ANSWERS),
  # A chosen and a rejected answer, for a head that gives each a number.
  'reward': Keys((), (*_ANSWERS, 'framing')),
}
OBJECTIVES = {
  'causal': Keys((), ('sentinels',)),
  **PAIRS,
  **MASKED,
  **LABELLED,
  **PREFERENCES,
  # Prompts of examples, made from the seed: objectives/in_context.py.
  'in_context': Keys(('prompts',), ('dimensions',)),
}
# What the examples of a prompt are of; and whether an x has data.dimensions.
PROMPTS = {'linear': True, 'copying': False, 'classification': True}
# In place of a denoiser's mean span: its noise is drawn token by token.
IID = 'iid'
# What the numbers of data.mixture are: shares, or counts of examples.
RATES = ('given', 'examples', 'equal')
# How a task's texts are framed; see objectives/framing.py.
FRAMING = ('bert', 'roberta', 'gpt1')

# In which orders the two texts of an example are read: '': their own; 'each': a
# training example in each (Clark et al. 2020's code); 'both': one example has
# both, and the outputs are added (Radford et al. 2018, 3.3).
ORDERS = ('', 'each', 'both')

# Whose rule says how many tokens of a row are masked.
MASKING = ('bert', 'roberta', 'electra')

# unigram and bpe are SentencePiece's.
TOKENIZERS = ('unigram', 'bpe', 'wordpiece', 'byte_bpe', 'bytes')
# How SentencePiece normalizes text; '': as its kind does.
NORMALIZATIONS = ('', 'none', 'nfkc', 'nmt_nfkc')
# Keys of data.* that only some kinds of tokenizer read.
TOKENIZER_KEYS = {
  'lowercase': ('wordpiece',),
  'normalization': ('unigram', 'bpe'),
  'lossless': ('unigram', 'bpe', 'byte_bpe', 'bytes'),  # no text is lost
}

# What a text begins with; the id of a token is possible too.
STARTS = ('none', 'bos', 'eos', 'pad')

# What a source's name begins with -> how the whole name is written.
SOURCES = {
  'json:': 'json:GLOB',
  'parquet:': 'parquet:GLOB',
  'tfds:': 'tfds:NAME[@SPLIT]',
  'text:': 'text:GLOB',
  'textfile:': 'textfile:GLOB',
  'cache:': 'cache:DIR',
  'task:': 'task:NAME[@SPLIT]',
  'preferences:': 'preferences:GLOB',
  'docs': 'docs',
  'synthetic': 'synthetic',  # not in a mixture
}
# Sources whose documents have fields, one of which is data.text_field.
FIELDS = ('json:', 'parquet:', 'tfds:')
# Of a task that is a file: its keys follow it in a config's argument.
FILE_LAST = 'Keys of the config, such as size=, come before task=.'


def either(names: Iterable[str]) -> str:
  """The names as a sentence lists them.

  >>> either(['a', 'b', 'c'])
  'a, b or c'
  >>> either(['a'])
  'a'
  """
  *first, last = names
  return f'{", ".join(first)} or {last}' if first else last


def unknown(what: str, value: str, known: Iterable[str]) -> str:
  """The message for a value that is not among the known ones."""
  near = difflib.get_close_matches(value, known, 1, cutoff=0.4)
  hint = f' Did you mean {near[0]!r}?' if near else ''
  return f'{what} {value!r} is unknown.{hint} There are: {", ".join(known)}.'

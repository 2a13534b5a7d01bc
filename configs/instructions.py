"""FLAN's mixtures: which tasks, how often, and what is held out.

The tasks are those of `docs/tasks.md` that FLAN has too, and a few like them;
clusters are FLAN's (Wei et al. 2022, figure 3; memory). heldout=CLUSTER leaves
a cluster out of training and evaluates on it alone, as FLAN does (2.2); those
that are too like it are left out too (ALIKE).
"""

from ml_collections import ConfigDict

CLUSTERS = {
  'nli': (
    *('glue/mnli', 'glue/qnli', 'glue/rte', 'glue/wnli', 'super_glue/cb'),
  ),
  'paraphrase': ('glue/mrpc', 'glue/qqp', 'glue/stsb'),
  'sentiment': ('glue/sst2',),
  'commonsense': ('super_glue/copa', 'swag'),
  'reading': (
    *('super_glue/boolq', 'super_glue/multirc', 'squad/v1.1', 'race/all'),
  ),
  'reading_commonsense': ('super_glue/record',),
  'closed_book': ('trivia_qa',),
  'coreference': ('super_glue/wsc', 'super_glue/dpr'),
  'summarization': ('cnn_dailymail', 'xsum'),
  'translation': (
    *('wmt/en_de', 'wmt/de_en', 'wmt/en_fr', 'wmt/fr_en'),
    *('wmt/en_ro', 'wmt/ro_en'),
  ),
  'miscellaneous': ('glue/cola', 'super_glue/wic'),
  # One of FLAN's tasks has arithmetic; chains of thought are those of Chung et
  # al. 2022.
  'arithmetic': ('gsm8k', 'gsm8k_cot', 'mawps', 'asdiv'),
}
# Tasks that a program makes, for a tiny model: ours.
MADE = {
  'order': ('words/copy', 'words/reverse', 'words/sort'),
  'place': ('words/first', 'words/last', 'words/count'),
  'words_yes_no': ('words/contains', 'words/begins'),
  'numbers_yes_no': ('numbers/more', 'numbers/even'),
  'sums': ('numbers/sum', 'numbers/difference', 'numbers/larger'),
}
# cluster: those that are not learnt where it is held out. The published code's
# splits between clusters.
ALIKE = {
  'nli': ('paraphrase',),
  'paraphrase': ('nli',),
  'reading': ('reading_commonsense',),
  'commonsense': ('reading_commonsense',),
  'reading_commonsense': ('reading', 'commonsense'),
}
# Clusters whose answers are free texts: no options, of which one is likeliest.
WRITTEN = (
  *('closed_book', 'summarization', 'translation', 'arithmetic'),
  *('order', 'place'),
)
# What is evaluated, where it is not called 'validation'.
_SPLITS = {'glue/mnli': ('validation_matched', 'validation_mismatched')}
VOCABULARY = 352  # pieces: the texts of MADE give no more
HELDOUT = '', *CLUSTERS, *MADE  # values of heldout=


def check_recipe(heldout: str, recipe: str, key: str = 'recipe') -> None:
  """Raises ValueError if a recipe that learns no instructions holds one out."""
  if heldout and recipe != 'flan':
    raise ValueError(
      f'heldout={heldout} belongs to instructions: {key}={recipe} has none.'
    )


def mix(c: ConfigDict, heldout: str = '', tiny: bool = False) -> None:
  """Sets the data: FLAN's mixture of 2022 (Chung et al. 2022, 2.1).

  A config that sets lengths and batches calls it. With `tiny` the tasks are
  those of MADE. Raises ValueError if they have no cluster `heldout`.
  """
  clusters = MADE if tiny else CLUSTERS
  if heldout and heldout not in clusters:
    raise ValueError(
      f'heldout={heldout} is no cluster of this size: it has'
      f' {", ".join(clusters)}.'
    )
  d = c.data
  d.source, d.holdout, d.concatenate = '', 0, True
  d.objective, d.document_tokens = 'text_to_text', 0
  out = (heldout, *ALIKE.get(heldout, ()))
  kept = [x for name, own in clusters.items() if name not in out for x in own]
  d.mixture = tuple((f'task:flan/{name}', 0) for name in kept)
  d.rates = 'examples'
  d.rate_cap = 30_000  # of the published code, for FLAN 2021's tasks
  # A quarter each, of the published code: with examples or without, with the
  # options or without.
  d.shots = 5  # not stated
  d.shot_share = d.option_share = 0.5
  d.inverted_share = 0.3  # of the published code
  c.eval.source = ' '.join(
    f'task:flan/{name}@{split}'
    for name in clusters.get(heldout, ())
    for split in _SPLITS.get(name, ('validation',))
  )
  # Each task is read whole, and a stream keeps rows of every one.
  d.streams, d.block = 8, 2**9
  if tiny:
    c.model.vocab_size, d.streams, d.shots = VOCABULARY, 4, 2

"""Metrics of texts that a model writes: summaries and translations."""

from collections.abc import Sequence

import numpy as np

from input_pipeline.tasks.metrics import scores
from input_pipeline.tasks.metrics.scores import Examples, Scores

ROUGE = ('rouge1', 'rouge2', 'rougeLsum')
ROUGE_SEED = 0


def rouge(
  examples: Examples, predictions: Sequence[str], *, field: str = 'highlights'
) -> Scores:
  """`rouge1`, `rouge2`, `rougeLsum`: F1 of n-grams and of sentences' LCS.

  They are computed as in T5 (Lin 2004; Raffel et al. 2020, 2.3): by rouge-score
  without stemming; each line is a sentence, and ' . ' ends a line too. A score
  is the median over 1000 bootstrap samples of the examples, drawn from a fixed
  seed.

  Args:
    examples: with a summary.
    predictions: summaries.
    field: the field of the summary: 'highlights' of CNN/DM, 'summary' of XSum.
  """
  scores.check_length(examples, predictions)
  if not predictions:
    return scores.percents(dict.fromkeys(ROUGE))
  with scores.extra():
    from rouge_score import rouge_scorer, scoring
  scorer = rouge_scorer.RougeScorer(ROUGE)
  aggregator = scoring.BootstrapAggregator()
  for example, found in zip(examples, predictions, strict=True):
    aggregator.add_scores(scorer.score(_lines(example[field]), _lines(found)))
  # rouge-score draws from NumPy's global generator.
  state = np.random.get_state()
  np.random.seed(ROUGE_SEED)
  try:
    result = aggregator.aggregate()
  finally:
    np.random.set_state(state)
  return scores.percents({name: result[name].mid.fmeasure for name in ROUGE})


def _lines(summary):
  return summary.replace(' . ', ' .\n')


def bleu(
  examples: Examples, predictions: Sequence[str], *, language: str
) -> Scores:
  """`bleu` of a corpus, by sacrebleu with T5's choices (see bleu_signature).

  Texts are cased and tokenised as 'intl'; 'exp' smooths counts of 0 (Papineni
  et al. 2002; Raffel et al. 2020, 2.3).

  Args:
    examples: sentences by their language.
    predictions: translations.
    language: the field of the reference, such as 'de'.
  """
  scores.check_length(examples, predictions)
  if not predictions:
    return scores.percents({'bleu': None})
  golds = [example[language] for example in examples]
  return {'bleu': float(_bleu().corpus_score(predictions, [golds]).score)}


def bleu_signature() -> str:
  """sacrebleu's signature of `bleu`: its version and choices."""
  metric = _bleu()
  metric.corpus_score(['a'], [['a']])  # the signature counts the references
  return str(metric.get_signature())


def _bleu():
  with scores.extra():
    from sacrebleu.metrics import BLEU
  return BLEU(smooth_method='exp', tokenize='intl', lowercase=False)

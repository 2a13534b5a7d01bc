"""Metrics of tasks: (examples, predictions) -> name -> number.

Numbers are in percent, except counts and thresholds. An example has TFDS's
fields. These entries are there only where they are not 0:

  undefined  how many numbers have no value, and are given as 0: all of them
             without examples, a correlation with what never changes (Matthews,
             Pearson, Spearman), an F1 where neither side has anything to find.
  invalid    how many predictions are no prediction: None where a class is
             asked (the model's text names none), no finite number where a
             number is. They are wrong.
  cut        how many words have no predicted tag; they count as 'O'.

Each function raises ValueError where an example has no gold label, or where
there are not as many predictions as examples. scikit-learn, SciPy, sacrebleu
and rouge-score come with pip install 'treeline-lm[tasks]'.
"""

from input_pipeline.tasks.metrics.answers import record, squad, squad2, trivia
from input_pipeline.tasks.metrics.averages import (
  glue_average,
  superglue_average,
)
from input_pipeline.tasks.metrics.classes import (
  accuracy,
  f1_accuracy,
  f1_macro_accuracy,
  matthews,
  multirc,
  pearson_spearman,
)
from input_pipeline.tasks.metrics.tags import entity_f1
from input_pipeline.tasks.metrics.texts import bleu, bleu_signature, rouge

__all__ = [
  'accuracy',
  'bleu',
  'bleu_signature',
  'entity_f1',
  'f1_accuracy',
  'f1_macro_accuracy',
  'glue_average',
  'matthews',
  'multirc',
  'pearson_spearman',
  'record',
  'rouge',
  'squad',
  'squad2',
  'superglue_average',
  'trivia',
]

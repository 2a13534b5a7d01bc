"""Metrics of tasks: (examples, predictions) -> name -> number.

Numbers are in percent, except counts and thresholds. An example has TFDS's
fields. Two counts are given only if they are not 0:

  undefined  scores without a value, which are given as 0: all of them if there
             are no examples; a correlation (Matthews, Pearson, Spearman) with a
             constant; an F1 if neither labels nor predictions have a positive.
  invalid    predictions that cannot be used: None where the model's text names
             no class, or a number that is not finite. They count as wrong.
             A word without a predicted tag counts as 'O'.

Each function raises ValueError if an example has no gold label, or if there are
more or fewer predictions than examples. scikit-learn, SciPy, sacrebleu and
rouge-score come with pip install 'treeline-lm[tasks]'.
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
from input_pipeline.tasks.metrics.tags import (
  entities,
  entity_f1,
  tag_accuracy,
)
from input_pipeline.tasks.metrics.texts import bleu, bleu_signature, rouge

__all__ = [
  'accuracy',
  'bleu',
  'bleu_signature',
  'entities',
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
  'tag_accuracy',
  'trivia',
]

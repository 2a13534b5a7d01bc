"""In-context learning: the score by the number of examples in the prompt.

A score is a squared error, divided by I, of linear functions (as in Garg et al.
2022: the guess of zero has 1), and else an accuracy. Beside a model's stands
that of the best possible predictor, which knows how prompts are drawn, but not
what was drawn: no model can be better than by chance, unless it sees what it
must predict.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from train.evaluation import best_predictors
from train.learning import heads
from train.parallel import compilation

Batch = dict[str, np.ndarray]
ERRORS = 5.0  # standard errors beyond which a score is too good for chance


def score(run: Any, batches: Iterable[Batch]) -> dict[str, Any]:
  """The scores of a run (runs.opening.Run) on batches of prompts.

  Returns:
    'prompts', their number, and 'shots': for each number of examples 'shots',
    'score' and its standard error 'error' (see `standard_error`), 'best', and
    the 'count' of predictions.

  Raises:
    ValueError: the model is better than the best possible predictor.
  """
  apply = compilation.jit(
    lambda params, batch: heads.apply(run.model, params, batch), run.setup.mesh
  )
  prompts = run.data.prompts
  sizes = prompts, run.config.model.vocab_size
  own, best, shots = [], [], []
  for batch in batches:
    read = {name: batch[name] for name in run.model.INPUTS}
    with run.setup.on_mesh():
      found = np.asarray(apply(run.params, read))
    own.append(scores(found, batch))
    best.append(best_predictors.scores(batch, *sizes))
    shots.append(np.where(batch['weights'] > 0, batch['shots'], -1))
  own, best, shots = map(np.concatenate, (own, best, shots))
  check(own, best, shots, prompts)
  rows = []
  for number in range(shots.max() + 1):
    here = shots == number
    values = own[here]
    rows.append(
      {
        'shots': number,
        'score': float(values.mean()),
        'error': standard_error(own, here),
        'best': float(best[here].mean()),
        'count': len(values),
      }
    )
  return {'prompts': len(own), 'shots': rows}


def standard_error(own: np.ndarray, here: np.ndarray) -> float:
  """That of the mean score [B,T] of the places `here` [B,T].

  Prompts are independent, and the places of one prompt are not: a prompt counts
  as the sum of what its places differ from the mean. With one place in each
  prompt it is the deviation by the root of their number.
  """
  differences = np.where(here, own - own[here].mean(), 0.0).sum(axis=1)
  return float(np.square(differences).sum() ** 0.5 / here.sum())


def scores(found: np.ndarray, batch: Batch) -> np.ndarray:
  """What a model gives at each place, [B,T,V] or [B,T,1] -> scores [B,T]."""
  if 'labels' in batch:
    size = batch['inputs'].shape[-1]
    return np.square(found[..., 0] - batch['labels']) / size
  return (found.argmax(axis=-1) == batch['targets']).astype(float)


def check(
  own: np.ndarray, best: np.ndarray, shots: np.ndarray, prompts: str
) -> None:
  """Raises ValueError if the scores [B,T] of a place are too good to be true.

  They are compared place by place: which shots a place has may depend on what
  must be predicted there, but the place itself says nothing.
  """
  for place in range(own.shape[1]):
    here = shots[:, place] >= 0
    better = (own - best)[here, place] * (-1 if prompts == 'linear' else 1)
    if len(better) < 2:
      continue
    # Where all prompts agree by chance, one more could have differed.
    error = max(better.std(), len(better) ** -0.5) / len(better) ** 0.5
    if better.mean() > ERRORS * error:
      raise ValueError(
        f'At place {place} of prompts of {prompts} the score is '
        f'{own[here, place].mean():.4g}, better than the best possible, '
        f'{best[here, place].mean():.4g}: the model sees what it must predict. '
        'Its mask or its recurrence lets a later place through.'
      )

"""Checks, counts and percentages that all metrics share."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from input_pipeline.tasks.task import Example

Examples = Sequence[Example]
Scores = dict[str, float]


def labels(examples: Examples, predictions: Sequence[Any]) -> list[Any]:
  """The labels of the examples.

  Raises:
    ValueError: an example has no label, or the numbers of examples and
      predictions differ.
  """
  check_length(examples, predictions)
  for i, example in enumerate(examples):
    if example['label'] is None:
      raise ValueError(
        f'Example {i} has no label: the labels of its split are secret. Metrics'
        ' need labels; for a test split, write the predictions.'
      )
  return [example['label'] for example in examples]


def check_length(examples: Examples, predictions: Sequence[Any]) -> None:
  """Raises ValueError unless there is a prediction for each example."""
  if len(examples) != len(predictions):
    raise ValueError(
      f'There are {len(predictions)} predictions for {len(examples)} examples.'
    )


def invalid(predictions: Sequence[Any]) -> int:
  """How many predictions are None."""
  return sum(prediction is None for prediction in predictions)


def percents(
  values: Mapping[str, float | None], undefined: int = 0, **counts: int
) -> Scores:
  """Values from 0 to 1 as percent, None as 0, and the counts that are not 0.

  `undefined` is raised by the number of values that are None.
  """
  scores = {k: 0.0 if v is None else 100 * float(v) for k, v in values.items()}
  counts['undefined'] = undefined + sum(v is None for v in values.values())
  return scores | {k: float(v) for k, v in counts.items() if v}


@contextlib.contextmanager
def extra() -> Iterator[None]:
  """Names the extra `tasks` in the error of an import that fails."""
  try:
    yield
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      f"This metric needs {error.name}: pip install 'treeline-lm[tasks]'",
      name=error.name,
    ) from error

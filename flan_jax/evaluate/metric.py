"""Metric: statistics of each example, and a figure in percent from their sums."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np


class Metric(Protocol):
  """Interface of a metric; metrics.METRICS holds the registered ones.

  Attributes:
    name: headline figure, as the report names it.
    description: one line about the computation.
    kind: `mean`, a mean over examples of values from 0 to 1; `share`, another figure
      from 0 to 100; `correlation`, a figure from -100 to 100; `value`, a mean over
      examples of values without bounds.
    graded: True if an answer can be partly right.
  """

  @property
  def name(self) -> str: ...

  @property
  def description(self) -> str: ...

  @property
  def kind(self) -> str: ...

  @property
  def graded(self) -> bool: ...

  def scores(
    self, predictions: Sequence[str | None], references: Sequence[Sequence[str]]
  ) -> np.ndarray:
    """Computes the statistics of each example, float64 [examples, statistics].

    They add up over examples.

    Args:
      predictions: one text per example; None for no answer, which is always wrong.
      references: right texts of each example.
    """
    ...

  def value(self, statistics: np.ndarray) -> np.ndarray:
    """Rates single answers, [...]: higher is better, 1 is best.

    Args:
      statistics: statistics of single answers, float64 [..., statistics].
    """
    ...

  def same(self, prediction: str, references: Sequence[str]) -> bool:
    """Returns whether an answer equals a reference after the metric's normalization."""
    ...

  def signature(self, references: Sequence[Sequence[str]]) -> str:
    """Lists the settings that reproduce the figure; '' if the name suffices."""
    ...

  def combine(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Computes the figure in percent, [...], from summed statistics.

    Args:
      totals: float64 [..., statistics], sums over examples.
      count: [...], number of examples in each sum.
    """
    ...

  def cases(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Number of binary decisions behind a figure, [...]; arguments as for `combine`."""
    ...

  def aggregate(self, examples: np.ndarray) -> float:
    """Computes the figure in percent from [examples, statistics]."""
    ...

  def others(self, examples: np.ndarray) -> dict[str, float]:
    """Computes further figures in percent, by name, from [examples, statistics]."""
    ...


def is_measured(statistics: np.ndarray) -> np.ndarray:
  """Marks answers that were scored, bool [...].

  Args:
    statistics: statistics of single answers, float64 [..., statistics]; NaN if an
      answer was not.
  """
  return np.logical_not(np.isnan(statistics).any(-1))


class BaseMetric:
  """Defaults of a metric: a mean over graded examples, without further figures.

  A subclass gives `name`, `description`, `scores`, `value` and `combine`.
  """

  name: str
  description: str
  kind = 'mean'
  graded = True
  _normal: Callable[[str], str] = staticmethod(str.strip)

  def same(self, prediction: str, references: Sequence[str]) -> bool:
    return self._normal(prediction) in map(self._normal, references)

  def signature(self, references: Sequence[Sequence[str]]) -> str:
    del references
    return ''

  def combine(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    raise NotImplementedError

  def cases(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    del totals
    return count

  def aggregate(self, examples: np.ndarray) -> float:
    examples = np.asarray(examples, np.float64)
    return float(self.combine(examples.sum(0), np.asarray(len(examples))))

  def others(self, examples: np.ndarray) -> dict[str, float]:
    del examples
    return {}


class MeanMetric(BaseMetric):
  """Mean over examples of `score(prediction, reference)`, with the best reference."""

  def __init__(
    self,
    name: str,
    score: Callable[[str, str], float],
    description: str,
    *,
    graded: bool = True,
  ):
    """Makes a metric from a function of two texts, from 0 to 1.

    Args:
      name: name of the figure.
      score: called as score(prediction, reference).
      description: one line about the computation.
      graded: True if an answer can be partly right.
    """
    self.name = name
    self.description = description
    self.graded = graded
    self._score = score

  def scores(self, predictions, references):
    out = np.zeros((len(predictions), 1))
    for i, (prediction, right) in enumerate(zip(predictions, references, strict=True)):
      if prediction is not None:
        out[i] = max((self._score(prediction, one) for one in right), default=0.0)
    return out

  def value(self, statistics):
    return statistics[..., 0]

  def combine(self, totals, count):
    return 100 * totals[..., 0] / np.maximum(count, 1)


class MultiMetric(BaseMetric):
  """Several figures of one answer, each a mean over examples; `name` is the headline.

  A subclass gives `types` and `scores`.

  Attributes:
    types: names of the figures, one statistic each.
  """

  name: str
  types: tuple[str, ...] = ()

  @property
  def graded(self) -> bool:
    return self.name != 'exact_match'

  @property
  def _headline(self) -> int:
    return self.types.index(self.name)

  def value(self, statistics):
    return statistics[..., self._headline]

  def combine(self, totals, count):
    return 100 * totals[..., self._headline] / np.maximum(count, 1)

  def others(self, examples):
    if not len(examples):
      return {}
    means = zip(self.types, 100 * np.mean(examples, 0), strict=True)
    return {name: float(mean) for name, mean in means if name != self.name}

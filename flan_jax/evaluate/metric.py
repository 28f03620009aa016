"""Metric: per-example sufficient statistics, a percentage at the end."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np


class Metric(Protocol):
  """What every entry of METRICS offers.

  Attributes:
    name: the headline figure, as the report names it.
    about: what it computes, in one line.
    kind: `mean`, a mean over examples of values from 0 to 1; `share`, another figure from 0
      to 100; `correlation`, one from -100 to 100.
    graded: whether one answer can be better than wrong without being right.
  """

  name: str
  about: str
  kind: str
  graded: bool

  def scores(
    self, predictions: Sequence[str | None], references: Sequence[Sequence[str]]
  ) -> np.ndarray:
    """Statistics of each example, float64 [examples, statistics]; they add up over examples.

    Args:
      predictions: one text per example; None for no answer, which is wrong whatever the
        references are.
      references: for each example, every text that counts as right.
    """

  def value(self, statistics: np.ndarray) -> np.ndarray:
    """How good each answer is, [...]: higher is better, and 1 the best there is.

    Args:
      statistics: of single answers, float64 [..., statistics].
    """

  def same(self, prediction: str, references: Sequence[str]) -> bool:
    """Whether an answer is one of the references, in the metric's normal form."""

  def signature(self, references: Sequence[Sequence[str]]) -> str:
    """What another must set to get the same figure; '' where the name says it all."""

  def combine(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The figure in percent, [...], of summed statistics.

    Args:
      totals: float64 [..., statistics], sums over examples.
      count: [...], the number of examples in each sum.
    """

  def cases(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    """On how many right or wrong decisions a figure stands, [...]; see `combine`."""

  def aggregate(self, examples: np.ndarray) -> float:
    """The figure in percent of `examples`, float64 [examples, statistics]."""

  def others(self, examples: np.ndarray) -> dict[str, float]:
    """Further figures of `examples` in percent, by name; {} where there are none."""


class Base:
  kind = 'mean'
  graded = True
  _normal: Callable[[str], str] = staticmethod(str.strip)

  def same(self, prediction: str, references: Sequence[str]) -> bool:
    return self._normal(prediction) in map(self._normal, references)

  def signature(self, references: Sequence[Sequence[str]]) -> str:
    del references
    return ''

  def cases(self, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
    del totals
    return count

  def aggregate(self, examples: np.ndarray) -> float:
    examples = np.asarray(examples, np.float64)
    return float(self.combine(examples.sum(0), np.asarray(len(examples))))

  def others(self, examples: np.ndarray) -> dict[str, float]:
    del examples
    return {}


def best(score, predictions, references) -> np.ndarray:
  """The best `score(prediction, reference)` over each row's references, [examples, 1]."""
  examples = np.zeros((len(predictions), 1))
  for example, prediction, wanted in zip(
    examples, predictions, references, strict=True
  ):
    if prediction is not None:
      example[0] = max((score(prediction, one) for one in wanted), default=0.0)
  return examples


class Mean(Base):
  """100 times the mean over examples of the best match with any reference."""

  def __init__(self, name: str, score, about: str, *, graded: bool = True):
    self.name = name
    self.about = about
    self.graded = graded
    self._score = score

  def scores(self, predictions, references):
    return best(self._score, predictions, references)

  def value(self, statistics):
    return statistics[..., 0]

  def combine(self, totals, count):
    return 100 * totals[..., 0] / np.maximum(count, 1)


class Several(Base):
  """Figures of one answer side by side, each a mean over examples; `name` is one of them.

  Attributes:
    types: of the figures; there are as many statistics.
  """

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

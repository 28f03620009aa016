"""Figures of metric functions over all examples, and the means among them.

A metric function, such as one of a seqio Task, takes all targets and all answers and
returns named numbers, in units of its own. Some are the mean of the numbers that it
returns for each example alone: these have an interval over examples. The others, such
as an F1 over the whole corpus, have none.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.errors import said
from flan_jax.evaluate import intervals, statistics
from flan_jax.evaluate.metric import BaseMetric
from flan_jax.evaluate.statistics import Interval

Compute = Callable[[Sequence[int], Sequence[Any]], Mapping[str, float]]
"""(indices of examples, their answers) -> named numbers."""

_PROBED = 24
"""Examples that are tried first, and with answers of other examples."""

_UNITS = (1.0, 100.0)
"""Values that a right answer has if a metric goes from 0 to a highest value."""

NO_MEAN = 'it is a figure of all examples together, not a mean over them'
ONE_EXAMPLE = 'one example has no spread'
NO_NUMBER = 'it is not a finite number'
ALIKE = 'every example has the same value, and its range is unknown'


class Figure(NamedTuple):
  """One figure of a metric function for one model.

  Attributes:
    value: number that the function returns for all examples.
    values: number that it returns for each example, float64 [N], if their mean is
      `value`, NaN for an example that does not count; otherwise None.
    seen: lowest and highest number of any single answer that was tried.
    reason: why there are no `values`; '' if there are.
  """

  value: float
  values: np.ndarray | None = None
  seen: tuple[float, float] = (np.nan, np.nan)
  reason: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSplit:
  """Figures on one split of a dataset.

  Attributes:
    examples: evaluated examples.
    total: number of examples of the whole split.
    figures: model -> figures by name; `tuned`, and perhaps `base`.
  """

  examples: tuple[Example, ...]
  total: int
  figures: Mapping[str, Mapping[str, Figure]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskResult:
  """Results on a dataset that brings its own metric functions.

  Attributes:
    dataset: its declaration.
    splits: results by split; the reported one alone.
  """

  dataset: Dataset
  splits: Mapping[str, TaskSplit]

  @property
  def split(self) -> str:
    """Name of the reported split: `test`, or `dev` without a test split."""
    return next(iter(self.splits))

  @property
  def reported(self) -> TaskSplit:
    return self.splits[self.split]


class Mean(BaseMetric):
  """Mean of the values that a function returns for single examples.

  Attributes:
    unit: highest value, if the values go from 0 to it; otherwise 1.
  """

  def __init__(self, name: str, unit: float | None):
    """Makes the metric.

    Args:
      name: name of the figure.
      unit: highest value, if the values go from 0 to it; None if they may be any.
    """
    self.name = name
    self.description = 'mean over examples, as the function returns it'
    self.kind = 'value' if unit is None else 'mean'
    self.unit = unit or 1.0

  def scores(self, predictions, references):
    raise NotImplementedError(f'{self.name}: its function scores all examples at once')

  def value(self, statistics):
    return statistics[..., 0] / self.unit

  def combine(self, totals, count):
    return 100 * totals[..., 0] / np.maximum(count, 1) / self.unit

  def in_units(self, percent: Interval) -> Interval | None:
    """Converts an interval to the units of the function; None if it is NaN."""
    low, high = (bound * self.unit / 100 for bound in percent)
    return None if np.isnan(low) else Interval(low, high)


def figures(
  compute: Compute, answers: Sequence[Any], *, ideal: Sequence[Any] | None = None
) -> dict[str, Figure]:
  """Computes the figures of a metric function, and finds the means among them.

  A figure is a mean if it equals the mean of the numbers for single examples: for these
  answers, and for answers taken from other examples.

  Args:
    compute: metric function.
    answers: answer to each example.
    ideal: right answer to each example in the form of `answers`; None if unknown.
  """
  whole = compute(range(len(answers)), answers)
  if len(answers) < 2:
    return {name: Figure(value, reason=ONE_EXAMPLE) for name, value in whole.items()}
  try:
    singles = _singles(compute, whole, answers)
  except Exception as error:  # any, of a function that wants several examples
    reason = f'it cannot be computed for one example ({said(error)})'
    return {name: Figure(value, reason=reason) for name, value in whole.items()}
  tried = _tried(compute, answers, ideal) if singles else []
  found = {}
  for name, value in whole.items():
    if not np.isfinite(value):
      found[name] = Figure(value, reason=NO_NUMBER)
    elif name in singles and all(_holds(name, part, each) for part, each in tried):
      seen = [singles[name], *(_named(name, each) for _, each in tried)]
      found[name] = Figure(value, singles[name], _range(np.concatenate(seen)))
    else:
      found[name] = Figure(value, reason=NO_MEAN)
  return found


def _singles(
  compute: Compute, whole: Mapping[str, float], answers: Sequence[Any]
) -> dict[str, np.ndarray]:
  """Returns the numbers of each example, for the figures that are their mean."""
  first = list(range(min(len(answers), _PROBED)))
  part = compute(first, [answers[i] for i in first])
  each = [compute([i], [answers[i]]) for i in first]
  if not any(_holds(name, part, each) for name in whole):
    return {}  # without a call for every example
  each += [compute([i], [answers[i]]) for i in range(len(first), len(answers))]
  return {name: _named(name, each) for name in whole if _holds(name, whole, each)}


def _tried(
  compute: Compute, answers: Sequence[Any], ideal: Sequence[Any] | None
) -> list[tuple[Mapping[str, float], list[Mapping[str, float]]]]:
  """Computes (numbers of all, numbers of each) for other answers to some examples.

  A figure of the whole corpus may equal the mean by chance where all answers are wrong,
  or all right. Every second answer is therefore replaced by the right one, and all are
  moved by one example. What the function refuses is left out.
  """
  some = list(range(min(len(answers), _PROBED)))
  moved = [*answers[1:], answers[0]]
  kinds = [moved]
  if ideal is not None:
    kinds.append([ideal[i] if i % 2 else moved[i] for i in range(len(answers))])
  found = []
  for kind in kinds:
    try:
      part = compute(some, [kind[i] for i in some])
      found.append((part, [compute([i], [kind[i]]) for i in some]))
    except Exception:  # answers that the function was not made for
      continue
  return found


def _named(name: str, each: Sequence[Mapping[str, float]]) -> np.ndarray:
  return np.array([one.get(name, np.nan) for one in each], np.float64)


def _holds(
  name: str, part: Mapping[str, float], each: Sequence[Mapping[str, float]]
) -> bool:
  """Returns whether a figure is the mean over its examples; NaN does not count."""
  values = _named(name, each)
  values = values[~np.isnan(values)]
  if not len(values) or name not in part or not np.isfinite(values).all():
    return False
  return bool(np.isclose(part[name], values.mean(), rtol=1e-5, atol=1e-7))


def _range(values: np.ndarray) -> tuple[float, float]:
  return float(np.nanmin(values)), float(np.nanmax(values))


def mean_of(name: str, some: Sequence[Figure]) -> Mean:
  """Returns the metric of a figure, for the values of one model or several.

  The values go from 0 to 1, or to 100, if no answer has more, and one has as much.
  """
  seen = [figure.seen for figure in some if figure.values is not None] or [(0.0, 0.0)]
  lowest, highest = min(low for low, _ in seen), max(high for _, high in seen)
  units = [unit for unit in _UNITS if np.isclose(highest, unit) and lowest >= 0]
  return Mean(name, units[0] if units else None)


def interval(figure: Figure, metric: Mean) -> Interval | None:
  """Computes the 95 % interval of a mean, in the units of the function.

  Returns:
    None if the figure has no values of examples, or they tell no interval.
  """
  if figure.values is None:
    return None
  if metric.kind == 'mean':
    scores = figure.values[None, :, None]
    return metric.in_units(statistics.interval(scores, metric=metric))
  return _of_values(figure.values)


def paired_interval(tuned: Figure, base: Figure, metric: Mean) -> Interval | None:
  """Computes the 95 % interval of tuned minus base, in the units of the function."""
  if tuned.values is None or base.values is None:
    return None
  if metric.kind == 'mean':
    pair = tuned.values[None, :, None], base.values[None, :, None]
    return metric.in_units(statistics.paired_interval(*pair, metric=metric))
  return _of_values(tuned.values - base.values)


def paired_p_value(
  tuned: Figure, base: Figure, metric: Mean, *, seed: int
) -> float | None:
  """Computes the p-value of the difference of two means; None without values."""
  if tuned.values is None or base.values is None:
    return None
  pair = tuned.values[None, :, None], base.values[None, :, None]
  return statistics.paired_p_value(*pair, metric=metric, seed=seed)


def _of_values(values: np.ndarray) -> Interval | None:
  """Student's interval of a mean of any values; None if they do not vary."""
  values = values[~np.isnan(values)]
  if len(values) < 2 or np.isclose(values.min(), values.max(), rtol=1e-9, atol=0):
    return None
  low, high = intervals.of_values(values.mean(), values.var(), len(values))
  return Interval(float(low), float(high))

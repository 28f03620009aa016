"""Metrics of a user's own: values in units of their own, averaged as they are returned.

A metric is a function of one example, or a subclass of `Metric` with statistics that
add up over examples. Several named figures are several results.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.errors import InputError, failure, said_where
from flan_jax.evaluate import metric as metric_lib
from flan_jax.evaluate.metric import BaseMetric
from flan_jax.evaluate.task_metrics import NO_NUMBER, ONE_EXAMPLE, Figure


class Metric(BaseMetric):
  """A metric of sufficient statistics, in units of its own.

  A subclass gives `scores`, and `combine`, which computes a figure from their sums, or
  several by name. Its first line of documentation is the description.

  ```python
  @flan_jax.metric
  class word_share(flan_jax.Metric):
    '''Words of the answers over words of the references.'''

    def scores(self, predictions, references):  # float64 [examples, statistics]
      return np.array([[len((p or '').split()), len(r[0].split())]
                       for p, r in zip(predictions, references)], np.float64)

    def combine(self, totals, count):  # [..., statistics] -> [...]
      return totals[..., 0] / totals[..., 1]
  ```
  """

  kind = 'value'

  def scores(
    self, predictions: Sequence[str | None], references: Sequence[Sequence[str]]
  ) -> np.ndarray:
    """Computes the statistics of each example, float64 [examples, statistics].

    Args:
      predictions: one text per example; None for no answer.
      references: right texts of each example.
    """
    raise NotImplementedError

  def combine(self, totals: np.ndarray, count: np.ndarray) -> Any:
    """Computes the figure, [...], or figures by name.

    Args:
      totals: float64 [..., statistics], sums over examples.
      count: [...], number of examples in each sum.
    """
    raise NotImplementedError

  def figures(self, totals: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
    """Computes the figures by name; arguments as for `combine`."""
    with np.errstate(all='ignore'):
      found = self.combine(totals, count)
    named = found if isinstance(found, Mapping) else {self.name: found}
    return {name: np.asarray(value, np.float64) for name, value in named.items()}

  def value(self, statistics: np.ndarray) -> np.ndarray:
    ones = np.ones(np.shape(statistics)[:-1])
    return next(iter(self.figures(statistics, ones).values()))

  def aggregate(self, examples: np.ndarray) -> float:
    return next(iter(self.aggregates(examples).values()))

  def aggregates(self, examples: np.ndarray) -> dict[str, float]:
    """Computes the figures by name from [examples, statistics]."""
    examples = np.asarray(examples, np.float64)
    found = self.figures(examples.sum(0), np.asarray(len(examples)))
    return {name: float(value) for name, value in found.items()}


class FunctionMetric(Metric):
  """The mean of a function of one example, or of each of its named values."""

  def __init__(self, name: str, function: Callable[..., Any], description: str):
    """Makes the metric.

    Args:
      name: name of the figure, if the function returns one number.
      function: called as function(reference, prediction): the highest of each value
        over the references counts; or as function(references, prediction), by the name
        of its first parameter. No answer is the text ''.
      description: one line about the computation.

    Raises:
      InputError: if it does not take two arguments.
    """
    self.name = name
    self.description = description
    self._function = function
    parameters = list(inspect.signature(function).parameters.values())
    needed = [p for p in parameters if p.default is p.empty]
    if len(needed) > 2 or len(parameters) < 2 or any(p.kind > 1 for p in needed):
      raise InputError(
        f'metric {name!r}: takes {", ".join(map(str, parameters)) or "nothing"}; must '
        'take (reference, prediction), or (references, prediction) for all of them'
      )
    self._takes_all = parameters[0].name == 'references'
    self._names: tuple[str, ...] | None = None

  def scores(self, predictions, references):
    rows = [
      self._of_example(prediction or '', list(right), i)
      for i, (prediction, right) in enumerate(zip(predictions, references, strict=True))
    ]
    return np.array(rows, np.float64).reshape(
      len(rows), len(self._names or (self.name,))
    )

  def combine(self, totals: np.ndarray, count: np.ndarray) -> Any:
    names = self._names or (self.name,)
    mean = totals / np.maximum(count, 1)[..., None]
    return {name: mean[..., k] for k, name in enumerate(names)}

  def _of_example(self, prediction: str, references: list[str], i: int) -> list[float]:
    given = [references] if self._takes_all else references
    each = [self._numbers(one, prediction, i) for one in given]
    return np.max(each, axis=0).tolist()

  def _numbers(self, given: Any, prediction: str, i: int) -> list[float]:
    try:
      made = self._function(given, prediction)
    except Exception as error:  # any, of a function of the user's
      raised = f'raised {said_where(error)}; must return a number'
      raise BadValueError(i, raised) from error
    named = made if isinstance(made, Mapping) else {self.name: made}
    if self._names is None:
      if not named:
        raise BadValueError(i, 'returned no value; must return at least one')
      self._names = tuple(map(str, named))
    if {*map(str, named)} != {*self._names}:
      raise BadValueError(
        i,
        f'returned the names {", ".join(map(str, named)) or "none"}; must be '
        f'{", ".join(self._names)}, as for the first example',
      )
    several = isinstance(made, Mapping)
    found = {str(k): _number(v, i, str(k) if several else '') for k, v in named.items()}
    return [found[name] for name in self._names]


class BadValueError(ValueError):
  """A value of an example that is no finite number.

  Attributes:
    example: position of the example among those given.
    problem: the value, and the rule.
  """

  def __init__(self, example: int, problem: str):
    super().__init__(problem)
    self.example = example
    self.problem = problem


def _number(value: Any, i: int, name: str) -> float:
  """Returns a value as a finite number."""
  what = f'{name} = ' if name else ''
  if not isinstance(value, (bool, int, float, np.generic)) and np.ndim(value):
    got = f'{type(value).__name__} of shape {np.shape(value)}'
  elif isinstance(value, (str, bytes)) or value is None:
    got = repr(value)
  else:
    try:
      number = float(value)
    except (TypeError, ValueError):
      got = type(value).__name__
    else:
      if np.isfinite(number):
        return number
      got = 'NaN' if np.isnan(number) else repr(number)
  raise BadValueError(i, f'returned {what}{got:.80}; must be a finite number')


def scores(
  metric: metric_lib.Metric,
  predictions: Sequence[str | None],
  references: Sequence[Sequence[str]],
  *,
  dataset: str,
  examples: Sequence[str],
) -> np.ndarray:
  """Computes `metric.scores`, float64 [examples, statistics], and checks them.

  Args:
    metric: metric.
    predictions, references: as for `Metric.scores`.
    dataset: name of the dataset; for errors.
    examples: id of each example; for errors.

  Raises:
    InputError: if the metric fails, or returns other shapes or no finite numbers; names
      it, the dataset and the example.
  """
  if metric.kind != 'value':
    return metric.scores(predictions, references)
  where = f'metric {metric.name!r}, dataset {dataset!r}'
  try:
    found = np.asarray(metric.scores(predictions, references), np.float64)
  except BadValueError as error:
    raise InputError(
      f'{where}, example {examples[error.example]!r}: {error}'
    ) from error
  except Exception as error:  # any, of a class of the user's
    raise failure(where, error) from error
  if found.ndim != 2 or len(found) != len(predictions):
    raise InputError(
      f'{where}: scores returned shape {found.shape}; must be [examples, statistics], '
      f'with {len(predictions)} examples'
    )
  wrong = ~np.isfinite(found).all(-1)
  if wrong.any():
    raise InputError(
      f'{where}, example {examples[int(wrong.argmax())]!r}: scores returned '
      f'{found[wrong][0].tolist()}; must be finite numbers'
    )
  return found


def of_example(metric: metric_lib.Metric, scores_S: np.ndarray) -> dict[str, Any]:
  """`values` of a line of predictions.jsonl; {} for a metric in percent."""
  if not isinstance(metric, Metric):
    return {}
  found = metric.aggregates(scores_S[None]).items()
  return {'values': {name: x if np.isfinite(x) else None for name, x in found}}


def figures(
  scores_TxNxS: np.ndarray, *, metric: Metric
) -> tuple[dict[str, Figure], dict[str, np.ndarray]]:
  """Computes the figures of one model, each the mean over templates.

  The values of examples are the jackknife's pseudo-values: those of a mean are the
  values themselves.

  Args:
    scores_TxNxS: statistics of the metric, NaN if an example was not measured.
    metric: the metric.

  Returns:
    Figures by name, and the figures of each template by name, float64 [T].
  """
  measured_TxN = metric_lib.is_measured(scores_TxNxS)
  templates: dict[str, np.ndarray] = {}
  examples: dict[str, np.ndarray] = {}
  for t, measured_N in enumerate(measured_TxN):
    if not measured_N.any():
      continue
    kept = scores_TxNxS[t, measured_N]
    count, totals = len(kept), kept.sum(0)
    whole = metric.figures(totals, np.asarray(count))
    without = metric.figures(totals - kept, np.full(count, count - 1))
    for name, figure in whole.items():
      if name not in templates:
        templates[name] = np.full(len(measured_TxN), np.nan)
        examples[name] = np.full(measured_TxN.shape, np.nan)
      templates[name][t] = figure
      pseudo = figure + (count - 1) * (figure - without[name])
      examples[name][t, measured_N] = pseudo
  any_T = measured_TxN.any(1)
  found = {
    name: _figure(float(np.mean(templates[name][any_T])), values_TxN)
    for name, values_TxN in examples.items()
  }
  return found, templates


def _figure(value: float, values_TxN: np.ndarray) -> Figure:
  measured_N = np.asarray(~np.isnan(values_TxN).all(0))
  if np.isnan(value):
    return Figure(value, reason=NO_NUMBER)
  if measured_N.sum() < 2:
    return Figure(value, reason=ONE_EXAMPLE)
  values_N = np.full(len(measured_N), np.nan)
  values_N[measured_N] = np.nanmean(values_TxN[:, measured_N], axis=0)
  seen = float(np.nanmin(values_TxN)), float(np.nanmax(values_TxN))
  return Figure(value, values_N, seen)

"""Metrics of a seqio Task, called as `seqio.Evaluator` calls them.

Targets and predictions are postprocessed by the Task, and its metrics get all of them
at once. Imports TensorFlow.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import seqio

from flan_jax.errors import InputError, failure
from flan_jax.evaluate import task_metrics
from flan_jax.evaluate.task_metrics import Compute, Figure
from flan_jax.interop.seqio.task_data import TARGETS, TaskData

_PREDICTION = seqio.metrics.ModelOutputType.PREDICTION
_SCORE = seqio.metrics.ModelOutputType.SCORE
_ANSWERS = {_PREDICTION: 'predictions', _SCORE: 'scores'}
"""Model output of a metric -> the answers of a model that it takes."""


class Metric(NamedTuple):
  """A metric of a Task.

  Attributes:
    name: name of its function or class.
    output: `predictions` or `scores`.
    call: called as call(data, indices, answers): its named values.
  """

  name: str
  output: str
  call: Callable[[TaskData, Sequence[int], Sequence[Any]], Mapping[str, Any]]


def of_task(task: seqio.Task) -> list[Metric]:
  """Lists the metrics of a Task.

  Raises:
    InputError: if it has none, or one that takes what no model here gives.
  """
  where = f'seqio task {task.name!r}'
  try:
    functions, objects = task.metric_fns, task.metric_objs
    predicted, scored = task.predict_metric_fns, task.score_metric_fns
  except ValueError as error:
    raise InputError(f'{where}: {error}') from None
  found = [
    Metric(_name(function), output, functools.partial(_of_function, function, output))
    for output, some in (('predictions', predicted), ('scores', scored))
    for function in some
  ]
  found += [
    Metric(_name(function), 'aux_values', functools.partial(_of_function, function, ''))
    for function in task.predict_with_aux_metric_fns
  ]
  for each in objects[: len(objects) - len(functions)]:
    output = _ANSWERS.get(each.model_output_type, each.model_output_type.name.lower())
    found.append(Metric(_name(each), output, functools.partial(_of_object, each)))
  if not found:
    raise InputError(
      f'{where}: no metric_fns; must have at least one to be evaluated, a function of '
      '(targets, predictions) or (targets, scores)'
    )
  for metric in found:
    if metric.output not in _ANSWERS.values():
      raise InputError(
        f'{where}: metric {metric.name!r} takes {metric.output}; must take predictions '
        'or scores alone'
      )
  return found


def outputs(task: seqio.Task) -> set[str]:
  """Returns the answers that the metrics of a Task take: predictions, scores, or both.

  Raises:
    InputError: as `of_task`.
  """
  return {metric.output for metric in of_task(task)}


def _name(metric: Any) -> str:
  metric = getattr(metric, 'func', metric)  # of a partial
  return getattr(metric, '__name__', type(metric).__name__)


def _of_function(
  function: Callable[..., Mapping[str, Any]],
  output: str,
  data: TaskData,
  indices: Sequence[int],
  answers: Sequence[Any],
) -> Mapping[str, Any]:
  """Calls a metric function as `seqio.Evaluator` does."""
  targets = [data.references[i] for i in indices]
  if output == 'scores':
    return function(targets=targets, scores=np.asarray(answers, np.float32))
  predictions = [
    data.postprocess(data.decode(tokens), i, is_target=False)
    for i, tokens in zip(indices, answers, strict=True)
  ]
  return function(targets=targets, predictions=predictions)


def _of_object(
  metric: Any, data: TaskData, indices: Sequence[int], answers: Sequence[Any]
) -> Mapping[str, Any]:
  """Calls a metric object as `seqio.Evaluator` does."""
  examples = [data.examples[i] for i in indices]
  features = data.task.output_features
  if metric.model_output_type == _PREDICTION:
    vocabulary = features[TARGETS].vocabulary
    ended = [[*tokens, vocabulary.eos_id] for tokens in answers]
    output = np.full((len(ended), max(map(len, ended))), vocabulary.pad_id, np.int32)
    for padded, tokens in zip(output, ended, strict=True):
      padded[: len(tokens)] = tokens
  else:
    output = np.asarray(answers, np.float32)
  made = metric.from_model_output(examples, output, features, TARGETS)
  if isinstance(made, seqio.metrics.CollectingMetric):
    return made.actual_compute(examples, features, TARGETS, None)[0]
  return made.compute()


def figures(
  data: TaskData, answers: Mapping[str, Sequence[Any]]
) -> tuple[dict[str, Figure], list[str]]:
  """Computes every figure of a Task's metrics from the answers of a model.

  Args:
    data: examples.
    answers: `predictions`, the generated tokens of each example without EOS, and
      `scores`, the log-likelihood of each target; those that the metrics take.

  Returns:
    Figures by name, and the names of values that are not numbers.

  Raises:
    InputError: if two metrics give values of one name, or one fails.
  """
  out: dict[str, Figure] = {}
  others: list[str] = []
  for metric in of_task(data.task):
    where = f'seqio task {data.task.name!r}: metric {metric.name!r}'
    ideal = data.targets if metric.output == 'predictions' else None
    try:
      made = task_metrics.figures(
        _numbers(metric, data, others), answers[metric.output], ideal=ideal
      )
    except InputError:
      raise
    except Exception as error:
      raise failure(where, error) from error
    for name, figure in made.items():
      if name in out:
        raise InputError(f'{where}: {name!r} is the name of two values; must be of one')
      out[name] = figure
  return out, list(dict.fromkeys(others))


def _numbers(metric: Metric, data: TaskData, others: list[str]) -> Compute:
  """Wraps a metric to return its numbers; names the other values in `others`."""

  def compute(indices: Sequence[int], answers: Sequence[Any]) -> dict[str, float]:
    found, made = {}, metric.call(data, indices, answers)
    if not isinstance(made, Mapping):
      raise InputError(
        f'seqio task {data.task.name!r}: metric {metric.name!r}: must return a '
        f'dictionary of numbers, got {type(made).__name__}'
      )
    for name, value in made.items():
      number = _number(value)
      if number is None:
        others.append(name)
      else:
        found[name] = number
    return found

  return compute


def _number(value: Any) -> float | None:
  """Returns a value as a number; None if it is a text, an image or another thing."""
  if isinstance(value, seqio.metrics.Scalar):
    value = value.value
  if isinstance(value, (str, bytes)) or np.ndim(value):
    return None
  try:
    return float(value)
  except (TypeError, ValueError):
    return None

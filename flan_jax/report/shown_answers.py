"""Answers that a page shows: drawn from the predictions, each with its own score."""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from flan_jax.data import stable_hash
from flan_jax.evaluate import metrics, predictions
from flan_jax.report import schema, values

EXAMPLES = 3
"""Right answers shown per result, and as many wrong ones; of graded ones, both."""


def draw(
  out: str | os.PathLike, report: Mapping[str, Any], *, each: int = EXAMPLES
) -> dict[str, list[dict[str, Any]]]:
  """Draws answers of each result: up to `each` right ones, then as many wrong ones.

  They are drawn by a seeded hash, at most one per example. A generated answer is right
  if it equals a reference after the metric's normalization. If the metric grades
  answers, an answer is neither right nor wrong and has its `score` in percent, or
  `values` in units of the metric. The base model's answer to the same prompt stands
  beside, if it was measured.

  Returns:
    Label of a result, without the name of a metric in units of its own -> its
    predictions, each with `right` (None if graded), `expected` (texts) and `choices`
    (the ranked options); `template` is None for a task without templates.
  """
  out = pathlib.Path(out)
  results: dict[str, Mapping[str, Any]] = {}
  for result in report['results']:
    results.setdefault(_name(result), result)
  drawn = _drawn(out, results, each=each, seed=report['seed'])
  chosen = {
    (_name(record), record['example_id'], record['template']): record
    for kept in drawn.values()
    for record in kept
  }
  _add_base(out, results, chosen)
  found: dict[str, list[dict[str, Any]]] = {}
  for name, result in results.items():
    for right in (True, False, None):
      for record in drawn.get((name, right), ()):
        found.setdefault(name, []).append(_shown(record, right, result))
  return found


def _name(of: Mapping[str, Any]) -> str:
  """Names the result that a prediction, or a figure in any unit, belongs to."""
  return schema.label({**of, 'kind': None})


def _drawn(
  out: pathlib.Path, results: Mapping[str, Mapping[str, Any]], *, each: int, seed: int
) -> dict[tuple[str, bool | None], list[dict[str, Any]]]:
  """Draws predictions by name and by whether they are right."""
  drawn: dict[tuple[str, bool | None], dict[str, tuple[int, dict[str, Any]]]] = {}
  for record in _lines(out, results, 'tuned'):
    name = _name(record)
    key = (name, record['example_id'], record['template'])
    rank = stable_hash.key('example', seed, *key)
    right = None if schema.is_value(results[name]) else _right(record)
    kept = drawn.setdefault((name, right), {})
    rival = kept.get(record['example_id'])
    if rival is None or rank < rival[0]:
      kept[record['example_id']] = rank, record
    if len(kept) > (2 * each if right is None else each):
      del kept[max(kept, key=lambda example_id: kept[example_id][0])]
  return {
    key: [record for _, record in sorted(kept.values(), key=lambda pair: pair[0])]
    for key, kept in drawn.items()
  }


def _lines(
  out: pathlib.Path, results: Mapping[str, Mapping[str, Any]], model: str
) -> Iterator[dict[str, Any]]:
  """Yields the predictions of a model that the figures of a report are made of."""
  for split in dict.fromkeys(result['split'] for result in results.values()):
    for _, record in predictions.records(out / predictions.name(split, model)):
      result = results.get(_name(record))
      if result is not None and result['split'] == split:
        yield record


def _add_base(
  out: pathlib.Path,
  results: Mapping[str, Mapping[str, Any]],
  chosen: Mapping[tuple[str, str, int], dict[str, Any]],
) -> None:
  """Puts the base model's answer beside each chosen one, as `base`."""
  by_example: dict[tuple[str, str], list[dict[str, Any]]] = {}
  for (name, example_id, _), record in chosen.items():
    by_example.setdefault((name, example_id), []).append(record)
  for record in _lines(out, results, 'base'):
    key = (_name(record), record['example_id'], record['template'])
    if not schema.same_prompts(results[key[0]]):
      # The base's first prompt stands beside every template.
      for shown in by_example.get(key[:2], ()):
        shown.setdefault('base', record)
    elif key in chosen:
      chosen[key]['base'] = record


def _shown(
  record: Mapping[str, Any], right: bool | None, result: Mapping[str, Any]
) -> dict[str, Any]:
  """Returns a prediction with what the page says of it."""
  of_options = bool(record['options'])
  shown = {
    **record,
    'right': right,
    'expected': predictions.right(record) if of_options else record['gold'],
    'choices': _choices(record) if 'log_probabilities' in record else [],
  }
  if result['prompt_style'] == values.STYLE:
    shown['template'] = None
  if right is None and not schema.is_value(result):
    shown |= _graded(record)
  return shown


def _graded(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns an answer's score by its metric, in percent, and the base model's."""
  metric = metrics.of(record['dataset'])

  def score(prediction: Mapping[str, Any]) -> float:
    return 100 * float(metric.value(predictions.statistics(prediction, metric)))

  found = {'score': score(record), 'metric': metric.name}
  if 'base' in record:
    found['base_score'] = score(record['base'])
  return found


def _right(record: Mapping[str, Any]) -> bool | None:
  """Returns whether an answer is right; None if the metric grades it."""
  predicted, gold = record['predicted'], record['gold']
  if 'text' in record:
    metric = metrics.of(record['dataset'])
    if metric.graded:
      return None
    return predicted is not None and metric.same(predicted, gold)
  if predicted is None:
    return False
  options = record['options']
  return options[predicted] in [options[i] for i in gold]


def _choices(record: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Returns every option of a ranked example with its scores."""
  base = record.get('base', {}).get('log_probabilities')
  return [
    {
      'option': option,
      'score': record['log_probabilities'][i],
      'base': base[i] if base else None,
      'gold': i in record['gold'],
      'predicted': i == record['predicted'],
    }
    for i, option in enumerate(record['options'])
  ]

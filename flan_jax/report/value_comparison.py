"""Comparison of results in units of their own, example by example if both have values.

Which of two values is better is for the metric to say, so a difference is only called
different.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from flan_jax.evaluate import predictions, task_metrics
from flan_jax.evaluate.task_metrics import Figure
from flan_jax.report import schema


def compare(
  new: Mapping[str, Any],
  old: Mapping[str, Any],
  folders: tuple[pathlib.Path, pathlib.Path],
  *,
  seed: int,
) -> dict[str, Any]:
  """Compares a result of two reports; returns one of the `values` of a comparison.

  With the values of single examples in both, the difference is paired over the examples
  that both measured. Otherwise it has no interval.

  Args:
    new, old: the result in each report.
    folders: folder of each report.
    seed: seed for the test of the difference.
  """
  named = ('dataset', 'cluster', 'metric', 'kind')
  found = {name: new[name] for name in named} | {
    'splits': {'new': new['split'], 'old': old['split']},
    'n': None,
    'old': old['mean'],
    'new': new['mean'],
    'delta': None if None in (new['mean'], old['mean']) else new['mean'] - old['mean'],
    'delta_ci95': None,
    'p': None,
  }
  pair = [_values(new, folders[0]), _values(old, folders[1])]
  shared = [key for key in pair[0] if key in pair[1]]
  if not shared:
    return found
  units = [task_metrics.Mean(new['metric'], part.get('highest')) for part in (new, old)]
  metric = max(units, key=lambda unit: (unit.kind == 'value', unit.unit))
  figures = [_figure([part[key] for key in shared]) for part in pair]
  return found | {
    'n': len(shared),
    'old': figures[1].value,
    'new': figures[0].value,
    'delta': figures[0].value - figures[1].value,
    'delta_ci95': task_metrics.paired_interval(figures[0], figures[1], metric),
    'p': task_metrics.paired_p_value(figures[0], figures[1], metric, seed=seed),
  }


def _figure(values: list[float]) -> Figure:
  return Figure(float(np.mean(values)), np.array(values, np.float64))


def _values(
  result: Mapping[str, Any], folder: pathlib.Path
) -> dict[tuple[str, ...], float]:
  """Reads (example id, right answer) -> value of the example; {} if it has none."""
  if 'no_interval' in result and result['no_interval'] != task_metrics.ALIKE:
    return {}
  found: dict[tuple[str, ...], list[float]] = {}
  for _, record in predictions.records(folder / predictions.name(result['split'])):
    of = schema.label({**result, 'kind': None}) == schema.label(record)
    value = record.get('values', {}).get(result['metric']) if of else None
    if value is not None:
      key = record['example_id'], *map(str, record['gold'])
      found.setdefault(key, []).append(value)
  return {key: float(np.mean(values)) for key, values in found.items()}

"""Figures of models over seeds: of a dataset, and of the average of a cluster."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flan_jax.evaluate import metrics, seeds
from flan_jax.evaluate.metric import Metric
from flan_jax.evaluate.seeds import Figure
from flan_jax.report import compare, kept_scores, runs, schema
from flan_jax.report.runs import Column, Model, Report

_SAME = 0.01
"""Points by which a figure from the predictions may differ from the reported one."""

_RANGES = {'correlation': (-100.0, 100.0), 'value': None}
"""Kind of a metric -> its least and greatest value; from 0 to 100 for the others."""


class Cell(NamedTuple):
  """A column's figure on a row.

  Attributes:
    figure: under each seed.
    delta: model minus base; None without a base.
    limits: least and greatest value of the figure; None for any.
    n: number of examples.
    templates: number of templates.
    split: split of the examples.
    seeds: number of seeds.
    reason: why the examples could not be paired over seeds; '' if they were, and for
      one seed.
    p_holm: p-value of the difference in the report, for one seed; None otherwise.
  """

  figure: Figure
  delta: Figure | None
  limits: tuple[float, float] | None
  n: int
  templates: int
  split: str
  seeds: int
  reason: str
  p_holm: float | None


class Reader:
  """Reads the predictions of reports, each file once."""

  def __init__(self) -> None:
    self._found: dict[tuple[str, str], dict[str, compare.Predictions]] = {}

  def read(self, report: Report, label: str, which: str) -> compare.Predictions | None:
    """Returns a model's predictions for a result, or their scores; None for neither."""
    key = str(report.folder), which
    if key not in self._found:
      in_percent, _ = schema.divided(report.content)
      results = {schema.label(result): result for result in in_percent['results']}
      self._found[key] = {
        **kept_scores.read(report.folder, which),
        **compare.read_predictions(report.folder, results, which),
      }
    return self._found[key].get(label)


def cell(column: Column, row: tuple, reader: Reader) -> tuple[Cell | None, str]:
  """Returns the figure of a column on a row.

  Args:
    column: the models, one for each seed.
    row: key of the row.
    reader: reads predictions.

  Returns:
    The cell, None if the row was not measured; and a remark, '' for none.
  """
  sources = [model.source(row) for model in column.models]
  reports = [source for source in sources if source is not None]
  if not reports:
    return None, ''
  results = [_result(report, row) for report in reports]
  remark = ''
  if len(reports) < len(sources):
    remark = f'of {len(reports)} of {len(sources)} seeds'
  return _cell(reports, results, column.which, reader), remark


def _result(report: Report, row: tuple) -> dict[str, Any]:
  every = runs.results(report.content)
  return next(result for result in every if runs.row_key(result) == row)


def _cell(
  reports: Sequence[Report],
  results: Sequence[Mapping[str, Any]],
  which: str,
  reader: Reader,
) -> Cell:
  first = results[0]
  figures = [result if which == 'tuned' else result['base'] for result in results]
  with_base = which == 'tuned' and all('delta' in result for result in results)
  kind = 'value' if schema.is_value(first) else ''
  found = _reported(figures, 'mean', 'ci95')
  delta = _reported(results, 'delta', 'delta_ci95') if with_base else None
  reason = ''
  if not kind:
    metric = metrics.of(first['dataset'], headline=first['metric'])
    kind = metric.kind
    if len(results) > 1 and runs.is_validation(first):
      reason = 'validation keeps no predictions'
    elif len(results) > 1:
      nested = _nested(reports, results, which, reader, metric)
      if isinstance(nested, str):
        reason = nested
      else:
        found, delta = nested
  elif len(results) > 1:
    reason = 'the metric is in units of its own'
  limits = _RANGES.get(kind, (0.0, 100.0))
  templates = [e for e in figures[0]['per_template'] if e[first['split']] is not None]
  return Cell(
    figure=found,
    delta=delta,
    limits=limits,
    n=first['n'],
    templates=len(templates),
    split=first['split'],
    seeds=len(results),
    reason=reason,
    p_holm=first.get('p_holm') if with_base and len(results) == 1 else None,
  )


def _reported(results: Sequence[Mapping[str, Any]], key: str, interval: str) -> Figure:
  unknown = (np.nan, np.nan)
  return seeds.reported(
    [result[key] for result in results],
    [result[interval] or unknown for result in results],
  )


def _nested(
  reports: Sequence[Report],
  results: Sequence[Mapping[str, Any]],
  which: str,
  reader: Reader,
  metric: Metric,
) -> tuple[Figure, Figure | None] | str:
  """Returns the figure and the difference with resampled examples, or why not."""
  label = schema.label(results[0])
  seed = np.frombuffer(results[0]['dataset'].encode(), np.uint8).tolist()
  draws = {'metric': metric, 'seed': [reports[0].content['seed'], *seed]}
  tuned = aligned([reader.read(report, label, which) for report in reports])
  if isinstance(tuned, str):
    return tuned
  found = seeds.figure(tuned, **draws)
  figures = [result if which == 'tuned' else result['base'] for result in results]
  if not np.allclose(found.by_seed, [f['mean'] for f in figures], atol=_SAME):
    return 'the predictions are not those of the report'
  if which == 'base' or not all('base' in result for result in results):
    return found, None
  both = aligned(
    [reader.read(report, label, name) for name in ('tuned', 'base')
     for report in reports]
  )  # fmt: skip
  if isinstance(both, str):
    return both
  half = len(reports)
  return found, seeds.figure(both[:half], both[half:], **draws)


def aligned(
  found: Sequence[compare.Predictions | None],
) -> list[np.ndarray] | str:
  """Returns the scores of each model on the same examples in the same order."""
  known = [each for each in found if each is not None]
  if len(known) < len(found):
    return 'a report has no predictions'
  ids = known[0].example_ids
  if any(each.gold != known[0].gold for each in known):
    return 'the predictions are of other examples'
  scores = []
  for each in known:
    place = {example_id: i for i, example_id in enumerate(each.example_ids)}
    scores.append(each.scores[:, [place[example_id] for example_id in ids]])
  return scores


def from_base(found: Cell) -> Cell | None:
  """Returns the difference from the base as a cell of its own; None without a base."""
  if found.delta is None or found.limits is None:
    return None
  reach = found.limits[1] - found.limits[0]
  return found._replace(figure=found.delta, delta=None, limits=(-reach, reach))


def difference(
  column: Column, other: Column, row: tuple, reader: Reader
) -> Cell | None:
  """Returns a column minus another on a row, on the examples that both have.

  Models with one seed are paired; a column of one model, such as a base that was never
  trained, stands against every seed of the other.

  Args:
    column: the models, one for each seed.
    other: the models to subtract.
    row: key of a row in percent.
    reader: reads predictions.
  """
  pairs = [(one.source(row), two.source(row)) for one, two in _paired(column, other)]
  known = [(one, two) for one, two in pairs if one is not None and two is not None]
  if not known:
    return None
  reports = [report for pair in known for report in pair]
  results = [_result(report, row) for report in reports]
  first = results[0]
  metric = metrics.of(first['dataset'], headline=first['metric'])
  label = schema.label(first)
  models = (column.which, other.which) * len(known)
  scores = aligned(
    [reader.read(report, label, which)
     for report, which in zip(reports, models, strict=True)]
  )  # fmt: skip
  reason = scores if isinstance(scores, str) else ''
  if isinstance(scores, str):
    figures = [result if which == 'tuned' else result['base']
               for result, which in zip(results, models, strict=True)]  # fmt: skip
    figure = _unpaired(figures[::2], figures[1::2])
  else:
    seed = np.frombuffer(first['dataset'].encode(), np.uint8).tolist()
    draws = {'metric': metric, 'seed': [reports[0].content['seed'], *seed]}
    figure = seeds.figure(scores[::2], scores[1::2], **draws)
  low, high = _RANGES.get(metric.kind) or (0.0, 100.0)
  return Cell(
    figure=figure,
    delta=None,
    limits=(low - high, high - low),
    n=first['n'],
    templates=len(first['per_template']),
    split=first['split'],
    seeds=len(known),
    reason=reason,
    p_holm=None,
  )


def _paired(column: Column, other: Column) -> list[tuple[Model, Model]]:
  """Pairs the models of two columns by seed; one model stands against all."""
  if len(other.models) == 1:
    return [(model, other.models[0]) for model in column.models]
  by_seed = dict(zip(other.seeds, other.models, strict=False))
  return [
    (model, by_seed[seed])
    for seed, model in zip(column.seeds, column.models, strict=False)
    if seed in by_seed
  ]


def _unpaired(
  figures: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> Figure:
  """Returns a difference from reported figures alone, as of independent examples."""
  by_seed, intervals = [], []
  for one, two in zip(figures, others, strict=True):
    middle = one['mean'] - two['mean']
    (low, high), (low_2, high_2) = one['ci95'], two['ci95']
    by_seed.append(middle)
    intervals.append(
      (
        middle - np.hypot(one['mean'] - low, high_2 - two['mean']),
        middle + np.hypot(high - one['mean'], two['mean'] - low_2),
      )
    )
  return seeds.reported(by_seed, intervals)


def average(cells: Mapping[tuple, Cell]) -> Cell | None:
  """Averages the cells of a column over the rows of a cluster.

  Args:
    cells: row -> cell of a metric in percent.

  Returns:
    None if nothing can be averaged: no row was measured, or under other seeds.
  """
  if not cells or len({cell.seeds for cell in cells.values()}) > 1:
    return None
  some = list(cells.values())
  by_dataset: dict[str, list[Cell]] = {}
  for (dataset, *_), each in cells.items():
    by_dataset.setdefault(dataset, []).append(each)
  groups = list(by_dataset.values())
  delta = None
  if all(each.delta is not None for each in some):
    delta = seeds.average(
      [[each.delta for each in group if each.delta is not None] for group in groups]
    )
  low = min(each.limits[0] for each in some if each.limits is not None)
  reasons = dict.fromkeys(each.reason for each in some if each.reason)
  return Cell(
    figure=seeds.average([[each.figure for each in group] for group in groups]),
    delta=delta,
    limits=(low, 100.0),
    n=sum(each.n for each in some),
    templates=max(each.templates for each in some),
    split=some[0].split if len({each.split for each in some}) == 1 else '',
    seeds=some[0].seeds,
    reason='; '.join(reasons),
    p_holm=None,
  )


def as_json(found: Cell) -> dict[str, Any]:
  """Returns a cell as an entry of the JSON."""
  content = {
    **_figure(found.figure, found.limits),
    'n': found.n,
    'templates': found.templates,
    'split': found.split,
    'seeds': found.seeds,
    'delta': None,
  }
  if found.reason:
    content['unpaired_reason'] = found.reason
  if found.seeds > 1 and np.isnan(found.figure.examples.low):
    content['over'] = 'seeds'
  if found.delta is not None:
    reach = None if found.limits is None else found.limits[1] - found.limits[0]
    limits = None if reach is None else (-reach, reach)
    content['delta'] = _figure(found.delta, limits)
    if found.p_holm is not None:
      content['delta']['p_holm'] = found.p_holm
  return content


def _figure(found: Figure, limits: tuple[float, float] | None) -> dict[str, Any]:
  interval = seeds.interval(found, limits=limits)
  return {
    'mean': found.mean,
    'ci95': None if np.isnan(interval.low) else list(interval),
    'by_seed': found.by_seed.tolist(),
    'std_over_seeds': found.std,
  }

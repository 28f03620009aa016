"""The report of an evaluation: report.json, predictions, averages and headlines.

Everything is written under a temporary name and renamed when whole, so that a reader
never sees half a file and a full disk costs nothing that was there before.
"""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flan_jax.catalog import dataset as dataset_lib
from flan_jax.catalog.fields import Answer
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.errors import InputError
from flan_jax.evaluate import calibration, measured_data, metrics, statistics
from flan_jax.evaluate.statistics import Interval
from flan_jax.report import published, statements  # fmt: skip
from flan_jax.runtime import atomic_file

if TYPE_CHECKING:
  from flan_jax.evaluate.contamination import Found, Overlap
  from flan_jax.evaluate.evaluator import DatasetResult, Results

FEW = 20
"""Rows of dev below which the best template is chosen by chance.

The accuracy of 20 rows has a standard error of 11 points at 50 %, and templates of one
dataset differ by less (the standard deviations of FLAN's tables 1 and 2 are mostly
under 10); intervals, too, are checked from 20 rows on.
"""


def rounded(value: Any) -> Any:
  """Floats to four decimals, inside lists and dicts too; NaN as None."""
  if isinstance(value, Mapping):
    return {key: rounded(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [rounded(item) for item in value]
  if isinstance(value, float | np.floating):
    return None if np.isnan(value) else round(float(value), 4)
  return value


def label(of: Mapping[str, Any]) -> str:
  """A result, or a prediction, by name: `rte`, `wmt14_enfr en-fr`."""
  return ' '.join(filter(None, (of['dataset'], of.get('direction'))))


def shown(of: Mapping[str, Any]) -> str:
  """The same where its figures stand: `cb (dev)` where they are not of test."""
  return label(of) + statements.dev(of.get('splits') or [of['split']])


def best_dev_template(per_template: Sequence[Mapping[str, Any]]) -> dict | None:
  """The template that scores highest on dev, with its test score; None without dev.

  The test score plays no part in the choice; the earlier of two equals wins.
  """
  measured = [entry for entry in per_template if entry['dev'] is not None]
  if not measured:
    return None
  best = max(measured, key=lambda entry: entry['dev'])
  return {key: best[key] for key in ('template', 'dev', 'test')}


def _measures(result: 'DatasetResult', model: str) -> dict[str, Any]:
  """The figures of one model on one dataset."""
  metric = metrics.get(result.dataset.metric)
  figures = {
    name: statistics.figures(getattr(part, model), metric=metric)
    for name, part in result.splits.items()
  }
  name = result.split
  part = result.reported
  counts = (~np.isnan(getattr(part, model)).any(-1)).sum(1)
  templates = result.templates
  if model == 'base' and result.base_templates is not None:
    templates = result.base_templates
  per_template = [
    {
      'template': template,
      'dev': _figure(figures, 'dev', i),
      'test': _figure(figures, 'test', i),
      'n': int(counts[i]),
    }
    for i, template in enumerate(templates)
  ]
  mean, std = statistics.spread(figures[name])
  also = _also(getattr(part, model), metric)
  return {
    'mean': mean,
    # Of one template there is no spread.
    'std_over_templates': std if np.sum(~np.isnan(figures[name])) > 1 else None,
    'ci95': statistics.interval(getattr(part, model), metric=metric),
    'per_template': per_template,
    'best_dev_template': best_dev_template(per_template),
    'form': result.form if model == 'tuned' else result.base_form,
    **({'also': also} if also else {}),
    **_calibration(part.confidence.get(model)),
  }


def _also(scores_TxNxS: np.ndarray, metric: metrics.Metric) -> dict[str, float]:
  """The metric's further figures, each the mean over templates."""
  by_template = [metric.others(rows[~np.isnan(rows).any(-1)]) for rows in scores_TxNxS]
  names = dict.fromkeys(name for found in by_template for name in found)
  return {
    name: float(np.mean([found[name] for found in by_template if name in found]))
    for name in names
  }


def _calibration(confidence: np.ndarray | None) -> dict[str, Any]:
  found = None if confidence is None else calibration.of(confidence)
  return {} if found is None else {'calibration': found}


def _figure(figures: Mapping[str, np.ndarray], split: str, i: int) -> float | None:
  """The figure of template `i`; None where it was not measured on that split."""
  if split not in figures or np.isnan(figures[split][i]):
    return None
  return float(figures[split][i])


def _row(
  result: 'DatasetResult', *, seed: int, overlap: 'Overlap | None'
) -> dict[str, Any]:
  split = result.reported
  dataset = result.dataset
  metric = metrics.get(dataset.metric)
  answers = [row.answer for row in split.rows]
  row = {
    'dataset': dataset.name,
    **({'direction': dataset.direction} if dataset.direction else {}),
    'cluster': dataset.cluster,
    'metric': metric.name,
    **_signature(metric, answers),
    'split': result.split,
    'n': len(split.rows),
    'n_declared': dataset.rows(result.split) or None,
    'shots': result.shots,
    'chance': statistics.chance(answers, metric=metric),
    'majority': statistics.majority(answers, metric=metric),
    'templates_declared': _declared(result),
    **_measures(result, 'tuned'),
  }
  if result.shots and 'tuned' in split.shown:
    row['shown'] = float(split.shown['tuned'].mean())
  if split.base is not None:
    row['base'] = _measures(result, 'base')
    row['delta'] = row['mean'] - row['base']['mean']
    row['delta_ci95'] = statistics.paired_interval(
      split.tuned, split.base, metric=metric
    )
    row['p'] = statistics.paired_p_value(
      split.tuned, split.base, metric=metric, seed=seed
    )
    row['detectable'] = statistics.detectable(row['delta_ci95'])
  if overlap is not None:
    row['contamination'] = _contamination(split.tuned, overlap, metric)
  row['published'] = (
    published.figures(
      dataset.name,
      metric=metric.name,
      shots=result.shots,
      direction=dataset.direction,
    )
    if dataset.family == 'flan'
    else {}
  )
  if row['published'] and dataset.differs:
    row['differs'] = dataset.differs
  return row


def _declared(result: 'DatasetResult') -> int:
  """How many templates the tuned model could have been asked by, in its form."""
  if result.form in ('instructions', 'no_options'):
    return len(result.dataset.evaluated_templates)
  return len(result.templates)


def _signature(metric: metrics.Metric, answers: Sequence[Answer]) -> dict[str, str]:
  """What another must set to get the metric's figure, where its name is not enough."""
  found = metric.signature([answer.right for answer in answers])
  return {'signature': found} if found else {}


def _contamination(
  scores_TxNxS: np.ndarray, overlap: 'Overlap', metric: metrics.Metric
) -> dict[str, Any]:
  """Rows that stand in what was read, and the figures of the others."""
  clean_N = overlap.judged & ~overlap.dirty
  found = {
    'judged': int(overlap.judged.sum()),
    'dirty': int(overlap.dirty.sum()),
    'clean': int(clean_N.sum()),
  }
  clean = scores_TxNxS[:, clean_N]
  if clean.shape[1] and not np.isnan(clean).all():
    found['mean'] = statistics.spread(statistics.figures(clean, metric=metric)).mean
    found['ci95'] = statistics.interval(clean, metric=metric)
  return found


def _chosen_by_few(result: 'DatasetResult') -> list[str]:
  """A line where a template was chosen by so few rows that chance chose it."""
  count = len(result.splits['dev'].rows) if 'dev' in result.splits else FEW
  if result.split == 'dev' or len(result.templates) < 2 or count >= FEW:
    return []
  name = label({'dataset': result.dataset.name, 'direction': result.dataset.direction})
  return [
    f'{name}: the best template was chosen by {count} row'
    f'{"s" if count > 1 else ""} of dev; under {FEW} it is chosen by chance'
  ]


def build(
  results: 'Results',
  *,
  model: str,
  checkpoint: str,
  held_out: Sequence[str],
  trained_on: Sequence[str] | str,
  train_rows: Mapping[str, int],
  data_digest: str,
  seed: int,
  lineage: Sequence[Mapping[str, Any]] | None = None,
  guard: Mapping[str, Any] | None = None,
  provenance: Mapping[str, Any] | None = None,
  contamination: 'Found | None' = None,
  missing: Sequence[str] = (),
  answers: Mapping[str, Any] | None = None,
  data: Mapping[str, Any] | None = None,
  base: str | None = None,
) -> dict[str, Any]:
  """The content of report.json.

  Args:
    results: what `protocol.evaluate` returned.
    model: name of the model.
    checkpoint: where its parameters came from.
    held_out: clusters measured and never trained on.
    trained_on: clusters that it or an ancestor was tuned on; 'unknown' where one of
      them does not say.
    train_rows: cluster -> rows that are known to have been seen in tuning.
    data_digest: digest of the store of training and evaluation rows; '' for that of
      the measured rows.
    seed: of the row sample and the test of a difference.
    lineage: every training that the model came out of, as `Lineage.as_json` says it;
      None where nobody knows.
    guard: the proof that what is held out did not train, or None.
    provenance: the configuration with its origins, the models, the versions.
    contamination: the rows that stand in texts which the model may have read.
    missing: datasets of the mixture that the store was made without.
    answers: what ranks an option (`normalisation`) and how free text is written
      (`decoding`); None where the report is not kept.
    data: where the rows were read, as `measured.in_raw` or `in_store` says it.
    base: where the parameters of the base model came from; None where the lineage of
      the model says it.
  """
  guard = dict(guard or {})
  overlaps = contamination.datasets if contamination else {}
  rows = [
    _row(result, seed=seed, overlap=overlaps.get(result.dataset.label))
    for result in results.datasets
  ]
  compared = [row for row in rows if 'p' in row]
  for row, p in zip(
    compared, statistics.holm([row['p'] for row in compared]), strict=True
  ):
    row['p_holm'] = p
  data = measured_data.of(results, data)
  report = {
    'model': model,
    'checkpoint': checkpoint,
    'held_out': list(held_out),
    'trained_on': trained_on if trained_on == UNKNOWN else list(trained_on),
    'train_rows': dict(train_rows),
    'lineage': UNKNOWN if lineage is None else list(lineage),
    'data_digest': data_digest or data['digest'],
    'data': data,
    'seed': seed,
    'guard': guard,
    'rows': rows,
    'timing': dict(results.timing),
    'warnings': [
      *guard.get('warnings', ()),
      *results.warnings,
      *(line for result in results.datasets for line in _chosen_by_few(result)),
      *(f'{name}: missing when the store was made; left out' for name in missing),
    ],
  }
  if base:
    report['base_checkpoint'] = base
  if answers:
    report['answers'] = dict(answers)
  if provenance:
    report['provenance'] = dict(provenance)
  if contamination:
    report['contamination'] = {
      'ngram': contamination.ngram,
      'against': list(contamination.against),
      'words': contamination.words,
    }
  return rounded(report)


def load(out: str | os.PathLike) -> dict[str, Any]:
  """Reads OUT/report.json.

  What an older one does not say is filled in as it was then: no guard, instructions,
  a lineage that nobody kept, the family that has such a dataset.

  Raises:
    InputError: if there is none, or it is truncated.
  """
  path = pathlib.Path(out) / 'report.json'
  try:
    report = json.loads(path.read_text(encoding='utf-8'))
    rows = report['rows']
  except (OSError, ValueError, TypeError, KeyError) as error:
    raise InputError(
      f'{str(path)!r}: not a report ({error}); `flan eval` writes one'
    ) from None
  report.setdefault('guard', {})
  report.setdefault('lineage', UNKNOWN)
  declared = dataset_lib.find(rows[0]['dataset']) if rows else None
  report.setdefault('data', {'family': declared.family if declared else None})
  for row in rows:
    row.setdefault('n_declared', None)
    row.setdefault('templates_declared', len(row['per_template']))
    for of in (row, row.get('base', {})):
      of.setdefault('form', 'instructions')
      if len(of.get('per_template', ())) == 1:
        of['std_over_templates'] = None
  return report


def write(out: str | os.PathLike, results: 'Results', **about: Any) -> dict[str, Any]:
  """Writes OUT/report.json and all that is made from it; returns the report.

  Those are report.html, report.csv, templates.csv, report.tex and plots/*.svg.

  `about` are the keyword arguments of `build`. The predictions were written by
  `Predictions` while they were made; the page takes its examples from them.
  """
  out = pathlib.Path(out)
  report = build(results, **about)
  atomic_file.write_json(out / 'report.json', report, ensure_ascii=False)
  render(out)
  return report


def render(out: str | os.PathLike) -> None:
  """Writes what is made from OUT/report.json: page, plots, CSV and LaTeX tables."""
  from flan_jax.report import html, tables

  tables.write(out)
  html.write(out)


def averages(report: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The mean over the results of each cluster, as in FLAN figure 1.

  Every dataset is one result, and each direction of a translation, as in the paper.

  Returns:
    One dict per cluster: cluster, family, models (what they are called), seen (in
    words, whether tuning saw it), datasets, results, splits (of each result), n (over
    the results), shots, mean,
    ci95, chance, majority, and where a base model was measured base (mean, ci95),
    delta, delta_ci95; published is the paper's average where it is over the same
    results. Datasets are independent draws, so their
    intervals combine by MOVER; the directions of one dataset have the same rows, so
    their bounds are averaged, which is wide enough however they depend on each other.
  """
  found = []
  for cluster in dict.fromkeys(row['cluster'] for row in report['rows']):
    rows = [row for row in report['rows'] if row['cluster'] == cluster]
    average = {
      'cluster': cluster,
      'family': report.get('data', {}).get('family'),
      'models': statements.models(report),
      'seen': _seen(cluster, report),
      'datasets': len({row['dataset'] for row in rows}),
      'results': len(rows),
      'splits': [row['split'] for row in rows],
      'n': sum(row['n'] for row in rows),
      'shots': rows[0]['shots'],
      **_average(rows, 'mean', 'ci95'),
    }
    for key in ('chance', 'majority'):
      known = [row[key] for row in rows]
      average[key] = None if None in known else float(np.mean(known))
    if all('base' in row for row in rows):
      base = [{'dataset': row['dataset'], **row['base']} for row in rows]
      average['base'] = _average(base, 'mean', 'ci95')
      average |= _average(rows, 'delta', 'delta_ci95')
    average['published'] = published.averages(
      cluster, map(label, rows), shots=average['shots']
    )
    found.append(average)
  return found


def _seen(cluster: str, report: Mapping[str, Any]) -> str:
  """What may be claimed of a cluster: what the guard has proven, and no more."""
  proven = report.get('guard', {}).get('seen', {})
  if cluster in proven:
    return proven[cluster]
  trained = {c for c, n in report['train_rows'].items() if n}
  if report['trained_on'] != UNKNOWN:
    trained.update(report['trained_on'])
  return 'trained on' if cluster in trained else 'zero-shot (training unknown)'


def _average(rows: Sequence[Mapping[str, Any]], key: str, interval: str) -> dict:
  parts: dict[str, list[tuple[float, ...]]] = {}
  for row in rows:
    parts.setdefault(row['dataset'], []).append((row[key], *row[interval]))
  # Each dataset counts as often as it has results.
  weight = len(parts) / len(rows)
  whole = [weight * np.sum(part, axis=0) for part in parts.values()]
  return {
    key: float(np.mean([row[key] for row in rows])),
    interval: statistics.average_interval(
      [mean for mean, *_ in whole], [Interval(*bounds) for _, *bounds in whole]
    ),
  }


def headline(average: Mapping[str, Any]) -> str:
  """One line: `NLI, zero-shot, never trained on: base 34.1 → tuned 41.7, +7.6 [5, 10]`.

  What was measured, how it was asked, what may be claimed, and of which model.
  """
  name = statements.CLUSTER_NAMES.get(average['cluster'], average['cluster'])
  what = name + statements.world(average['family']) + statements.dev(average['splits'])
  claim = statements.claim(average['seen'], average['shots'])
  known = published.beside(average)
  paper = ''
  if known:
    paper = f' ({published.model(average["shots"])}: {published.shown(known)})'
  figure = f'{average["models"]["tuned"]} {average["mean"]:.1f}'
  if 'base' not in average:
    return f'{what}, {claim}: {figure} [{bounds(average["ci95"])}]{paper}'
  return (
    f'{what}, {claim}: base {average["base"]["mean"]:.1f} → {figure}, '
    f'{points(average["delta"])} [{bounds(average["delta_ci95"])}]{paper}'
  )


def points(value: float) -> str:
  """A difference: `+7.6`; never `-0.0`."""
  return f'{round(value, 1) + 0.0:+.1f}'


def rows_of(row: Mapping[str, Any]) -> str:
  """How many rows were measured, and of how many: `56`, `56 of 1,080`."""
  declared = row.get('n_declared')
  if declared is None or declared <= row['n']:
    return f'{row["n"]:,}'
  return f'{row["n"]:,} of {declared:,}'


def measured_templates(row: Mapping[str, Any]) -> int:
  """Templates with a figure on the reported split."""
  return sum(entry[row['split']] is not None for entry in row['per_template'])


def bounds(interval: Sequence[float]) -> str:
  """An interval: `5.2, 10.0`; never `-0.0`."""
  return ', '.join(f'{round(bound, 1) + 0.0:.1f}' for bound in interval)

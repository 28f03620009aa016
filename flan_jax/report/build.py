"""The report of an evaluation: report.json, predictions, averages and headlines.

Everything is written under a temporary name and renamed when whole, so that a reader
never sees half a file and a full disk costs nothing that was there before.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flan_jax.catalog.answers import Answer
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.evaluate import calibration, measured_data, metrics, statistics
from flan_jax.evaluate import metric as metric_lib
from flan_jax.report import published  # fmt: skip

if TYPE_CHECKING:
  from flan_jax.evaluate.contamination import Found, Overlap
  from flan_jax.evaluate.evaluator import DatasetResult, Results
from flan_jax.report.schema import label, rounded

FEW = 20
"""Rows of dev below which the best template is chosen by chance.

The accuracy of 20 rows has a standard error of 11 points at 50 %, and templates of one
dataset differ by less (the standard deviations of FLAN's tables 1 and 2 are mostly
under 10); intervals, too, are checked from 20 rows on.
"""


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
    'prompt_style': result.prompt_style
    if model == 'tuned'
    else result.base_prompt_style,
    **({'also': also} if also else {}),
    **_calibration(part.confidence.get(model)),
  }


def _also(scores_TxNxS: np.ndarray, metric: metric_lib.Metric) -> dict[str, float]:
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
    'n_declared': dataset.num_examples(result.split) or None,
    'num_fewshot': result.num_fewshot,
    'chance': statistics.chance(answers, metric=metric),
    'majority': statistics.majority(answers, metric=metric),
    'templates_declared': _declared(result),
    **_measures(result, 'tuned'),
  }
  if result.num_fewshot and 'tuned' in split.shown:
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
      num_fewshot=result.num_fewshot,
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
  if result.prompt_style in ('instructions', 'no_options'):
    return len(result.dataset.evaluated_templates)
  return len(result.templates)


def _signature(metric: metric_lib.Metric, answers: Sequence[Answer]) -> dict[str, str]:
  """What another must set to get the metric's figure, where its name is not enough."""
  found = metric.signature([answer.right for answer in answers])
  return {'signature': found} if found else {}


def _contamination(
  scores_TxNxS: np.ndarray, overlap: 'Overlap', metric: metric_lib.Metric
) -> dict[str, Any]:
  """Rows that stand in what was read, and the figures of the others."""
  clean_N = overlap.judged & ~overlap.contaminated
  found = {
    'judged': int(overlap.judged.sum()),
    'contaminated': int(overlap.contaminated.sum()),
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
  train_examples: Mapping[str, int],
  data_digest: str,
  seed: int,
  lineage: Sequence[Mapping[str, Any]] | None = None,
  leakage: Mapping[str, Any] | None = None,
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
    train_examples: cluster -> rows that are known to have been seen in tuning.
    data_digest: digest of the store of training and evaluation rows; '' for that of
      the measured rows.
    seed: of the row sample and the test of a difference.
    lineage: every training that the model came out of, as `Lineage.as_json` says it;
      None where nobody knows.
    leakage: the proof that what is held out did not train, or None.
    provenance: the configuration with its origins, the models, the versions.
    contamination: the rows that stand in texts which the model may have read.
    missing: datasets of the mixture that the store was made without.
    answers: what ranks an option (`normalization`) and how free text is written
      (`decoding`); None where the report is not kept.
    data: where the rows were read, as `measured.in_raw` or `in_store` says it.
    base: where the parameters of the base model came from; None where the lineage of
      the model says it.
  """
  leakage = dict(leakage or {})
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
    'train_examples': dict(train_examples),
    'lineage': UNKNOWN if lineage is None else list(lineage),
    'data_digest': data_digest or data['digest'],
    'data': data,
    'seed': seed,
    'leakage': leakage,
    'rows': rows,
    'timing': dict(results.timing),
    'warnings': [
      *leakage.get('warnings', ()),
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

"""Builds the content of report.json from the results of an evaluation."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flan_jax.catalog.answers import Answer
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.catalog.prompt_style import WITH_OWN_TEMPLATES
from flan_jax.evaluate import calibration, measured_data, metrics, statistics
from flan_jax.evaluate import metric as metric_lib
from flan_jax.report import published, values
from flan_jax.report.schema import SCHEMA, VALUE, rounded

if TYPE_CHECKING:
  from flan_jax.evaluate.contamination import Found, Overlap
  from flan_jax.evaluate.evaluator import DatasetResult, Results

FEW = 20
"""Number of dev examples below which the best template is chosen by chance.

The accuracy on 20 examples has a standard error of 11 points at 50 %, and templates of
one dataset differ by less (the standard deviations of FLAN's tables 1 and 2 are mostly
under 10). The coverage of the intervals, too, is checked from 20 examples on.
"""


def best_dev_template(per_template: Sequence[Mapping[str, Any]]) -> dict | None:
  """Returns the template with the highest dev score, and its test score.

  The test score plays no part in the choice. The first of equal templates is chosen.
  None without a dev score.
  """
  measured = [entry for entry in per_template if entry['dev'] is not None]
  if not measured:
    return None
  best = max(measured, key=lambda entry: entry['dev'])
  return {key: best[key] for key in ('template', 'dev', 'test')}


def _figures(measured: 'DatasetResult', model: str) -> dict[str, Any]:
  """Returns the figures of one model on one dataset."""
  metric = metrics.get(measured.dataset.metric)
  figures = {
    name: statistics.figures(getattr(part, model), metric=metric)
    for name, part in measured.splits.items()
  }
  name = measured.split
  part = measured.reported
  counts = (~np.isnan(getattr(part, model)).any(-1)).sum(1)
  templates = measured.templates
  if model == 'base' and measured.base_templates is not None:
    templates = measured.base_templates
  texts = measured.template_texts.get(model)
  per_template = [
    {
      'template': template,
      **({'text': texts[i]} if texts else {}),
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
    # One template has no spread.
    'std_over_templates': std if np.sum(~np.isnan(figures[name])) > 1 else None,
    'ci95': statistics.interval(getattr(part, model), metric=metric),
    'per_template': per_template,
    'best_dev_template': best_dev_template(per_template),
    'prompt_style': measured.prompt_style
    if model == 'tuned'
    else measured.base_prompt_style,
    **({'also': also} if also else {}),
    **_calibration(part.confidence.get(model)),
  }


def _also(scores_TxNxS: np.ndarray, metric: metric_lib.Metric) -> dict[str, float]:
  """Returns the metric's further figures, each the mean over templates."""
  by_template = [
    metric.others(scores_NxS[~np.isnan(scores_NxS).any(-1)])
    for scores_NxS in scores_TxNxS
  ]
  names = dict.fromkeys(name for found in by_template for name in found)
  return {
    name: float(np.mean([found[name] for found in by_template if name in found]))
    for name in names
  }


def _calibration(confidence: np.ndarray | None) -> dict[str, Any]:
  found = None if confidence is None else calibration.of(confidence)
  return {} if found is None else {'calibration': found}


def _figure(figures: Mapping[str, np.ndarray], split: str, i: int) -> float | None:
  """Returns the figure of template `i`; None if not measured on that split."""
  if split not in figures or np.isnan(figures[split][i]):
    return None
  return float(figures[split][i])


def _result(
  measured: 'DatasetResult', *, seed: int, overlap: 'Overlap | None'
) -> dict[str, Any]:
  """Returns one of the `results` of report.json, but for `p_holm`."""
  split = measured.reported
  dataset = measured.dataset
  metric = metrics.get(dataset.metric)
  answers = [example.answer for example in split.examples]
  base = split.base
  result = {
    'dataset': dataset.name,
    **({'direction': dataset.direction} if dataset.direction else {}),
    'cluster': dataset.cluster,
    'metric': metric.name,
    **_signature(metric, answers),
    'split': measured.split,
    'n': len(split.examples),
    'n_declared': dataset.known_examples(measured.split) or None,
    'num_fewshot': measured.num_fewshot,
    'base_prompt_style': measured.base_prompt_style if base is not None else None,
    **measured.own_style,
    'seeds': [seed],
    'chance': statistics.chance(answers, metric=metric),
    'majority': statistics.majority(answers, metric=metric),
    'templates_declared': _declared(measured),
    **_figures(measured, 'tuned'),
  }
  if measured.num_fewshot and 'tuned' in split.shown:
    result['num_fewshot_shown'] = float(split.shown['tuned'].mean())
  if base is not None:
    result['base'] = _figures(measured, 'base')
    result['delta'] = result['mean'] - result['base']['mean']
    result['delta_ci95'] = statistics.paired_interval(split.tuned, base, metric=metric)
    result['p'] = statistics.paired_p_value(split.tuned, base, metric=metric, seed=seed)
    result['detectable'] = statistics.detectable(result['delta_ci95'])
  if overlap is not None:
    result['contamination'] = _contamination(split.tuned, overlap, metric)
  result['published'] = (
    published.figures(
      dataset.name,
      metric=metric.name,
      num_fewshot=measured.num_fewshot,
      direction=dataset.direction,
    )
    if dataset.family == 'flan'
    else {}
  )
  if result['published'] and dataset.differs:
    result['differs'] = dataset.differs
  return result


def _in_units(measured: 'DatasetResult') -> bool:
  """Returns whether the dataset's metric is in units of its own."""
  return metrics.get(measured.dataset.metric).kind == VALUE


def _declared(measured: 'DatasetResult') -> int:
  """Counts the templates declared for the prompt style of the tuned model."""
  if measured.prompt_style in WITH_OWN_TEMPLATES:
    return len(measured.dataset.evaluated_templates)
  return len(measured.templates)


def _signature(metric: metric_lib.Metric, answers: Sequence[Answer]) -> dict[str, str]:
  """Returns the metric's settings, if its name alone does not define the figure."""
  found = metric.signature([answer.right for answer in answers])
  return {'signature': found} if found else {}


def _contamination(
  scores_TxNxS: np.ndarray, overlap: 'Overlap', metric: metric_lib.Metric
) -> dict[str, Any]:
  """Counts contaminated examples, and returns the figures of the clean ones."""
  clean_N = overlap.judged & ~overlap.contaminated
  found: dict[str, Any] = {
    'judged': int(overlap.judged.sum()),
    'contaminated': int(overlap.contaminated.sum()),
    'clean': int(clean_N.sum()),
  }
  clean = scores_TxNxS[:, clean_N]
  if clean.shape[1] and not np.isnan(clean).all():
    found['mean'] = statistics.spread(statistics.figures(clean, metric=metric)).mean
    found['ci95'] = statistics.interval(clean, metric=metric)
  return found


def _chosen_by_few(measured: 'DatasetResult') -> list[str]:
  """Warns in a line if too few dev examples chose the best template."""
  dev = measured.splits.get('dev')
  count = len(dev.examples) if dev is not None else FEW
  if measured.split == 'dev' or len(measured.templates) < 2 or count >= FEW:
    return []
  return [
    f'{measured.dataset.label}: the best template was chosen on {count} dev example'
    f'{"s" if count > 1 else ""}; on fewer than {FEW} the choice is mostly chance'
  ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metadata:
  """Metadata of a report: everything about models and data but the results.

  Attributes:
    model: name of the model.
    checkpoint: path that its parameters were read from.
    held_out: clusters measured.
    trained_on: clusters that the model or an ancestor was tuned on; 'unknown' if the
      training of one of them is unknown.
    train_examples: cluster -> examples that tuning is known to have seen.
    data_digest: digest of the store of training and evaluation examples; '' for the
      digest of the measured examples.
    seed: seed for the sample of examples, the exemplars and the test of a difference.
    lineage: every training of the model and its ancestors, from `Lineage.as_json`;
      None if unknown.
    leakage: leakage report of the held-out clusters, or None.
    provenance: the configuration with its origins, the models, the versions.
    missing: datasets of the mixture that the store lacks.
    data: source of the examples, from `measured_data.in_raw` or `in_store`.
    base: path that the base model's parameters were read from; None if the lineage of
      the model names it.
    validation: figures on dev of the training datasets (jobs.validation), or None.
    curves: curves of the training run (jobs.run_report), or None.
    training: training of the model: its run, seed, step, and a digest of its other
      settings; None if not recorded.
  """

  model: str
  checkpoint: str
  held_out: Sequence[str]
  trained_on: Sequence[str] | str
  train_examples: Mapping[str, int]
  data_digest: str
  seed: int
  lineage: Sequence[Mapping[str, Any]] | None = None
  leakage: Mapping[str, Any] | None = None
  provenance: Mapping[str, Any] | None = None
  missing: Sequence[str] = ()
  data: Mapping[str, Any] | None = None
  base: str | None = None
  validation: Mapping[str, Any] | None = None
  curves: Mapping[str, Any] | None = None
  training: Mapping[str, Any] | None = None


def build(
  results: 'Results',
  about: Metadata,
  *,
  contamination: 'Found | None' = None,
  answers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """Returns the content of report.json.

  Args:
    results: results of `evaluator.evaluate`.
    about: metadata.
    contamination: examples found in texts that the model may have been trained on.
    answers: normalization of option scores (`normalization`) and generation settings
      (`decoding`); None if the report is not kept.
  """
  leakage = dict(about.leakage or {})
  overlaps = contamination.datasets if contamination else {}
  found = [
    _result(measured, seed=about.seed, overlap=overlaps.get(measured.dataset.label))
    for measured in results.datasets
    if not _in_units(measured)
  ]
  own = [
    result
    for measured in results.own
    for result in values.results(
      measured, seed=about.seed, overlap=overlaps.get(measured.dataset.label)
    )
  ]
  for measured in filter(_in_units, results.datasets):
    overlap = overlaps.get(measured.dataset.label)
    own += values.of_metric(measured, seed=about.seed, overlap=overlap)
  compared = [result for result in (*found, *own) if 'p' in result]
  corrected = statistics.holm([result['p'] for result in compared])
  for result, p in zip(compared, corrected, strict=True):
    result['p_holm'] = p
  data = measured_data.of(results, about.data)
  report = {
    'schema': SCHEMA,
    'model': about.model,
    'checkpoint': about.checkpoint,
    'held_out': list(about.held_out),
    'trained_on': (UNKNOWN if about.trained_on == UNKNOWN else list(about.trained_on)),
    'train_examples': dict(about.train_examples),
    'lineage': UNKNOWN if about.lineage is None else list(about.lineage),
    'data_digest': about.data_digest or data['digest'],
    'data': data,
    'seed': about.seed,
    'leakage': leakage,
    'results': found,
    'timing': dict(results.timing),
    'warnings': [
      *leakage.get('warnings', ()),
      *results.warnings,
      *(
        line
        for measured in results.datasets
        if not _in_units(measured)
        for line in _chosen_by_few(measured)
      ),
      *(f'{name}: not in the store; left out' for name in about.missing),
    ],
  }
  if about.base:
    report['base_checkpoint'] = about.base
  if answers:
    report['answers'] = dict(answers)
  if about.validation:
    report['validation'] = dict(about.validation)
  if about.training:
    report['training'] = dict(about.training)
  if about.curves:
    report['curves'] = dict(about.curves)
  if about.provenance:
    report['provenance'] = dict(about.provenance)
  if contamination:
    report['contamination'] = {
      'ngram': contamination.ngram,
      'against': list(contamination.against),
      'words': contamination.words,
    }
  made = rounded(report)
  made['results'] += values.plain(own)
  return made

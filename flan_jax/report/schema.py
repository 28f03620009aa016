"""Schema of report.json: reading a report, its averages, and its figures in words."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.catalog import registry
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.errors import InputError
from flan_jax.evaluate import statistics
from flan_jax.evaluate.statistics import Interval
from flan_jax.report import published, statements
from flan_jax.runtime import input_file, renamed_keys

SCHEMA = 2
"""Version of the keys of report.json. A report of schema 1 names no schema."""


VALUE = 'value'
"""`kind` of a result in units of its own; the others are in percent."""


def is_value(result: Mapping[str, Any]) -> bool:
  """Returns whether a result is in units of its own (`report.values`)."""
  return result.get('kind') == VALUE


def divided(report: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
  """Returns a report with its results in percent alone, and those in other units."""
  results = report['results']
  values = [result for result in results if is_value(result)]
  in_percent = [result for result in results if not is_value(result)]
  return {**report, 'results': in_percent}, values


def rounded(value: Any) -> Any:
  """Rounds floats to four decimals, inside lists and dicts too; NaN becomes None."""
  if isinstance(value, Mapping):
    return {key: rounded(item) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [rounded(item) for item in value]
  if isinstance(value, float | np.floating):
    return None if np.isnan(value) else round(float(value), 4)
  return value


def label(result: Mapping[str, Any]) -> str:
  """Names a result or a prediction: `rte`, `wmt14_enfr en-fr`, `their_task bleu`."""
  metric = result['metric'] if is_value(result) else None
  return ' '.join(filter(None, (result['dataset'], result.get('direction'), metric)))


def shown(result: Mapping[str, Any]) -> str:
  """Names a result beside its figures: `cb (dev)` if they are not test figures."""
  splits = result.get('splits') or [result['split']]
  return label(result) + statements.dev(splits)


def load(out: str | os.PathLike) -> dict[str, Any]:
  """Reads OUT/report.json; a report of schema 1 is returned with the keys of schema 2.

  Raises:
    InputError: if there is no report, if it is truncated, or if its schema is newer.
  """
  path = pathlib.Path(out) / 'report.json'
  try:
    report = input_file.parse(path.read_bytes())
    schema = report.get('schema', 1)
    if schema == 1:
      report = _upgraded(report)
    _ = report['results']
  except (OSError, ValueError) as error:
    raise InputError(
      f'{str(path)!r}: not a report ({error}); `flan train` and `flan eval` write one'
    ) from None
  except (TypeError, KeyError, AttributeError):
    raise InputError(
      f'{str(path)!r}: not a report (no object with "results"); `flan train` and '
      '`flan eval` write one'
    ) from None
  if schema != SCHEMA and schema != 1:
    raise InputError(
      f'{str(path)!r}: schema {schema!r}; must be 1 or {SCHEMA}; upgrade flan_jax'
    )
  return report


def _upgraded(old: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a report of schema 1 with the keys of schema 2.

  A key that older reports lack is filled in with what held when they were written: no
  leakage check, the instruction templates, an unknown lineage, and the dataset family
  that declares the first dataset.
  """
  report = {'schema': SCHEMA, **renamed_keys.upgraded(old, renamed_keys.REPORT)}
  results = report['results']
  report.setdefault('leakage', {})
  report.setdefault('lineage', UNKNOWN)
  declared = registry.find(results[0]['dataset']) if results else None
  report.setdefault('data', {'family': declared.family if declared else None})
  for result in results:
    result.setdefault('n_declared', None)
    result.setdefault('templates_declared', len(result['per_template']))
    for figures in (result, result.get('base', {})):
      figures.setdefault('prompt_style', 'instructions')
      if len(figures.get('per_template', ())) == 1:
        figures['std_over_templates'] = None
    base = result.get('base')
    result.setdefault('base_prompt_style', base['prompt_style'] if base else None)
    result.setdefault('seeds', [report['seed']])
  config = report.get('provenance', {}).get('config')
  if config:
    report['provenance']['config'] = '\n'.join(map(_setting, config.split('\n')))
  return report


def _setting(line: str) -> str:
  """Returns a line of a configuration text with the setting's name of today."""
  name, equals, value = line.partition(' = ')
  new = renamed_keys.SETTINGS.get(name)
  return line if new is None else f'{name.partition(".")[0]}.{new}{equals}{value}'


def averages(report: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Averages the results in percent of each cluster, as FLAN's figure 1 does.

  Every dataset is one result, and each direction of a translation, as in the paper.
  Datasets are independent draws, so their intervals combine by MOVER. The directions
  of one dataset share their examples, so their bounds are averaged, which is wide
  enough for any correlation.

  Returns:
    One dict per cluster: cluster, family, models (their names), seen (in words,
    whether tuning saw the cluster), datasets, results, splits (of each result), n
    (examples of all results), num_fewshot, mean, ci95, chance, majority; with a base
    model also base (mean, ci95), delta, delta_ci95. published is the paper's average
    if it is over the same results.
  """
  found = []
  report, _ = divided(report)
  for cluster in dict.fromkeys(result['cluster'] for result in report['results']):
    results = [result for result in report['results'] if result['cluster'] == cluster]
    average = {
      'cluster': cluster,
      'family': report.get('data', {}).get('family'),
      'models': statements.models(report),
      'seen': seen(cluster, report),
      'datasets': len({result['dataset'] for result in results}),
      'results': len(results),
      'splits': [result['split'] for result in results],
      'n': sum(result['n'] for result in results),
      'num_fewshot': results[0]['num_fewshot'],
      **_average(results, 'mean', 'ci95'),
    }
    for key in ('chance', 'majority'):
      known = [result[key] for result in results]
      average[key] = None if None in known else float(np.mean(known))
    if all('base' in result for result in results):
      base = [{'dataset': result['dataset'], **result['base']} for result in results]
      average['base'] = _average(base, 'mean', 'ci95')
      average |= _average(results, 'delta', 'delta_ci95')
    average['published'] = published.averages(
      cluster, map(label, results), num_fewshot=average['num_fewshot']
    )
    found.append(average)
  return found


def seen(cluster: str, report: Mapping[str, Any]) -> str:
  """Returns the claim on a cluster that the leakage report supports."""
  proven = report.get('leakage', {}).get('seen', {})
  if cluster in proven:
    return proven[cluster]
  trained = {c for c, n in report['train_examples'].items() if n}
  if report['trained_on'] != UNKNOWN:
    trained.update(report['trained_on'])
  return 'trained on' if cluster in trained else 'zero-shot (training unknown)'


def _average(results: Sequence[Mapping[str, Any]], key: str, interval: str) -> dict:
  parts: dict[str, list[tuple[float, ...]]] = {}
  for result in results:
    figures = (result[key], *result[interval])
    parts.setdefault(result['dataset'], []).append(figures)
  # A dataset weighs as much as the number of its results.
  weight = len(parts) / len(results)
  whole = [weight * np.sum(part, axis=0) for part in parts.values()]
  return {
    key: float(np.mean([result[key] for result in results])),
    interval: statistics.average_interval(
      [mean for mean, *_ in whole], [Interval(*bounds) for _, *bounds in whole]
    ),
  }


def headline(average: Mapping[str, Any]) -> str:
  """`NLI, zero-shot, never trained on: base 34.1 → tuned 41.7, +7.6 [5, 10]`.

  One line: the cluster, the prompts, the claim on its training, and the model.
  """
  name = statements.cluster_name(average['cluster'])
  what = (
    name + statements.of_family(average['family']) + statements.dev(average['splits'])
  )
  claim = statements.claim(average['seen'], average['num_fewshot'])
  known = published.beside(average)
  paper = ''
  if known:
    paper = f' ({published.model(average["num_fewshot"])}: {published.shown(known)})'
  figure = f'{average["models"]["tuned"]} {average["mean"]:.1f}'
  if 'base' not in average:
    return f'{what}, {claim}: {figure} [{bounds(average["ci95"])}]{paper}'
  return (
    f'{what}, {claim}: base {average["base"]["mean"]:.1f} → {figure}, '
    f'{points(average["delta"])} [{bounds(average["delta_ci95"])}]{paper}'
  )


def points(value: float) -> str:
  """Formats a difference: `+7.6`; never `-0.0`."""
  return f'{round(value, 1) + 0.0:+.1f}'


def examples_of(result: Mapping[str, Any]) -> str:
  """Formats the measured and the declared examples: `56`, `56 of 1,080`."""
  declared = result.get('n_declared')
  if declared is None or declared <= result['n']:
    return f'{result["n"]:,}'
  return f'{result["n"]:,} of {declared:,}'


def measured_templates(result: Mapping[str, Any]) -> int:
  """Counts the templates with a figure on the reported split."""
  return sum(entry[result['split']] is not None for entry in result['per_template'])


def same_prompts(result: Mapping[str, Any]) -> bool:
  """Returns whether a result has a base model that had the same prompts."""
  style = result.get('prompt_style')
  return 'base' in result and result['base'].get('prompt_style') == style


def bounds(interval: Sequence[float]) -> str:
  """Formats an interval: `5.2, 10.0`; never `-0.0`."""
  return ', '.join(f'{round(bound, 1) + 0.0:.1f}' for bound in interval)


def p_value(p: float | None) -> str:
  """Formats a p-value: `0.012`, `<0.001`, `-` without a test."""
  if p is None:
    return '-'
  return '<0.001' if p < 0.001 else f'{p:.3f}'

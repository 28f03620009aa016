"""Schema of report.json: reading it, its averages, and its figures in words."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flan_jax.catalog import registry
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.errors import InputError
from flan_jax.evaluate import statistics
from flan_jax.evaluate.statistics import Interval
from flan_jax.report import published, statements  # fmt: skip

if TYPE_CHECKING:
  pass


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
    results = report['results']
  except (OSError, ValueError, TypeError, KeyError) as error:
    raise InputError(
      f'{str(path)!r}: not a report ({error}); `flan eval` writes one'
    ) from None
  report.setdefault('leakage', {})
  report.setdefault('lineage', UNKNOWN)
  declared = registry.find(results[0]['dataset']) if results else None
  report.setdefault('data', {'family': declared.family if declared else None})
  for result in results:
    result.setdefault('n_declared', None)
    result.setdefault('templates_declared', len(result['per_template']))
    for of in (result, result.get('base', {})):
      of.setdefault('prompt_style', 'instructions')
      if len(of.get('per_template', ())) == 1:
        of['std_over_templates'] = None
  return report


def averages(report: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The mean over the results of each cluster, as in FLAN figure 1.

  Every dataset is one result, and each direction of a translation, as in the paper.

  Returns:
    One dict per cluster: cluster, family, models (what they are called), seen (in
    words, whether tuning saw it), datasets, results, splits (of each result), n (over
    the results), num_fewshot, mean,
    ci95, chance, majority, and where a base model was measured base (mean, ci95),
    delta, delta_ci95; published is the paper's average where it is over the same
    results. Datasets are independent draws, so their
    intervals combine by MOVER; the directions of one dataset have the same results, so
    their bounds are averaged, which is wide enough however they depend on each other.
  """
  found = []
  for cluster in dict.fromkeys(result['cluster'] for result in report['results']):
    results = [result for result in report['results'] if result['cluster'] == cluster]
    average = {
      'cluster': cluster,
      'family': report.get('data', {}).get('family'),
      'models': statements.models(report),
      'seen': _seen(cluster, report),
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


def _seen(cluster: str, report: Mapping[str, Any]) -> str:
  """What may be claimed of a cluster: what the guard has proven, and no more."""
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
    parts.setdefault(result['dataset'], []).append((result[key], *result[interval]))
  # Each dataset counts as often as it has results.
  weight = len(parts) / len(results)
  whole = [weight * np.sum(part, axis=0) for part in parts.values()]
  return {
    key: float(np.mean([result[key] for result in results])),
    interval: statistics.average_interval(
      [mean for mean, *_ in whole], [Interval(*bounds) for _, *bounds in whole]
    ),
  }


def headline(average: Mapping[str, Any]) -> str:
  """One line: `NLI, zero-shot, never trained on: base 34.1 → tuned 41.7, +7.6 [5, 10]`.

  What was measured, how it was asked, what may be claimed, and of which model.
  """
  name = statements.CLUSTER_NAMES.get(average['cluster'], average['cluster'])
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
  """A difference: `+7.6`; never `-0.0`."""
  return f'{round(value, 1) + 0.0:+.1f}'


def examples_of(result: Mapping[str, Any]) -> str:
  """How many results were measured, and of how many: `56`, `56 of 1,080`."""
  declared = result.get('n_declared')
  if declared is None or declared <= result['n']:
    return f'{result["n"]:,}'
  return f'{result["n"]:,} of {declared:,}'


def measured_templates(result: Mapping[str, Any]) -> int:
  """Templates with a figure on the reported split."""
  return sum(entry[result['split']] is not None for entry in result['per_template'])


def bounds(interval: Sequence[float]) -> str:
  """An interval: `5.2, 10.0`; never `-0.0`."""
  return ', '.join(f'{round(bound, 1) + 0.0:.1f}' for bound in interval)

"""Comparison of two reports: the same examples, prediction by prediction."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flan_jax.catalog import registry
from flan_jax.catalog.prompt_style import WITH_OWN_TEMPLATES
from flan_jax.data import stable_hash
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics, predictions, statistics
from flan_jax.evaluate.metric import Metric
from flan_jax.report import schema, settings, statements, tables, value_comparison
from flan_jax.report import values as values_lib
from flan_jax.runtime import atomic_file

EXAMPLES = 3
"""Predictions shown per result that became better, and as many that became worse."""

_EQUAL = 1e-9
"""Two values of a metric that differ by no more than this are equal."""


class Predictions(NamedTuple):
  """Predictions for one dataset, or one direction of a translation.

  Attributes:
    scores: statistics of the metric, float64 [T, N, S]; NaN without a prediction.
    templates, example_ids: the first two axes of `scores`.
    gold: example id -> right answers.
    lines: (example id, template) -> start of the prediction's line in the file.
    path: the file.
  """

  scores: np.ndarray
  templates: tuple[int, ...]
  example_ids: tuple[str, ...]
  gold: Mapping[str, str]
  lines: Mapping[tuple[str, int], int]
  path: pathlib.Path

  def line(self, example_id: str, template: int | None) -> int:
    """Returns the start of a prediction's line; of its first template for None."""
    if template is None:
      template = next(t for t in self.templates if (example_id, t) in self.lines)
    return self.lines[example_id, template]


def compare(new: str | os.PathLike, old: str | os.PathLike) -> dict[str, Any]:
  """Compares two evaluations.

  With the predictions of both, the difference is paired: over the examples that both
  measured, and over the templates if a template number means the same template in both.
  Otherwise it is the difference of two independent figures.

  Args:
    new, old: folders with report.json.

  Returns:
    {'new', 'old': {'model', 'checkpoint', 'data_digest', 'seed', 'title'}, 'results':
    [{'dataset', 'cluster', 'metric', 'splits', 'n', 'templates', 'paired',
    'unpaired_reason', 'old', 'new', 'reports', 'delta', 'delta_ci95', 'p', 'p_holm',
    'unit', 'gained', 'lost', 'examples'}], 'only_new', 'only_old': [dataset],
    'other_examples': [results of both that were measured on other examples],
    'settings': [[name, old, new]]}; figures in percent, rounded. `n` and `templates`
    count what the two share; None and 0 if nothing is shared. `reports` has the `mean`,
    `n` and `templates` of each report. `unpaired_reason` says why the predictions
    cannot be paired, else None. `gained` and `lost` count the predictions that became
    better and worse, by `unit`: one per `template` of an example, or the mean over the
    templates of an `example`; None if unpaired. A direction of a translation is a
    result of its own, with 'direction', and pairs with itself only. 'values' lists the
    results in units of their own, if both have any.

  Raises:
    InputError: if a folder has no report, or the two share no dataset.
  """
  folders = pathlib.Path(new), pathlib.Path(old)
  reports = schema.load(folders[0]), schema.load(folders[1])
  by_name = [
    {schema.label(result): result for result in report['results']} for report in reports
  ]
  common = [name for name in by_name[0] if name in by_name[1]]
  if not common:
    named = ', '.join
    raise InputError(
      f'--against {str(old)!r}: measured {named(by_name[1]) or "nothing"}, and '
      f'{str(new)!r} {named(by_name[0]) or "nothing"}; must have a dataset in common'
    )
  own = [name for name in common if schema.is_value(by_name[0][name])]
  common = [name for name in common if name not in own]
  predicted = [
    read_predictions(folder, {name: results[name] for name in common})
    for folder, results in zip(folders, by_name, strict=True)
  ]
  compared = []
  for name in common:
    pair = by_name[0][name], by_name[1][name]
    found = predicted[0].get(name), predicted[1].get(name)
    compared.append(_result(*pair, *found, seed=reports[0]['seed']))
  values = [
    value_comparison.compare(
      by_name[0][name], by_name[1][name], folders, seed=reports[0]['seed']
    )
    for name in own
  ]
  tested = [result for result in (*compared, *values) if result['p'] is not None]
  corrected = statistics.holm([result['p'] for result in tested])
  for result in (*compared, *values):
    result['p_holm'] = None
  for result, p in zip(tested, corrected, strict=True):
    result['p_holm'] = p
  keys = ('model', 'checkpoint', 'data_digest', 'seed')
  differing = settings.differing(*reports)
  titles = _titles(*reports, differing)
  measured = dict.fromkeys([*common, *(result['dataset'] for result in values)])
  found = schema.rounded(
    {
      **{
        which: {name: report[name] for name in keys} | {'title': title}
        for which, report, title in zip(('new', 'old'), reports, titles, strict=True)
      },
      'results': compared,
      'only_new': [name for name in by_name[0] if name not in by_name[1]],
      'only_old': [name for name in by_name[1] if name not in by_name[0]],
      'other_examples': _other_examples(*reports, list(measured)),
      'settings': differing,
    }
  )
  return found | ({'values': values_lib.plain(values)} if values else {})


def _other_examples(
  new: Mapping[str, Any], old: Mapping[str, Any], common: Sequence[str]
) -> list[str]:
  """Returns the labels of the common results whose examples differ."""
  digests = [
    {schema.label(part): part['digest'] for part in report['data']['datasets']}
    if 'datasets' in report['data']
    else dict.fromkeys(common, report['data_digest'])
    for report in (new, old)
  ]
  if len({'datasets' in report['data'] for report in (new, old)}) > 1:
    return []  # an older report has no digest by dataset
  return [name for name in common if digests[0][name] != digests[1][name]]


def _titles(
  new: Mapping[str, Any], old: Mapping[str, Any], differing: Sequence[Sequence[str]]
) -> tuple[str, str]:
  """Returns a title for each report: its model, and what tells the two apart.

  That is the prompts, and of one model the checkpoint. If they are equal, it is the
  first setting that differs, with the number of the others. Equal weights are one model
  of one checkpoint.
  """
  parts = [(statements.title(new), statements.title(old))]
  weights = _weights(new), _weights(old)
  if weights[0] and weights[0] == weights[1]:
    parts = [(parts[0][0], parts[0][0])]
  named = parts[0][0] != parts[0][1]
  of_both = [(tables.method(new), tables.method(old))]
  if not named and (not weights[0] or weights[0] != weights[1]):
    of_both.append((new['checkpoint'], old['checkpoint']))
  parts += [pair for pair in of_both if pair[0] != pair[1]]
  if len(parts) == 1 and not named and differing:
    name, *values = differing[0]
    others = len(differing) - 1
    more = f' and {others} more' if others else ''
    old_value, new_value = (value or '-' for value in values)
    parts.append((f'{name} {new_value}{more}', f'{name} {old_value}{more}'))
  new_title, old_title = (', '.join(part) for part in zip(*parts, strict=True))
  return new_title, old_title


def _weights(report: Mapping[str, Any]) -> str | None:
  """Returns the fingerprint of the measured weights, if it is known."""
  models = report.get('provenance', {}).get('models', {})
  return models.get('tuned', {}).get('fingerprint')


def write(new: str | os.PathLike, old: str | os.PathLike) -> dict[str, Any]:
  """Writes NEW/difference.json, .html, .csv and .tex; returns the JSON content."""
  from flan_jax.report import html

  found = compare(new, old)
  new = pathlib.Path(new)
  atomic_file.write_json(new / 'difference.json', found, ensure_ascii=False)
  atomic_file.write_text(new / 'difference.html', html.difference(found))
  tables.write_difference(new, found)
  return found


def _result(
  new: Mapping[str, Any],
  old: Mapping[str, Any],
  new_predictions: Predictions | None,
  old_predictions: Predictions | None,
  *,
  seed: int,
) -> dict[str, Any]:
  """Returns one of the `results` of a comparison, but for `p_holm`."""
  named = ('dataset', 'direction', 'cluster', 'metric')
  result = {name: new[name] for name in named if name in new}
  both = {'new': new, 'old': old}
  result['splits'] = {which: part['split'] for which, part in both.items()}
  result['reports'] = {
    which: {
      'mean': part['mean'],
      'n': part['n'],
      'templates': schema.measured_templates(part),
    }
    for which, part in both.items()
  }
  if new_predictions is None or old_predictions is None:
    kept = {'new': new_predictions, 'old': old_predictions}
    lacking = [which for which, part in kept.items() if part is None]
    have = 'has' if len(lacking) == 1 else 'have'
    reason = f'{" and ".join(lacking)} {have} no predictions'
    return result | _independent(new, old, reason)
  # An example of the same name with another right answer is another example.
  example_ids = [
    example_id
    for example_id in new_predictions.example_ids
    if old_predictions.gold.get(example_id) == new_predictions.gold[example_id]
  ]
  if not example_ids:
    reason = 'the two share no example with the same right answer'
    return result | _independent(new, old, reason)
  pair = new_predictions, old_predictions
  shared: list[int] = []
  if _templated(new, old):
    shared = [t for t in pair[0].templates if t in pair[1].templates]
  scores = [_part(part, example_ids, shared or part.templates) for part in pair]
  metric = metrics.of(result['dataset'], headline=result['metric'])
  draws = {'metric': metric, 'seed': seed}
  means = [
    statistics.spread(statistics.figures(part, metric=metric)).mean for part in scores
  ]
  found = {
    'n': len(example_ids),
    'templates': len(shared),
    'paired': True,
    'unpaired_reason': None,
    'old': means[1],
    'new': means[0],
    'delta': means[0] - means[1],
    'delta_ci95': statistics.paired_interval(*scores, metric=metric),
    'p': None,
  }
  if len(scores[0]) == len(scores[1]) or 1 in map(len, scores):
    more, fewer = sorted(scores, key=len, reverse=True)
    found['p'] = statistics.paired_p_value(more, fewer, **draws)
  values = [metric.value(part) for part in scores]
  if not shared:
    values = [_mean(part)[None] for part in values]
  gain = values[0] - values[1]
  counts: dict[str, Any] = {'gained': None, 'lost': None, 'examples': []}
  if not np.isnan(gain).all():
    changed = _changed(gain, example_ids, shared or [None])
    counts = {name: len(entries) for name, entries in changed.items()}
    counts['examples'] = _examples(changed, pair, seed=seed, metric=metric)
  else:
    found['unpaired_reason'] = 'no prompt has a score in both'
  return result | found | {'unit': 'template' if shared else 'example'} | counts


def _templated(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
  """Returns whether a template number means the same template in both results.

  Exemplars and the OPTIONS block are added to the templates of a dataset. The other
  prompt styles have one prompt in their place.
  """
  styles = {result.get('prompt_style', 'instructions') for result in (new, old)}
  return len(styles) == 1 or styles <= {*WITH_OWN_TEMPLATES}


def _mean(values_TxN: np.ndarray) -> np.ndarray:
  """Returns the mean over templates, [N]; NaN if no template was measured."""
  present_TxN = ~np.isnan(values_TxN)
  counts_N = present_TxN.sum(0)
  sums_N = np.where(present_TxN, values_TxN, 0.0).sum(0)
  return np.where(counts_N > 0, sums_N / np.maximum(counts_N, 1), np.nan)


def _independent(
  new: Mapping[str, Any], old: Mapping[str, Any], reason: str
) -> dict[str, Any]:
  """Compares two independent figures by MOVER (Zou and Donner 2008)."""
  delta = new['mean'] - old['mean']
  (low, high), (old_low, old_high) = new['ci95'], old['ci95']
  below = np.hypot(new['mean'] - low, old_high - old['mean'])
  above = np.hypot(high - new['mean'], old['mean'] - old_low)
  return {
    'n': None,
    'templates': 0,
    'paired': False,
    'unpaired_reason': reason,
    'old': old['mean'],
    'new': new['mean'],
    'delta': delta,
    'delta_ci95': [float(delta - below), float(delta + above)],
    'p': None,
    'unit': None,
    'gained': None,
    'lost': None,
    'examples': [],
  }


def read_predictions(
  folder: pathlib.Path, results: Mapping[str, Mapping[str, Any]], model: str = 'tuned'
) -> dict[str, Predictions]:
  """Reads the predictions of an evaluation; a result without any is left out.

  Args:
    folder: folder of the report.
    results: label -> result of the report, which names the metric and the split.
    model: `tuned` or `base`.

  Returns:
    Label -> predictions.
  """
  out: dict[str, Predictions] = {}
  for split in dict.fromkeys(result['split'] for result in results.values()):
    path = folder / predictions.name(split, model)
    if path.is_file():
      some = {
        name: result for name, result in results.items() if result['split'] == split
      }
      out |= _read_file(path, some)
  return out


def _read_file(
  path: pathlib.Path, results: Mapping[str, Mapping[str, Any]]
) -> dict[str, Predictions]:
  lines: dict[str, dict[tuple[str, int], int]] = {name: {} for name in results}
  scores: dict[str, dict[tuple[str, int], np.ndarray]] = {name: {} for name in results}
  gold: dict[str, dict[str, str]] = {name: {} for name in results}
  metric = {
    name: metrics.of(result['dataset'], headline=result['metric'])
    for name, result in results.items()
  }
  for start, record in predictions.records(path):
    name = schema.label(record)
    if name in lines:
      key = record['example_id'], record['template']
      lines[name][key] = start
      gold[name][record['example_id']] = _right(record)
      scores[name][key] = predictions.statistics(record, metric[name])
  out = {}
  for name, found in lines.items():
    if not found:
      continue
    example_ids = tuple(dict.fromkeys(example_id for example_id, _ in found))
    templates = tuple(sorted({template for _, template in found}))
    place = {example_id: i for i, example_id in enumerate(example_ids)}
    size = len(next(iter(scores[name].values())))
    whole = np.full((len(templates), len(example_ids), size), np.nan)
    for (example_id, template), score in scores[name].items():
      whole[templates.index(template), place[example_id]] = score
    out[name] = Predictions(whole, templates, example_ids, gold[name], found, path)
  return out


def _part(
  found: Predictions, example_ids: Sequence[str], templates: Sequence[int]
) -> np.ndarray:
  place = {example_id: i for i, example_id in enumerate(found.example_ids)}
  at = [place[example_id] for example_id in example_ids]
  return found.scores[[found.templates.index(t) for t in templates]][:, at]


def _changed(
  gain_TxN: np.ndarray, example_ids: Sequence[str], templates: Sequence[int | None]
) -> dict[str, list[tuple[str, int | None]]]:
  """Returns the predictions that became better, and those that became worse.

  Args:
    gain_TxN: gain in the metric's value; NaN if unpaired.
    example_ids: second axis of `gain_TxN`.
    templates: first axis of `gain_TxN`; None for the mean over templates.

  Returns:
    'gained' and 'lost' -> [(example id, template)].
  """
  found = {}
  for name, sign in (('gained', 1), ('lost', -1)):
    changed = np.argwhere(sign * gain_TxN > _EQUAL)
    found[name] = [(example_ids[n], templates[t]) for t, n in changed.tolist()]
  return found


def _examples(
  changed: Mapping[str, Sequence[tuple[str, int | None]]],
  pair: Sequence[Predictions],
  *,
  seed: int,
  metric: Metric,
) -> list[dict[str, Any]]:
  """Draws some of the changed predictions by a seeded hash, one per example.

  Generated answers have their `scores` in percent, if the metric grades them.

  Args:
    changed: predictions by kind, from `_changed`.
    pair: all predictions, new and old.
    seed: seed for the draw.
    metric: metric of the dataset.
  """
  out = []
  for kind, entries in changed.items():
    order = sorted(entries, key=lambda entry: stable_hash.key('changed', seed, *entry))
    first = {example_id: (example_id, template) for example_id, template in order[::-1]}
    for entry in [e for e in order if first[e[0]] == e][:EXAMPLES]:
      example_id, template = entry
      new, old = (_read(part.path, part.line(example_id, template)) for part in pair)
      out.append(
        {
          'kind': kind,
          'example_id': example_id,
          'template': template,
          'template_text': _template_text(new) if template is not None else None,
          'prompt': new['prompt'],
          'old_prompt': old['prompt'] if old['prompt'] != new['prompt'] else None,
          'expected': _right(new),
          'new': _answer(new),
          'old': _answer(old),
          **_scores(new, old, metric),
        }
      )
  return out


def _scores(
  new: Mapping[str, Any], old: Mapping[str, Any], metric: Metric
) -> dict[str, Any]:
  """Returns `scores` of two generated answers in percent; {} for right and wrong."""
  if not metric.graded or 'text' not in new:
    return {}
  scores = {
    which: 100 * float(metric.value(predictions.statistics(record, metric)))
    for which, record in (('new', new), ('old', old))
  }
  return {'scores': scores}


def _template_text(record: Mapping[str, Any]) -> str | None:
  """Returns the template of a prediction, as its dataset declares it."""
  found = registry.find(record['dataset'])
  if found is None or record['template'] >= len(found.templates):
    return None
  return found.templates[record['template']].inputs


def _read(path: pathlib.Path, start: int) -> dict[str, Any]:
  with path.open('rb') as file:
    file.seek(start)
    return json.loads(file.readline())


def _answer(record: Mapping[str, Any]) -> str:
  predicted = record['predicted']
  if predicted is None:
    return '(nothing)'
  return predicted if 'text' in record else record['options'][predicted].strip()


def _right(record: Mapping[str, Any]) -> str:
  return ' / '.join(predictions.right(record))

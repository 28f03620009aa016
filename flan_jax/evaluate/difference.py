"""The difference of two reports: the same rows, answer by answer."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flan_jax import catalogue
from flan_jax.data import draw
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics, predictions, statistics
from flan_jax.evaluate import report as report_lib
from flan_jax.evaluate.predictions import replacing

EXAMPLES = 3
"""Answers shown per dataset that became right, and as many that became wrong."""


class _Answers(NamedTuple):
  """The answers to one dataset.

  Attributes:
    scores: statistics of the metric, float64 [T, N, S]; NaN where there is no answer.
    templates, rows: what the first two axes are.
    gold: row id -> what was right.
    lines: where each answer stands in its file, by (row id, template).
  """

  scores: np.ndarray
  templates: tuple[int, ...]
  rows: tuple[str, ...]
  gold: Mapping[str, str]
  lines: Mapping[tuple[str, int], int]


def compare(new: str | os.PathLike, old: str | os.PathLike) -> dict[str, Any]:
  """What changed from one evaluation to another.

  Where both kept their predictions, the difference is paired: over the rows (and, asked
  in the same words, the templates) that both measured. Otherwise it is that of two
  independent figures.

  Args:
    new, old: folders with report.json.

  Returns:
    {'new', 'old': {'model', 'checkpoint', 'data_digest', 'seed'}, 'rows': [{'dataset',
    'cluster', 'metric', 'n', 'templates', 'paired', 'old', 'new', 'delta',
    'delta_ci95', 'p', 'p_holm', 'gained', 'lost', 'examples'}], 'only_new', 'only_old':
    [dataset], 'settings': [[name, old, new]]}; figures in percent, rounded.

  Raises:
    InputError: if one of them is no report.
  """
  folders = pathlib.Path(new), pathlib.Path(old)
  reports = [report_lib.load(folder) for folder in folders]
  by_name = [{row['dataset']: row for row in report['rows']} for report in reports]
  common = [name for name in by_name[0] if name in by_name[1]]
  if not common:
    named = ', '.join
    raise InputError(
      f'--against {str(old)!r}: measured {named(by_name[1]) or "nothing"}, and '
      f'{str(new)!r} {named(by_name[0]) or "nothing"}; must have a dataset in common'
    )
  rows = []
  answers = [_answers(folder / 'predictions.jsonl', common) for folder in folders]
  for name in common:
    pair = by_name[0][name], by_name[1][name]
    found = [part.get(name) for part in answers]
    rows.append(_row(*pair, *found, folders=folders, seed=reports[0]['seed']))
  tested = [row for row in rows if row['p'] is not None]
  corrected = statistics.holm([row['p'] for row in tested])
  for row in rows:
    row['p_holm'] = None
  for row, p in zip(tested, corrected, strict=True):
    row['p_holm'] = p
  about = ('model', 'checkpoint', 'data_digest', 'seed')
  return report_lib.rounded(
    {
      'new': {name: reports[0][name] for name in about},
      'old': {name: reports[1][name] for name in about},
      'rows': rows,
      'only_new': [name for name in by_name[0] if name not in by_name[1]],
      'only_old': [name for name in by_name[1] if name not in by_name[0]],
      'settings': _settings(*reports),
    }
  )


def write(new: str | os.PathLike, old: str | os.PathLike) -> dict[str, Any]:
  """Writes NEW/difference.json and NEW/difference.html; returns the former."""
  from flan_jax.evaluate import page

  found = compare(new, old)
  with replacing(pathlib.Path(new) / 'difference.json') as file:
    json.dump(found, file, indent=2, ensure_ascii=False)
    file.write('\n')
  with replacing(pathlib.Path(new) / 'difference.html') as file:
    file.write(page.difference(found))
  return found


def _row(
  new: Mapping[str, Any],
  old: Mapping[str, Any],
  ours: _Answers | None,
  theirs: _Answers | None,
  *,
  folders: Sequence[pathlib.Path],
  seed: int,
) -> dict[str, Any]:
  row = {name: new[name] for name in ('dataset', 'cluster', 'metric')}
  if ours is None or theirs is None:
    return row | _apart(new, old)
  # The same name with another right answer is another row: the data differ.
  rows = [
    row_id for row_id in ours.rows if theirs.gold.get(row_id) == ours.gold[row_id]
  ]
  same = new.get('form') == old.get('form') and new['shots'] == old['shots']
  shared = [t for t in ours.templates if t in theirs.templates] if same else []
  if not rows:
    return row | _apart(new, old)
  scores = [
    _part(part, rows, shared or part.templates) for part in (ours, theirs)
  ]  # fmt: skip
  metric = _metric(row['dataset'])
  draws = {'metric': metric, 'seed': seed}
  means = [
    statistics.spread(statistics.figures(part, metric=metric)).mean for part in scores
  ]
  replicates = [statistics.replicates(part, **draws) for part in scores]
  found = {
    'n': len(rows),
    'templates': len(shared) or len(ours.templates),
    'paired': True,
    'old': means[1],
    'new': means[0],
    'delta': means[0] - means[1],
    'delta_ci95': statistics.percentiles(replicates[0] - replicates[1]),
    'p': None,
  }
  if len(scores[0]) == len(scores[1]) or len(scores[1]) == 1:
    found['p'] = statistics.paired_p_value(*scores, **draws)
  changed = _changed(*scores, rows, shared) if shared else {'gained': [], 'lost': []}
  return (
    row
    | found
    | {
      'gained': len(changed['gained']),
      'lost': len(changed['lost']),
      'examples': _examples(changed, ours, theirs, folders=folders, seed=seed),
    }
  )


def _apart(new: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
  """Two independent figures: their variances add (MOVER; Zou and Donner 2008)."""
  delta = new['mean'] - old['mean']
  (low, high), (their_low, their_high) = new['ci95'], old['ci95']
  below = np.hypot(new['mean'] - low, their_high - old['mean'])
  above = np.hypot(high - new['mean'], old['mean'] - their_low)
  return {
    'n': min(new['n'], old['n']),
    'templates': len(new['per_template']),
    'paired': False,
    'old': old['mean'],
    'new': new['mean'],
    'delta': delta,
    'delta_ci95': [float(delta - below), float(delta + above)],
    'p': None,
    'gained': None,
    'lost': None,
    'examples': [],
  }


def _metric(dataset: str) -> metrics.Metric:
  for world in catalogue.WORLDS:
    if dataset in catalogue.family(world):
      return metrics.get(catalogue.get(dataset, family=world).metric)
  return metrics.get('accuracy')


def _answers(path: pathlib.Path, datasets: Sequence[str]) -> dict[str, _Answers]:
  """The answers of a file of predictions, by dataset; {} where there is no file."""
  if not path.is_file():
    return {}
  said: dict[str, list[tuple[str, int, int]]] = {name: [] for name in datasets}
  scores: dict[str, list[np.ndarray]] = {name: [] for name in datasets}
  gold: dict[str, dict[str, str]] = {name: {} for name in datasets}
  for start, record in predictions.records(path):
    name = record['dataset']
    if name in said:
      said[name].append((record['row_id'], record['template'], start))
      gold[name][record['row_id']] = _right(record)
      scores[name].append(_score(record, _metric(name)))
  out = {}
  for name, entries in said.items():
    if not entries:
      continue
    rows = tuple(dict.fromkeys(row_id for row_id, *_ in entries))
    templates = tuple(sorted({template for _, template, _ in entries}))
    place = {row_id: i for i, row_id in enumerate(rows)}
    whole = np.full((len(templates), len(rows), len(scores[name][0])), np.nan)
    for (row_id, template, _), one in zip(entries, scores[name], strict=True):
      whole[templates.index(template), place[row_id]] = one
    lines = {(row_id, template): start for row_id, template, start in entries}
    out[name] = _Answers(whole, templates, rows, gold[name], lines)
  return out


def _score(record: Mapping[str, Any], metric: metrics.Metric) -> np.ndarray:
  """Statistics of one answer, float64 [S]; the mean over options that tie."""
  if 'text' in record:
    return metric.scores([record['predicted'] or ''], [record['gold']])[0]
  options = [option.strip() for option in record['options']]
  right = [options[i] for i in record['gold']]
  if record['predicted'] is None:
    said = ['']
  else:
    said = [options[i] for i in record.get('tied', [record['predicted']])]
  return metric.scores(said, [right] * len(said)).mean(0)


def _part(answers: _Answers, rows: Sequence[str], templates: Sequence[int]):
  place = {row_id: i for i, row_id in enumerate(answers.rows)}
  at = [place[row_id] for row_id in rows]
  return answers.scores[[answers.templates.index(t) for t in templates]][:, at]


def _changed(
  new: np.ndarray, old: np.ndarray, rows: Sequence[str], templates: Sequence[int]
) -> dict[str, list[tuple[str, int]]]:
  """(row id, template) of answers that became better, and of those that became worse.

  Better and worse are of the metric's first statistic (for F1a, the hits and the false
  alarms).
  """
  gain = new[..., 0] - old[..., 0]
  if new.shape[-1] == 3:  # hits, false alarms, misses
    gain = gain - (new[..., 1:] - old[..., 1:]).sum(-1)
  found = {}
  for name, where in (('gained', gain > 0), ('lost', gain < 0)):
    found[name] = [(rows[n], templates[t]) for t, n in np.argwhere(where).tolist()]
  return found


def _examples(changed, ours, theirs, *, folders, seed) -> list[dict[str, Any]]:
  """Some of the answers that changed, one a row, drawn by a seeded hash."""
  out = []
  for kind, entries in changed.items():
    order = sorted(entries, key=lambda entry: draw.key('changed', seed, *entry))
    one_a_row = {row_id: (row_id, template) for row_id, template in order[::-1]}
    for entry in [e for e in order if one_a_row[e[0]] == e][:EXAMPLES]:
      records = [
        _read(folder / 'predictions.jsonl', part.lines[entry])
        for folder, part in zip(folders, (ours, theirs), strict=True)
      ]
      out.append(
        {
          'kind': kind,
          'row_id': entry[0],
          'template': entry[1],
          'prompt': records[0]['prompt'],
          'expected': _right(records[0]),
          'new': _said(records[0]),
          'old': _said(records[1]),
        }
      )
  return out


def _read(path: pathlib.Path, start: int) -> dict[str, Any]:
  with path.open('rb') as file:
    file.seek(start)
    return json.loads(file.readline())


def _said(record: Mapping[str, Any]) -> str:
  predicted = record['predicted']
  if predicted is None:
    return '(nothing)'
  return predicted if 'text' in record else record['options'][predicted].strip()


def _right(record: Mapping[str, Any]) -> str:
  gold = record['gold']
  if 'text' not in record:
    gold = [record['options'][i].strip() for i in gold]
  return ' / '.join(gold)


def _settings(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[list[str]]:
  """What was set otherwise: [name, old, new]; nothing where one does not say."""
  if not all(report.get('provenance') for report in (new, old)):
    return []
  both = [_flat(report.get('provenance', {})) for report in (new, old)]
  names = dict.fromkeys([*both[1], *both[0]])
  return [
    [name, both[1].get(name, ''), both[0].get(name, '')]
    for name in names
    if both[0].get(name) != both[1].get(name)
  ]


def _flat(found: Mapping[str, Any]) -> dict[str, str]:
  """Settings and versions by name; not where a report goes."""
  out = {}
  for line in found.get('config', '').splitlines():
    name, _, value = line.rpartition('  # ')[0].partition(' = ')
    if not name.endswith(('output_dir', 'model_dir')):
      out[name] = value
  for name, version in found.get('versions', {}).items():
    out[f'version of {name}'] = version
  for name, of in found.get('models', {}).items():
    out[f'weights of {name}'] = of['fingerprint']
    out[f'tokenizer of {name}'] = of['tokenizer']['digest'][:12]
  return out

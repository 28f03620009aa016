"""The difference of two reports: the same rows, answer by answer."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flan_jax.catalog import registry
from flan_jax.data import stable_hash
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics, predictions, statistics
from flan_jax.report import schema, statements, tables
from flan_jax.runtime import atomic_file

EXAMPLES = 3
"""Answers shown per dataset that became better, and as many that became worse."""

_EQUAL = 1e-9
"""Two values of a metric that are as near as this are the same."""


class _Answers(NamedTuple):
  """The answers to one dataset, or one direction of a translation.

  Attributes:
    scores: statistics of the metric, float64 [T, N, S]; NaN where there is no answer.
    templates, rows: what the first two axes are.
    gold: row id -> what was right.
    lines: where each answer stands in its file, by (row id, template).
    path: that file.
  """

  scores: np.ndarray
  templates: tuple[int, ...]
  rows: tuple[str, ...]
  gold: Mapping[str, str]
  lines: Mapping[tuple[str, int], int]
  path: pathlib.Path

  def line(self, example_id: str, template: int | None) -> int:
    """Where an answer stands; of the first template that has one for None."""
    if template is None:
      template = next(t for t in self.templates if (example_id, t) in self.lines)
    return self.lines[example_id, template]


def compare(new: str | os.PathLike, old: str | os.PathLike) -> dict[str, Any]:
  """What changed from one evaluation to another.

  Where both kept their predictions, the difference is paired: over the examples that
  both measured, and over the templates where a template of one is the same template of
  the other. Otherwise it is that of two independent figures.

  Args:
    new, old: folders with report.json.

  Returns:
    {'new', 'old': {'model', 'checkpoint', 'data_digest', 'seed', 'title'}, 'rows':
    [{'dataset', 'cluster', 'metric', 'splits', 'n', 'templates', 'paired', 'apart',
    'old', 'new', 'reports', 'delta', 'delta_ci95', 'p', 'p_holm', 'unit', 'gained',
    'lost', 'examples'}], 'only_new', 'only_old': [dataset], 'other_rows': [those of
    both that were measured on other rows], 'settings': [[name, old, new]]}; figures in
    percent, rounded. `n` and `templates` are those of both, None and 0 where there are
    none; `reports` has the `mean`, `n` and `templates` of each of the two; `apart` says
    why the answers cannot be paired, None where they can. `gained` and `lost` count
    answers, by `unit`: each with its `template`, or the mean over the templates of an
    `example`; None where the answers of the two cannot be paired. A direction of a
    translation is a row of its own, with 'direction', and pairs with itself only.

  Raises:
    InputError: if one of them is no report.
  """
  folders = pathlib.Path(new), pathlib.Path(old)
  reports = [schema.load(folder) for folder in folders]
  by_name = [{schema.label(row): row for row in report['rows']} for report in reports]
  common = [name for name in by_name[0] if name in by_name[1]]
  if not common:
    named = ', '.join
    raise InputError(
      f'--against {str(old)!r}: measured {named(by_name[1]) or "nothing"}, and '
      f'{str(new)!r} {named(by_name[0]) or "nothing"}; must have a dataset in common'
    )
  rows = []
  answers = [
    _answers(folder, {name: rows[name] for name in common})
    for folder, rows in zip(folders, by_name, strict=True)
  ]
  for name in common:
    pair = by_name[0][name], by_name[1][name]
    found = [part.get(name) for part in answers]
    rows.append(_row(*pair, *found, seed=reports[0]['seed']))
  tested = [row for row in rows if row['p'] is not None]
  corrected = statistics.holm([row['p'] for row in tested])
  for row in rows:
    row['p_holm'] = None
  for row, p in zip(tested, corrected, strict=True):
    row['p_holm'] = p
  about = ('model', 'checkpoint', 'data_digest', 'seed')
  settings = _settings(*reports)
  titles = _titles(*reports, settings)
  return schema.rounded(
    {
      **{
        which: {name: report[name] for name in about} | {'title': title}
        for which, report, title in zip(('new', 'old'), reports, titles, strict=True)
      },
      'rows': rows,
      'only_new': [name for name in by_name[0] if name not in by_name[1]],
      'only_old': [name for name in by_name[1] if name not in by_name[0]],
      'other_rows': _other_rows(*reports, common),
      'settings': settings,
    }
  )


def _other_rows(
  new: Mapping[str, Any], old: Mapping[str, Any], common: Sequence[str]
) -> list[str]:
  """Results of both, by label, whose rows were not the same."""
  digests = [
    {schema.label(part): part['digest'] for part in report['data']['datasets']}
    if 'datasets' in report['data']
    else dict.fromkeys(common, report['data_digest'])
    for report in (new, old)
  ]
  if len({'datasets' in report['data'] for report in (new, old)}) > 1:
    return []  # an older report has no digest to compare
  return [name for name in common if digests[0][name] != digests[1][name]]


def _titles(
  new: Mapping[str, Any], old: Mapping[str, Any], settings: Sequence[Sequence[str]]
) -> tuple[str, str]:
  """What to call each of the two: the model, and what tells them apart."""
  parts = [(statements.title(new), statements.title(old))]
  asked = tables.how(new), tables.how(old)
  if asked[0] != asked[1]:
    parts.append(asked)
  elif new['model'] == old['model'] and new['checkpoint'] != old['checkpoint']:
    parts.append((new['checkpoint'], old['checkpoint']))
  elif new['model'] == old['model'] and settings:
    name, theirs, ours = settings[0]
    parts.append((f'{name} {ours or "-"}', f'{name} {theirs or "-"}'))
  return tuple(', '.join(part) for part in zip(*parts, strict=True))


def write(new: str | os.PathLike, old: str | os.PathLike) -> dict[str, Any]:
  """Writes NEW/difference.json, .html, .csv and .tex; returns the first."""
  from flan_jax.report import html

  found = compare(new, old)
  new = pathlib.Path(new)
  atomic_file.write_json(new / 'difference.json', found, ensure_ascii=False)
  atomic_file.write_text(new / 'difference.html', html.difference(found))
  tables.write_difference(new, found)
  return found


def _row(
  new: Mapping[str, Any],
  old: Mapping[str, Any],
  ours: _Answers | None,
  theirs: _Answers | None,
  *,
  seed: int,
) -> dict[str, Any]:
  named = ('dataset', 'direction', 'cluster', 'metric')
  row = {name: new[name] for name in named if name in new}
  both = {'new': new, 'old': old}
  row['splits'] = {which: of['split'] for which, of in both.items()}
  row['reports'] = {
    which: {
      'mean': of['mean'],
      'n': of['n'],
      'templates': schema.measured_templates(of),
    }
    for which, of in both.items()
  }
  kept = {'new': ours, 'old': theirs}
  lacking = [which for which, of in kept.items() if of is None]
  if lacking:
    have = 'has' if len(lacking) == 1 else 'have'
    return row | _apart(new, old, f'{" and ".join(lacking)} {have} no predictions')
  # The same name with another right answer is another row: the data differ.
  rows = [
    example_id
    for example_id in ours.rows
    if theirs.gold.get(example_id) == ours.gold[example_id]
  ]
  if not rows:
    why = 'no row of one is a row of the other, with the same right answer'
    return row | _apart(new, old, why)
  shared: list[int] = []
  if _templated(new, old):
    shared = [t for t in ours.templates if t in theirs.templates]
  scores = [
    _part(part, rows, shared or part.templates) for part in (ours, theirs)
  ]  # fmt: skip
  metric = metrics.of(row['dataset'], headline=row['metric'])
  draws = {'metric': metric, 'seed': seed}
  means = [
    statistics.spread(statistics.figures(part, metric=metric)).mean for part in scores
  ]
  found = {
    'n': len(rows),
    'templates': len(shared),
    'paired': True,
    'apart': None,
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
    changed = _changed(gain, rows, shared or [None])
    counts = {name: len(entries) for name, entries in changed.items()}
    counts['examples'] = _examples(changed, ours, theirs, seed=seed)
  else:
    found['apart'] = 'no prompt that one answered has a figure in the other'
  return row | found | {'unit': 'template' if shared else 'example'} | counts


def _templated(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
  """Whether a template of one has the number of the same template of the other.

  Exemplars and the block of OPTIONS are added to the templates of a dataset; the other
  forms have one prompt in their place.
  """
  prompt_styles = {of.get('prompt_style', 'instructions') for of in (new, old)}
  return len(prompt_styles) == 1 or prompt_styles <= {'instructions', 'no_options'}


def _mean(values_TxN: np.ndarray) -> np.ndarray:
  """The mean over templates, [N]; NaN where no template was measured."""
  present_TxN = ~np.isnan(values_TxN)
  counts_N = present_TxN.sum(0)
  sums_N = np.where(present_TxN, values_TxN, 0.0).sum(0)
  return np.where(counts_N > 0, sums_N / np.maximum(counts_N, 1), np.nan)


def _apart(new: Mapping[str, Any], old: Mapping[str, Any], why: str) -> dict[str, Any]:
  """Two independent figures: their variances add (MOVER; Zou and Donner 2008)."""
  delta = new['mean'] - old['mean']
  (low, high), (their_low, their_high) = new['ci95'], old['ci95']
  below = np.hypot(new['mean'] - low, their_high - old['mean'])
  above = np.hypot(high - new['mean'], old['mean'] - their_low)
  return {
    'n': None,
    'templates': 0,
    'paired': False,
    'apart': why,
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


def _answers(
  folder: pathlib.Path, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, _Answers]:
  """The answers of an evaluation, by label; those without a file of them are left out.

  Args:
    folder: of the report.
    rows: label -> the row of the report, which names the metric and the split.
  """
  out: dict[str, _Answers] = {}
  for split in dict.fromkeys(row['split'] for row in rows.values()):
    path = folder / predictions.name(split)
    if path.is_file():
      some = {name: row for name, row in rows.items() if row['split'] == split}
      out |= _answers_of(path, some)
  return out


def _answers_of(
  path: pathlib.Path, rows: Mapping[str, Mapping[str, Any]]
) -> dict[str, _Answers]:
  said: dict[str, list[tuple[str, int, int]]] = {name: [] for name in rows}
  scores: dict[str, list[np.ndarray]] = {name: [] for name in rows}
  gold: dict[str, dict[str, str]] = {name: {} for name in rows}
  metric = {
    name: metrics.of(row['dataset'], headline=row['metric'])
    for name, row in rows.items()
  }
  for start, record in predictions.records(path):
    name = schema.label(record)
    if name in said:
      said[name].append((record['example_id'], record['template'], start))
      gold[name][record['example_id']] = _right(record)
      scores[name].append(predictions.statistics(record, metric[name]))
  out = {}
  for name, entries in said.items():
    if not entries:
      continue
    rows = tuple(dict.fromkeys(example_id for example_id, *_ in entries))
    templates = tuple(sorted({template for _, template, _ in entries}))
    place = {example_id: i for i, example_id in enumerate(rows)}
    whole = np.full((len(templates), len(rows), len(scores[name][0])), np.nan)
    for (example_id, template, _), one in zip(entries, scores[name], strict=True):
      whole[templates.index(template), place[example_id]] = one
    lines = {(example_id, template): start for example_id, template, start in entries}
    out[name] = _Answers(whole, templates, rows, gold[name], lines, path)
  return out


def _part(answers: _Answers, rows: Sequence[str], templates: Sequence[int]):
  place = {example_id: i for i, example_id in enumerate(answers.rows)}
  at = [place[example_id] for example_id in rows]
  return answers.scores[[answers.templates.index(t) for t in templates]][:, at]


def _changed(
  gain_TxN: np.ndarray, rows: Sequence[str], templates: Sequence[int | None]
) -> dict[str, list[tuple[str, int | None]]]:
  """(row id, template) of answers that became better, and of those that became worse.

  Args:
    gain_TxN: by how much the metric's value grew; NaN where it cannot be paired.
    rows: ids of the second axis.
    templates: of the first axis; None for the mean over templates.
  """
  found = {}
  for name, sign in (('gained', 1), ('lost', -1)):
    changed = np.argwhere(sign * gain_TxN > _EQUAL)
    found[name] = [(rows[n], templates[t]) for t, n in changed.tolist()]
  return found


def _examples(changed, ours, theirs, *, seed) -> list[dict[str, Any]]:
  """Some of the answers that changed, one a row, drawn by a seeded hash."""
  out = []
  for kind, entries in changed.items():
    order = sorted(entries, key=lambda entry: stable_hash.key('changed', seed, *entry))
    one_a_row = {
      example_id: (example_id, template) for example_id, template in order[::-1]
    }
    for entry in [e for e in order if one_a_row[e[0]] == e][:EXAMPLES]:
      example_id, template = entry
      records = [
        _read(part.path, part.line(example_id, template)) for part in (ours, theirs)
      ]
      prompts = [record['prompt'] for record in records]
      out.append(
        {
          'kind': kind,
          'example_id': example_id,
          'template': template,
          'words': _words(records[0]) if template is not None else None,
          'prompt': prompts[0],
          'old_prompt': prompts[1] if prompts[0] != prompts[1] else None,
          'expected': _right(records[0]),
          'new': _said(records[0]),
          'old': _said(records[1]),
        }
      )
  return out


def _words(record: Mapping[str, Any]) -> str | None:
  """The template of a prediction, as it is declared."""
  found = registry.find(record['dataset'])
  if found is None or record['template'] >= len(found.templates):
    return None
  return found.templates[record['template']].inputs


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
  return ' / '.join(predictions.right(record))


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
    which = 'the base' if name == 'base' else 'the model'
    out[f'weights of {which}'] = of['fingerprint']
    out[f'tokenizer of {which}'] = of['tokenizer']['digest'][:12]
  return out

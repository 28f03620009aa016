"""The report as one static page: no server, no network, nothing beside it."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flan_jax.catalogue import CLUSTERS
from flan_jax.data import draw
from flan_jax.evaluate import figures
from flan_jax.evaluate import report as report_lib
from flan_jax.evaluate.metrics import normalise
from flan_jax.evaluate.predictions import replacing

EXAMPLES = 3
"""Right and wrong examples shown per dataset, each."""


def write(out: str | os.PathLike) -> None:
  """Writes OUT/report.html and OUT/plots/*.svg from OUT/report.json.

  Examples are taken from OUT/predictions.jsonl where it is there.
  """
  out = pathlib.Path(out)
  report = report_lib.load(out)
  drawn = figures.draw(report)
  for name, svg in drawn.items():
    with replacing(out / 'plots' / f'{name}.svg') as file:
      file.write(svg)
  with replacing(out / 'report.html') as file:
    file.write(render(report, plots=drawn, examples=examples(out, report)))


def render(
  report: Mapping[str, Any],
  *,
  plots: Mapping[str, str],
  examples: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
  """The page, as a string.

  Args:
    report: the content of report.json.
    plots: `averages` and `templates`, SVG documents.
    examples: dataset -> what `examples` found.
  """
  environment = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {
    'percent': lambda value: '–' if value is None else f'{value:.1f}',
    'points': report_lib.points,
    'interval': report_lib.bounds,
    'cluster': lambda name: report_lib.CLUSTER_NAMES.get(name, name),
    'breakable': lambda name: escape(name).replace('_', Markup('_<wbr>')),
    'thousands': lambda value: f'{value:,}',
  }
  template = environment.from_string(
    (pathlib.Path(__file__).parent / 'report.html').read_text(encoding='utf-8')
  )
  averages = report_lib.averages(report)
  headlines = [report_lib.headline(average) for average in averages]
  with_base = any('base' in row for row in report['rows'])
  inline = {
    name: Markup(
      figures.inline(svg, name=name, title=_alternative(name, report, averages))
    )
    for name, svg in plots.items()
  }
  return template.render(
    report=report,
    averages=averages,
    headlines=headlines,
    groups=[
      (cluster, [row for row in report['rows'] if row['cluster'] == cluster])
      for cluster in dict.fromkeys(row['cluster'] for row in report['rows'])
    ],
    with_base=with_base,
    plots=inline,
    examples=examples,
    trained_on=[c for c in CLUSTERS if c in report['trained_on']],
  )


def _alternative(
  name: str, report: Mapping[str, Any], averages: Sequence[Mapping[str, Any]]
) -> str:
  """What a screen reader says in place of a figure."""
  if name == 'averages':
    parts = [report_lib.headline(average) for average in averages]
    return 'Bar chart of the average over datasets, in percent. ' + '. '.join(parts)
  parts = []
  for row in report['rows']:
    dots = [entry[row['split']] for entry in row['per_template']]
    dots = [dot for dot in dots if dot is not None]
    if dots:
      parts.append(f'{row["dataset"]}: {min(dots):.1f} to {max(dots):.1f}')
  return 'Dot plot of every template, lowest to highest, in percent. ' + '. '.join(
    parts
  )


def examples(
  out: str | os.PathLike, report: Mapping[str, Any], *, each: int = EXAMPLES
) -> dict[str, list[dict[str, Any]]]:
  """Predictions to show per dataset: up to `each` right ones, then as many wrong.

  Drawn by a seeded hash, at most one per row. An answer that was generated is right if
  it is one of the references in SQuAD's normal form. The base model's scores of the
  same prompt are put beside, where it was measured.
  """
  out = pathlib.Path(out)
  drawn: dict[tuple[str, bool], dict[str, tuple[int, dict[str, Any]]]] = {}
  for record in _lines(out / 'predictions.jsonl'):
    names = (record['dataset'], record['row_id'], record['template'])
    rank = draw.key('example', report['seed'], *names)
    kept = drawn.setdefault((record['dataset'], _right(record)), {})
    rival = kept.get(record['row_id'])
    if rival is None or rank < rival[0]:
      kept[record['row_id']] = rank, record
    if len(kept) > each:
      del kept[max(kept, key=lambda row_id: kept[row_id][0])]
  chosen = {
    (r['dataset'], r['row_id'], r['template']): r
    for kept in drawn.values()
    for _, r in kept.values()
  }
  for record in _lines(out / 'predictions.base.jsonl'):
    key = (record['dataset'], record['row_id'], record['template'])
    if key in chosen:
      chosen[key]['base'] = record
  found: dict[str, list[dict[str, Any]]] = {}
  for row in report['rows']:
    for right in (True, False):
      kept = drawn.get((row['dataset'], right), {})
      for _, record in sorted(kept.values(), key=lambda pair: pair[0]):
        shown = {**record, 'right': right, 'choices': _choices(record)}
        found.setdefault(row['dataset'], []).append(shown)
  return found


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  if path.is_file():
    with path.open(encoding='utf-8') as file:
      yield from map(json.loads, file)


def _right(record: Mapping[str, Any]) -> bool:
  predicted, gold = record['predicted'], record['gold']
  if 'text' in record:
    return predicted is not None and normalise(predicted) in map(normalise, gold)
  if predicted is None:
    return False
  options = record['options']
  return options[predicted] in [options[i] for i in gold]


def _choices(record: Mapping[str, Any]) -> list[dict[str, Any]]:
  """Every option of a ranked example with its scores."""
  if 'text' in record:
    return []
  base = record.get('base', {}).get('log_probabilities')
  return [
    {
      'option': option,
      'score': record['log_probabilities'][i],
      'base': base[i] if base else None,
      'gold': i in record['gold'],
      'predicted': i == record['predicted'],
    }
    for i, option in enumerate(record['options'])
  ]

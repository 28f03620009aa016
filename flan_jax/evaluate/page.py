"""The report as one static page: no server, no network, nothing beside it."""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flan_jax.catalogue import CLUSTERS
from flan_jax.data import draw
from flan_jax.evaluate import (
  calibration,
  figures,
  metrics,
  predictions,
  published,
  statements,
  tables,
)  # fmt: skip
from flan_jax.evaluate import report as report_lib
from flan_jax.evaluate.predictions import replacing
from flan_jax.lineage import UNKNOWN

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
    examples: label of a result -> what `examples` found.
  """
  template = _template('report.html')
  averages = report_lib.averages(report)
  names = statements.models(report)
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
    with_published=any(map(published.beside, report['rows'])),
    published=published,
    plots=inline,
    examples=examples,
    names=names,
    how=tables.how(report),
    on=statements.on(report),
    claims=_claims(report, averages),
    source=statements.source(report),
    scores=statements.scores(report),
    sizes=statements.sizes,
    footnotes=tables.footnotes(report),
    some_templates=any(
      report_lib.measured_templates(row) < row.get('templates_declared', 0)
      for row in report['rows']
    ),
    strip=lambda row: Markup(figures.strip(row)),
    same_prompts=_same_prompts,
    calibrations=_calibrations(report),
    significant=tables.SIGNIFICANT,
    sources=_sources(report),
    trained_on=_trained_on(report),
    lineages={
      'lineage': _lineage(report['lineage']),
      'of the base': _lineage(report['guard'].get('base', {}).get('lineage', ())),
    },
  )


def _claims(report: Mapping[str, Any], averages: Sequence[Mapping[str, Any]]) -> str:
  """What may be claimed of each cluster that was to be measured."""
  seen = dict(report['guard'].get('seen', {}))
  seen |= {average['cluster']: average['seen'] for average in averages}
  shots = averages[0]['shots'] if averages else 0
  return '; '.join(
    f'{report_lib.CLUSTER_NAMES.get(cluster, cluster)}: {statements.claim(said, shots)}'
    for cluster, said in seen.items()
  )


def _trained_on(report: Mapping[str, Any]) -> str:
  """Clusters that it or an ancestor was trained on, in words."""
  told = report['trained_on']
  if told == UNKNOWN or (report['lineage'] == UNKNOWN and not told):
    return UNKNOWN
  before = '; before that unknown' if report['lineage'] == UNKNOWN else ''
  return _clusters(told) + before


def _clusters(names: Sequence[str]) -> str:
  """Clusters in their order, in words."""
  named = [report_lib.CLUSTER_NAMES[name] for name in CLUSTERS if name in names]
  return ', '.join(named) or 'no dataset'


def _lineage(told: Sequence[Mapping[str, Any]] | str) -> list[tuple[str, str]]:
  """(model, what it was trained on), the oldest first; [] where nobody knows."""
  found = []
  for one in told if told != UNKNOWN else ():
    known = one['trained_on'] != UNKNOWN
    words = _clusters(one['trained_on']) if known else UNKNOWN
    more = [part for part in (one['mixture'], one['note']) if part]
    found.append((one['model'], f'{words} ({"; ".join(more)})' if more else words))
  return found


def difference(found: Mapping[str, Any]) -> str:
  """The page of the difference of two reports, as `difference.compare` gives it."""
  verdicts = [_verdict(row) for row in found['rows']]
  return _template('difference.html').render(
    found=found,
    better=verdicts.count('up'),
    worse=verdicts.count('down'),
    significant=tables.SIGNIFICANT,
  )


def _verdict(row: Mapping[str, Any]) -> str:
  """The class of a difference: `up`, `down`, or `quiet` where it may be none."""
  if row['p_holm'] is None or row['p_holm'] >= tables.SIGNIFICANT:
    return 'quiet'
  return 'up' if row['delta'] > 0 else 'down'


def _template(name: str) -> jinja2.Template:
  here = pathlib.Path(__file__).parent
  environment = jinja2.Environment(
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  environment.filters |= {
    'percent': lambda value: '–' if value is None else f'{value:.1f}',
    'points': report_lib.points,
    'rows_of': report_lib.rows_of,
    'interval': report_lib.bounds,
    'cluster': lambda name: report_lib.CLUSTER_NAMES.get(name, name),
    'label': report_lib.label,
    'breakable': lambda name: escape(name).replace('_', Markup('_<wbr>')),
    'thousands': lambda value: f'{value:,}',
    'p': lambda value: '< 0.001' if value < 0.001 else f'{value:.3f}',
    'range': _range,
    'verdict': _verdict,
  }
  environment.globals['style'] = Markup((here / 'page.css').read_text(encoding='utf-8'))
  return environment.from_string((here / name).read_text(encoding='utf-8'))


def _range(row: Mapping[str, Any]) -> str:
  """Lowest and highest template of the tuned model: `41.2–55.0`."""
  dots = [entry[row['split']] for entry in row['per_template']]
  dots = [dot for dot in dots if dot is not None]
  return f'{min(dots):.1f}–{max(dots):.1f}' if dots else '–'


def _same_prompts(row: Mapping[str, Any]) -> bool:
  """Whether base and tuned model were asked in the same words."""
  return 'base' in row and row['base'].get('form') == row.get('form')


def _calibrations(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Model -> its calibration over all ranked datasets; those that ranked nothing go."""
  found = {
    'tuned': calibration.pooled(row.get('calibration') for row in report['rows']),
    'base': calibration.pooled(
      row.get('base', {}).get('calibration') for row in report['rows']
    ),
  }
  return {name: part for name, part in found.items() if part}


def _sources(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
  """The configuration as (name, value, where it came from)."""
  out = []
  for line in report.get('provenance', {}).get('config', '').splitlines():
    setting, _, origin = line.rpartition('  # ')
    name, _, value = setting.partition(' = ')
    out.append((name, value, origin))
  return out


def _alternative(
  name: str, report: Mapping[str, Any], averages: Sequence[Mapping[str, Any]]
) -> str:
  """What a screen reader says in place of a figure."""
  how = f'percent, {statements.asked(report)}{statements.on(report)}'
  if name == 'averages':
    parts = [report_lib.headline(average) for average in averages]
    return f'Bar chart of the average over datasets, in {how}. ' + '. '.join(parts)
  if name == 'calibration':
    names = statements.models(report)
    parts = [
      f'{names[model]}: '
      + ', '.join(
        f'{part["confidence"]:.0f} confident, {part["right"]:.0f} right'
        for part in found['bins']
      )
      for model, found in _calibrations(report).items()
    ]
    return f'Calibration curve, in {how}. ' + '. '.join(parts)
  parts = []
  for row in report['rows']:
    dots = [entry[row['split']] for entry in row['per_template']]
    dots = [dot for dot in dots if dot is not None]
    if dots:
      parts.append(f'{report_lib.label(row)}: {min(dots):.1f} to {max(dots):.1f}')
  return (
    f'Dot plot of every template that was measured, lowest to highest, in {how}. '
    + '. '.join(parts)
  )


def examples(
  out: str | os.PathLike, report: Mapping[str, Any], *, each: int = EXAMPLES
) -> dict[str, list[dict[str, Any]]]:
  """Predictions to show per result: up to `each` right ones, then as many wrong.

  Drawn by a seeded hash, at most one per row. An answer that was generated is right if
  it is one of the references in the normal form of the metric; where the metric grades
  answers it is neither, and has its `score` in percent. The base model's scores of the
  same prompt are put beside, where it was measured.
  """
  out = pathlib.Path(out)
  drawn: dict[tuple[str, bool | None], dict[str, tuple[int, dict[str, Any]]]] = {}
  for record in _lines(out / 'predictions.jsonl'):
    name = report_lib.label(record)
    names = (name, record['row_id'], record['template'])
    rank = draw.key('example', report['seed'], *names)
    kept = drawn.setdefault((name, _right(record)), {})
    rival = kept.get(record['row_id'])
    if rival is None or rank < rival[0]:
      kept[record['row_id']] = rank, record
    if len(kept) > (2 * each if _right(record) is None else each):
      del kept[max(kept, key=lambda row_id: kept[row_id][0])]
  chosen = {
    (report_lib.label(r), r['row_id'], r['template']): r
    for kept in drawn.values()
    for _, r in kept.values()
  }
  other = {report_lib.label(row) for row in report['rows'] if not _same_prompts(row)}
  by_row: dict[tuple[str, str], list[dict[str, Any]]] = {}
  for (dataset, row_id, _), record in chosen.items():
    by_row.setdefault((dataset, row_id), []).append(record)
  for record in _lines(out / 'predictions.base.jsonl'):
    key = (report_lib.label(record), record['row_id'], record['template'])
    if key[0] in other:  # one prompt of its own stands beside all
      for ours in by_row.get(key[:2], ()):
        ours['base'] = record
    elif key in chosen:
      chosen[key]['base'] = record
  found: dict[str, list[dict[str, Any]]] = {}
  for row in report['rows']:
    name = report_lib.label(row)
    for right in (True, False, None):
      kept = drawn.get((name, right), {})
      for _, record in sorted(kept.values(), key=lambda pair: pair[0]):
        shown = {**record, 'right': right, 'choices': _choices(record)}
        if right is None:
          shown |= _graded(record)
        found.setdefault(name, []).append(shown)
  return found


def _lines(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  return (record for _, record in predictions.records(path))


def _graded(record: Mapping[str, Any]) -> dict[str, Any]:
  """The score of an answer by its metric, in percent, and of the base model's."""
  metric = metrics.of(record['dataset'])

  def score(of: Mapping[str, Any]) -> float:
    return 100 * float(metric.value(predictions.statistics(of, metric)))

  found = {'score': score(record), 'metric': metric.name}
  if 'base' in record:
    found['base_score'] = score(record['base'])
  return found


def _right(record: Mapping[str, Any]) -> bool | None:
  """Whether an answer is right; None where it was written and is graded."""
  predicted, gold = record['predicted'], record['gold']
  if 'text' in record:
    metric = metrics.of(record['dataset'])
    if metric.graded:
      return None
    return predicted is not None and metric.same(predicted, gold)
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

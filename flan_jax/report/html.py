"""The report as one static page: no server, no network, nothing beside it."""

import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flan_jax.catalog.dataset import CLUSTERS
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.data import stable_hash
from flan_jax.evaluate import calibration, metrics, predictions
from flan_jax.report import plots as plots_lib  # fmt: skip
from flan_jax.report import published, schema, statements, tables
from flan_jax.runtime import atomic_file

EXAMPLES = 3
"""Right and wrong examples shown per dataset, each."""


def write(out: str | os.PathLike) -> None:
  """Writes OUT/report.html and OUT/plots/*.svg from OUT/report.json.

  Examples are taken from OUT/predictions.jsonl where it is there.
  """
  out = pathlib.Path(out)
  report = schema.load(out)
  drawn = plots_lib.draw(report)
  for name, svg in drawn.items():
    atomic_file.write_text(out / 'plots' / f'{name}.svg', svg)
  text = render(report, plots=drawn, examples=examples(out, report))
  atomic_file.write_text(out / 'report.html', text)


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
  averages = schema.averages(report)
  names = statements.models(report)
  headlines = [schema.headline(average) for average in averages]
  with_base = any('base' in result for result in report['results'])
  inline = {
    name: Markup(
      plots_lib.inline(svg, name=name, title=_alternative(name, report, averages))
    )
    for name, svg in plots.items()
  }
  return template.render(
    report=report,
    averages=averages,
    headlines=headlines,
    groups=[
      (cluster, [result for result in report['results'] if result['cluster'] == cluster])
      for cluster in dict.fromkeys(result['cluster'] for result in report['results'])
    ],
    with_base=with_base,
    with_published=any(map(published.beside, report['results'])),
    published=published,
    plots=inline,
    examples=examples,
    names=names,
    title=statements.title(report),
    how=tables.how(report),
    on=statements.on(report),
    claims=_claims(report, averages),
    source=statements.source(report),
    scores=statements.scores(report),
    sizes=statements.sizes,
    footnotes=tables.footnotes(report),
    some_templates=any(
      schema.measured_templates(result) < result.get('templates_declared', 0)
      for result in report['results']
    ),
    strip=lambda result: Markup(plots_lib.strip(result)),
    same_prompts=_same_prompts,
    calibrations=calibration.of_models(report),
    significant=tables.SIGNIFICANT,
    sources=_sources(report),
    trained_on=_trained_on(report),
    lineages={
      'lineage': _lineage(report['lineage'], report),
      'of the base': _lineage(
        report['leakage'].get('base', {}).get('lineage', ()), report
      ),
    },
  )


def _claims(report: Mapping[str, Any], averages: Sequence[Mapping[str, Any]]) -> str:
  """What may be claimed of each cluster that was to be measured."""
  seen = dict(report['leakage'].get('seen', {}))
  seen |= {average['cluster']: average['seen'] for average in averages}
  num_fewshot = averages[0]['num_fewshot'] if averages else 0
  return '; '.join(
    f'{statements.CLUSTER_NAMES.get(cluster, cluster)}: {statements.claim(said, num_fewshot)}'
    for cluster, said in seen.items()
  )


def _trained_on(report: Mapping[str, Any]) -> str:
  """Clusters of any world that it or an ancestor was trained on, in words."""
  told, lineage = report['trained_on'], report['lineage']
  if told == UNKNOWN or (lineage == UNKNOWN and not told):
    return UNKNOWN
  if lineage == UNKNOWN:
    return f'{_clusters({"": told}, report)}; before that unknown'
  families: dict[str, list[str]] = {}
  for training in lineage:
    families.setdefault(training['family'], []).extend(training['trained_on'])
  return _clusters(families, report)


def _clusters(families: Mapping[str, Sequence[str]], report: Mapping[str, Any]) -> str:
  """Clusters in their order, in words: `NLI, Commonsense of the microworld`.

  Args:
    families: world -> its clusters; '' for the world that was measured.
    report: of which it is said; a world that it did not measure is named.
  """
  named = [
    statements.CLUSTER_NAMES[cluster]
    + statements.elsewhere(family, report['data'].get('family'))
    for family, names in families.items()
    for cluster in CLUSTERS
    if cluster in names
  ]
  return ', '.join(named) or 'no dataset'


def _lineage(
  told: Sequence[Mapping[str, Any]] | str, report: Mapping[str, Any]
) -> list[tuple[str, str]]:
  """(model, what it was trained on), the oldest first; [] where nobody knows."""
  found = []
  for one in told if told != UNKNOWN else ():
    known = one['trained_on'] != UNKNOWN
    families = {one['family']: one['trained_on']}
    words = _clusters(families, report) if known else UNKNOWN
    more = [part for part in (one['mixture'], one['note']) if part]
    found.append((one['model'], f'{words} ({"; ".join(more)})' if more else words))
  return found


def difference(found: Mapping[str, Any]) -> str:
  """The page of the difference of two reports, as `difference.compare` gives it."""
  return _template('compare.html').render(
    found=found,
    verdicts=tables.verdicts(found),
    remarks=tables.remarks(found),
    unpaired=statements.unpaired,
    significant=tables.SIGNIFICANT,
  )


def _verdict(result: Mapping[str, Any]) -> str:
  """The class of a difference: `up`, `down`, or `quiet` where it may be none."""
  return {'better': 'up', 'worse': 'down'}.get(tables.verdict(result), 'quiet')


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
    'points': schema.points,
    'examples_of': schema.examples_of,
    'interval': schema.bounds,
    'cluster': lambda name: statements.CLUSTER_NAMES.get(name, name),
    'label': schema.label,
    'shown': schema.shown,
    'breakable': lambda name: escape(name).replace('_', Markup('_<wbr>')),
    'thousands': lambda value: f'{value:,}',
    'p': lambda value: '< 0.001' if value < 0.001 else f'{value:.3f}',
    'range': _range,
    'verdict': _verdict,
    'pair': lambda result: schema.label(result) + statements.dev_of_pair(result),
    'pair_rows': statements.pair_rows,
  }
  environment.globals['style'] = Markup((here / 'page.css').read_text(encoding='utf-8'))
  return environment.from_string((here / name).read_text(encoding='utf-8'))


def _range(result: Mapping[str, Any]) -> str:
  """Lowest and highest template of the tuned model: `41.2–55.0`."""
  dots = [entry[result['split']] for entry in result['per_template']]
  dots = [dot for dot in dots if dot is not None]
  return f'{min(dots):.1f}–{max(dots):.1f}' if dots else '–'


def _same_prompts(result: Mapping[str, Any]) -> bool:
  """Whether base and tuned model were asked in the same words."""
  return 'base' in result and result['base'].get('prompt_style') == result.get('prompt_style')


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
    parts = [schema.headline(average) for average in averages]
    return f'Bar chart of the average over datasets, in {how}. ' + '. '.join(parts)
  if name == 'calibration':
    names = statements.models(report)
    parts = [
      f'{names[model]}: '
      + ', '.join(
        f'{part["confidence"]:.0f} confident, {part["right"]:.0f} right'
        for part in found['bins']
      )
      for model, found in calibration.of_models(report).items()
    ]
    return f'Calibration curve, in {how}. ' + '. '.join(parts)
  parts = []
  for result in report['results']:
    dots = [entry[result['split']] for entry in result['per_template']]
    dots = [dot for dot in dots if dot is not None]
    if dots:
      parts.append(f'{schema.shown(result)}: {min(dots):.1f} to {max(dots):.1f}')
  return (
    f'Dot plot of every template that was measured, lowest to highest, in {how}. '
    + '. '.join(parts)
  )


def examples(
  out: str | os.PathLike, report: Mapping[str, Any], *, each: int = EXAMPLES
) -> dict[str, list[dict[str, Any]]]:
  """Predictions to show per result: up to `each` right ones, then as many wrong.

  Drawn by a seeded hash, at most one per result. An answer that was generated is right if
  it is one of the references in the normal form of the metric; where the metric grades
  answers it is neither, and has its `score` in percent. The base model's scores of the
  same prompt are put beside, where it was measured.
  """
  out = pathlib.Path(out)
  drawn: dict[tuple[str, bool | None], dict[str, tuple[int, dict[str, Any]]]] = {}
  for record in _lines(out, report, 'tuned'):
    name = schema.label(record)
    names = (name, record['example_id'], record['template'])
    rank = stable_hash.key('example', report['seed'], *names)
    kept = drawn.setdefault((name, _right(record)), {})
    rival = kept.get(record['example_id'])
    if rival is None or rank < rival[0]:
      kept[record['example_id']] = rank, record
    if len(kept) > (2 * each if _right(record) is None else each):
      del kept[max(kept, key=lambda example_id: kept[example_id][0])]
  chosen = {
    (schema.label(r), r['example_id'], r['template']): r
    for kept in drawn.values()
    for _, r in kept.values()
  }
  other = {schema.label(result) for result in report['results'] if not _same_prompts(result)}
  by_row: dict[tuple[str, str], list[dict[str, Any]]] = {}
  for (dataset, example_id, _), record in chosen.items():
    by_row.setdefault((dataset, example_id), []).append(record)
  for record in _lines(out, report, 'base'):
    key = (schema.label(record), record['example_id'], record['template'])
    if key[0] in other:  # one prompt of its own stands beside all
      for ours in by_row.get(key[:2], ()):
        ours['base'] = record
    elif key in chosen:
      chosen[key]['base'] = record
  found: dict[str, list[dict[str, Any]]] = {}
  for result in report['results']:
    name = schema.label(result)
    for right in (True, False, None):
      kept = drawn.get((name, right), {})
      for _, record in sorted(kept.values(), key=lambda pair: pair[0]):
        shown = {**record, 'right': right, 'choices': _choices(record)}
        if right is None:
          shown |= _graded(record)
        found.setdefault(name, []).append(shown)
  return found


def _lines(
  out: pathlib.Path, report: Mapping[str, Any], model: str
) -> Iterator[dict[str, Any]]:
  """The answers of a model that the figures of a report are made of."""
  splits = {schema.label(result): result['split'] for result in report['results']}
  for split in dict.fromkeys(splits.values()):
    for _, record in predictions.records(out / predictions.name(split, model)):
      if splits.get(schema.label(record)) == split:
        yield record


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

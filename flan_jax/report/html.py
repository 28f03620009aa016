"""The report as one static HTML page: no server, no network, no other files."""

import functools
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flan_jax.catalog import registry
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.data import stable_hash
from flan_jax.evaluate import calibration, metrics, predictions
from flan_jax.report import canvas, published, schema, statements, tables, validation
from flan_jax.report import plots as plots_lib
from flan_jax.report import values as values_lib
from flan_jax.runtime import atomic_file

EXAMPLES = 3
"""Right examples shown per result, and as many wrong ones."""


def write(out: str | os.PathLike) -> None:
  """Writes OUT/report.html and OUT/plots/*.svg from OUT/report.json.

  The examples are read from OUT/predictions.jsonl if it exists.
  """
  out = pathlib.Path(out)
  report = schema.load(out)
  drawn = plots_lib.draw(schema.divided(report)[0])
  for name, svg in drawn.items():
    atomic_file.write_text(out / 'plots' / f'{name}.svg', svg)
  shown = examples(out, schema.divided(report)[0]) | _answers(out, report)
  text = render(report, plots=drawn, examples=shown)
  atomic_file.write_text(out / 'report.html', text)


def render(
  report: Mapping[str, Any],
  *,
  plots: Mapping[str, str],
  examples: Mapping[str, Sequence[Mapping[str, Any]]],
) -> str:
  """Returns the page.

  Args:
    report: content of report.json.
    plots: SVG documents from `plots.draw`.
    examples: label of a result -> its predictions, from `examples`.
  """
  template = _template('report.html')
  report, values = schema.divided(report)
  averages = schema.averages(report)
  names = statements.models(report)
  headlines = [schema.headline(average) for average in averages]
  headlines += values_lib.headlines(values, report)
  results = report['results']
  with_base = any('base' in result for result in results)
  inline = {
    name: Markup(
      canvas.inline(svg, name=name, title=_alternative(name, report, averages))
    )
    for name, svg in plots.items()
  }
  return template.render(
    report=report,
    averages=averages,
    headlines=headlines,
    groups=[
      (cluster, [result for result in results if result['cluster'] == cluster])
      for cluster in dict.fromkeys(result['cluster'] for result in results)
    ],
    with_base=with_base,
    with_published=any(map(published.beside, results)),
    published=published,
    plots=inline,
    examples=examples,
    values=values,
    value_notes=list(values_lib.notes(values)),
    number=values_lib.number,
    figure=values_lib.figure,
    change=values_lib.change,
    names=names,
    title=statements.title(report),
    validation=validation,
    with_training='validation' in report or {'loss', 'metrics'} & plots.keys(),
    method=tables.method(report),
    on=statements.on(report),
    claims=_claims(report, averages),
    source=statements.source(report),
    scores=statements.scores(report),
    sizes=statements.sizes,
    footnotes=tables.footnotes(report),
    some_templates=any(
      schema.measured_templates(result) < result.get('templates_declared', 0)
      for result in results
    ),
    strip=lambda result: Markup(plots_lib.strip(result)),
    same_prompts=_same_prompts,
    calibrations=calibration.of_models(report),
    significant=tables.SIGNIFICANT,
    sources=_sources(report),
    trained_on=_trained_on(report),
    lineages={
      'lineage': _lineage(report['lineage'], report),
      'lineage of the base': _lineage(
        report['leakage'].get('base', {}).get('lineage', ()), report
      ),
    },
  )


def _claims(report: Mapping[str, Any], averages: Sequence[Mapping[str, Any]]) -> str:
  """Lists the claim on each held-out cluster."""
  seen = dict(report['leakage'].get('seen', {}))
  seen |= {average['cluster']: average['seen'] for average in averages}
  num_fewshot = averages[0]['num_fewshot'] if averages else 0
  return '; '.join(
    f'{statements.cluster_name(cluster)}: {statements.claim(claim, num_fewshot)}'
    for cluster, claim in seen.items()
  )


def _trained_on(report: Mapping[str, Any]) -> str:
  """Lists the clusters, of any dataset family, that the model was trained on."""
  trained_on, lineage = report['trained_on'], report['lineage']
  if trained_on == UNKNOWN or (lineage == UNKNOWN and not trained_on):
    return UNKNOWN
  if lineage == UNKNOWN:
    return f'{_clusters({"": trained_on}, report)}; before that unknown'
  families: dict[str, list[str]] = {}
  for training in lineage:
    families.setdefault(training['family'], []).extend(training['trained_on'])
  return _clusters(families, report)


def _clusters(families: Mapping[str, Sequence[str]], report: Mapping[str, Any]) -> str:
  """Lists clusters in order, the paper's first: `NLI, Commonsense of the microworld`.

  Args:
    families: dataset family -> its clusters; '' for the measured family.
    report: content of report.json; a family that it did not measure is named.
  """
  named = [
    statements.cluster_name(cluster)
    + statements.elsewhere(family, report['data'].get('family'))
    for family, names in families.items()
    for cluster in registry.in_order(names)
  ]
  return ', '.join(named) or 'no dataset'


def _lineage(
  lineage: Sequence[Mapping[str, Any]] | str, report: Mapping[str, Any]
) -> list[tuple[str, str]]:
  """Returns (model, its training in words), the oldest first; [] if unknown."""
  found = []
  for training in () if isinstance(lineage, str) else lineage:
    known = training['trained_on'] != UNKNOWN
    families = {training['family']: training['trained_on']}
    words = _clusters(families, report) if known else UNKNOWN
    more = ('; ').join(filter(None, (training['mixture'], training['note'])))
    found.append((training['model'], f'{words} ({more})' if more else words))
  return found


def difference(found: Mapping[str, Any]) -> str:
  """Returns the page of a comparison, from the content of difference.json."""
  return _template('compare.html').render(
    found=found,
    verdicts=tables.verdicts(found),
    differences=list(values_lib.differences(found)),
    remarks=statements.remarks(found, schema.label),
    unpaired=statements.unpaired,
    significant=tables.SIGNIFICANT,
  )


def _verdict(result: Mapping[str, Any]) -> str:
  """Returns the CSS class of a difference: `up`, `down`, or `quiet`."""
  return {'better': 'up', 'worse': 'down'}.get(tables.verdict(result), 'quiet')


@functools.cache
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
    'cluster': statements.cluster_name,
    'label': schema.label,
    'shown': schema.shown,
    'breakable': lambda name: escape(name).replace('_', Markup('_<wbr>')),
    'thousands': lambda value: f'{value:,}',
    'p': lambda value: '< 0.001' if value < 0.001 else f'{value:.3f}',
    'range': _range,
    'verdict': _verdict,
    'pair': lambda result: schema.label(result) + statements.dev_of_pair(result),
    'pair_examples': statements.pair_examples,
  }
  environment.globals['style'] = Markup((here / 'page.css').read_text(encoding='utf-8'))
  return environment.from_string((here / name).read_text(encoding='utf-8'))


def _range(result: Mapping[str, Any]) -> str:
  """Returns the lowest and highest template of the model: `41.2–55.0`."""
  figures = _by_template(result)
  return f'{min(figures):.1f}–{max(figures):.1f}' if figures else '–'


def _by_template(result: Mapping[str, Any]) -> list[float]:
  """Returns the figures of the templates that were measured on the reported split."""
  figures = (entry[result['split']] for entry in result['per_template'])
  return [figure for figure in figures if figure is not None]


def _same_prompts(result: Mapping[str, Any]) -> bool:
  """Returns whether the base had the prompts of the tuned model."""
  style = result.get('prompt_style')
  return 'base' in result and result['base'].get('prompt_style') == style


def _sources(report: Mapping[str, Any]) -> list[tuple[str, str, str]]:
  """Returns the settings of the configuration: (name, value, origin)."""
  out = []
  for line in report.get('provenance', {}).get('config', '').splitlines():
    setting, _, origin = line.rpartition('  # ')
    name, _, value = setting.partition(' = ')
    out.append((name, value, origin))
  return out


def _alternative(
  name: str, report: Mapping[str, Any], averages: Sequence[Mapping[str, Any]]
) -> str:
  """Returns the text alternative of a plot, for screen readers."""
  unit = f'percent, {statements.prompts(report)}{statements.on(report)}'
  if name in ('loss', 'metrics'):
    return validation.alternative(name, report)
  if name == 'averages':
    parts = [schema.headline(average) for average in averages]
    return f'Bar chart of the average over datasets, in {unit}. ' + '. '.join(parts)
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
    return f'Calibration curve, in {unit}. ' + '. '.join(parts)
  parts = []
  for result in report['results']:
    figures = _by_template(result)
    if figures:
      lowest, highest = min(figures), max(figures)
      parts.append(f'{schema.shown(result)}: {lowest:.1f} to {highest:.1f}')
  return (
    f'Dot plot of every template that was measured, lowest to highest, in {unit}. '
    + '. '.join(parts)
  )


def examples(
  out: str | os.PathLike, report: Mapping[str, Any], *, each: int = EXAMPLES
) -> dict[str, list[dict[str, Any]]]:
  """Draws predictions to show per result: up to `each` right ones, then as many wrong.

  They are drawn by a seeded hash, at most one per example. A generated answer is right
  if it equals a reference after the metric's normalization. If the metric grades
  answers, an answer is neither right nor wrong and has its `score` in percent. The base
  model's scores of the same prompt stand beside, if it was measured.

  Returns:
    Label of a result -> its predictions.
  """
  out = pathlib.Path(out)
  drawn: dict[tuple[str, bool | None], dict[str, tuple[int, dict[str, Any]]]] = {}
  for record in _lines(out, report, 'tuned'):
    name = schema.label(record)
    key = (name, record['example_id'], record['template'])
    rank = stable_hash.key('example', report['seed'], *key)
    kept = drawn.setdefault((name, _right(record)), {})
    rival = kept.get(record['example_id'])
    if rival is None or rank < rival[0]:
      kept[record['example_id']] = rank, record
    if len(kept) > (2 * each if _right(record) is None else each):
      del kept[max(kept, key=lambda example_id: kept[example_id][0])]
  chosen = {
    (schema.label(record), record['example_id'], record['template']): record
    for kept in drawn.values()
    for _, record in kept.values()
  }
  results = report['results']
  own_prompts = {
    schema.label(result) for result in results if not _same_prompts(result)
  }
  by_example: dict[tuple[str, str], list[dict[str, Any]]] = {}
  for (name, example_id, _), record in chosen.items():
    by_example.setdefault((name, example_id), []).append(record)
  for record in _lines(out, report, 'base'):
    key = (schema.label(record), record['example_id'], record['template'])
    if key[0] in own_prompts:  # the base's one prompt stands beside every template
      for shown in by_example.get(key[:2], ()):
        shown['base'] = record
    elif key in chosen:
      chosen[key]['base'] = record
  found: dict[str, list[dict[str, Any]]] = {}
  for result in results:
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
  """Yields the predictions of a model that the figures of a report are made of."""
  splits = {schema.label(result): result['split'] for result in report['results']}
  for split in dict.fromkeys(splits.values()):
    for _, record in predictions.records(out / predictions.name(split, model)):
      if splits.get(schema.label(record)) == split:
        yield record


def _answers(
  out: pathlib.Path, report: Mapping[str, Any]
) -> dict[str, list[dict[str, Any]]]:
  """Draws answers of datasets with metrics of their own, by a seeded hash.

  Returns:
    Dataset -> its predictions, with `values` of single examples by name.
  """
  _, values = schema.divided(report)
  splits = {result['dataset']: result['split'] for result in values}
  drawn: dict[str, list[tuple[int, dict[str, Any]]]] = {name: [] for name in splits}
  found: dict[str, list[dict[str, Any]]] = {}
  for split in dict.fromkeys(splits.values()):
    for _, record in predictions.records(out / predictions.name(split)):
      name = record['dataset']
      if splits.get(name) == split:
        rank = stable_hash.key('example', report['seed'], name, record['example_id'])
        drawn[name] = sorted([*drawn[name], (rank, record)], key=lambda pair: pair[0])
        del drawn[name][2 * EXAMPLES :]
    for name, kept in drawn.items():
      if splits[name] == split and kept:
        found[name] = [{**record, 'right': None, 'choices': []} for _, record in kept]
    shown = {
      (r['dataset'], r['example_id']): r for some in found.values() for r in some
    }
    for _, record in predictions.records(out / predictions.name(split, 'base')):
      key = record['dataset'], record['example_id']
      if key in shown:
        shown[key]['base'] = record
  return found


def _graded(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns an answer's score by its metric, in percent, and the base model's."""
  metric = metrics.of(record['dataset'])

  def score(prediction: Mapping[str, Any]) -> float:
    return 100 * float(metric.value(predictions.statistics(prediction, metric)))

  found = {'score': score(record), 'metric': metric.name}
  if 'base' in record:
    found['base_score'] = score(record['base'])
  return found


def _right(record: Mapping[str, Any]) -> bool | None:
  """Returns whether an answer is right; None if the metric grades it."""
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
  """Returns every option of a ranked example with its scores."""
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

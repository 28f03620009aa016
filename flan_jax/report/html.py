"""The report as one static HTML page: no server, no network, no other files."""

import functools
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from flan_jax.catalog import registry
from flan_jax.catalog.lineage import UNKNOWN
from flan_jax.evaluate import calibration, contamination, predictions
from flan_jax.report import (
  canvas,
  costs,
  explanations,
  published,
  schema,
  shown_answers,
  statements,
  tables,
  validation,
)
from flan_jax.report import plots as plots_lib
from flan_jax.report import values as values_lib
from flan_jax.runtime import atomic_file


def write(out: str | os.PathLike) -> None:
  """Writes OUT/report.html and OUT/plots/*.svg from OUT/report.json.

  The examples are read from the predictions in OUT, if there are any.
  """
  out = pathlib.Path(out)
  report = schema.load(out)
  drawn = plots_lib.draw(schema.divided(report)[0])
  for name, svg in drawn.items():
    atomic_file.write_text(out / 'plots' / f'{name}.svg', svg)
  shown = shown_answers.draw(out, report)
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
    examples: label of a result -> its predictions, from `shown_answers.draw`.
  """
  template = _template('report.html')
  tested = sum('p_holm' in result for result in report['results'])
  report, values = schema.divided(report)
  averages = schema.averages(report)
  names = statements.models(report)
  headlines = [schema.headline(average) for average in averages]
  headlines += values_lib.headlines(values, report)
  results = report['results']
  with_base = explanations.has_base(report)
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
    statements=statements,
    explanations=explanations,
    columns=_columns(report, with_base),
    costs=costs.by_dataset(report['timing']),
    tested=tested,
    each=shown_answers.EXAMPLES,
    min_words=contamination.MIN_WORDS,
    steps=validation.by_step(report),
    predictions=_predictions([*results, *values]),
    title=statements.title(report),
    validation=validation,
    with_training='validation' in report or {'loss', 'metrics'} & plots.keys(),
    method=tables.method(report),
    on=statements.on(report),
    claims=_claims(report, values),
    source=statements.source(report),
    scores=statements.scores(report),
    footnotes=tables.footnotes(report),
    strip=lambda result: Markup(plots_lib.strip(result)),
    same_prompts=schema.same_prompts,
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


def _claims(report: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> str:
  """Lists the claim on each measured cluster."""
  shots = {
    result['cluster']: result['num_fewshot'] for result in (*report['results'], *values)
  }
  return '; '.join(
    f'{statements.cluster_name(cluster)}: '
    + statements.claim(schema.seen(cluster, report), num_fewshot)
    for cluster, num_fewshot in shots.items()
  )


def _columns(report: Mapping[str, Any], with_base: bool) -> list[str]:
  """Lists the columns of the table of results that have a value."""
  several = explanations.has_several_templates(report)
  results = report['results']
  known = any(map(published.beside, results))
  model = statements.models(report)['tuned']
  wanted = {
    'dataset': True,
    'options style': statements.has_options_styles(report),
    'base': with_base,
    model if with_base else 'mean': True,
    'difference': with_base,
    'templates': several,
    'best dev template': several
    and explanations.some_have(report, 'best_dev_template'),
    **{
      key: explanations.some_have(report, key)
      for key in ('detectable', 'majority', 'chance')
    },
    published.model(results[0]['num_fewshot'] if results else 0): known,
    'examples': True,
    'metric': True,
  }
  return [name for name, has in wanted.items() if has]


def _predictions(results: Sequence[Mapping[str, Any]]) -> list[str]:
  """Lists the files with the answers that the figures of results are made of."""
  models = ['tuned', *(['base'] if any('base' in r for r in results) else [])]
  splits = dict.fromkeys(result['split'] for result in results)
  return [predictions.name(split, model) for model in models for split in splits]


def _trained_on(report: Mapping[str, Any]) -> str:
  """Lists the clusters, of any dataset family, that the model was trained on."""
  trained_on, lineage = report['trained_on'], report['lineage']
  if trained_on == UNKNOWN or (lineage == UNKNOWN and not trained_on):
    return UNKNOWN
  if lineage == UNKNOWN:
    return f'{_clusters({None: trained_on}, report)}; before that unknown'
  families: dict[str | None, list[str]] = {}
  for training in lineage:
    families.setdefault(training['family'], []).extend(training['trained_on'])
  return _clusters(families, report)


def _clusters(
  families: Mapping[str | None, Sequence[str]], report: Mapping[str, Any]
) -> str:
  """Lists clusters in order, the paper's first: `NLI, Commonsense of the microworld`.

  Args:
    families: dataset family -> its clusters; None for the measured one, '' for
      datasets of none or of several.
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


def page(name: str, **values: Any) -> str:
  """Returns a page in the style of every page, from a template beside this module."""
  return _template(name).render(**values)


def difference(found: Mapping[str, Any]) -> str:
  """Returns the page of a comparison, from the content of difference.json."""
  return _template('compare.html').render(
    found=found,
    title=statements.comparison(found),
    explanations=explanations,
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
    'visible': visible,
    'verdict': _verdict,
    'pair': lambda result: schema.label(result) + statements.dev_of_pair(result),
    'pair_examples': statements.pair_examples,
  }
  environment.globals['style'] = Markup((here / 'page.css').read_text(encoding='utf-8'))
  return environment.from_string((here / name).read_text(encoding='utf-8'))


def visible(text: str) -> str:
  """Replaces control characters of a text by pictures, but not \\n and \\t."""
  return re.sub(
    r'[\x00-\x08\x0b-\x1f\x7f]',
    lambda found: '\u2421' if found[0] == '\x7f' else chr(0x2400 + ord(found[0])),
    text,
  )


def _range(result: Mapping[str, Any]) -> str:
  """Returns the lowest and highest template of the model: `41.2–55.0`."""
  figures = _by_template(result)
  return f'{min(figures):.1f}–{max(figures):.1f}' if figures else '–'


def _by_template(result: Mapping[str, Any]) -> list[float]:
  """Returns the figures of the templates that were measured on the reported split."""
  figures = (entry[result['split']] for entry in result['per_template'])
  return [figure for figure in figures if figure is not None]


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

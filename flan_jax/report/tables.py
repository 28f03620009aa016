"""Tables of a report: as CSV, and as LaTeX for a paper."""

import csv
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flan_jax.report import published, statements
from flan_jax.report import values as values_lib
from flan_jax.report.schema import (
  averages,
  bounds,
  divided,
  examples_of,
  is_value,
  label,
  load,
  measured_templates,
  p_value,
  points,
  shown,
)
from flan_jax.runtime.atomic_file import writing

if TYPE_CHECKING:
  pass

SIGNIFICANT = 0.05
"""A difference is marked if its corrected p-value is below this."""

COLUMNS: tuple[str, ...] = (
  'dataset', 'direction', 'cluster', 'metric', 'kind', 'split', 'n', 'n_declared',
  'num_fewshot', 'prompt_style', 'templates', 'templates_declared', 'mean',
  'std_over_templates', 'ci95_low', 'ci95_high', 'best_dev_template', 'best_dev_test',
  'base_prompt_style', 'base_mean', 'base_std_over_templates', 'base_ci95_low',
  'base_ci95_high', 'delta', 'delta_ci95_low', 'delta_ci95_high', 'p', 'p_holm',
  'detectable', 'chance', 'majority', 'ece', 'contaminated', 'clean', 'clean_mean',
  'flan_137b_zero_shot', 'flan_137b_few_shot', 'flan_137b_mark', 'signature',
  'differs', 'tfds', 'examples_digest',
)  # fmt: skip
"""Columns of report.csv, one line per result, in percent and points, or of `kind`."""

_NONE = (None, None)


def write(out: str | os.PathLike) -> None:
  """Writes OUT/report.csv, OUT/templates.csv and OUT/report.tex from report.json."""
  out = pathlib.Path(out)
  report = load(out)
  with writing(out / 'report.csv') as file:
    lines = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    lines.writeheader()
    measured = {label(part): part for part in report['data'].get('datasets', ())}
    for result in report['results']:
      name = result['dataset'] if is_value(result) else label(result)
      part = measured.get(name, {})
      more = {'tfds': part.get('tfds'), 'examples_digest': part.get('digest')}
      lines.writerow(_line(result) | more)
  with writing(out / 'templates.csv') as file:
    lines = csv.writer(file, lineterminator='\n')
    lines.writerow(('dataset', 'direction', 'model', 'template', 'dev', 'test', 'n'))
    lines.writerows(_by_template(report))
  with writing(out / 'report.tex') as file:
    file.write(latex(report))


def _line(result: Mapping[str, Any]) -> dict[str, Any]:
  """Returns a result as a line of report.csv; an unknown cell is empty."""
  best = result['best_dev_template'] or {}
  base = result.get('base', {})
  known = published.beside(result) or {}
  found = {name: result.get(name) for name in COLUMNS}
  for name, values in (
    ('ci95', result['ci95']),
    ('base_ci95', base.get('ci95')),
    ('delta_ci95', result.get('delta_ci95')),
  ):
    found[f'{name}_low'], found[f'{name}_high'] = values or _NONE
  return found | {
    'templates': measured_templates(result),
    'best_dev_template': best.get('template'),
    'best_dev_test': best.get('test'),
    'base_mean': base.get('mean'),
    'base_std_over_templates': base.get('std_over_templates'),
    'ece': result.get('calibration', {}).get('ece'),
    'contaminated': result.get('contamination', {}).get('contaminated'),
    'clean': result.get('contamination', {}).get('clean'),
    'clean_mean': result.get('contamination', {}).get('mean'),
    f'flan_137b_{published.setting(result["num_fewshot"])}': known.get('value'),
    'flan_137b_mark': known.get('mark'),
  }


def _by_template(report: Mapping[str, Any]) -> Iterator[tuple]:
  names = statements.models(report)
  for result in report['results']:
    for name, of in ((names['tuned'], result), (names['base'], result.get('base'))):
      for entry in of['per_template'] if of else ():
        values = (entry[key] for key in ('template', 'dev', 'test', 'n'))
        yield result['dataset'], result.get('direction'), name, *values


def latex(report: Mapping[str, Any]) -> str:
  """Returns the table of a paper, in LaTeX with booktabs.

  One line per result, then the averages. A difference is bold if its p-value, corrected
  for the number of results, is below `SIGNIFICANT`. Results in units of their own have
  a table after it.
  """
  report, values = divided(report)
  if not report['results'] and values:
    return values_lib.latex(report, values, _tex)
  with_base = any('base' in result for result in report['results'])
  with_published = any(map(published.beside, report['results']))
  name = statements.models(report)['tuned']
  name = 'Tuned' if name == 'tuned' else _tex(name)
  heads = ['Dataset', '$n$', 'Chance']
  heads += ['Base', name, 'Difference'] if with_base else ['Mean', '95\\,\\% interval']
  heads += ['Best dev'] + (
    [published.model(report['results'][0]['num_fewshot'])] if with_published else []
  )
  lines = [
    f'% {report["model"]}, {report["checkpoint"]}, evaluation seed {report["seed"]}',
    f'% {method(report)}',
    *(f'% {line}' for line in data(report)),
    '% needs \\usepackage{booktabs}',
    *(f'% {line}' for line in footnotes(report)),
    f'\\begin{{tabular}}{{l{"r" * (len(heads) - 1)}}}',
    '\\toprule',
    ' & '.join(heads) + ' \\\\',
  ]
  for average in averages(report):
    cluster: str = average['cluster']
    results = [result for result in report['results'] if result['cluster'] == cluster]
    name = statements.cluster_name(cluster)
    lines += [
      '\\midrule',
      f'\\multicolumn{{{len(heads)}}}{{l}}{{\\emph{{{_tex(name)}}}}} \\\\',
    ]
    for result in results:
      lines.append(_tex_line(result, with_base, with_published))
    if len(results) > 1:
      whole = {
        'dataset': 'average', 'best_dev_template': None, 'std_over_templates': None,
        **average,
      }  # fmt: skip
      lines.append(_tex_line(whole, with_base, with_published))
  lines += ['\\bottomrule', '\\end{tabular}', '']
  return '\n'.join(lines) + (values_lib.latex(report, values, _tex) if values else '')


def _tex(text: str) -> str:
  return text.replace('\\', '').replace('_', '\\_').replace('&', '\\&')


def _tex_line(result: Mapping[str, Any], with_base: bool, with_published: bool) -> str:
  def figure(measured: Mapping[str, Any] | None) -> str:
    if measured is None or measured['mean'] is None:
      return '--'  # no test split, or no template fits
    std = measured.get('std_over_templates')
    return f'{measured["mean"]:.1f}' + ('' if std is None else f' $\\pm$ {std:.1f}')

  chance = result['chance']
  cells = [_tex(shown(result)), examples_of(result).replace(',', '\\,')]
  cells.append('--' if chance is None else f'{chance:.1f}')
  if with_base:
    cells += [figure(result.get('base')), figure(result)]
    delta = '--'
    if 'delta' in result:
      delta = f'{points(result["delta"])} [{bounds(result["delta_ci95"])}]'
      if result.get('p_holm', 1) < SIGNIFICANT:
        delta = f'\\textbf{{{delta}}}'
    cells.append(delta)
  else:
    cells += [figure(result), f'[{bounds(result["ci95"])}]']
  best = result['best_dev_template']
  cells.append(figure({'mean': best['test']} if best else None))
  if with_published:
    known = published.beside(result)
    dagger = '$^\\dagger$' if result.get('differs') else ''
    cells.append(published.shown(known) + dagger if known else '--')
  name, *figures = cells
  typeset = [text.replace('-', '$-$').replace('$-$$-$', '--') for text in figures]
  return ' & '.join([name, *typeset]) + ' \\\\'


DIFFERS = '†'
"""Marks a published figure that is not comparable with the measured one."""


def footnotes(report: Mapping[str, Any]) -> list[str]:
  """Lists the caveats of a report's figures: templates, splits, published figures."""
  some: dict[str, list[str]] = {}
  differ: dict[str, list[str]] = {}
  signed: dict[str, list[str]] = {}
  for result in report['results']:
    measured = measured_templates(result)
    declared = result.get('templates_declared', 0)
    if measured < declared:
      mean = 'mean over ' if measured > 1 else ''
      line = f'{mean}{measured} of {declared} templates'
      some.setdefault(line, []).append(label(result))
    if result.get('differs'):
      differ.setdefault(result['differs'], []).append(label(result))
    if result.get('signature'):
      signature = f'{result["metric"]}: {result["signature"]}'
      signed.setdefault(signature, []).append(label(result))
  lines = [
    line if len(names) == len(report['results']) else f'{", ".join(names)}: {line}'
    for line, names in some.items()
  ]
  lines += list(statements.not_test(report, label))
  lines += list(statements.exemplars(report, label))
  lines += [f'{DIFFERS} {", ".join(names)}: {line}' for line, names in differ.items()]
  for line, names in signed.items():
    lines.append(line if len(signed) == 1 else f'{line} ({", ".join(names)})')
  return lines


PAIR: tuple[str, ...] = (
  'dataset', 'direction', 'cluster', 'metric', 'kind', 'n', 'templates', 'paired',
  'old', 'new', 'delta', 'delta_ci95_low', 'delta_ci95_high', 'p', 'p_holm', 'unit',
  'gained', 'lost', 'old_split', 'new_split', 'old_mean', 'new_mean', 'old_n', 'new_n',
  'old_templates', 'new_templates', 'unpaired_reason',
)  # fmt: skip
"""Columns of difference.csv, one line per result that both evaluations measured."""


def write_difference(out: str | os.PathLike, found: Mapping[str, Any]) -> None:
  """Writes OUT/difference.csv and OUT/difference.tex."""
  out = pathlib.Path(out)
  with writing(out / 'difference.csv') as file:
    lines = csv.DictWriter(file, PAIR, lineterminator='\n')
    lines.writeheader()
    for result in (*found['results'], *found.get('values', ())):
      line = {name: result.get(name) for name in PAIR}
      line['delta_ci95_low'], line['delta_ci95_high'] = result['delta_ci95'] or _NONE
      for which, figures in result.get('reports', {}).items():
        line[f'{which}_split'] = result['splits'][which]
        line |= {f'{which}_{name}': value for name, value in figures.items()}
      lines.writerow(line)
  with writing(out / 'difference.tex') as file:
    file.write(latex_of_pair(found))


def verdict(result: Mapping[str, Any]) -> str:
  """Judges a difference: `better`, `worse`, `different`, `not significant` ..."""
  if result['p_holm'] is None:
    return 'not tested'
  if result['p_holm'] >= SIGNIFICANT:
    return 'not significant'
  if is_value(result):
    return 'different'
  return 'better' if result['delta'] > 0 else 'worse'


def verdicts(found: Mapping[str, Any]) -> str:
  """Counts the results by verdict: `2 results in both: 1 better, 1 not tested`."""
  judged = [verdict(result) for result in (*found['results'], *found.get('values', ()))]
  count = len(judged)
  kinds = ('better', 'worse', 'different', 'not significant', 'not tested')
  parts = [f'{judged.count(kind)} {kind}' for kind in kinds if kind in judged]
  return f'{count} result{"s" if count != 1 else ""} in both: {", ".join(parts)}'


def latex_of_pair(found: Mapping[str, Any]) -> str:
  """Returns the table of a comparison, in LaTeX with booktabs; bold as in `latex`."""
  lines = [
    *(f'% {which}: {found[which]["title"]}' for which in ('old', 'new')),
    *(f'% {line}' for line in statements.remarks(found, label)),
    *(f'% {line}' for line in values_lib.differences(found)),
    '% needs \\usepackage{booktabs}',
    '\\begin{tabular}{lrrrrr}',
    '\\toprule',
    'Dataset & $n$ & Old & New & Difference & $p$ (Holm) \\\\',
    '\\midrule',
  ]
  for result in found['results']:
    delta = f'{points(result["delta"])} [{bounds(result["delta_ci95"])}]'
    delta = delta.replace('-', '$-$')
    p = result['p_holm']
    if p is not None and p < SIGNIFICANT:
      delta = f'\\textbf{{{delta}}}'
    cells = (
      _tex(label(result) + statements.dev_of_pair(result)),
      statements.pair_examples(result).replace(',', '\\,').replace('→', '$\\to$'),
      f'{result["old"]:.1f}',
      f'{result["new"]:.1f}',
      delta,
      '--' if p is None else p_value(p).replace('<', '$<$'),
    )
    lines.append(' & '.join(cells) + ' \\\\')
  return '\n'.join([*lines, '\\bottomrule', '\\end{tabular}', ''])


def data(report: Mapping[str, Any]) -> list[str]:
  """Lists the source of the measured data, then each dataset."""
  source = statements.source(report)
  lines = [f'data: {source}'] if source else []
  for part in report.get('data', {}).get('datasets', ()):
    named = f'{part["tfds"]}, ' if part['tfds'] else ''
    lines.append(
      f'{label(part)}: {named}{statements.sizes(part)}, digest {part["digest"][:16]}'
    )
  return lines


def method(report: Mapping[str, Any]) -> str:
  """Describes prompts and answers of the models: `5-shot, no options; beams 4`."""
  return '; '.join([statements.prompts(report), *statements.answers(report)])

"""Tables of a report: in the terminal, as CSV, and as LaTeX for a paper."""

import csv
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any

from flan_jax.report import published, statements, validation
from flan_jax.report import values as values_lib
from flan_jax.report.schema import (
  averages,
  bounds,
  divided,
  examples_of,
  headline,
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
  from rich.console import Console
  from rich.table import Table

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
    f'% {report["model"]}, {report["checkpoint"]}, seed {report["seed"]}',
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


def print_table(report: Mapping[str, Any], *, file: IO[str] | None = None) -> None:
  """Prints one line per result and one headline per cluster.

  Results in units of their own have a table and headlines after the others.

  Args:
    report: the content of report.json.
    file: output; standard error if None, so that JSON can have standard output.
  """
  if 'validation' in report:
    validation.print_table(report, file=file)
  in_percent, values = divided(report)
  if in_percent['results'] or not values:
    console = _print_percent(in_percent, file)
  if values:
    console = values_lib.print_table(
      in_percent, values, lambda table: _console(file, table)
    )
  source = statements.source(report)
  if source:
    console.print(f'data: {source}', markup=False, highlight=False)
  for warning in report.get('warnings', ()):
    console.print(f'warning: {warning}', markup=False, highlight=False)


def _print_percent(report: Mapping[str, Any], file: IO[str] | None) -> 'Console':
  """Prints the results in percent, the headlines and the caveats."""
  from rich import box
  from rich.markup import escape
  from rich.table import Table

  with_base = any('base' in result for result in report['results'])
  with_published = any(map(published.beside, report['results']))
  with_spread = any(
    result['std_over_templates'] is not None for result in report['results']
  )
  model = statements.models(report)['tuned']
  table = Table(
    title=escape(
      f'{statements.title(report)}{statements.on(report)}: {method(report)}, percent'
    ),
    box=box.SIMPLE,
    title_justify='left',
    collapse_padding=True,
    pad_edge=False,
  )
  cluster = None
  for result in report['results']:
    cells = _cells(
      result, model=model, with_base=with_base, with_spread=with_spread,
      with_published=with_published,
    )  # fmt: skip
    if not table.columns:
      for head in cells:
        name = head in ('dataset', 'metric')
        side = 'left' if name else 'right'
        # Names are never wrapped: a search would not find a wrapped one.
        table.add_column(escape(head), justify=side, overflow='fold', no_wrap=name)
    if result['cluster'] != cluster:
      table.add_section()
      cluster = result['cluster']
    table.add_row(*map(escape, cells.values()))
  console = _console(file, table)
  if report['results'] or 'validation' not in report:
    console.print(table)
  for average in averages(report):
    console.print(headline(average), markup=False, highlight=False)
  compared = [result['p_holm'] for result in report['results'] if 'p_holm' in result]
  if any(p < SIGNIFICANT for p in compared):
    for_all = f'for {len(compared)} result{"s" if len(compared) > 1 else ""}'
    console.print(f'* differs at 5 %, Holm-corrected {for_all}', markup=False)
  for line in footnotes(report):
    console.print(line, markup=False, highlight=False)
  return console


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
      line = f'mean over {measured} of {declared} templates'
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


def _console(file: IO[str] | None, table: 'Table') -> 'Console':
  """Returns a console as wide as COLUMNS, the terminal, or the table."""
  from rich.console import Console

  console = Console(file=file, stderr=file is None)
  if console.is_terminal or os.environ.get('COLUMNS', '').isdigit():
    return console
  whole = Console(file=file, width=_UNFOLDED).measure(table).maximum
  return Console(file=file, stderr=file is None, width=max(_WIDTH, whole))


_WIDTH, _UNFOLDED = 120, 1000


def print_difference(found: Mapping[str, Any], *, file: IO[str] | None = None) -> None:
  """Prints a comparison, one line per result.

  Args:
    found: content of difference.json.
    file: output; standard error if None.
  """
  from rich import box
  from rich.markup import escape
  from rich.table import Table

  title = f'{found["old"]["title"]} to {found["new"]["title"]}, percent'
  table = Table(title=escape(title), box=box.SIMPLE, title_justify='left')
  heads = (
    'dataset', 'examples', 'old', 'new', 'delta [95 %]', 'p', 'p (Holm)', 'better',
    'worse',
  )  # fmt: skip
  for name in heads:
    left = name == 'dataset'
    table.add_column(
      escape(name), justify='left' if left else 'right', overflow='fold', no_wrap=left
    )
  for result in found['results']:
    counts = result['gained'], result['lost']
    table.add_row(
      escape(label(result) + statements.dev_of_pair(result)),
      statements.pair_examples(result),
      f'{result["old"]:.1f}',
      f'{result["new"]:.1f}',
      f'{points(result["delta"])} \\[{bounds(result["delta_ci95"])}]',
      p_value(result['p']),
      p_value(result['p_holm']),
      *('-' if count is None else f'{count:,}' for count in counts),
    )
  console = _console(file, table)
  if found['results']:
    console.print(table)
  caveats = (*values_lib.differences(found), *statements.remarks(found, label))
  for line in (verdicts(found), *caveats):
    console.print(line, markup=False, highlight=False)
  for name, old, new in found['settings']:
    console.print(f'{name}: {old or "-"} -> {new or "-"}', markup=False)


def method(report: Mapping[str, Any]) -> str:
  """Describes prompts and answers of the models: `5-shot, no options; beams 4`."""
  return '; '.join([statements.prompts(report), *statements.answers(report)])


def _cells(
  result: Mapping[str, Any],
  *,
  model: str,
  with_base: bool,
  with_spread: bool,
  with_published: bool,
) -> dict[str, str]:
  """Returns one line of the terminal table: heading -> cell."""

  def number(value: float | None) -> str:
    return '-' if value is None else f'{value:.1f}'

  best, base = result['best_dev_template'], result.get('base')
  cells = {
    'dataset': shown(result),
    'metric': result['metric'],
    'n': examples_of(result),
    'chance': number(result['chance']),
    'majority': number(result['majority']),
  }
  if with_base:
    cells['base'] = number(base and base['mean'])
  cells[model if with_base else 'mean'] = number(result['mean'])
  if with_spread:
    cells['± std'] = number(result['std_over_templates'])
  cells['best dev'] = number(best and best['test'])
  if not with_base:
    cells['[95 %]'] = f'[{bounds(result["ci95"])}]'
  elif base:
    mark = '*' if result.get('p_holm', 1) < SIGNIFICANT else ''
    delta = f'{points(result["delta"])} [{bounds(result["delta_ci95"])}]{mark}'
    cells['delta [95 %]'] = delta
    cells['p (Holm)'] = f'{p_value(result.get("p"))} ({p_value(result.get("p_holm"))})'
  else:
    cells['delta [95 %]'] = cells['p (Holm)'] = '-'
  if with_published:
    known = published.beside(result)
    dagger = f' {DIFFERS}' if result.get('differs') else ''
    # The heading is broken into lines, to keep the column narrow.
    paper = published.model(result['num_fewshot']).removesuffix(' few-shot')
    lines = (
      paper,
      *(['few-shot'] if result['num_fewshot'] else []),
      '(?:',
      'unverified)',
    )
    cells['\n'.join(lines)] = published.shown(known) + dagger if known else '-'
  return cells

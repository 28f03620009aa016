"""Tables of a report in the terminal."""

import os
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from flan_jax.report import explanations, published, statements, tables, validation
from flan_jax.report import values as values_lib
from flan_jax.report.schema import (
  averages,
  bounds,
  divided,
  examples_of,
  headline,
  label,
  p_value,
  points,
  shown,
)
from flan_jax.report.tables import method

if TYPE_CHECKING:
  from rich.console import Console
  from rich.table import Table


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
    tested = sum('p_holm' in result for result in report['results'])
    console = _print_percent(in_percent, file, tested=tested)
  if values:
    console = values_lib.print_table(
      in_percent, values, lambda table: _console(file, table)
    )
  source = statements.source(report)
  if source:
    console.print(f'data: {source}', markup=False, highlight=False)
  for warning in report.get('warnings', ()):
    console.print(f'warning: {warning}', markup=False, highlight=False)


def _print_percent(
  report: Mapping[str, Any], file: IO[str] | None, *, tested: int
) -> 'Console':
  """Prints the results in percent, the headlines and the caveats.

  Args:
    report: the report, with its results in percent.
    file: output; standard error if None.
    tested: number of results that p-values are corrected for.
  """
  from rich import box
  from rich.markup import escape
  from rich.table import Table

  with_base = any('base' in result for result in report['results'])
  with_published = any(map(published.beside, report['results']))
  with_spread = any(
    result['std_over_templates'] is not None for result in report['results']
  )
  model = statements.models(report)['tuned']
  empty = _empty(report)
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
    cells = {head: cell for head, cell in cells.items() if head not in empty}
    if not table.columns:
      for head in cells:
        name = head in ('dataset', 'metric', 'options style')
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
  if any(r.get('p_holm', 1) < tables.SIGNIFICANT for r in report['results']):
    holm = f', Holm-corrected for {tested} results' if tested > 1 else ''
    console.print(f'* differs at 5 %{holm}', markup=False)
  for line in tables.footnotes(report):
    console.print(line, markup=False, highlight=False)
  return console


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

  title = f'{statements.comparison(found)}; percent'
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
  else:
    console.print(statements.comparison(found), markup=False, highlight=False)
  caveats = (*values_lib.differences(found), *statements.remarks(found, label))
  for line in (tables.verdicts(found), *caveats):
    console.print(line, markup=False, highlight=False)
  for name, old, new in found['settings']:
    console.print(f'{name}: {old or "-"} -> {new or "-"}', markup=False)


def _empty(report: Mapping[str, Any]) -> set[str]:
  """Returns the headings of columns that say nothing of the report."""
  found = {
    key for key in ('chance', 'majority') if not explanations.some_have(report, key)
  }
  if not statements.has_options_styles(report):
    found.add('options style')
  several = explanations.has_several_templates(report)
  if not several or not explanations.some_have(report, 'best_dev_template'):
    found.add('best dev')
  return found


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
    'options style': statements.options_style(result),
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
    mark = '*' if result.get('p_holm', 1) < tables.SIGNIFICANT else ''
    delta = f'{points(result["delta"])} [{bounds(result["delta_ci95"])}]{mark}'
    cells['delta [95 %]'] = delta
    cells['p (Holm)'] = f'{p_value(result.get("p"))} ({p_value(result.get("p_holm"))})'
  else:
    cells['delta [95 %]'] = cells['p (Holm)'] = '-'
  if with_published:
    known = published.beside(result)
    dagger = f' {tables.DIFFERS}' if result.get('differs') else ''
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

"""Tables of many reports: CSV, LaTeX, and the terminal's."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from flan_jax.report import schema, statements
from flan_jax.report.runs import is_validation
from flan_jax.report.schema import bounds, is_value, points
from flan_jax.report.values import number
from flan_jax.runtime.atomic_file import writing

if TYPE_CHECKING:
  from rich.table import Table

COLUMNS: tuple[str, ...] = (
  'model', 'step', 'family', 'cluster', 'dataset', 'direction', 'metric', 'kind',
  'split', 'n', 'templates', 'seeds', 'seed', 'mean', 'std_over_seeds', 'ci95_low',
  'ci95_high', 'delta', 'delta_std_over_seeds', 'delta_ci95_low', 'delta_ci95_high',
  'delta_p_holm', 'chance', 'majority', 'unpaired_reason',
)  # fmt: skip
"""Columns of the CSV.

A line for each cell, and, for several seeds, one for each seed; a cluster's average has
no `dataset`. Curves have `metric` 'curve ...' and `step`.
"""


def write_csv(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
  """Writes every number of the page."""
  with writing(path) as file:
    lines = csv.DictWriter(file, COLUMNS, lineterminator='\n')
    lines.writeheader()
    lines.writerows(_lines(content))


def _lines(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
  columns = {column['name']: column for column in content['columns']}
  for row in (*content['rows'], *content['averages']):
    named = {name: row.get(name) for name in COLUMNS if name in row}
    for name, cell in row['cells'].items():
      if cell is None:
        continue
      column = columns[name]
      line = {**named, 'model': name, 'step': column['step'], **_cell(cell)}
      yield line
      delta = (cell['delta'] or {}).get('by_seed', ())
      for i, mean in enumerate(cell['by_seed'] if cell['seeds'] > 1 else ()):
        seed = column['seeds'][i] if i < len(column['seeds']) else i
        one = {key: line[key] for key in (*named, 'model', 'step', 'split', 'n')}
        yield one | {
          'templates': cell['templates'], 'seed': seed, 'mean': mean,
          'delta': delta[i] if delta else None,
        }  # fmt: skip
  for run in content['history']:
    for metric, points_ in curves(run):
      for step, value in points_:
        yield {'model': run['name'], 'seed': run['seed'], 'step': step,
               'metric': f'curve {metric}', 'mean': value}  # fmt: skip


def curves(run: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[Sequence[float]]]]:
  """Yields (name, points) of the curves of a run in the history."""
  for name in ('train', 'validation'):
    if name in run:
      yield f'{name} loss', run[name]
  for kind in ('held_out', 'metrics'):
    for name, found in run.get(kind, {}).items():
      yield f'{kind.replace("_", "-")} {name}', found


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
  delta = cell['delta'] or {}
  low, high = cell['ci95'] or (None, None)
  delta_low, delta_high = delta.get('ci95') or (None, None)
  plain = ('split', 'n', 'templates', 'seeds', 'mean', 'std_over_seeds')
  return {name: cell[name] for name in plain} | {
    'ci95_low': low, 'ci95_high': high, 'delta': delta.get('mean'),
    'delta_std_over_seeds': delta.get('std_over_seeds'),
    'delta_ci95_low': delta_low, 'delta_ci95_high': delta_high,
    'delta_p_holm': delta.get('p_holm'),
    'unpaired_reason': cell.get('unpaired_reason'),
  }  # fmt: skip


def name_of(row: Mapping[str, Any]) -> str:
  """Names a row: a result, or the average of a cluster."""
  if 'dataset' in row:
    return schema.label(row)
  return f'mean of {cluster(row)}'


def cluster(row: Mapping[str, Any], *, family: bool = True) -> str:
  """Names the cluster of a row: `NLI`, `Commonsense of the microworld`.

  Args:
    row: a row of the table, or an average.
    family: whether to name a dataset family other than FLAN.
  """
  of = statements.of_family(row['family']) if family else ''
  if is_validation(row):
    return f'training datasets{of}, dev'
  return statements.cluster_name(row['cluster']) + of


def family(rows: Sequence[Mapping[str, Any]]) -> str | None:
  """The dataset family of the rows, if all are of one."""
  found = {row['family'] for row in rows}
  return found.pop() if len(found) == 1 else None


def groups(content: Mapping[str, Any]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
  """Yields (cluster in words, its rows and their average); values come last."""
  for average in content['averages']:
    rows = [
      row
      for row in content['rows']
      if not is_value(row)
      and (row['cluster'], row['family']) == (average['cluster'], average['family'])
    ]
    yield cluster(average), [*rows, *([average] if len(rows) > 1 else [])]
  values = [row for row in content['rows'] if is_value(row)]
  if values:
    yield 'Metrics in units of their own', values


def counts(differences: Mapping[str, Any]) -> list[str]:
  """Says for each difference on how many clusters its interval excludes zero.

  Args:
    differences: the table of differences of `many.build`.
  """
  lines = []
  for column in differences['columns']:
    cells = [row['cells'][column['name']] for row in differences['averages']]
    known = [cell['ci95'] for cell in cells if cell is not None and cell['ci95']]
    above = sum(low > 0 for low, _ in known)
    below = sum(high < 0 for _, high in known)
    if known:
      lines.append(
        f'{column["name"]}: of {len(known)} clusters, {above} above zero and {below} '
        'below with an interval that excludes it'
      )
  return lines


def main(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
  """Returns the columns of the main table: of the steps of a run, the last."""
  earlier = {name for series in content['steps'] for name in series['columns'][:-1]}
  return [column for column in content['columns'] if column['name'] not in earlier]


def by_step(
  content: Mapping[str, Any],
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
  """Yields (run, its columns by step) for each run with several steps."""
  columns = {column['name']: column for column in content['columns']}
  for series in content['steps']:
    yield series['name'], [columns[name] for name in series['columns']]


def run_of(content: Mapping[str, Any], column: Mapping[str, Any]) -> str:
  """Names the run of a column: its name, less the step if there are several."""
  for series in content['steps']:
    if column['name'] in series['columns']:
      return series['name']
  return column['name']


def figure(row: Mapping[str, Any], value: float) -> str:
  """Formats a figure of a row: `41.7`, or a value as `0.4213`."""
  return number(value) if is_value(row) else f'{value:.1f}'


def interval(row: Mapping[str, Any], found: Sequence[float] | None) -> str:
  """Formats an interval: `5.2, 10.0`; '' for none."""
  if found is None:
    return ''
  return ', '.join(map(number, found)) if is_value(row) else bounds(found)


def delta(row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
  """Formats a difference from the base: `+7.6 [5.2, 10.0]`."""
  mean = found['mean']
  sign = '+' if mean >= 0 else ''
  text = f'{sign}{number(mean)}' if is_value(row) else points(mean)
  ends = interval(row, found['ci95'])
  return f'{text} [{ends}]' if ends else text


def text(row: Mapping[str, Any], cell: Mapping[str, Any] | None) -> str:
  """Formats a cell: `41.7 [35.0, 48.6]`; `-` for none."""
  if cell is None:
    return '-'
  ends = interval(row, cell['ci95'])
  return figure(row, cell['mean']) + (f' [{ends}]' if ends else '')


def heading(column: Mapping[str, Any]) -> str:
  """Names a column: `run`, or `run, 3 seeds`."""
  count = len(column['seeds'])
  return column['name'] + (f', {count} seeds' if count > 1 else '')


def latex(content: Mapping[str, Any]) -> str:
  """Returns the main table in LaTeX with booktabs: mean and interval of each model."""
  columns = main(content)
  lines = [
    '% 95 % intervals: over the examples; over seeds and examples for several seeds',
    *(f'% {heading(column)}: {column["method"]}' for column in columns),
    *(f'% {line}' for line in (*content['remarks'], *content['notes'])),
    '% needs \\usepackage{booktabs}',
    f'\\begin{{tabular}}{{l{"r" * len(columns)}}}',
    '\\toprule',
    ' & '.join(['Dataset', *(_tex(heading(column)) for column in columns)]) + ' \\\\',
  ]
  for name, rows in groups(content):
    lines += [
      '\\midrule',
      f'\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\emph{{{_tex(name)}}}}} \\\\',
    ]
    for row in rows:
      cells = [_tex_cell(row, row['cells'][column['name']]) for column in columns]
      lines.append(' & '.join([_tex(name_of(row)), *cells]) + ' \\\\')
  return '\n'.join([*lines, '\\bottomrule', '\\end{tabular}', ''])


def _tex(text: str) -> str:
  text = text.replace('\\', '\\textbackslash ')
  for letter in '_&%#$':
    text = text.replace(letter, f'\\{letter}')
  return text


def _tex_cell(row: Mapping[str, Any], cell: Mapping[str, Any] | None) -> str:
  if cell is None:
    return '--'
  ends = interval(row, cell['ci95'])
  small = f' {{\\scriptsize[{ends}]}}' if ends else ''
  return (figure(row, cell['mean']) + small).replace('-', '$-$')


def print_table(content: Mapping[str, Any], *, file: IO[str] | None = None) -> None:
  """Prints the table, and one for the steps of each run.

  Args:
    content: content of the page.
    file: output; standard error if None.
  """
  from rich.console import Console

  tables = [('', main(content)), *by_step(content)]
  made = [
    _table(content, columns, title=f'Steps of {name}' if name else '')
    for name, columns in tables
  ]
  console = Console(file=file, stderr=file is None)
  if not console.is_terminal and not os.environ.get('COLUMNS', '').isdigit():
    measure = Console(file=file, width=1000).measure
    whole = max(measure(table).maximum for table in made)
    console = Console(file=file, stderr=file is None, width=max(120, whole))
  for table in made:
    console.print(table)
  for line in (*content['remarks'], *content['notes']):
    console.print(line, markup=False, highlight=False)


def _table(
  content: Mapping[str, Any], columns: Sequence[Mapping[str, Any]], *, title: str
) -> 'Table':
  """Returns a table: a line for each row, and one below for its differences."""
  from rich import box
  from rich.markup import escape
  from rich.table import Table

  table = Table(
    title=escape(title) or None, box=box.SIMPLE, title_justify='left', pad_edge=False
  )
  table.add_column('dataset', no_wrap=True)
  for column in columns:
    table.add_column(escape(heading(column)), justify='right', overflow='fold')
  for _, rows in groups(content):
    table.add_section()
    for row in rows:
      cells = [row['cells'][column['name']] for column in columns]
      table.add_row(escape(name_of(row)), *(escape(text(row, cell)) for cell in cells))
      deltas = [cell['delta'] if cell else None for cell in cells]
      if any(deltas):
        table.add_row(
          '  from the base',
          *(escape(delta(row, each)) if each else '' for each in deltas),
        )
  return table

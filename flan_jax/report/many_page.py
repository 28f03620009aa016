"""The page of many reports: one static HTML file."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from flan_jax.report import canvas, curves, html, many_tables, statements
from flan_jax.report.runs import is_validation
from flan_jax.report.schema import points


def render(
  content: Mapping[str, Any], *, drawn: Mapping[str, str] | None = None
) -> str:
  """Returns the page.

  Args:
    content: content of the page, from `many.build`.
    drawn: its figures; None draws them.
  """
  columns = content['columns']
  main, steps = many_tables.main(content), list(many_tables.by_step(content))
  models = [column for column in columns if not column['base']]
  inline = {
    name: Markup(canvas.inline(svg, name=name, title=_alternative(name, content)))
    for name, svg in (curves.draw(content) if drawn is None else drawn).items()
  }
  return html.page(
    'many.html',
    content=content,
    columns=main,
    all_columns=columns,
    models=models,
    reports=len({path for column in models for path in column['reports']}),
    names=list(
      dict.fromkeys(many_tables.run_of(content, column) for column in models)
    ),
    groups=list(many_tables.groups(content)),
    figures=[(inline[name], caption) for name, caption in _captions(content)
             if name in inline],
    over_seeds=any(column['models'] > 1 for column in columns),
    steps=steps,
    widths=sorted({len(main), *(len(some) for _, some in steps)}),
    heading=many_tables.heading,
    name_of=many_tables.name_of,
    figure=many_tables.figure,
    interval=many_tables.interval,
    delta=many_tables.delta,
    count=_count,
    at_step=lambda column: f'step {column["step"]:,}',
    with_delta=any(column['base'] for column in columns),
    differences=_differences(content),
    plain_name=lambda column: column['name'],
    points=lambda _, value: points(value),
    study=_study(content),
  )  # fmt: skip


def _differences(content: Mapping[str, Any]) -> dict[str, Any] | None:
  """Returns the table of differences; None if not found, or empty."""
  found = content.get('differences')
  if not found or not found['rows']:
    return None
  return {
    'columns': found['columns'],
    'groups': list(many_tables.groups(found)),
    'counts': many_tables.counts(found),
  }


def _study(content: Mapping[str, Any]) -> dict[str, Any] | None:
  """Returns what the page says of a study: its cells and what they took; or None."""
  found = content.get('study')
  if found is None:
    return None
  cells = [{**cell, 'took': _took(cell['cost'])} for cell in found['cells']]
  costs = [cell['cost'] for cell in found['cells'] if cell['cost']]
  return {
    **found,
    'cells': cells,
    'total': _took(_total(costs)),
    'missing': [cell['name'] for cell in cells if not cell['finished']],
  }


def _total(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
  """Sums up what cells took; a part that is unknown of one is unknown of all."""
  if not costs:
    return None
  found = {}
  for key in costs[0]:
    values = [cost[key] for cost in costs]
    whole = max if key == 'peak_bytes' else sum
    found[key] = None if None in values else whole(values)
  return found


def _took(cost: Mapping[str, Any] | None) -> dict[str, str] | None:
  """Formats the cost of a cell."""
  if cost is None:
    return None
  units = {
    'wall': ('seconds', 60, 1), 'cpu': ('cpu_seconds', 60, 1),
    'memory': ('peak_bytes', 2**30, 1), 'starts': ('starts', 1, 0),
  }  # fmt: skip
  return {
    name: '–' if cost[key] is None else f'{cost[key] / unit:,.{digits}f}'
    for name, (key, unit, digits) in units.items()
  }


def _captions(content: Mapping[str, Any]) -> list[tuple[str, str]]:
  several = any(column['models'] > 1 for column in content['columns'])
  seeds = '; small dots are single seeds' if several else ''
  on = statements.on_family(many_tables.family(content['averages']))
  lines = ' A line is a run: those of one color differ in SEED.' if several else ''
  return [
    ('means', f'Means{on} with 95 % intervals{seeds}.'),
    ('differences', f'Differences{on} in points, with 95 % intervals{seeds}.'),
    ('steps', 'Means by training step, with 95 % intervals.'),
    ('loss', f'Loss by training step, as the runs logged it.{lines}'),
    (
      'held_out',
      'Held-out clusters by training step, as the runs logged them: on some dev '
      f'examples with one template, so not the figures of the table.{lines}',
    ),
  ]


def _alternative(name: str, content: Mapping[str, Any]) -> str:
  """Returns the text alternative of a figure, for screen readers."""
  if name in ('means', 'steps', 'differences'):
    rows = content['differences'] if name == 'differences' else content
    parts = [
      f'{many_tables.cluster(row)}: '
      + ', '.join(
        f'{column} {many_tables.text(row, cell)}'
        for column, cell in row['cells'].items()
        if cell
      )
      for row in rows['averages']
    ]
    if name == 'differences':
      return 'Differences of means of clusters, in points. ' + '. '.join(parts)
    what = 'by model' if name == 'means' else 'by step'
    return f'Means of clusters {what}, in percent. ' + '. '.join(parts)
  kinds = ('loss',) if name == 'loss' else ('held-out',)
  parts = [
    f'{run["name"]}, {label}: {points[0][1]:.2f} at step {points[0][0]:,} to '
    f'{points[-1][1]:.2f} at step {points[-1][0]:,}'
    for run in content['history']
    for label, points in many_tables.curves(run)
    if any(kind in label for kind in kinds)
  ]
  return f'Curves by training step: {name}. ' + '. '.join(parts)


def _count(row: Mapping[str, Any], cell: Mapping[str, Any]) -> str:
  """Says how much a cell's figure is over, if that is not the whole row.

  `24 examples`, or `2 of 4 datasets`; '' if all columns are over the same.
  """
  cells = [each for each in row['cells'].values() if each is not None]
  parts = []
  if 'dataset' not in row:
    if cell['rows'] < row['rows']:
      parts.append(f'{cell["rows"]} of {row["rows"]} rows')
    return ', '.join(parts)
  if len({each['n'] for each in cells}) > 1:
    parts.append(f'{cell["n"]:,} examples')
  if len({each['templates'] for each in cells}) > 1:
    parts.append(f'{cell["templates"]} template{"s" if cell["templates"] > 1 else ""}')
  if cell['split'] == 'dev' and not is_validation(row):
    parts.append('dev')
  return ', '.join(parts)

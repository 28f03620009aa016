"""One table of many reports: models as columns, datasets and cluster means as rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog import registry
from flan_jax.report import many_tables, runs, schema, seeds, statements, tables
from flan_jax.report.runs import Column, Report
from flan_jax.report.seeds import Cell, Reader
from flan_jax.report.values import plain
from flan_jax.runtime import json_lines
from flan_jax.train import eval_log

SCHEMA = 1
"""Version of the keys of the JSON."""


def build(
  reports: Sequence[Report],
  *,
  columns: Sequence[Column] | None = None,
  compared: Iterable[Sequence[str]] | None = None,
) -> dict[str, Any]:
  """Returns the content of the page: what `flan report A B --json` prints.

  Args:
    reports: the reports, in the order of their columns.
    columns: their columns; None groups the reports by what they record.
    compared: names of two columns each, the first minus the second: adds the table
      'differences', of these and of each model from its base. None for no such table.

  Returns:
    {'schema', 'columns': [{'name', 'title', 'model', 'reports', 'seeds', 'models',
    'step', 'base', 'series', 'method'}], 'rows': [{'dataset', 'direction', 'cluster',
    'family', 'metric', 'kind', 'chance', 'majority', 'cells'}], 'averages':
    [{'cluster', 'family', 'rows', 'cells'}], 'steps': [{'name', 'columns', 'steps'}],
    'history': [{'name', 'seed', 'train', 'validation', 'metrics', 'held_out'}],
    'settings': [[name, [value of each column but the bases]]], 'remarks': [line],
    'notes': [line]}.

    `cells` has an entry for each column, None if it was not measured: {'mean', 'ci95',
    'by_seed', 'std_over_seeds', 'n', 'templates', 'split', 'seeds', 'delta'}. With
    several seeds `ci95` is over the seeds and the examples (evaluate.seeds.interval);
    `unpaired_reason` says why the examples could not be resampled for all seeds
    together, and `over` is 'seeds' if nothing is known of the examples. `delta` is the
    model minus its base: {'mean', 'ci95', 'by_seed', 'std_over_seeds', 'p_holm'}.
    'steps' names the columns that are steps of one run, and 'history' has the figures
    that runs logged while they trained. 'remarks' are caveats of the columns, 'notes'
    say how some intervals are made.
  """
  remarks: list[str] = []
  if columns is None:
    columns, remarks = runs.columns(reports)
  reader = Reader()
  by_row: dict[tuple, dict[str, Cell]] = {}
  first: dict[tuple, dict[str, Any]] = {}
  for row, result in _results(reports):
    known = first.setdefault(row, result)
    for baseline in ('chance', 'majority'):
      if known[baseline] != result[baseline]:
        known[baseline] = None  # of other examples
  for row in first:
    for column in columns:
      found, remark = seeds.cell(column, row, reader)
      if found is not None:
        by_row.setdefault(row, {})[column.name] = found
      if remark:
        remarks.append(f'{column.name}, {schema.label(first[row])}: {remark}')
  rows = [_row(first[row], by_row.get(row, {}), columns) for row in _in_order(first)]
  averages = _averages(first, by_row, columns)
  content = {
    'schema': SCHEMA,
    'columns': [_column(column) for column in columns],
    'rows': rows,
    'averages': averages,
    'steps': _steps(columns),
    'history': _history(columns),
    'settings': _settings(columns),
    'remarks': [*remarks, *_remarks(rows, averages)],
    'notes': list(_notes(rows)),
  }
  if compared is not None:
    found = _differences(first, by_row, columns, compared, reader)
    content['differences'] = found
    content['notes'] = list(dict.fromkeys([*content['notes'], *_notes(found['rows'])]))
  return plain(content)


class _Difference(NamedTuple):
  """A column of the table of differences."""

  name: str
  column: Column
  minus: Column


def _differences(
  first: Mapping[tuple, Mapping[str, Any]],
  by_row: Mapping[tuple, Mapping[str, Cell]],
  columns: Sequence[Column],
  compared: Iterable[Sequence[str]],
  reader: Reader,
) -> dict[str, Any]:
  """Returns {'columns': [{'name', 'of', 'from'}], 'rows', 'averages'}, in points."""
  by_name = {column.name: column for column in columns}
  pairs = [(column, base) for column in columns if (base := _base(column, columns))]
  of_bases = len(pairs)
  pairs += [(by_name[one], by_name[two]) for one, two in compared
            if one in by_name and two in by_name]  # fmt: skip
  wanted = [_Difference(f'{one.name} − {two.name}', one, two) for one, two in pairs]
  found: dict[tuple, dict[str, Cell]] = {}
  for row in _in_order(first):
    for i, each in enumerate(wanted):
      cell = None
      if i < of_bases and each.column.name in by_row.get(row, {}):
        cell = seeds.from_base(by_row[row][each.column.name])
      elif i >= of_bases and not schema.is_value(first[row]):
        cell = seeds.difference(each.column, each.minus, row, reader)
      if cell is not None:
        found.setdefault(row, {})[each.name] = cell
  kept = {row: first[row] for row in found}
  return {
    'columns': [
      {'name': name, 'of': column.name, 'from': minus.name}
      for name, column, minus in wanted
    ],
    'rows': [_row(first[row], found[row], wanted) for row in kept],
    'averages': _averages(kept, found, wanted),
  }


def _base(column: Column, columns: Sequence[Column]) -> Column | None:
  """Returns the base that the reports of a column measured beside its models."""
  if column.which == 'base':
    return None
  own = {id(source) for model in column.models for source in model.sources}
  for other in columns:
    sources = {id(source) for model in other.models for source in model.sources}
    if other.which == 'base' and own & sources:
      return other
  return None


def _results(reports: Iterable[Report]) -> Iterator[tuple[tuple, dict[str, Any]]]:
  """Yields (row, result) of every report, with the dataset family."""
  for report in reports:
    for result in runs.results(report.content):
      declared = registry.find(result['dataset'])
      of_report = report.content['data'].get('family')
      family = declared.family if declared else of_report
      yield runs.row_key(result), {**result, 'family': family}


def _cluster(result: Mapping[str, Any]) -> tuple[str, str | None]:
  """Returns what rows are averaged by: clusters of two families share only a name."""
  return result['cluster'], result['family']


def _in_order(first: Mapping[tuple, Mapping[str, Any]]) -> list[tuple]:
  """Sorts rows by cluster, the paper's first; values in units of their own last."""
  order = registry.in_order(result['cluster'] for result in first.values())
  place = {cluster: i for i, cluster in enumerate(order)}
  families = list(dict.fromkeys(result['family'] for result in first.values()))

  def key(row: tuple) -> tuple:
    result = first[row]
    family = families.index(result['family'])
    last = schema.is_value(result), runs.is_validation(result)
    return *last, family, place[result['cluster']]

  return sorted(first, key=key)


def _row(
  result: Mapping[str, Any],
  cells: Mapping[str, Cell],
  columns: Sequence[Column | _Difference],
) -> dict[str, Any]:
  named = (
    'dataset', 'direction', 'cluster', 'family', 'metric', 'kind', 'chance', 'majority',
  )  # fmt: skip
  found = {name: result[name] for name in named if name in result}
  return found | {'cells': _cells(cells, columns)}


def _cells(
  cells: Mapping[str, Cell], columns: Sequence[Column | _Difference]
) -> dict[str, dict[str, Any] | None]:
  return {
    column.name: seeds.as_json(cells[column.name]) if column.name in cells else None
    for column in columns
  }


def _averages(
  first: Mapping[tuple, Mapping[str, Any]],
  by_row: Mapping[tuple, Mapping[str, Cell]],
  columns: Sequence[Column | _Difference],
) -> list[dict[str, Any]]:
  """Averages the rows in percent of each cluster, each column over its own."""
  in_percent = [row for row in _in_order(first) if not schema.is_value(first[row])]
  found = []
  for cluster, family in dict.fromkeys(_cluster(first[row]) for row in in_percent):
    rows = [row for row in in_percent if _cluster(first[row]) == (cluster, family)]
    cells, counts = {}, {}
    for column in columns:
      own = {row: by_row[row][column.name] for row in rows
             if column.name in by_row.get(row, {})}  # fmt: skip
      average = seeds.average(own)
      if average is not None:
        cells[column.name], counts[column.name] = average, len(own)
    made = _cells(cells, columns)
    for name, count in counts.items():
      made[name] = {**(made[name] or {}), 'rows': count}
    found.append(
      {'cluster': cluster, 'family': family, 'rows': len(rows), 'cells': made}
    )
  return found


def _column(column: Column) -> dict[str, Any]:
  first = column.models[0].first.content
  names = statements.models(first)
  known = column.models[0].first.training
  sources = [source for model in column.models for source in model.sources]
  return {
    'name': column.name,
    'model': names[column.which],
    'title': 'base' if column.which == 'base' else statements.title(first),
    'reports': [str(source.given) for source in sources],
    'seeds': column.seeds if column.which == 'tuned' else (),
    'models': len(column.models),
    'step': None if known is None or column.which == 'base' else known.step,
    'base': column.which == 'base',
    'series': column.series,
    'method': tables.method(first),
  }


def _steps(columns: Sequence[Column]) -> list[dict[str, Any]]:
  """Returns the series that have several steps, each with its columns by step."""
  by_series: dict[str, list[Column]] = {}
  for column in columns:
    if column.step is not None:
      by_series.setdefault(column.series, []).append(column)
  return [
    {
      'name': several[0].name.rpartition('@')[0] or several[0].name,
      'columns': [column.name for column in several],
      'steps': [column.step for column in several],
    }
    for several in by_series.values()
    if len(several) > 1
  ]


def _history(columns: Sequence[Column]) -> list[dict[str, Any]]:
  """Returns the figures that runs logged while they trained, a run each."""
  found: dict[tuple, dict[str, Any]] = {}
  for column in columns:
    for model in column.models if column.which == 'tuned' else ():
      curves = _curves(model.first)
      if not curves:
        continue
      known = model.first.training
      name = column.name.rpartition('@')[0] or column.name
      seed = None if known is None else known.seed
      found[column.series, seed] = {
        'name': name,
        'seed': seed,
        **curves,
      }  # the last step's report has the longest
  return list(found.values())


def _curves(report: Report) -> dict[str, Any]:
  """Returns the curves of a report; of an older one, those in its run's logs."""
  curves = report.content.get('curves')
  if curves is not None or report.given == report.folder:
    return dict(curves or {})
  held_out: dict[str, list[list[float]]] = {}
  means = eval_log.read(report.given / 'evaluations.jsonl', _clusters)
  for step, clusters in means.items():
    for cluster, mean in clusters:
      held_out.setdefault(cluster, []).append([step, mean])
  losses = eval_log.read(
    report.given / 'log.jsonl',
    lambda e: None if e.get('loss') is None else json_lines.number(e['loss']),
  )
  train = [[step, loss] for step, loss in losses.items() if loss is not None]
  found = {'train': train, 'held_out': held_out}
  return {name: curve for name, curve in found.items() if curve}


def _clusters(entry: Mapping[str, Any]) -> list[tuple[str, float]]:
  means = entry.get('clusters', {})
  return [(cluster, json_lines.number(mean)) for cluster, mean in means.items()]


_NO_DIFFERENCE = ('model_dir', 'output_dir', 'Run.seed', 'checkpoint')
"""Ends of the names of settings that the columns themselves say."""


def _settings(columns: Sequence[Column]) -> list[list[Any]]:
  """Returns the settings that differ between models: [name, value of each]."""
  tuned = [column for column in columns if column.which == 'tuned']
  given = [runs.settings(column.models[0].first.content) for column in tuned]
  if not all(given):
    return []
  found = []
  for name in dict.fromkeys(name for some in given for name in some):
    values = [some.get(name) for some in given]
    if len(set(values)) > 1 and not name.endswith(_NO_DIFFERENCE):
      found.append([name, values])
  return found


def _remarks(
  rows: Sequence[Mapping[str, Any]], averages: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
  """Yields a line on each way in which the columns of a row are unlike."""
  unlike: dict[str, list[str]] = {}
  for row in rows:
    cells = [cell for cell in row['cells'].values() if cell is not None]
    for what, key in (
      ('numbers of examples', 'n'),
      ('splits', 'split'),
      ('numbers of templates', 'templates'),
    ):
      if len({cell[key] for cell in cells}) > 1:
        unlike.setdefault(what, []).append(schema.label(row))
  for average in averages:
    counts = {cell['rows'] for cell in average['cells'].values() if cell is not None}
    if counts - {average['rows']}:
      unlike.setdefault('datasets', []).append(many_tables.name_of(average))
  for what, names in unlike.items():
    yield f'{", ".join(names)}: the columns have different {what}'


def _notes(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
  """Yields a line on each interval over seeds that is made in another way."""
  own = "so the interval over seeds takes the examples from each report's own interval"
  found: dict[str, list[str]] = {}
  for row in rows:
    for cell in filter(None, row['cells'].values()):
      if cell.get('over') == 'seeds':
        reason = (
          'no interval over the examples, so that over seeds holds the seeds alone'
        )
      elif 'unpaired_reason' in cell:
        reason = f'{cell["unpaired_reason"]}, {own}'
      else:
        continue
      inside = runs.is_validation(row) and not schema.is_value(row)
      name = many_tables.cluster(row) if inside else schema.label(row)
      found.setdefault(reason, []).append(name)
  for reason, names in found.items():
    yield f'{", ".join(dict.fromkeys(names))}: {reason}'

"""The page of a study: one table and figure of its cells, what each took, commands."""

import pathlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.report import curves, many, many_page, many_tables, runs, schema
from flan_jax.report.runs import Column, Model, Report
from flan_jax.runtime import atomic_file

PAGE, FILE, TABLE = 'study.html', 'study.json', 'study.csv'


_OF_CELLS = ('store', 'base_responses', 'mixture', 'held_out', 'clusters', 'datasets')
"""Fields in which the cells of one column differ."""


class Entry(NamedTuple):
  """One cell of a study.

  Attributes:
    name: its name.
    column: name of its column.
    seed: SEED.
    folder: folder of its report; None without one.
    finished: whether it has ended.
    cost: its seconds, CPU seconds and memory; None if unknown.
    command: arguments of `flan`.
  """

  name: str
  column: str
  seed: int
  folder: pathlib.Path | None
  finished: bool
  cost: Mapping[str, Any] | None
  command: Sequence[str]


def build(
  name: str, entries: Sequence[Entry], *, compared: Sequence[Sequence[str]] = ()
) -> dict[str, Any]:
  """Returns the content of the page, which study.json keeps.

  Args:
    name: name of the study.
    entries: all cells.
    compared: pairs of columns to compare.

  Returns:
    The content of `many.build`, with 'study': {'name', 'cells': [{'name', 'column',
    'seed', 'finished', 'cost', 'command'}]}.
  """
  found = [(entry, _read(entry.folder)) for entry in entries if entry.folder]
  content = many.build(
    [report for _, report in found], columns=columns(found), compared=compared
  )
  cells = [
    {
      'name': entry.name,
      'column': entry.column,
      'seed': entry.seed,
      'finished': entry.finished,
      'cost': None if entry.cost is None else dict(entry.cost),
      'command': shlex.join(['flan', *entry.command]),
    }
    for entry in entries
  ]
  names = {str(report.given): entry.name for entry, report in found}
  for column in content['columns']:
    column['reports'] = [names[path] for path in column['reports']]
  content['settings'] = [
    [setting, values]
    for setting, values in content['settings']
    if _differs(values) and setting.rpartition('.')[2] not in _OF_CELLS
  ]
  content['remarks'] += _remarks(found)
  return {**content, 'study': {'name': name, 'cells': cells}}


def _remarks(found: Iterable[tuple[Entry, Report]]) -> Iterator[str]:
  """Yields a line on cells of one column and row that are no seeds of one another."""
  settings: dict[tuple[str, str], set[str]] = {}
  for entry, report in found:
    if report.training is not None:
      for result in report.content['results']:
        key = entry.column, schema.label(result)
        settings.setdefault(key, set()).add(report.training.settings)
  several: dict[str, list[str]] = {}
  for (column, label), digests in settings.items():
    if len(digests) > 1:
      several.setdefault(column, []).append(label)
  for column, labels in several.items():
    yield (
      f'{column}, {", ".join(labels)}: the runs differ in more than SEED: in their '
      'base, their data or a setting'
    )


def _differs(values: Sequence[str | None]) -> bool:
  """Returns whether columns that have a setting have other values of it."""
  return len({value for value in values if value is not None}) > 1


def write(
  out: pathlib.Path,
  content: Mapping[str, Any],
  entries: Sequence[Entry],
  *,
  kept: str | None = None,
) -> pathlib.Path:
  """Writes the page, its figures, its table and its content; returns the page.

  Args:
    out: folder of the page.
    content: content of the page, from `build`.
    entries: all cells.
    kept: another folder for all but the page, or None.
  """
  cells = [
    {**cell, 'page': _page(out, entry.folder)}
    for cell, entry in zip(content['study']['cells'], entries, strict=True)
  ]
  linked = {**content, 'study': {**content['study'], 'cells': cells}}
  drawn = curves.draw(content)
  for folder in (out, *([] if kept is None else [pathlib.Path(kept)])):
    folder.mkdir(parents=True, exist_ok=True)
    atomic_file.write_json(folder / FILE, content)
    many_tables.write_csv(folder / TABLE, content)
    for name, svg in drawn.items():
      atomic_file.write_text(folder / f'{name}.svg', svg)
  atomic_file.write_text(out / PAGE, many_page.render(linked, drawn=drawn))
  return out / PAGE


def _page(out: pathlib.Path, folder: pathlib.Path | None) -> str | None:
  """Link from the page to that of a cell; None if not found below it."""
  if folder is None:
    return None
  page = folder / 'report.html'
  inside = page.is_file() and page.is_relative_to(out)
  return str(page.relative_to(out)) if inside else None


def _read(folder: pathlib.Path) -> Report:
  """Reads a report, without what is about its training: that is on its own page."""
  (report,) = runs.load([folder])
  left = {name: it for name, it in report.content.items() if name != 'validation'}
  return report._replace(content={**left, 'curves': {}})


def columns(found: Sequence[tuple[Entry, Report]]) -> list[Column]:
  """Groups cells into columns: a model for each seed, whose reports are its rows.

  The bases that the reports measured beside their models come first.
  """
  by_name: dict[str, dict[int, list[Report]]] = {}
  for entry, report in found:
    by_name.setdefault(entry.column, {}).setdefault(entry.seed, []).append(report)
  tuned = [
    Column(
      name,
      tuple(Model('tuned', tuple(by_seed[seed])) for seed in sorted(by_seed)),
      f'study {name}',
      None,
    )
    for name, by_seed in by_name.items()
  ]
  reports = [report for _, report in found]
  return runs.distinct([*runs.bases(reports, tuned), *tuned])

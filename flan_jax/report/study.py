"""The page of a study: one table and figure of its cells, what each took, commands."""

import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.report import curves, many, many_page, many_tables, runs
from flan_jax.report.runs import Column, Model, Report
from flan_jax.runtime import atomic_file

PAGE, FILE, TABLE = 'study.html', 'study.json', 'study.csv'


class Entry(NamedTuple):
  """One cell of a study.

  Attributes:
    name: its name.
    column: name of its column.
    seed: SEED.
    folder: folder of its report; None if it is not finished.
    cost: what it took; None if unknown.
    command: arguments of `flan`.
  """

  name: str
  column: str
  seed: int
  folder: pathlib.Path | None
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
    What `many.build` returns, with 'study': {'name', 'cells': [{'name', 'column',
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
      'finished': entry.folder is not None,
      'cost': None if entry.cost is None else dict(entry.cost),
      'command': shlex.join(['flan', *entry.command]),
    }
    for entry in entries
  ]
  return {**content, 'study': {'name': name, 'cells': cells}}


def write(out: pathlib.Path, content: Mapping[str, Any]) -> pathlib.Path:
  """Writes the page, its figure, its table and its content; returns the page."""
  out.mkdir(parents=True, exist_ok=True)
  atomic_file.write_json(out / FILE, content)
  many_tables.write_csv(out / TABLE, content)
  drawn = curves.draw(content)
  for name, svg in drawn.items():
    atomic_file.write_text(out / f'{name}.svg', svg)
  atomic_file.write_text(out / PAGE, many_page.render(content, drawn=drawn))
  return out / PAGE


def _read(folder: pathlib.Path) -> Report:
  """Reads a report, without what is about its training: that is on its own page."""
  (report,) = runs.load([folder])
  left = {
    name: value
    for name, value in report.content.items()
    if name not in ('validation', 'curves')
  }
  return report._replace(content=left)


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

"""`flan report`: prints and renders a report, many, or a difference of two."""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any

from flan_jax.cli import console
from flan_jax.errors import InputError


def run(options: argparse.Namespace) -> int:
  from flan_jax.report import compare, schema, terminal, write
  from flan_jax.runtime import object_store
  from flan_jax.train import goodput

  local = [str(object_store.here('MODEL_DIR', each)) for each in options.folders]
  given = pathlib.Path(local[0])
  if given.name == 'report.json' and given.is_file():
    given = given.parent
  files = options.html or options.csv or options.latex
  if options.against is None and (files or len(local) > 1 or _holds_many(given)):
    return _many(local, options)
  if options.against is not None:
    _check_alone(options)
  spent = goodput.summarize(goodput.read(given / goodput.FILE))
  if spent is not None and options.against is None and not _has_report(given):
    if options.json:
      console.print_json({'goodput': spent._asdict()})
    else:
      _print_goodput(spent)
    return 0
  folder = _report_folder(str(given))
  if options.against is not None:
    changed = compare.write(folder, _report_folder(options.against))
    if options.json:
      console.print_json(changed)
    else:
      terminal.print_difference(changed)
      print(folder / 'difference.html')
    return 0
  found = schema.load(folder)
  if options.json:
    console.print_json(
      found if spent is None else {**found, 'goodput': spent._asdict()}
    )
    return 0
  write.render(folder)
  terminal.print_table(found)
  print(folder / 'report.html')
  if spent is not None:
    _print_goodput(spent)
  return 0


def _check_alone(options: argparse.Namespace) -> None:
  """Checks that --against has one report to compare, and nothing else to write.

  Raises:
    InputError: if it has several, or an option of many reports.
  """
  if len(options.folders) > 1:
    raise InputError(
      f'--against: got {len(options.folders)} reports; must be one, or leave it out to '
      'have all in one table'
    )
  for name in ('html', 'csv', 'latex'):
    if getattr(options, name) is not None:
      raise InputError(
        f'--{name}: has no effect with --against, which writes difference.{name}'
      )


def _many(local: Sequence[str], options: argparse.Namespace) -> int:
  """Prints the table of many reports, and writes the page and the files asked for."""
  from flan_jax.report import many, many_page, many_tables, runs
  from flan_jax.runtime import atomic_file

  page = _page(local, options)
  _check_files(options, page)
  content = many.build(runs.load(runs.find(local)))
  texts = {} if page is None else {page: many_page.render(content)}
  if options.latex is not None:
    texts[pathlib.Path(options.latex)] = many_tables.latex(content)
  for path, text in texts.items():
    atomic_file.write_text(path, text)
  if options.csv is not None:
    many_tables.write_csv(pathlib.Path(options.csv), content)
  if options.json:
    console.print_json(content)
    return 0
  many_tables.print_table(content)
  for path in filter(None, (page, options.csv, options.latex)):
    print(path)
  return 0


def _check_files(options: argparse.Namespace, page: pathlib.Path | None) -> None:
  """Checks the files to write: none is a folder, and no two are one.

  Raises:
    InputError: if one is, or two are.
  """
  seen: dict[pathlib.Path, str] = {}
  for option, path in (
    ('--html', page), ('--csv', options.csv), ('--latex', options.latex),
  ):  # fmt: skip
    if path is None:
      continue
    given = pathlib.Path(path)
    if given.is_dir():
      raise InputError(f'{option}: {str(path)!r} is a folder; must be a file')
    first = seen.setdefault(given.resolve(), option)
    if first != option:
      raise InputError(
        f'{option}: {str(path)!r} is the file of {first} too; must be another one'
      )


def _page(local: Sequence[str], options: argparse.Namespace) -> pathlib.Path | None:
  """Returns the file of the page of many reports; None for --json alone."""
  if options.html is not None:
    return pathlib.Path(options.html)
  if options.json:
    return None
  beside = len(local) == 1 and '://' not in options.folders[0]
  folder = pathlib.Path(local[0]) if beside else pathlib.Path()
  return (folder if folder.is_dir() else folder.parent) / 'reports.html'


def _print_goodput(spent: Any) -> None:
  """Prints a `goodput.Summary` as a table."""
  rows = [
    (kind, f'{seconds:,.1f}', f'{seconds / spent.wall:.1%}' if spent.wall else '')
    for kind, seconds in spent.seconds.items()
    if seconds
  ]
  sides = {'where the time went': 'left', 'seconds': 'right', 'share': 'right'}
  console.table(
    f'{spent.steps:,} steps in {spent.wall:,.1f} s, {spent.starts} starts, '
    f'{spent.recomputed_steps:,} steps recomputed: goodput {spent.goodput:.1%}',
    sides,
    rows,
  )


def _has_report(given: pathlib.Path) -> bool:
  return any((place / 'report.json').is_file() for place in (given, given / 'report'))


def _holds_many(given: pathlib.Path) -> bool:
  """Returns whether a folder is no run and no evaluation, but holds some."""
  from flan_jax.train import goodput

  alone = _has_report(given) or (given / goodput.FILE).exists()
  return not alone and any(given.rglob('report.json'))


def _report_folder(name: str) -> pathlib.Path:
  """Returns the folder of a report: this one, or its report/."""
  for folder in (pathlib.Path(name), pathlib.Path(name) / 'report'):
    if (folder / 'report.json').is_file():
      return folder
  raise InputError(f'{name!r}: no report.json; must be MODEL_DIR or an evaluation')

"""`flan report`: prints a report."""

import argparse
import pathlib
from typing import Any

from flan_jax.errors import InputError
from flan_jax.verbs import output


def run(options: argparse.Namespace) -> int:
  from flan_jax.evaluate import difference, tables
  from flan_jax.evaluate import report as report_lib
  from flan_jax.train import bucket, ledger

  given = pathlib.Path(bucket.here('MODEL_DIR', options.folder))
  spent = ledger.summarize(ledger.read(given / ledger.FILE))
  if spent is not None and options.against is None and not _has_report(given):
    if options.json:
      output.print_json({'goodput': spent._asdict()})
    else:
      _print_goodput(spent)
    return 0
  folder = _report_folder(str(given))
  if options.against is not None:
    changed = difference.write(folder, _report_folder(options.against))
    if options.json:
      output.print_json(changed)
    else:
      tables.print_difference(changed)
      print(folder / 'difference.html')
    return 0
  found = report_lib.load(folder)
  if options.json:
    output.print_json(found if spent is None else {**found, 'goodput': spent._asdict()})
    return 0
  report_lib.render(folder)
  tables.print_table(found)
  print(folder / 'report.html')
  if spent is not None:
    _print_goodput(spent)
  return 0


def _print_goodput(spent: Any) -> None:
  """A `ledger.Summary`, as a table."""
  rows = [
    (kind, f'{seconds:,.1f}', f'{seconds / spent.wall:.1%}' if spent.wall else '')
    for kind, seconds in spent.seconds.items()
    if seconds
  ]
  sides = {'where the time went': 'left', 'seconds': 'right', 'share': 'right'}
  output.table(
    f'{spent.steps:,} steps in {spent.wall:,.1f} s, {spent.starts} starts, '
    f'{spent.lost_steps:,} steps done again: goodput {spent.goodput:.1%}',
    sides,
    rows,
  )


def _has_report(given: pathlib.Path) -> bool:
  return any((place / 'report.json').is_file() for place in (given, given / 'report'))


def _report_folder(name: str) -> pathlib.Path:
  """The folder of a report: that one, or its report/."""
  for folder in (pathlib.Path(name), pathlib.Path(name) / 'report'):
    if (folder / 'report.json').is_file():
      return folder
  raise InputError(f'{name!r}: no report.json; must be MODEL_DIR or an evaluation')

"""`flan report`: prints and renders a report, or a difference of two."""

import argparse
import pathlib
from typing import Any

from flan_jax.cli import console
from flan_jax.errors import InputError


def run(options: argparse.Namespace) -> int:
  from flan_jax.report import compare, schema, terminal, write
  from flan_jax.runtime import object_store
  from flan_jax.train import goodput

  local = object_store.here('MODEL_DIR', options.folder)
  assert local is not None  # the folder is given
  given = pathlib.Path(local)
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


def _report_folder(name: str) -> pathlib.Path:
  """Returns the folder of a report: this one, or its report/."""
  for folder in (pathlib.Path(name), pathlib.Path(name) / 'report'):
    if (folder / 'report.json').is_file():
      return folder
  raise InputError(f'{name!r}: no report.json; must be MODEL_DIR or an evaluation')

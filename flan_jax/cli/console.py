"""What several verbs print with, and on which host."""

import json
import sys
from collections.abc import Callable
from typing import Any

from flan_jax.runtime.progress import Progress


def print_json(value: Any) -> None:
  json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
  print()


def on_hosts(multihost: str | None, verb: Callable[[Progress], int]) -> int:
  """Runs a verb as one of several hosts, of which the first alone says anything.

  Args:
    multihost: what --multihost says; None for a process that is alone.
    verb: from the Progress to say things with to its exit code.
  """
  if multihost is None:
    return verb(Progress())
  from flan_jax.runtime import multihost as multihost_lib

  multihost_lib.initialize(multihost)
  return multihost_lib.guarded(
    lambda: verb(Progress(quiet=not multihost_lib.is_main_process()))
  )


def quiet_absl() -> None:
  """TFDS and Orbax log every file they open; errors are enough."""
  from absl import logging

  logging.set_verbosity(logging.ERROR)


def table(title: str, columns: dict[str, str], rows: list[tuple]) -> None:
  """A table on standard output; `columns` are heading -> 'left' or 'right'."""
  from rich import box, console, table

  shown = table.Table(title=title, box=box.SIMPLE, title_justify='left')
  for heading, side in columns.items():
    shown.add_column(heading, justify=side, overflow='fold')
  for row in rows:
    shown.add_row(*(f'{c:,}' if isinstance(c, int) else str(c) for c in row))
  # What is read by a program is not folded: a name would not be found again.
  width = None if sys.stdout.isatty() else 200
  console.Console(width=width).print(shown)

"""Output of the verbs, and the process that prints it."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from flan_jax.runtime.progress import Progress


def print_json(value: Any) -> None:
  json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
  print()


def run_process(multihost: str | None, verb: Callable[[Progress], int]) -> int:
  """Runs a verb as one of several processes; only the main process prints progress.

  Args:
    multihost: value of --multihost; None for a single process.
    verb: takes the Progress to print to; returns the exit code.
  """
  if multihost is None:
    return verb(Progress())
  from flan_jax.runtime import multihost as multihost_lib

  multihost_lib.initialize(multihost)
  return multihost_lib.run_and_exit(
    lambda: verb(Progress(quiet=not multihost_lib.is_main_process()))
  )


def quiet_absl() -> None:
  """Limits absl to errors: TFDS and Orbax log every file they open."""
  from absl import logging

  logging.set_verbosity(logging.ERROR)


def table(title: str, columns: dict[str, str], rows: list[tuple]) -> None:
  """Prints a table; `columns` are heading -> 'left' or 'right'."""
  from rich import box, console, table

  shown = table.Table(title=title, box=box.SIMPLE, title_justify='left')
  for heading, side in columns.items():
    justify = 'right' if side == 'right' else 'left'
    shown.add_column(heading, justify=justify, overflow='fold')
  for row in rows:
    shown.add_row(*(f'{c:,}' if isinstance(c, int) else str(c) for c in row))
  # Off a terminal nothing is folded: a program that reads a name needs it whole.
  width = None if sys.stdout.isatty() else 200
  console.Console(width=width).print(shown)


@contextlib.contextmanager
def local_folder(output_dir: str) -> Iterator[str]:
  """Yields a local folder for OUTPUT_DIR; process 0 uploads its own to gs://."""
  from flan_jax.runtime import lock, multihost, signals
  from flan_jax.runtime.object_store import Bucket

  if '://' not in output_dir:
    yield output_dir
    return
  bucket = Bucket('OUTPUT_DIR', output_dir)
  with lock.held_by_main('OUTPUT_DIR', output_dir):
    with multihost.main_process_first():
      if multihost.is_main_process():
        bucket.pull()
    try:
      yield str(bucket.local)
    finally:
      if multihost.is_main_process():
        with signals.patient():
          bucket.push()

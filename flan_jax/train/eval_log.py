"""Figures of evaluation steps, as JSON lines in MODEL_DIR."""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from flan_jax.runtime import atomic_file, json_lines, multihost


class EvalLog:
  """One line for each evaluation step of a run; process 0 writes.

  A step that runs again after a restart replaces its line.
  """

  def __init__(self, path: pathlib.Path):
    """Names the file; creates nothing."""
    self._path = path

  def add(self, entry: Mapping[str, Any]) -> None:
    """Appends an evaluation step, and removes those of the same and later steps."""
    if not multihost.is_main_process():
      return
    earlier = [one for at, one in read(self._path).items() if at < entry['step']]
    with atomic_file.writing(self._path) as file:
      file.writelines(f'{json.dumps(each)}\n' for each in [*earlier, entry])

  def has(self, step: int) -> bool:
    """Returns whether the evaluation step has run; every process calls it."""
    done = multihost.is_main_process() and step in read(self._path)
    return multihost.broadcast(b'' if done else None) is not None


def read(
  path: pathlib.Path, take: Callable[[dict[str, Any]], Any] = dict
) -> dict[int, Any]:
  """Reads the evaluation steps by step, without damaged lines.

  Args:
    path: the file.
    take: entry -> what is returned of it; raises as for `json_lines.read`.
  """
  return dict(
    json_lines.read(path, lambda entry: (json_lines.step(entry), take(entry)))
  )

"""JSON Lines: log.jsonl, and one file for each other group of values."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from flan_jax.runtime import atomic_file, json_lines
from flan_jax.train.writers.writer import RunInfo, Writer, metric_writer

TRAIN = 'train'
"""Group of the values of log.jsonl: 'train/loss' is its `loss`."""

EVALUATION, VALIDATION = 'evaluation', 'validation'
"""Groups of the values that the evaluations themselves keep.

They are in evaluations.jsonl (held-out clusters) and validation.jsonl (training
datasets).
"""


@metric_writer('jsonl')
class Jsonl(Writer):
  """Writes one JSON object a step: 'train/...' to log.jsonl, 'a/...' to a.jsonl."""

  def __init__(self, run: RunInfo):
    self._files: dict[str, JsonlFile] = {}
    self._run = run
    self._file(TRAIN)

  def write(self, step: int, values: Mapping[str, float | None]) -> None:
    groups: dict[str, dict[str, float | None]] = {}
    for name, value in values.items():
      group, slash, rest = name.partition('/')
      group, name = (group, rest) if slash else (TRAIN, name)
      if group not in (EVALUATION, VALIDATION):
        groups.setdefault(group, {})[name] = value
    for group, found in groups.items():
      self._file(group).add({'step': step, **found})

  def _file(self, group: str) -> 'JsonlFile':
    if group not in self._files:
      name = 'log' if group == TRAIN else group
      path = self._run.folder / f'{name}.jsonl'
      self._files[group] = JsonlFile(path, step=self._run.step)
    return self._files[group]


class JsonlFile:
  """A file with one JSON object a line, each with its `step`."""

  def __init__(self, path: pathlib.Path, *, step: int):
    """Drops damaged lines, and those of steps after `step`, which will run again."""
    self._path = path
    if path.is_file():
      lines = json_lines.lines(path, json_lines.step)
      kept = [line for line, done in lines if done <= step]
      atomic_file.write_text(path, ''.join(f'{line}\n' for line in kept))

  def add(self, entry: Mapping[str, Any]) -> None:
    with atomic_file.appending(self._path) as file:
      file.write(json.dumps(entry) + '\n')

"""Goodput: the wall-clock time of a run by purpose, over all of its starts.

MODEL_DIR/goodput.jsonl has one JSON object per line, appended as things happen:

  {"kind": "start", "at", "step"}                a process started or resumed at a step
  {"kind": KIND, "at", "seconds", ...}           seconds spent, ending at `at`
  {"kind": "recomputed", "at", "seconds", "steps"}  earlier steps, computed again

`at` is seconds since 1970. Only process 0 writes. Standard library only.
"""

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from flan_jax.runtime import atomic_file, json_lines

KINDS = ('init', 'compile', 'data wait', 'step', 'save', 'evaluation')
"""Purposes of time; `step` records have `from` and `to`, numbers of steps done."""

_RENAMED_KINDS = {'lost': 'recomputed'}
"""Kind of record in a file of an older version -> its kind now."""

_NUMBERS = {
  'start': ('at', 'step'),
  'step': ('at', 'seconds', 'from', 'to'),
  'recomputed': ('at', 'seconds', 'steps'),
}
"""Kind of record -> its numbers; those of other kinds are `at` and `seconds`."""

FILE = 'goodput.jsonl'


class GoodputLog:
  """Appends the records of one start of a run to its goodput.jsonl.

  Attributes:
    recomputed: (steps, seconds) of earlier starts after the step of this one.
  """

  def __init__(self, path: str | os.PathLike, *, began: float, write: bool = True):
    """Opens the log; nothing is written before `start`.

    Args:
      path: the file.
      began: time at which this start began, seconds since 1970.
      write: whether this process writes.
    """
    self._path = pathlib.Path(path)
    self._began = began
    self._offset = began - time.monotonic()  # the clock may be set back meanwhile
    self._write = write
    self.recomputed = (0, 0.0)

  def start(self, step: int) -> None:
    """Records that this start resumes at `step`; drops damaged lines."""
    if not self._write:
      return
    records = read(self._path)
    text = ''.join(f'{json.dumps(record)}\n' for record in records)
    if not self._path.is_file() or self._path.read_bytes() != text.encode('utf-8'):
      atomic_file.write_text(self._path, text)
    self.recomputed = recomputed_after(records, step)
    self._append({'kind': 'start', 'at': round(self._began, 3), 'step': step})
    steps, seconds = self.recomputed
    if steps:
      self.add('recomputed', seconds, steps=steps)

  def add(self, kind: str, seconds: float, **more: Any) -> None:
    """Records `seconds` spent on `kind`, ending now."""
    if self._write:
      at = round(self._offset + time.monotonic(), 3)
      self._append({'kind': kind, 'at': at, 'seconds': round(seconds, 4), **more})

  @contextlib.contextmanager
  def span(self, kind: str) -> Iterator[None]:
    """Records the time spent in the context, also if it ends in an exception."""
    began = time.monotonic()
    try:
      yield
    finally:
      self.add(kind, time.monotonic() - began)

  def _append(self, record: dict[str, Any]) -> None:
    with atomic_file.appending(self._path) as file:
      file.write(json.dumps(record) + '\n')


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Returns the records of a goodput.jsonl without damaged lines; [] if not found."""
  return json_lines.read(path, _record)


def _record(found: dict[str, Any]) -> dict[str, Any]:
  """A record of a line; raises KeyError or TypeError if it is none."""
  kind = found['kind']
  kind = _RENAMED_KINDS.get(kind) or kind
  for name in _NUMBERS.get(kind, ('at', 'seconds')):
    json_lines.number(found[name])
  return {**found, 'kind': kind}


def recomputed_after(records: Sequence[dict[str, Any]], step: int) -> tuple[int, float]:
  """(steps, seconds) that the last start did after `step`."""
  done = [r for r in records if r['kind'] == 'step']
  start = max((i for i, r in enumerate(records) if r['kind'] == 'start'), default=0)
  last = [r for r in records[start:] if r['kind'] == 'step']
  seconds = sum(
    r['seconds'] * (r['to'] - max(r['from'], step)) / (r['to'] - r['from'])
    for r in last
    if r['to'] > max(r['from'], step)
  )
  furthest = max((r['to'] for r in last), default=step)
  return (max(0, furthest - step), seconds) if done else (0, 0.0)


class Summary(NamedTuple):
  """Totals of a goodput.jsonl, in seconds of wall clock.

  Attributes:
    starts: number of starts.
    wall: seconds from the first start to the last record; never fewer than those
      recorded, though the clock went back.
    seconds: kind -> seconds; `step` without recomputed steps, `down` between starts,
      `other` the rest (such as the work of a killed process after its last record).
    recomputed_steps: steps that were computed twice.
    steps: steps done, each counted once.
    goodput: share of the wall clock in steps that count.
  """

  starts: int
  wall: float
  seconds: dict[str, float]
  recomputed_steps: int
  steps: int
  goodput: float


def summarize(records: Sequence[dict[str, Any]]) -> Summary | None:
  """Sums up the records; None if they have no start."""
  starts = [i for i, r in enumerate(records) if r['kind'] == 'start']
  if not starts:
    return None
  seconds: dict[str, float] = dict.fromkeys(
    (*KINDS, 'recomputed', 'down', 'other'), 0.0
  )
  for record in records:
    if record['kind'] in seconds:
      seconds[record['kind']] += record['seconds']
  seconds['step'] -= seconds['recomputed']
  for i in starts[1:]:
    seconds['down'] += max(0.0, records[i]['at'] - records[i - 1]['at'])
  known = sum(seconds.values())
  wall = max(max(r['at'] for r in records) - records[starts[0]]['at'], known)
  seconds['other'] = wall - known
  recomputed_steps = sum(
    r.get('steps', 0) for r in records if r['kind'] == 'recomputed'
  )
  steps = sum(r['to'] - r['from'] for r in records if r['kind'] == 'step')
  goodput = seconds['step'] / wall if wall > 0 else 0.0
  return Summary(
    len(starts), wall, seconds, recomputed_steps, steps - recomputed_steps, goodput
  )

"""The writers of a run as one; what a writer raises does not end the run."""

import dataclasses
import math
import pathlib
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flan_jax.runtime import disk
from flan_jax.train.writers import writer as writer_lib
from flan_jax.train.writers.writer import RunInfo, Writer

CLOSE_S = 30.0
"""Seconds that the end of a run waits for all remote writers together."""

RETRY_S = 60.0
"""Seconds after which a remote writer that could not be opened is tried again."""

_WIDTH = 200
"""Characters of an error that a warning shows."""


class Writers:
  """The writers of a run; none before `start`, and none on processes other than 0."""

  def __init__(self, names: Sequence[str], *, warn: Callable[[str], None]):
    """Names the writers.

    Args:
      names: names in the registry.
      warn: called with the first error of each writer.
    """
    self._names, self._warn = tuple(dict.fromkeys(names)), warn
    self._writers: list[_Guarded] = []

  def start(self, run: RunInfo) -> None:
    """Opens the writers."""
    for name in self._names:
      make = writer_lib.get(name)
      guarded = _InThread if make.remote else _Guarded
      self._writers.append(guarded(name, make, run, self._warn))
      self._writers[-1].start()

  def write(self, step: int, values: Mapping[str, float | None]) -> None:
    """Writes values after `step` steps with every writer."""
    for writer in self._writers:
      writer.call(lambda w, values=dict(values): w.write(step, values))

  def attach(self, path: pathlib.Path) -> None:
    """Gives a finished file to every writer."""
    for writer in self._writers:
      writer.call(lambda w: w.attach(path))

  def close(self, finished: bool) -> None:
    """Closes every writer; waits no longer than CLOSE_S for those of servers."""
    for writer in self._writers:
      writer.end(finished)
    deadline = time.monotonic() + CLOSE_S
    for writer in self._writers:
      writer.wait(max(deadline - time.monotonic(), 0.0))
    self._writers = []


class _Guarded:
  """A writer whose first error is a warning; it is called again the next time."""

  def __init__(
    self, name: str, make: type[Writer], run: RunInfo, warn: Callable[[str], None]
  ):
    self._name, self._make, self._warn = name, make, warn
    self._run = dataclasses.replace(run, warn=self.warn)
    self._writer: Writer | None = None
    self._warned = False

  def start(self) -> None:
    """Opens the writer."""
    self._try(self._open)

  def call(self, use: Callable[[Writer], None]) -> None:
    """Uses the writer if it is open."""
    if self._writer is not None:
      self._try(use, self._writer)

  def end(self, finished: bool) -> None:
    """Closes the writer if it is open."""
    try:
      self.call(lambda writer: writer.close(finished))
    except Exception as error:  # a full disk, which the run has met before
      self.warn(str(error))

  def wait(self, seconds: float) -> None:
    """Waits until it is closed."""

  def warn(self, text: str) -> None:
    """Shows a warning, unless there was one."""
    if not self._warned:
      self._warned = True
      self._warn(f'warning: WRITERS {self._name!r}: {text}; the run goes on')

  def _open(self) -> None:
    self._writer = self._make(self._run)

  def _try(self, function: Callable[..., None], *arguments: Any) -> None:
    try:
      function(*arguments)
    except Exception as error:
      if disk.is_full(error):
        raise
      self.warn(' '.join(f'{type(error).__name__}: {error}'.split())[:_WIDTH])


class _InThread(_Guarded):
  """A guarded writer in a thread of its own; calls wait until it can be opened."""

  def __init__(self, name: str, *others: Any):
    super().__init__(name, *others)
    self._calls: queue.SimpleQueue[Callable[[Writer], None] | None] = (
      queue.SimpleQueue()
    )
    self._thread = threading.Thread(
      target=self._work, name=f'writer {name}', daemon=True
    )

  def start(self) -> None:
    self._thread.start()

  def call(self, use: Callable[[Writer], None]) -> None:
    self._calls.put(use)

  def end(self, finished: bool) -> None:
    super().end(finished)
    self._calls.put(None)

  def wait(self, seconds: float) -> None:
    self._thread.join(seconds)
    if self._thread.is_alive():
      self.warn(f'did not answer within {CLOSE_S:.0f} s')

  def _work(self) -> None:
    """Opens the writer, and makes the calls in their order."""
    waiting: list[Callable[[Writer], None]] = []
    tried, ending = -math.inf, False
    while not ending:
      if self._writer is None and time.monotonic() - tried > RETRY_S:
        self._try(self._open)
        tried = time.monotonic()
      use = self._calls.get()
      ending = use is None
      if ending and self._writer is None:
        self._try(self._open)
      waiting += [] if use is None else [use]
      if self._writer is not None:
        for use in waiting:
          self._try(use, self._writer)
        waiting = []

  def _try(self, function: Callable[..., None], *arguments: Any) -> None:
    try:
      super()._try(function, *arguments)
    except Exception as error:  # a full disk: the run itself meets it too
      self.warn(str(error))

"""When a run ends before its time: SIGTERM, a step that hangs."""

import contextlib
import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

INTERRUPTED = 143
"""Exit code after SIGTERM: a checkpoint was saved, start again to go on."""


class Stopped(Exception):
  """SIGTERM ended the run; all that was done is saved."""


class Stop:
  """SIGTERM as a flag that the loop reads between two steps.

  With several hosts the signal may reach one of them first: JAX's preemption service
  has seen it and names a step that all of them have yet to reach.
  """

  def __init__(self):
    self._asked = False
    self._raises = False
    self._alone = jax.process_count() == 1

  def __enter__(self) -> 'Stop':
    main = threading.current_thread() is threading.main_thread()
    self._handles = main and self._alone
    if self._handles:
      self._before = signal.signal(signal.SIGTERM, self._ask)
    return self

  def __exit__(self, *_):
    if self._handles:
      signal.signal(signal.SIGTERM, self._before)

  def asked(self, step: int) -> bool:
    """Whether to save and end now, at `step`; the same on all hosts."""
    if self._alone:
      return self._asked
    return multihost_utils.reached_preemption_sync_point(step)

  @contextlib.contextmanager
  def at_once(self) -> Iterator[None]:
    """In here SIGTERM raises Stopped: an evaluation keeps what it has computed."""
    if self._asked:
      raise Stopped
    self._raises = True
    try:
      yield
    finally:
      self._raises = False

  def _ask(self, *_):
    self._asked = True
    if self._raises:
      raise Stopped


class Watchdog:
  """Dumps the stack of every thread when nothing moves for a while.

  The dump comes from a thread of faulthandler's own, which needs no lock of Python's:
  it works where a step hangs in a collective or a file system.
  """

  def __init__(self, timeout_s: float):
    """Watches for `timeout_s` without a `beat`; 0 never dumps."""
    self._timeout_s = timeout_s

  def __enter__(self) -> 'Watchdog':
    self.beat()
    return self

  def __exit__(self, *_):
    if self._timeout_s:
      faulthandler.cancel_dump_traceback_later()

  def beat(self) -> None:
    """Something moved."""
    if self._timeout_s:
      faulthandler.dump_traceback_later(
        self._timeout_s, repeat=True, file=sys.__stderr__
      )

"""When a run ends before its time: SIGTERM, a step that hangs."""

import contextlib
import faulthandler
import itertools
import signal
import sys
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

INTERRUPTED = 143
"""Exit code after SIGTERM: what was done is saved, start again to go on."""


class Stopped(Exception):
  """SIGTERM ended the run; all that was done is saved."""


class Stop:
  """SIGTERM as a flag that is read between two steps, or two batches.

  With several hosts the signal may reach one of them first: JAX's preemption service
  has seen it and names a question that none of them has asked yet. Every host must ask
  as often as the others and in the same order; none then leaves another waiting in a
  collective.
  """

  def __init__(self):
    self._asked = False
    self._raises = False
    self._alone = jax.process_count() == 1
    self._questions = itertools.count(1)

  def __enter__(self) -> 'Stop':
    main = threading.current_thread() is threading.main_thread()
    self._handles = main and self._alone
    if self._handles:
      self._before = signal.signal(signal.SIGTERM, self._ask)
    return self

  def __exit__(self, *_):
    if self._handles:
      signal.signal(signal.SIGTERM, self._before)

  def asked(self) -> bool:
    """Whether to save and end now; the same on all hosts."""
    if not self._alone and not self._asked:
      # Question by question: the service waits for one number, and must not miss it.
      number = next(self._questions)
      self._asked = multihost_utils.reached_preemption_sync_point(number)
    return self._asked

  @contextlib.contextmanager
  def at_once(self) -> Iterator[None]:
    """In here SIGTERM raises Stopped: what was computed is kept.

    With several hosts it is `on_batch` that raises it, on all of them.
    """
    self._raises = True
    try:
      if self.asked():
        raise Stopped
      yield
    finally:
      self._raises = False

  def on_batch(self) -> None:
    """Raises Stopped where hosts are to end now, in `at_once`; all must call it."""
    if not self._alone and self._raises and self.asked():
      raise Stopped

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

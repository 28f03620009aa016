"""Early end of a run: SIGTERM."""

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

INTERRUPTED = 143
"""Exit code after SIGTERM: progress is saved; rerun the same command to resume."""


class Stopped(Exception):
  """Raised when SIGTERM ends the run; its progress is saved."""


class Stop:
  """SIGTERM as a flag that is read between two steps, or two batches.

  With several processes the signal may reach one of them first: JAX's preemption
  service then picks a future sync point, at which all of them stop. Every process must
  call `asked` equally often and in the same order, so that none is left waiting in a
  collective.
  """

  def __init__(self):
    self._asked = False
    self._raises = False
    self._single_process = jax.process_count() == 1
    self._sync_points = itertools.count(1)

  def __enter__(self) -> 'Stop':
    main = threading.current_thread() is threading.main_thread()
    self._handles = main and self._single_process
    if self._handles:
      self._before = signal.signal(signal.SIGTERM, self._ask)
    return self

  def __exit__(self, *_):
    if self._handles:
      signal.signal(signal.SIGTERM, self._before)

  def asked(self) -> bool:
    """Returns whether to save and end now; the same on all processes."""
    if not self._single_process and not self._asked:
      # Consecutive numbers: the service stops all processes at one of them.
      number = next(self._sync_points)
      self._asked = multihost_utils.reached_preemption_sync_point(number)
    return self._asked

  @contextlib.contextmanager
  def at_once(self) -> Iterator[None]:
    """Makes SIGTERM raise Stopped inside the block.

    With several processes `on_batch` raises it, on all of them.
    """
    self._raises = True
    try:
      if self.asked():
        raise Stopped
      yield
    finally:
      self._raises = False

  def on_batch(self) -> None:
    """Raises Stopped inside `at_once` if processes must end; all must call it."""
    if not self._single_process and self._raises and self.asked():
      raise Stopped

  def _ask(self, *_):
    self._asked = True
    if self._raises:
      raise Stopped

"""Early end of a run: SIGTERM, or Ctrl-C, which ends it in the same way."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

from flan_jax.runtime import signals

INTERRUPTED = 143
"""Exit code after SIGTERM: progress is saved; rerun the same command to resume."""


class Stopped(Exception):
  """Raised when SIGTERM or SIGINT ends the run; its progress is saved."""


class Stop:
  """SIGTERM and SIGINT as a flag that is read between two steps, or two batches.

  With several processes the signal may reach one of them first: JAX's preemption
  service then picks a future sync point, at which all of them stop. Every process must
  call `asked` equally often and in the same order, so that none is left waiting in a
  collective. The service knows SIGTERM alone: SIGINT is passed on as one.

  Attributes:
    name: name of the signal that came.
  """

  def __init__(self):
    self.name = 'SIGTERM'
    self._asked = False
    self._raises = False
    self._single_process = jax.process_count() == 1
    self._sync_points = itertools.count(1)
    self._handlers = contextlib.ExitStack()

  def __enter__(self) -> 'Stop':
    if threading.current_thread() is threading.main_thread():
      self._handlers.enter_context(
        signals.handling(self._ask)
        if self._single_process
        else signals.handling(self._pass_on, [signal.SIGINT])
      )
    return self

  def __exit__(self, *_):
    self._handlers.close()

  @property
  def exit_code(self) -> int:
    """Exit code after the signal, as of a shell: 130 or 143."""
    return 128 + signal.Signals[self.name]

  def asked(self) -> bool:
    """Returns whether to save and end now; the same on all processes."""
    if not self._single_process and not self._asked:
      # Consecutive numbers: the service stops all processes at one of them.
      number = next(self._sync_points)
      self._asked = multihost_utils.reached_preemption_sync_point(number)
    return self._asked

  @contextlib.contextmanager
  def at_once(self) -> Iterator[None]:
    """Makes the signal raise Stopped inside the block.

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

  def _ask(self, number: int, frame: object) -> None:
    before, self._asked = self._asked, True
    if not before:
      self.name = signal.Signals(number).name
    if self._raises:
      raise Stopped
    if before and number == signal.SIGINT:
      raise KeyboardInterrupt  # the user will not wait
    if not before:
      _say(f'{self.name}: this step is finished and saved; Ctrl-C now ends at once')

  def _pass_on(self, number: int, frame: object) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _say(text: str) -> None:
  """Prints a line from a signal handler, which may have come in the middle of one."""
  with contextlib.suppress(OSError):
    os.write(2, f'\n            {text}\n'.encode())

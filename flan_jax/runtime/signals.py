"""SIGINT and SIGTERM: every verb ends cleanly, within seconds, with a code of its own.

A signal raises KeyboardInterrupt or Terminated in the main thread, so that drafts are
removed and locks released. Python runs a handler only between two instructions of the
main thread, not while a library computes: a thread of this module learns of the signal
at once, and ends the process if the main thread has not done so in time. A block that
saves what a killed process would lose is `patient`. Standard library only.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

LIMIT_S = 8.0
"""Seconds from a signal to the end of the process, outside of `patient` blocks."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_TICK_S = 0.1


class Terminated(BaseException):
  """Raised by SIGTERM, as KeyboardInterrupt is by SIGINT."""


class _State:
  """The signals that the running verb has received.

  Attributes:
    received: signals, in their order.
    patient: number of open `patient` blocks.
  """

  def __init__(self):
    self.received: list[int] = []
    self.patient = 0

  @property
  def waits(self) -> bool:
    """True to wait for the main thread: not after a second Ctrl-C."""
    return self.patient > 0 and self.received.count(signal.SIGINT) < 2


_state = _State()


def received() -> signal.Signals | None:
  """The signal that ends the verb, or None."""
  return signal.Signals(_state.received[0]) if _state.received else None


def exit_code() -> int | None:
  """Exit code after the signal that was received, as of a shell; None without one."""
  found = received()
  return None if found is None else 128 + found


def forget() -> None:
  """Goes on after a signal, as a dialogue does after Ctrl-C."""
  _state.received.clear()


@contextlib.contextmanager
def patient() -> Iterator[None]:
  """Context of work that may take its time after a signal, such as saving a step."""
  _state.patient += 1
  try:
    yield
  finally:
    _state.patient -= 1


@contextlib.contextmanager
def ending() -> Iterator[None]:
  """Context of a verb: a signal ends it. Does nothing outside of the main thread."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  global _state
  _state = _State()
  read, write = os.pipe()
  os.set_blocking(write, False)
  waker = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
  with handling(_raise):
    thread = threading.Thread(target=_watch, args=(read, _state), daemon=True)
    thread.start()
    try:
      yield
    finally:
      signal.set_wakeup_fd(waker)
      os.close(write)
      thread.join()
      os.close(read)


@contextlib.contextmanager
def handling(handler, which: Sequence[int] = SIGNALS) -> Iterator[None]:
  """Sets the handler of signals in the block; those that are ignored stay so."""
  before = {one: signal.getsignal(one) for one in which}
  before = {k: h for k, h in before.items() if h not in (None, signal.SIG_IGN)}
  for one in before:
    signal.signal(one, handler)
  try:
    yield
  finally:
    for one, old in before.items():
      signal.signal(one, old)


def leave(code: int) -> NoReturn:
  """Ends this process, whose verb has ended, with its exit code.

  After a signal, threads of libraries may still compute: nothing is torn down under
  them, as an ordinary exit does. A signal that comes now only ends the exit.
  """
  for number in SIGNALS:
    if signal.getsignal(number) != signal.SIG_IGN:
      signal.signal(number, lambda *_: os._exit(code))
  if received() is None:
    sys.exit(code)
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(OSError, ValueError):  # closed
      stream.flush()
  os._exit(code)


def _raise(number: int, frame: FrameType | None) -> None:
  if number == signal.SIGINT:
    raise KeyboardInterrupt
  raise Terminated


def _watch(read: int, state: _State) -> None:
  """Notes signals as they come, and ends the process if the main thread does not."""
  deadline = None
  while True:
    if select.select([read], [], [], _TICK_S if deadline else None)[0]:
      numbers = os.read(read, 64)
      if not numbers:
        return
      state.received += [number for number in numbers if number in SIGNALS]
    if not state.received:
      deadline = None
    elif deadline is None or state.waits:
      deadline = time.monotonic() + LIMIT_S
    elif time.monotonic() > deadline:
      _end(state)


def _end(state: _State) -> NoReturn:
  number = signal.Signals(state.received[0])
  show = '\x1b[?25h' if sys.stderr.isatty() else ''  # a bar had hidden the cursor
  line = f'{show}flan: stopped by {number.name}; rerun the same command to go on\n'
  with contextlib.suppress(OSError):
    os.write(2, line.encode())
  os._exit(128 + number)

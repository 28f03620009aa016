"""Waits for the network: they say what they wait for, and end.

A library that retries, or has no timeout, runs under a limit of this module. Lines go
to standard error.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from flan_jax.errors import InputError

SETTING = 'FLAN_NETWORK_TIMEOUT_S'
"""Environment variable: seconds to wait for a server that does not answer."""

FIRST_S = 3.0
"""Seconds until the first line of a wait."""

PERIOD_S = 15.0
"""Seconds between the further lines of a wait."""

T = TypeVar('T')


class NoAnswer(InputError):
  """Raised when a server has not answered within the limit."""


def limit_s(default: float = 60.0) -> float:
  """Returns the seconds to wait: those of SETTING, else `default`.

  Raises:
    InputError: if SETTING is not a positive number.
  """
  value = os.environ.get(SETTING)
  if not value:
    return default
  try:
    limit = float(value)
  except ValueError:
    limit = 0.0
  if not 0 < limit < float('inf'):
    raise InputError(f'{SETTING}: got {value!r}; must be a positive number of seconds')
  return limit


@contextlib.contextmanager
def waiting(what: Callable[[], str], *, limit: float | None = None) -> Iterator[None]:
  """Says at intervals what the block waits for, and for how long.

  Args:
    what: makes the thing that is waited for; '' for no line.
    limit: seconds after which the wait ends, or None.
  """
  ended = threading.Event()
  began = time.monotonic()
  ends = '' if limit is None else f'; ends after {limit:g} s ({SETTING})'

  def tick() -> None:
    wait = FIRST_S
    while not ended.wait(wait):
      wait = PERIOD_S
      if name := what():
        seconds = time.monotonic() - began
        line = f'            waiting for {name}: {seconds:.0f} s{ends}\n'
        sys.stderr.write(line)
        sys.stderr.flush()

  ticker = threading.Thread(target=tick, daemon=True)
  ticker.start()
  try:
    yield
  finally:
    ended.set()
    ticker.join()


def within(what: str, call: Callable[[], T], *, limit: float | None = None) -> T:
  """Returns `call()`, which waits for a server; says so, and ends after the limit.

  The call runs in a thread of its own, which is left behind if it does not end.

  Args:
    what: the server.
    call: the call.
    limit: seconds to wait; None for `limit_s()`.

  Raises:
    NoAnswer: if the call takes longer than the limit.
  """
  limit = limit_s() if limit is None else limit
  found: list[T] = []
  raised: list[BaseException] = []
  done = threading.Event()

  def run() -> None:
    try:
      found.append(call())
    except BaseException as error:  # raised again by the caller
      raised.append(error)
    finally:
      done.set()

  with waiting(lambda: what, limit=limit):
    threading.Thread(target=run, daemon=True).start()
    if not done.wait(limit):
      raise NoAnswer(f'{what}: no answer in {limit:g} s ({SETTING})')
  if raised:
    raise raised[0]
  return found[0]


@contextlib.contextmanager
def or_exit(what: str, *, limit: float) -> Iterator[None]:
  """Ends the process, with one line, if the block does not end within the limit.

  For a block that can neither be interrupted nor left behind in a thread.
  """

  def end() -> None:
    sys.stderr.write(f'flan: error: {what}: no answer in {limit:g} s ({SETTING})\n')
    sys.stderr.flush()
    os._exit(1)

  timer = threading.Timer(limit, end)
  timer.daemon = True
  timer.start()
  try:
    with waiting(lambda: what, limit=limit):
      yield
  finally:
    timer.cancel()


@contextlib.contextmanager
def answers(name: str, remote: object) -> Iterator[None]:
  """Turns an error of an object store in the block into one line.

  Args:
    name: name of the setting.
    remote: its value.

  Raises:
    InputError: after any error but an InputError.
  """
  try:
    yield
  except InputError:
    raise
  except ImportError:
    why = "gcsfs is not installed; pip install 'flan_jax[gs]'"
  except Exception as error:
    why = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
  else:
    return
  raise InputError(f'{name} {str(remote)!r}: {why}', field=name)

"""Cases of a fuzzer: a door is opened, and what came of it is counted."""

import collections
import contextlib
import pathlib
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flan_jax.errors import InputError

SECONDS = 20
"""A case that takes longer hangs."""


class Hang(BaseException):
  """Raised in a case that takes too long."""


def outcome(door: Callable[[pathlib.Path], Any], path: pathlib.Path) -> str:
  """Outcome of a case: 'refused', 'taken', or a fault and its place."""
  return content(door, path)[0]


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
  """Raises Hang in a block that takes longer."""

  def on_alarm(*_):
    raise Hang

  before = signal.signal(signal.SIGALRM, on_alarm)
  signal.setitimer(signal.ITIMER_REAL, seconds)
  try:
    yield
  finally:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def fault(error: BaseException) -> str:
  """Outcome of a case with an error that is no refusal; Ctrl-C goes on."""
  if isinstance(error, KeyboardInterrupt):
    raise error
  last = traceback.extract_tb(error.__traceback__)
  ours = [frame for frame in last if 'flan_jax/' in frame.filename] or last
  place = f'{pathlib.Path(ours[-1].filename).name}:{ours[-1].lineno}'
  return f'traceback: {type(error).__name__} at {place}: {error!s:.200}'


def content(door: Callable[[pathlib.Path], Any], path: pathlib.Path) -> tuple[str, Any]:
  """Outcome of a case as of `outcome`, and what the door returned."""
  try:
    with limited(SECONDS):
      return 'taken', door(path)
  except InputError as error:
    one_line = '\n' not in str(error) and len(str(error)) < 1_500
    more = f'fault: more than a line: {str(error)[:300]!r}'
    return 'refused' if one_line else more, None
  except Hang:
    return f'hang: {traceback.format_exc().splitlines()[-4:-1]}', None
  except BaseException as error:
    return fault(error), None


def show(counts: Mapping[str, collections.Counter]) -> None:
  """Prints the figures of each kind and of all."""
  total = sum(counts.values(), collections.Counter())
  for kind, found in {**counts, 'all': total}.items():
    shown = ', '.join(f'{count:,} {name}' for name, count in sorted(found.items()))
    print(f'{kind}: {sum(found.values()):,} cases: {shown}')

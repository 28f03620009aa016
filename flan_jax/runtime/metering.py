"""Metering: the prompts and tokens that models compute, batch by batch.

Inference reports each batch with `computed`; a Meter that is listening counts them.
"""

import collections
import contextlib
import contextvars
import time
from collections.abc import Callable, Iterator

_WINDOW_S = 60.0
"""Seconds over which the speed is averaged: compilation soon leaves it."""

_SAMPLE_S = 0.5
"""Minimum seconds between two samples of a window."""

_listener: contextvars.ContextVar['Meter | None'] = contextvars.ContextVar(
  'listener', default=None
)


class Meter:
  """Counts the prompts of one dataset, and estimates the time left.

  Prompts that are replayed from a file, or left out, count as done but not as speed.

  Attributes:
    total: prompts in all.
    done: prompts done.
    tokens: tokens computed, padding included.
  """

  def __init__(self, total: int, *, clock: Callable[[], float] = time.monotonic):
    self.total = total
    self.done = 0.0
    self.tokens = 0
    self._computed = 0.0
    self._clock = clock
    self._began = clock()
    self._samples = collections.deque([(self._began, 0.0, 0)])

  def add(self, prompts: float, tokens: int) -> None:
    """Counts prompts that were computed, and the tokens that they took."""
    self.done = min(self.done + prompts, self.total)
    self.tokens += tokens
    self._computed += prompts
    now = self._clock()
    if now - self._samples[-1][0] >= _SAMPLE_S:
      self._samples.append((now, self._computed, self.tokens))
    while len(self._samples) > 2 and now - self._samples[1][0] > _WINDOW_S:
      self._samples.popleft()

  def reach(self, done: int) -> None:
    """Counts all prompts up to `done` as done, computed or not."""
    self.done = max(self.done, done)

  def note(self) -> str:
    """Tokens per second, and the time left at the speed of the last minute."""
    if not self._computed and not self.tokens:
      return ''
    now = self._clock()
    ended = self.done >= self.total
    began, prompts, tokens = (self._began, 0, 0) if ended else self._samples[0]
    seconds = max(now - began, 1e-9)
    parts = []
    if self.tokens:
      parts.append(f'{(self.tokens - tokens) / seconds:,.0f} tokens/s')
    speed = (self._computed - prompts) / seconds
    if ended:
      parts.append(f'in {duration(seconds)}')
    elif speed:
      parts.append(f'{duration((self.total - self.done) / speed)} left')
    return ', '.join(parts)


def duration(seconds: float) -> str:
  """Writes a time as M:SS or H:MM:SS.

  >>> duration(65), duration(3 * 3600 + 62)
  ('1:05', '3:01:02')
  """
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f'{hours}:{minutes:02}:{seconds:02}' if hours else f'{minutes}:{seconds:02}'


@contextlib.contextmanager
def listening(meter: Meter) -> Iterator[None]:
  """Sends what is computed in the block to `meter`."""
  token = _listener.set(meter)
  try:
    yield
  finally:
    _listener.reset(token)


def computed(prompts: float, tokens: int) -> None:
  """Reports a batch: the prompts that it finished, and the tokens computed."""
  meter = _listener.get()
  if meter is not None:
    meter.add(prompts, tokens)


def reporter(prompts: int) -> Callable[[int, int, int], None]:
  """Returns a callback that reports parts of `prompts` as they are computed.

  It is called with (parts done, parts in all, tokens computed), each from the start.
  """
  last = [0.0, 0]

  def report(done: int, total: int, tokens: int) -> None:
    share = prompts * done / total
    computed(share - last[0], tokens - last[1])
    last[:] = share, tokens

  return report

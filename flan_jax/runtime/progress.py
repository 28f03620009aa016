"""Progress on the terminal: stage banners, bars, plain lines.

Everything goes to standard error: standard output is for `--json` alone.
"""

import contextlib
import copy
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from flan_jax.runtime import metering
from flan_jax.runtime.metering import Meter


class Progress:
  """Stage banners with elapsed time; bars on a terminal, lines elsewhere.

  Attributes:
    quiet: print nothing.
    period_s: seconds between two plain lines of one bar, off a terminal.
    first_s: seconds until the first plain line of `work`.
    idle_s: seconds between two plain lines of `work` that is not getting on.
  """

  period_s = 10.0
  first_s = 3.0
  idle_s = 60.0

  def __init__(self, *, quiet: bool = False):
    self._start = time.monotonic()
    self.quiet = quiet
    self._brief = False
    self._tty = sys.stderr.isatty()
    self._open: Any = None

  def brief(self) -> 'Progress':
    """Returns progress for short work: only the lines of `work` that takes longer."""
    out = copy.copy(self)
    out._brief = True
    return out

  def stage(self, name: str) -> None:
    """Prints a banner: `[  12.3 s] Compiling the train step`."""
    if not self.quiet:
      elapsed = time.monotonic() - self._start
      print(f'[{elapsed:7.1f} s] {name}', file=sys.stderr, flush=True)

  def line(self, text: str) -> None:
    if not self.quiet:
      print(f'            {text}', file=sys.stderr, flush=True)

  @contextlib.contextmanager
  def bar(self, name: str, total: int, *, unit: str, start: int = 0) -> Iterator['Bar']:
    """Shows a bar of `total` units; `advance` moves it and may add a note.

    `start` of them are done already.
    """
    bar = Bar(self, name, total, unit, start=start)
    if self.quiet or not self._tty:
      yield bar
      bar.finish()
      return
    with self._screen() as shown:
      bar.attach(shown, unit)
      yield bar

  @contextlib.contextmanager
  def work(self, name: str, total: int, *, unit: str = 'prompts') -> Iterator[Meter]:
    """Shows what models compute in the block: units done, tokens/s, time left.

    The first line comes within seconds, even if the first batch is still compiling.
    """
    meter = Meter(total)
    with contextlib.ExitStack() as stack:
      stack.enter_context(metering.listening(meter))
      if self.quiet:
        yield meter
        return
      bar = Bar(self, name, total, unit)
      if self._tty:
        bar.attach(stack.enter_context(self._screen()), unit, timed=False)
      ended = threading.Event()
      ticker = threading.Thread(
        target=self._tick, args=(bar, meter, ended), daemon=True
      )
      ticker.start()
      try:
        yield meter
      finally:
        ended.set()
        ticker.join()
        bar.show(meter)
        bar.finish(silent=self._brief and not bar.has_printed)

  def _tick(self, bar: 'Bar', meter: Meter, ended: threading.Event) -> None:
    """Shows a meter at intervals until its work has ended."""
    while not ended.wait(0.5 if self._tty else bar.wait_s):
      bar.show(meter)
      if not self._tty:
        bar.print_if_due()

  @contextlib.contextmanager
  def counter(self) -> Iterator[Callable[[str, str, int, int], None]]:
    """Yields a callback (stage, name, done, total) with one bar per (stage, name).

    Several bars may be open at a time; each closes when it is full.
    """
    with contextlib.ExitStack() as stack:
      shown = None
      if self._tty and not self.quiet:
        shown = stack.enter_context(self._screen())
      bars: dict[tuple[str, str], Bar] = {}

      def count(stage: str, name: str, done: int, total: int) -> None:
        title = f'{stage} {name}'
        bar = bars.get((stage, name))
        if bar is None:
          bar = bars[stage, name] = Bar(self, title, total, 'examples')
          if shown is not None:
            bar.attach(shown, 'examples')
        bar.advance(done - bar.done)
        if done == total:
          bar.finish()

      yield count
      for bar in bars.values():
        bar.finish()

  @contextlib.contextmanager
  def _screen(self) -> Iterator[Any]:
    """Opens the part of the terminal with the bars; a second one shares the first."""
    if self._open is not None:
      yield self._open
      return
    from rich import console, progress, text

    class Left(progress.TimeRemainingColumn):
      """Shows the time left of bars without a meter, whose note holds it."""

      def render(self, task):
        return super().render(task) if task.fields['timed'] else text.Text()

    columns = (
      progress.TextColumn('            {task.description}'),
      progress.BarColumn(),
      progress.TextColumn(
        '{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}'
      ),
      Left(),
      progress.TextColumn('{task.fields[note]}'),
    )
    screen = console.Console(stderr=True)
    with progress.Progress(*columns, console=screen, transient=False) as self._open:
      try:
        yield self._open
      finally:
        self._open = None


class Bar:
  """One bar; off a terminal it prints a line every `period_s` seconds.

  Attributes:
    done: units done.
  """

  def __init__(
    self, progress: Progress, name: str, total: int, unit: str, *, start: int = 0
  ):
    self._progress, self._name, self._total, self._unit = progress, name, total, unit
    self._start = self.done = start
    self._note = ''
    self._last = time.monotonic()
    self._printed = -1
    self._shown = self._task = None

  @property
  def has_printed(self) -> bool:
    """True if a plain line was printed."""
    return self._printed >= 0

  @property
  def wait_s(self) -> float:
    """Seconds to wait for the next plain line."""
    return self._progress.period_s if self.has_printed else self._progress.first_s

  def attach(self, shown: Any, unit: str, *, timed: bool = True) -> None:
    """Shows the bar on a terminal; `timed` adds rich's time left."""
    self._shown = shown
    self._task = shown.add_task(
      self._name,
      total=self._total,
      completed=self.done,
      note='',
      unit=unit,
      timed=timed,
    )

  def advance(self, count: int = 1, note: str = '') -> None:
    self.done += count
    self._note = note or self._note
    if self._shown is not None:
      self._shown.update(self._task, completed=self.done, note=self._note)
      return
    now = time.monotonic()
    if now - self._last >= self._progress.period_s:
      self._last = now
      self._print()

  def show(self, meter: Meter) -> None:
    """Takes over the count and the note of a meter."""
    self.done, self._note = int(meter.done), meter.note()
    if self._shown is not None:
      self._shown.update(self._task, completed=self.done, note=self._note)

  def print_if_due(self) -> None:
    """Prints a plain line if the count has moved, or a minute has passed."""
    now = time.monotonic()
    if self.done != self._printed or now - self._last >= self._progress.idle_s:
      self._last = now
      self._print()

  def finish(self, *, silent: bool = False) -> None:
    """Prints the final count, once; on a terminal as a line above the open bars."""
    if self._shown is not None and self._task is not None:
      self._shown.remove_task(self._task)
      self._task = None
    if self.done in (self._printed, self._start) or self._progress.quiet or silent:
      return
    if self._shown is not None:
      self._printed = self.done
      self._shown.console.print(f'            {self._text()}', highlight=False)
    else:
      self._print()

  def _text(self) -> str:
    text = f'{self._name}: {self.done:,}/{self._total:,} {self._unit}'
    return f'{text}  {self._note}'.rstrip()

  def _print(self) -> None:
    self._printed = self.done
    self._progress.line(self._text())

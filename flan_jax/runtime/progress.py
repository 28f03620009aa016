"""Progress on the terminal: stage banners, bars, plain lines.

Everything goes to standard error: standard output is for `--json` alone.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


class Progress:
  """Stage banners with elapsed time; bars on a terminal, lines elsewhere.

  Attributes:
    quiet: print nothing.
    period_s: seconds between two plain lines of one bar, off a terminal.
    note: makes the note of a bar of `counter`, from its units done and in all.
  """

  period_s = 10.0

  def __init__(self, *, quiet: bool = False):
    self._start = time.monotonic()
    self.quiet = quiet
    self.note: Callable[[int, int], str] = lambda done, total: ''
    self._tty = sys.stderr.isatty()

  def stage(self, name: str) -> None:
    """Prints a banner: `[  12.3 s] Compiling the train step`."""
    if not self.quiet:
      elapsed = time.monotonic() - self._start
      print(f'[{elapsed:7.1f} s] {name}', file=sys.stderr, flush=True)

  def line(self, text: str) -> None:
    if not self.quiet:
      print(f'            {text}', file=sys.stderr, flush=True)

  @contextlib.contextmanager
  def bar(self, name: str, total: int, *, unit: str) -> Iterator['Bar']:
    """Shows a bar of `total` units; `advance` moves it and may add a note."""
    bar = Bar(self, name, total, unit)
    if self.quiet or not self._tty:
      yield bar
      bar.finish()
      return
    with self._screen(unit) as shown:
      bar.attach(shown, shown.add_task(name, total=total, note=''))
      yield bar

  @contextlib.contextmanager
  def counter(self) -> Iterator[Callable[[str, str, int, int], None]]:
    """Yields a callback (stage, name, done, total) with one bar per (stage, name).

    Several bars may be open at a time; each closes when it is full.
    """
    with contextlib.ExitStack() as stack:
      shown = None
      if self._tty and not self.quiet:
        shown = stack.enter_context(self._screen('examples'))
      bars: dict[tuple[str, str], Bar] = {}

      def count(stage: str, name: str, done: int, total: int) -> None:
        title = f'{stage} {name}'
        bar = bars.get((stage, name))
        if bar is None:
          bar = bars[stage, name] = Bar(self, title, total, 'examples')
          if shown is not None:
            bar.attach(shown, shown.add_task(title, total=total, note=''))
        bar.advance(done - bar.done, note=self.note(done, total))
        if done == total:
          bar.finish()

      yield count
      for bar in bars.values():
        bar.finish()

  def _screen(self, unit: str):
    from rich import console, progress

    columns = (
      progress.TextColumn('            {task.description}'),
      progress.BarColumn(),
      progress.TextColumn('{task.completed:,.0f}/{task.total:,.0f} ' + unit),
      progress.TimeRemainingColumn(),
      progress.TextColumn('{task.fields[note]}'),
    )
    screen = console.Console(stderr=True)
    return progress.Progress(*columns, console=screen, transient=False)


class Bar:
  """One bar; off a terminal it prints a line every `period_s` seconds.

  Attributes:
    done: units done.
  """

  def __init__(self, progress: Progress, name: str, total: int, unit: str):
    self._progress, self._name, self._total, self._unit = progress, name, total, unit
    self.done = 0
    self._note = ''
    self._last = time.monotonic()
    self._printed = -1
    self._shown = self._task = None

  def attach(self, shown, task) -> None:
    self._shown, self._task = shown, task

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

  def finish(self) -> None:
    """Prints the final count, once; on a terminal as a line above the open bars."""
    if self.done == self._printed or not self.done or self._progress.quiet:
      return
    if self._shown is not None:
      self._printed = self.done
      self._shown.remove_task(self._task)
      self._shown.console.print(f'            {self._text()}', highlight=False)
    else:
      self._print()

  def _text(self) -> str:
    text = f'{self._name}: {self.done:,}/{self._total:,} {self._unit}'
    return f'{text}  {self._note}'.rstrip()

  def _print(self) -> None:
    self._printed = self.done
    self._progress.line(self._text())

"""What a person sees while something runs: stage banners, bars, plain lines.

Everything goes to standard error, so that `--json` has standard output to itself.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator


class Progress:
  """Stage banners with elapsed time; bars on a terminal, lines elsewhere.

  Attributes:
    period_s: seconds between two plain lines of one bar, where there is no terminal.
  """

  period_s = 10.0

  def __init__(self, *, quiet: bool = False):
    self._start = time.monotonic()
    self._quiet = quiet
    self._tty = sys.stderr.isatty()

  def stage(self, name: str) -> None:
    """A banner: `[  12.3 s] Compiling the train step`."""
    if not self._quiet:
      elapsed = time.monotonic() - self._start
      print(f'[{elapsed:7.1f} s] {name}', file=sys.stderr, flush=True)

  def line(self, text: str) -> None:
    if not self._quiet:
      print(f'            {text}', file=sys.stderr, flush=True)

  @contextlib.contextmanager
  def bar(self, name: str, total: int, *, unit: str) -> Iterator['Bar']:
    """A bar of `total` units; `advance` moves it, `note` says more."""
    bar = Bar(self, name, total, unit)
    if self._quiet or not self._tty:
      yield bar
      bar.finish()
      return
    from rich import console, progress

    columns = (
      progress.TextColumn('            {task.description}'),
      progress.BarColumn(),
      progress.TextColumn('{task.completed:,.0f}/{task.total:,.0f} ' + unit),
      progress.TimeRemainingColumn(),
      progress.TextColumn('{task.fields[note]}'),
    )
    screen = console.Console(stderr=True)
    with progress.Progress(*columns, console=screen, transient=False) as shown:
      bar.attach(shown, shown.add_task(name, total=total, note=''))
      yield bar

  @contextlib.contextmanager
  def counter(self) -> Iterator[Callable[[str, str, int, int], None]]:
    """A callback (stage, name, done, total) that shows one bar per (stage, name)."""
    with contextlib.ExitStack() as stack:
      bars: dict[tuple[str, str], tuple[Bar, contextlib.ExitStack]] = {}

      def count(stage: str, name: str, done: int, total: int) -> None:
        if (stage, name) not in bars:
          for _, open_bar in bars.values():
            open_bar.close()
          inner = stack.enter_context(contextlib.ExitStack())
          opened = self.bar(f'{stage} {name}', total, unit='rows')
          bars[stage, name] = inner.enter_context(opened), inner
        bar, _ = bars[stage, name]
        bar.advance(done - bar.done)

      yield count


class Bar:
  """One bar; without a terminal it prints a line every `period_s` seconds.

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
    if self.done != self._printed and self.done:
      self._print()

  def _print(self) -> None:
    self._printed = self.done
    text = f'{self._name}: {self.done:,}/{self._total:,} {self._unit}'
    self._progress.line(f'{text}  {self._note}'.rstrip())

"""Registry of the benchmarks of `make bench`.

  bench_registry.register('mine', 'my benchmark', lambda job: job.program('my.py'))

in a module that `python benchmarks/bench.py --module NAME` imports. Those of this
folder are registered by bench_entries.py in the same way.
"""

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Sequence

FOLDER = pathlib.Path(__file__).parent


class LeftOut(Exception):
  """A benchmark that cannot run here; the message says why."""


@dataclasses.dataclass(frozen=True)
class Job:
  """One run of a benchmark.

  Attributes:
    small: at the smallest setting, which only shows that it works.
    scratch: an empty folder for its files.
    run: runs a command to its end; raises LeftOut if it fails.
  """

  small: bool
  scratch: pathlib.Path
  run: Callable[[Sequence[str]], None]

  def program(
    self,
    name: str,
    *arguments: str,
    small: Sequence[str] = (),
    full: Sequence[str] = (),
  ) -> list[str]:
    """Command of a program, of this folder unless its path is absolute.

    Args:
      name: its file.
      arguments: its arguments.
      small: further ones at the smallest setting.
      full: further ones otherwise.
    """
    more = small if self.small else full
    return [sys.executable, str(FOLDER / name), *arguments, *more]


@dataclasses.dataclass(frozen=True)
class Entry:
  """A benchmark.

  Attributes:
    name: its name, for --only.
    title: its subject.
    command: returns the command that takes --json FILE; raises LeftOut.
    needs: packages without which it cannot run.
    limit_s: seconds after which it is ended.
  """

  name: str
  title: str
  command: Callable[[Job], Sequence[str]]
  needs: tuple[str, ...] = ()
  limit_s: float = 300.0


ENTRIES: dict[str, Entry] = {}
"""Name -> benchmark, in the order of their turns."""


def register(
  name: str,
  title: str,
  command: Callable[[Job], Sequence[str]],
  *,
  needs: Sequence[str] = (),
  limit_s: float = 300.0,
) -> None:
  """Adds a benchmark; see Entry.

  Raises:
    ValueError: if the name is taken.
  """
  if name in ENTRIES:
    raise ValueError(f'benchmark {name!r}: registered already')
  ENTRIES[name] = Entry(name, title, command, tuple(needs), limit_s)

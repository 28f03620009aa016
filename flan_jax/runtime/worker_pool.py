"""A pool of worker processes for independent calls, and their progress reports.

A call is a function of names and files: it can run in this process, in another, or on
a machine with the same files. It leaves its results in files.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing.connection
import os
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from flan_jax.errors import InputError

if TYPE_CHECKING:
  from multiprocessing.queues import Queue
  from multiprocessing.synchronize import Event

Report = Callable[[str, str, int], None]
"""report(stage, name, number of units just done)."""

Call = Callable[[Report], None]
"""A call of a pool. Picklable: a `functools.partial` of a module's function."""

_POLL_S = 0.1


class _Stopped(Exception):
  """Raised in a call after another one failed."""


class _Worker:
  """State of a worker process: its queue of reports, and its stop event."""

  reports: 'Queue[tuple[str, str, int]]'
  stop: 'Event'


def _begin(reports: 'Queue[tuple[str, str, int]]', stop: 'Event') -> None:
  """Starts a worker: ignores Ctrl-C, one thread per library, ends with its parent."""
  _Worker.reports, _Worker.stop = reports, stop
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  os.environ['RAYON_NUM_THREADS'] = '1'
  parent = multiprocessing.parent_process()
  assert parent is not None  # this is a worker

  def watch() -> None:
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)  # the parent was killed

  threading.Thread(target=watch, daemon=True).start()


def _report(stage: str, name: str, more: int) -> None:
  if _Worker.stop.is_set():
    raise _Stopped
  _Worker.reports.put((stage, name, more))


def _work(call: Call) -> None:
  with contextlib.suppress(_Stopped):
    call(_report)


MAX_WORKERS = 1_024
"""Maximum number of processes that a user may ask for."""


def cores() -> int:
  """Number of cores that this process may use."""
  return len(os.sched_getaffinity(0))


def run(calls: Sequence[Call], *, workers: int, report: Report) -> None:
  """Runs every call, started in order.

  Args:
    calls: calls to run.
    workers: number of processes; 1 runs the calls one by one in this process.
    report: called in this process with the reports of the calls.

  Raises:
    InputError: if a worker was killed, as when memory runs out.
    Exception: the first that a call raised; calls not yet started are dropped, the
      others stop at their next report.
  """
  if workers < 1:
    raise InputError(f'workers: got {workers}; must be 1 or more; the nearest is 1')
  if min(workers, len(calls)) <= 1:
    for call in calls:
      call(report)
    return
  context = multiprocessing.get_context('spawn')
  reports, stop = context.Queue(), context.Event()

  def drain() -> None:
    with contextlib.suppress(queue.Empty):
      while True:
        report(*reports.get_nowait())

  executor = concurrent.futures.ProcessPoolExecutor(
    min(workers, len(calls)), context, _begin, (reports, stop)
  )
  with executor:
    waiting = [executor.submit(_work, call) for call in calls]
    try:
      while waiting:
        done, waiting = concurrent.futures.wait(
          waiting, _POLL_S, concurrent.futures.FIRST_COMPLETED
        )
        drain()
        for future in done:
          future.result()
    except concurrent.futures.BrokenExecutor:
      raise InputError(
        f'workers: got {workers}, and one was killed (usually out of memory); '
        'finished parts are saved: rerun with fewer workers to resume'
      ) from None
    except BaseException:
      stop.set()
      executor.shutdown(wait=False, cancel_futures=True)
      raise
  drain()


class Tally:
  """Sums the reports of many calls into bars: (stage, name, done, total)."""

  def __init__(self, progress: Callable[[str, str, int, int], None]):
    self._progress = progress
    self._done: collections.Counter[tuple[str, str]] = collections.Counter()
    self._total: collections.Counter[tuple[str, str]] = collections.Counter()

  def expect(self, stage: str, name: str, total: int) -> None:
    self._total[stage, name] += total

  def __call__(self, stage: str, name: str, more: int) -> None:
    self._done[stage, name] += more
    done, total = self._done[stage, name], self._total[stage, name]
    self._progress(stage, name, done, max(done, total))

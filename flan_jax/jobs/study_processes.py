"""The processes of a study: each job once what it needs is there, several at a time."""

import contextlib
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.config import study as study_config
from flan_jax.runtime import atomic_file, signals
from flan_jax.runtime.preemption import INTERRUPTED
from flan_jax.runtime.progress import Progress
from flan_jax.train import goodput

FILE = 'cell.json'
"""File in the folder of a cell: what each of its starts took."""

_POLL_S = 0.1
_TELL_S = 30.0
PROGRAM = (sys.executable, '-P', '-m', 'flan_jax')


class Job(NamedTuple):
  """One command of a study.

  Attributes:
    name: name of the cell, or `stores/NAME`.
    arguments: arguments of `flan`.
    folder: the folder that it writes.
    needs: names of the jobs that must be finished first.
  """

  name: str
  arguments: list[str]
  folder: pathlib.Path
  needs: tuple[str, ...] = ()

  @property
  def is_store(self) -> bool:
    return self.arguments[0] == 'materialize'


class Ended(NamedTuple):
  """The jobs of a start of a study.

  Attributes:
    failed: name -> why, in one line.
    stopped: whether SIGTERM or Ctrl-C ended it.
  """

  failed: dict[str, str]
  stopped: bool


class _Running(NamedTuple):
  job: Job
  process: subprocess.Popen
  began: float
  slot: int


class Processes:
  """Runs jobs, each in a process of its own.

  The log of a job, STUDY_DIR/logs/NAME.log, is locked as long as its process lives, by
  the process itself: after `kill -9` of a study, the next one waits for the orphans.
  """

  def __init__(
    self,
    jobs: Sequence[Job],
    *,
    logs: pathlib.Path,
    count: int,
    is_finished: Callable[[Job], bool],
    on_end: Callable[[Job], None],
    progress: Progress,
    known: Mapping[str, Sequence[float]] | None = None,
    program: Sequence[str] = PROGRAM,
  ):
    """Starts nothing.

    Args:
      jobs: the jobs, each after those that it needs.
      logs: folder of the logs.
      count: number of processes.
      is_finished: whether a job is done.
      on_end: called after each job that was done.
      progress: progress output.
      known: verb -> seconds of jobs that earlier starts have finished.
      program: command that takes the arguments of a job.
    """
    self._program = program
    self._jobs, self._logs, self._count = jobs, logs, count
    self._is_finished, self._on_end, self._progress = is_finished, on_end, progress
    self._running: list[_Running] = []
    self._failed: dict[str, str] = {}
    self._stopped = False
    self._seconds = {verb: list(seconds) for verb, seconds in (known or {}).items()}
    self._left: list[Job] = []
    self._told = time.monotonic()

  def run(self) -> Ended:
    """Runs what is not finished; returns when all has ended."""
    left = [job for job in self._jobs if not self._is_finished(job)]
    self._total = len(left)
    self._done = 0
    waiting: set[str] = set()
    with self._signals(), signals.patient():
      try:
        while (left or self._running) and not self._stopped:
          self._fill(left, waiting)
          self._tell()
          time.sleep(_POLL_S)
          self._reap()
      finally:
        self._end()
    return Ended(self._failed, self._stopped)

  def _fill(self, left: list[Job], waiting: set[str]) -> None:
    """Starts jobs while there is room, and takes them from those that are left."""
    for job in list(left):
      if len(self._running) >= self._count:
        break
      if why := self._broken(job):
        left.remove(job)
        self._fail(job, why)
      elif self._is_ready(job, left) and self._begin(job, waiting):
        left.remove(job)
    self._left = left

  def _is_ready(self, job: Job, left: Sequence[Job]) -> bool:
    pending = {each.name for each in (*left, *(r.job for r in self._running))}
    return not pending.intersection(job.needs)

  def _broken(self, job: Job) -> str:
    """Says which job that this one needs has failed; '' for none."""
    return next((f'needs {name}' for name in job.needs if name in self._failed), '')

  def _begin(self, job: Job, waiting: set[str]) -> bool:
    """Starts a job; False if a process of an earlier start still has it."""
    path = log_file(self._logs, job.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file.appending(path) as log:
      try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError:
        if job.name not in waiting:
          self._progress.line(f'{job.name} is run by another process; waiting for it')
          waiting.add(job.name)
        return False
      if self._is_finished(job):  # by the process that was waited for
        self._done += 1
        self._on_end(job)
        return True
      log.write(f'$ {study_config.command(job.arguments)}\n')
      log.flush()
      slot = min(set(range(self._count)) - {each.slot for each in self._running})
      process = subprocess.Popen(
        [*self._program, *job.arguments],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        process_group=0,  # Ctrl-C reaches the study alone, which lets its jobs save
      )
    _give_cores(process.pid, slot, self._count)
    self._progress.stage(f'{job.name} begins')
    self._running.append(_Running(job, process, time.monotonic(), slot))
    return True

  def _reap(self) -> None:
    """Takes leave of the processes that have ended."""
    for each in list(self._running):
      pid, status, usage = os.wait4(each.process.pid, os.WNOHANG)
      if not pid:
        continue
      code = each.process.returncode = os.waitstatus_to_exitcode(status)
      self._running.remove(each)
      took = time.monotonic() - each.began
      if not each.job.is_store:
        _record(each.job, took, usage, code)
      if code == 0:
        self._done += 1
        self._seconds.setdefault(each.job.arguments[0], []).append(took)
        self._progress.stage(
          f'{each.job.name} done in {_minutes(took)}; {self._done} of {self._total}'
          + self._time_left()
        )
        self._on_end(each.job)
      elif not self._stopped:
        self._fail(each.job, self._why(each.job, code))

  def _fail(self, job: Job, why: str) -> None:
    self._failed[job.name] = why
    self._progress.stage(f'{job.name} failed: {why}')

  def _why(self, job: Job, code: int) -> str:
    """Says why a process failed: the last line of its log, or the signal."""
    path = log_file(self._logs, job.name)
    if code == INTERRUPTED:
      return 'stopped by SIGTERM; rerun to go on'
    if code < 0:
      name = signal.Signals(-code).name
      return f'killed by {name}; its log is {path}'
    return f'{last_line(path)} (exit code {code}; its log is {path})'

  def _time_left(self) -> str:
    """`, about 12 min left`, from what the jobs so far have taken; '' if unknown."""
    known = [took for several in self._seconds.values() for took in several]
    left = [*self._left, *(each.job for each in self._running)]
    if not left or not known:
      return ''
    seconds = 0.0
    for job in left:
      of_verb = self._seconds.get(job.arguments[0]) or known
      seconds += sum(of_verb) / len(of_verb)
    now = time.monotonic()
    seconds -= sum(now - each.began for each in self._running)
    return f', about {_minutes(max(seconds, 0.0) / self._count)} left'

  def _tell(self) -> None:
    """Prints where each running job is, from time to time."""
    now = time.monotonic()
    if now - self._told < _TELL_S:
      return
    self._told = now
    for each in self._running:
      line = last_line(log_file(self._logs, each.job.name))
      self._progress.line(f'{each.job.name}: {line}')

  @contextlib.contextmanager
  def _signals(self) -> Iterator[None]:
    """Makes SIGTERM and Ctrl-C stop the jobs, which save what they have."""

    def stop(*_: Any) -> None:
      for each in self._running if self._stopped else ():
        each.process.kill()  # the second time
      self._stopped = True

    before = {each: signal.signal(each, stop)
              for each in (signal.SIGTERM, signal.SIGINT)}  # fmt: skip
    try:
      yield
    finally:
      for each, handler in before.items():
        signal.signal(each, handler)

  def _end(self) -> None:
    """Stops the jobs that run, and waits until they have saved."""
    if self._running:
      names = ', '.join(each.job.name for each in self._running)
      self._progress.stage(f'Stopping {names}: each saves first')
    for each in self._running:
      each.process.terminate()
    while self._running:
      self._reap()
      time.sleep(_POLL_S)


def log_file(logs: pathlib.Path, name: str) -> pathlib.Path:
  """The log of a job."""
  return logs / f'{name.replace("/", "-")}.log'


def last_line(path: pathlib.Path) -> str:
  """The last line of a log, without its indentation and `flan: error:`."""
  lines = path.read_text('utf-8', errors='replace').splitlines()
  found = next((line for line in reversed(lines) if line.strip()), '')
  return found.strip().removeprefix('flan: error: ')


def cost(folder: pathlib.Path) -> dict[str, Any] | None:
  """Sums up what the starts of a cell took; None if unknown.

  Of a start whose end no study has seen, the run's own log has the seconds alone.
  """
  content = _read(folder)
  if 'total' in content:
    return content['total']
  starts = content['starts']
  found: dict[str, Any] = {
    'starts': len(starts),
    'seconds': sum(start['seconds'] for start in starts),
    'cpu_seconds': sum(start['cpu_seconds'] for start in starts),
    'peak_bytes': max((start['peak_bytes'] for start in starts), default=0),
  }
  logged = goodput.summarize(goodput.read(folder / goodput.FILE))
  if logged is not None and logged.starts > len(starts):
    seconds = logged.wall - logged.seconds['down']
    found |= {
      'starts': logged.starts,
      'seconds': max(seconds, found['seconds']),
      'cpu_seconds': None,
      'peak_bytes': None,
    }
  return found if found['starts'] else None


def has_ended(folder: pathlib.Path) -> bool:
  """Returns whether the last start of a cell ended well."""
  starts = _read(folder).get('starts')
  return bool(starts) and starts[-1]['code'] == 0


def keep_cost(folder: pathlib.Path, out: pathlib.Path) -> None:
  """Writes what a cell took to another folder, summed up."""
  if (found := cost(folder)) is not None:
    atomic_file.write_json(out / FILE, {'total': found})


def _read(folder: pathlib.Path) -> dict[str, Any]:
  try:
    return json.loads((folder / FILE).read_text('utf-8'))
  except (OSError, ValueError):
    return {'starts': []}


def _record(job: Job, took: float, usage: Any, code: int) -> None:
  """Adds a start to the cell's file."""
  if not job.folder.is_dir():
    return
  content = _read(job.folder)
  start = {
    'seconds': round(took, 1),
    'cpu_seconds': round(usage.ru_utime + usage.ru_stime, 1),
    'peak_bytes': usage.ru_maxrss * 1024,
    'code': code,
  }
  atomic_file.write_json(
    job.folder / FILE, {**content, 'starts': [*content['starts'], start]}
  )


def _give_cores(pid: int, slot: int, count: int) -> None:
  """Gives a process its part of the cores, if there are enough for all."""
  cores = sorted(os.sched_getaffinity(0))
  if count > 1 and len(cores) >= count:
    with contextlib.suppress(OSError):
      os.sched_setaffinity(pid, cores[slot::count])


def _minutes(seconds: float) -> str:
  return f'{seconds:.0f} s' if seconds < 100 else f'{seconds / 60:,.0f} min'

"""Worker pool: every call runs once; the first failure stops the others."""

import functools
import os
import pathlib
import signal
import time

import pytest

from flan_jax.errors import InputError
from flan_jax.runtime import worker_pool


def leave(folder, name, report):
  report('write', name, 1)
  pathlib.Path(folder, name).write_text(str(os.getpid()))


def fail(report):
  raise InputError("example 'x': must be whole")


def go_on_until_stopped(folder, report):
  for step in range(600):
    pathlib.Path(folder, 'step').write_text(str(step))
    report('wait', 'it', 1)
    time.sleep(0.1)


def die(report):
  os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize('workers', [1, 2])
def test_every_call_runs_once_and_reports(tmp_path, workers):
  reports = []
  names = [f'part{i}' for i in range(5)]
  worker_pool.run(
    [functools.partial(leave, str(tmp_path), name) for name in names],
    workers=workers,
    report=lambda *what: reports.append(what),
  )
  assert sorted(reports) == [('write', name, 1) for name in names]
  ids = {path.read_text() for path in tmp_path.iterdir()}
  assert sorted(path.name for path in tmp_path.iterdir()) == names
  assert (str(os.getpid()) in ids) == (workers == 1)


@pytest.mark.parametrize('workers', [1, 2])
def test_the_first_failure_is_raised(workers):
  with pytest.raises(InputError, match="example 'x': must be whole"):
    worker_pool.run([fail, fail], workers=workers, report=lambda *_: None)


def test_a_failure_stops_the_others_at_their_next_report(tmp_path):
  start = time.monotonic()
  calls = [functools.partial(go_on_until_stopped, str(tmp_path)), fail]
  with pytest.raises(InputError, match='must be whole'):
    worker_pool.run(calls, workers=2, report=lambda *_: None)
  assert time.monotonic() - start < 30  # a whole call takes a minute


def test_a_killed_worker_is_an_error():
  with pytest.raises(InputError, match='workers: got 2, and one was killed'):
    worker_pool.run([die, die], workers=2, report=lambda *_: None)


def test_zero_workers_are_refused():
  with pytest.raises(InputError, match='workers: got 0; must be 1 or more'):
    worker_pool.run([fail], workers=0, report=lambda *_: None)


def test_a_tally_sums_the_parts_of_a_bar():
  seen = []
  tally = worker_pool.Tally(lambda *what: seen.append(what))
  for _ in range(2):
    tally.expect('render', 'rte', 10)
  for more in (10, 4, 6):
    tally('render', 'rte', more)
  assert seen == [('render', 'rte', n, 20) for n in (10, 14, 20)]

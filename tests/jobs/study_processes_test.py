"""Processes of a study: several at a time, failures apart, stopped and waited for."""

import fcntl
import json
import os
import pathlib
import re
import signal
import sys
import threading
import time

import pytest

from flan_jax.jobs import study_processes
from flan_jax.jobs.study_processes import Job, Processes
from flan_jax.runtime.progress import Progress

PROGRAM = """
import os, pathlib, signal, sys, time
_, code, seconds, folder = sys.argv[1:]
folder = pathlib.Path(folder)
folder.mkdir(parents=True, exist_ok=True)
def stop(*_):
  (folder / 'saved').touch()
  sys.exit(143)
signal.signal(signal.SIGTERM, stop)
(folder / 'began').write_text(str(time.monotonic()))
time.sleep(float(seconds))
if code == '9':
  os.kill(os.getpid(), signal.SIGKILL)
if code != '0':
  sys.exit(f'flan: error: {folder.name} is wrong')
(folder / 'ended').write_text(str(time.monotonic()))
"""


class Study:
  """Jobs that sleep, fail or end."""

  def __init__(self, root: pathlib.Path):
    self.root = root
    self.jobs: list[Job] = []
    self.ended: list[str] = []

  def add(self, name, *, code=0, seconds=0.0, needs=(), verb='train'):
    arguments = [verb, str(code), str(seconds), str(self.root / name)]
    self.jobs.append(Job(name, arguments, self.root / name, needs))

  def processes(self, count=1):
    return Processes(
      self.jobs,
      logs=self.root / 'logs',
      count=count,
      is_finished=lambda job: (job.folder / 'ended').is_file(),
      on_end=lambda job: self.ended.append(job.name),
      progress=Progress(),
      program=(sys.executable, '-S', '-c', PROGRAM),
    )

  def time(self, name, what) -> float:
    return float((self.root / name / what).read_text())


@pytest.fixture
def study(tmp_path):
  return Study(tmp_path)


def test_what_is_finished_is_not_run_again(study):
  study.add('a')
  study.add('b')
  assert study.processes().run() == ({}, False)
  assert study.ended == ['a', 'b']
  began = study.time('a', 'began')
  study.add('c')
  study.processes().run()
  assert study.ended == ['a', 'b', 'c']
  assert study.time('a', 'began') == began


def test_a_failure_is_named_and_only_what_needs_it_waits(study, capsys):
  study.add('store', code=1, verb='materialize')
  study.add('a', needs=('store',))
  study.add('b')
  study.add('killed', code=9)
  found = study.processes().run()
  log = study.root / 'logs' / 'store.log'
  assert found.failed == {
    'store': f'store is wrong (exit code 1; its log is {log})',
    'a': 'needs store',
    'killed': f'killed by SIGKILL; its log is {study.root}/logs/killed.log',
  }
  assert not found.stopped
  assert study.ended == ['b']
  said = capsys.readouterr().err
  assert re.search(r'b done in \d s; 1 of 4, about \d s left', said)


def test_several_run_at_a_time_each_after_what_it_needs(study):
  study.add('store', seconds=0.2, verb='materialize')
  study.add('a', needs=('store',), seconds=0.3)
  study.add('b', seconds=0.3)
  study.processes(count=2).run()
  assert study.time('a', 'began') >= study.time('store', 'ended')
  assert study.time('b', 'began') < study.time('store', 'ended')
  starts = json.loads((study.root / 'a' / 'cell.json').read_text())['starts']
  assert [start['code'] for start in starts] == [0]
  assert study_processes.cost(study.root / 'a')['seconds'] >= 0.3
  assert study_processes.cost(study.root / 'store') is None


def test_sigterm_lets_all_save_and_the_next_start_goes_on(study):
  study.add('a', seconds=30)
  study.add('b')

  def stop():
    while not (study.root / 'a' / 'began').is_file():
      time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)

  threading.Thread(target=stop).start()
  assert study.processes().run() == ({}, True)
  assert (study.root / 'a' / 'saved').is_file()
  assert study.ended == []
  study.jobs[0] = study.jobs[0]._replace(
    arguments=['train', '0', '0', str(study.root / 'a')]
  )
  assert study.processes().run() == ({}, False)
  assert study.ended == ['a', 'b']
  assert study_processes.cost(study.root / 'a')['starts'] == 2


def test_a_process_that_an_earlier_study_left_is_waited_for(study, capsys):
  study.add('a')
  path = study_processes.log_file(study.root / 'logs', 'a')
  path.parent.mkdir()

  def orphan():
    time.sleep(0.4)
    (study.root / 'a').mkdir()
    (study.root / 'a' / 'ended').touch()
    os.close(held)

  held = os.open(path, os.O_WRONLY | os.O_CREAT)
  fcntl.flock(held, fcntl.LOCK_EX)
  threading.Thread(target=orphan).start()
  assert study.processes().run() == ({}, False)
  assert not (study.root / 'a' / 'began').exists()
  assert study.ended == ['a']
  assert 'a is run by another process; waiting for it' in capsys.readouterr().err


def test_processes_share_the_cores(study, monkeypatch):
  given = {}
  monkeypatch.setattr(os, 'sched_getaffinity', lambda _: {0, 1, 2, 3})
  monkeypatch.setattr(
    os, 'sched_setaffinity', lambda pid, cores: given.update({pid: cores})
  )
  study.add('a', seconds=0.3)
  study.add('b', seconds=0.3)
  study.processes(count=2).run()
  assert sorted(given.values()) == [[0, 2], [1, 3]]

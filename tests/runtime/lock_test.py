"""Locks: one process at a time, dead ones are taken over, living ones never."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from flan_jax.errors import InputError
from flan_jax.runtime import lock
from flan_jax.runtime.lock import Owner

HOLDS = """
import sys, time
from flan_jax.runtime import lock
with lock.held('MODEL_DIR', sys.argv[1]):
  print('held', flush=True)
  time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path):
  return tmp_path / 'run'


@pytest.fixture
def holder(folder):
  """A process that holds the lock."""
  command = [sys.executable, '-c', HOLDS, str(folder)]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    assert process.stdout is not None
    assert process.stdout.readline() == 'held\n'
    yield process
    process.kill()


@pytest.fixture
def no_flock(monkeypatch):
  """A file system without locks."""

  def refuse(*_):
    raise OSError(errno.ENOLCK, 'No locks available')

  monkeypatch.setattr(lock.fcntl, 'flock', refuse)


def leave(folder, **changes) -> None:
  """Leaves the lock of a process that was killed, or is another host's."""
  folder.mkdir()
  owner = Owner.this()._replace(**changes)
  (folder / lock.FILE).write_bytes(owner.to_bytes())


def test_a_second_process_ends_at_once_and_a_killed_one_is_taken_over(holder, folder):
  began = time.monotonic()
  with (
    pytest.raises(
      InputError,
      match=rf"MODEL_DIR '.*run': is in use by process {holder.pid} of host \S+, "
      r'since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC; wait until it ends, or stop it',
    ),
    lock.held('MODEL_DIR', folder),
  ):
    pass
  holder.send_signal(signal.SIGKILL)
  holder.wait()
  assert json.loads((folder / lock.FILE).read_bytes())['pid'] == holder.pid
  with lock.held('MODEL_DIR', folder):
    assert json.loads((folder / lock.FILE).read_bytes())['pid'] == os.getpid()
  assert time.monotonic() - began < lock.PATIENCE_S / 4


def test_nothing_is_left_at_the_end(tmp_path):
  """Neither a lock, nor a folder that was made for it; other files stay."""
  with lock.held('OUTPUT_DIR', tmp_path / 'new' / 'out'):
    assert (tmp_path / 'new' / 'out' / lock.FILE).is_file()
  with lock.held('store', tmp_path / 'store', beside=True):
    assert [path.name for path in tmp_path.iterdir()] == ['.store.lock']
  assert list(tmp_path.iterdir()) == []
  with lock.held('OUTPUT_DIR', tmp_path / 'kept'):
    (tmp_path / 'kept' / 'report').write_text('kept')
  assert [path.name for path in (tmp_path / 'kept').iterdir()] == ['report']


def test_the_lock_beside_a_finished_folder_is_swept_once_its_process_has_ended(
  tmp_path,
):
  out = tmp_path / 'store'
  with lock.held('store', out, beside=True):
    lock.sweep(out)
    assert (tmp_path / '.store.lock').exists()
  (tmp_path / '.store.lock').write_bytes(Owner.this().to_bytes())
  lock.sweep(out)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('text', [b'', b'{"host": "x"', b'[]', b'{"host": 1}', b'\xff'])
def test_a_lock_that_cannot_be_read_belongs_to_nobody(text, folder):
  folder.mkdir()
  (folder / lock.FILE).write_bytes(text)
  with lock.held('MODEL_DIR', folder):
    pass


def test_without_flock_the_start_time_tells_a_recycled_process_id(no_flock, folder):
  """Of a living process with this PID, only the one that started then is the owner."""
  leave(folder, token='another')
  with (
    pytest.raises(InputError, match=f'process {os.getpid()} of host'),
    lock.held('MODEL_DIR', folder),
  ):
    pass
  assert (folder / lock.FILE).exists()
  (folder / lock.FILE).unlink()
  folder.rmdir()
  leave(folder, started=Owner.this().started - 1)
  with lock.held('MODEL_DIR', folder):
    pass


def test_a_restart_of_this_machine_ends_its_locks(no_flock, folder):
  leave(folder, boot='another')
  with lock.held('MODEL_DIR', folder):
    pass


@pytest.mark.parametrize('guarded', [True, False])
def test_another_host_is_watched(guarded, folder, monkeypatch, request):
  """A sign of life refuses the start; silence hands the lock over."""
  if not guarded:
    request.getfixturevalue('no_flock')
  monkeypatch.setattr(lock, 'PATIENCE_S', 0.6)
  monkeypatch.setattr(lock, 'BEAT_S', 0.2)
  leave(folder, host='another', boot='another')
  path, ended = folder / lock.FILE, threading.Event()

  def live():
    while not ended.wait(0.05):
      os.utime(path)

  thread = threading.Thread(target=live)
  thread.start()
  try:
    with (
      pytest.raises(InputError, match='of host another'),
      lock.held('MODEL_DIR', folder),
    ):
      pass
  finally:
    ended.set()
    thread.join()
  assert lock.parse(path.read_bytes()).host == 'another'
  with lock.held('MODEL_DIR', folder):
    first = path.stat().st_mtime_ns
    deadline = time.monotonic() + 60
    while path.stat().st_mtime_ns == first:  # a sign of life of our own
      assert time.monotonic() < deadline
      time.sleep(0.05)


@pytest.mark.parametrize('guarded', [True, False])
def test_of_many_starts_in_one_moment_one_goes_on(guarded, folder, request):
  if not guarded:
    request.getfixturevalue('no_flock')
  together, ended = threading.Barrier(6), threading.Barrier(6)
  passed, refused = [], []

  def start(number):
    together.wait()
    try:
      with lock.held('MODEL_DIR', folder):
        passed.append(number)
        ended.wait()
    except InputError as error:
      refused.append(str(error))
      ended.wait()

  threads = [threading.Thread(target=start, args=(i,)) for i in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert (len(passed), len(refused)) == (1, 5)
  assert all('is in use' in line and '\n' not in line for line in refused)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
  (tmp_path / 'file').write_text('')
  with (
    pytest.raises(InputError, match=r'cannot be written to \(Not a directory\)'),
    lock.held('MODEL_DIR', tmp_path / 'file' / 'run'),
  ):
    pass


def test_a_full_disk_does_not_stop_a_lock_that_flock_guards(folder, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(lock.os, 'pwrite', full)
  with lock.held('MODEL_DIR', folder):
    descriptor = os.open(folder / lock.FILE, os.O_RDWR)
    with pytest.raises(BlockingIOError):
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)

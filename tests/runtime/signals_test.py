"""SIGINT and SIGTERM end a verb: cleanly if the main thread can, in time if not."""

import os
import signal
import subprocess
import sys
import time

import pytest

from flan_jax.cli import dispatch
from flan_jax.data.store import parts
from flan_jax.runtime import signals
from flan_jax.runtime.preemption import Stop, Stopped

BUSY = 'hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)'
"""Minutes in C, without the GIL."""

STUBBORN = """
while True:
    try:
      time.sleep(60)
    except KeyboardInterrupt:
      pass
"""


def started(block: str, *, limit: float = 0.2, patient: bool = False):
  """A process whose verb is `block`; it prints a line while it is busy."""
  within = 'signals.ending(), signals.patient()' if patient else 'signals.ending()'
  code = (
    'import hashlib, threading, time\n'
    'from flan_jax.runtime import signals\n'
    f'signals.LIMIT_S = {limit}\n'
    f'with {within}:\n'
    '  threading.Timer(0.2, print, ["begun"], {"flush": True}).start()\n'
    f'  {block.strip()}\n'
  )
  process = subprocess.Popen(
    [sys.executable, '-c', code],
    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  assert process.stdout.readline() == 'begun\n'
  return process


def stopped_by(number: int) -> None:
  os.kill(os.getpid(), number)
  time.sleep(60)


@pytest.mark.parametrize(
  ('number', 'error'),
  [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, signals.Terminated)],
)
def test_a_signal_ends_the_block_and_leaves_the_handlers_as_they_were(number, error):
  before = [signal.getsignal(one) for one in signals.SIGNALS]
  with pytest.raises(error), signals.ending():
    stopped_by(number)
  assert signals.received() == number
  assert signals.exit_code() == 128 + number
  assert [signal.getsignal(one) for one in signals.SIGNALS] == before
  with signals.ending():
    assert signals.received() is None


def test_a_signal_that_is_ignored_stays_so():
  """As SIGINT in a job that a shell has put in the background."""
  before = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with signals.ending():
      os.kill(os.getpid(), signal.SIGINT)
    assert signals.received() is None
  finally:
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
  ('block', 'number'),
  [(BUSY, signal.SIGTERM), (BUSY, signal.SIGINT), (STUBBORN, signal.SIGINT)],
)
def test_a_library_that_is_busy_or_drops_the_error_is_ended_in_time(block, number):
  process = started(block)
  process.send_signal(number)
  _, said = process.communicate(timeout=60)
  assert process.returncode == 128 + number
  name = signal.Signals(number).name
  assert said == f'flan: stopped by {name}; rerun the same command to go on\n'


def test_work_that_saves_takes_its_time_until_a_second_ctrl_c():
  process = started(BUSY, limit=0.2, patient=True)
  process.send_signal(signal.SIGINT)
  with pytest.raises(subprocess.TimeoutExpired):
    process.wait(1.0)
  process.send_signal(signal.SIGINT)
  process.communicate(timeout=60)
  assert process.returncode == 130


def test_ctrl_c_asks_for_the_end_of_the_step_and_the_second_ends_at_once(capfd):
  with Stop() as stop:
    assert not stop.asked()
    os.kill(os.getpid(), signal.SIGINT)
    assert stop.asked()
    assert (stop.name, stop.exit_code) == ('SIGINT', 130)
    with pytest.raises(KeyboardInterrupt):
      os.kill(os.getpid(), signal.SIGINT)
  assert 'this step is finished and saved' in capfd.readouterr().err
  with Stop() as stop, pytest.raises(Stopped), stop.at_once():
    stopped_by(signal.SIGTERM)
  assert stop.exit_code == 143


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_verb_ends_in_one_line_and_the_same_command_goes_on(
  tmp_path, monkeypatch, capsys
):
  command = [
    'materialize', '--mixture=microworld_mini_cb', '--tokenizer=bytes', '--workers=1',
    f'--out={tmp_path / "store"}',
  ]  # fmt: skip

  with monkeypatch.context() as patch:
    patch.setattr(parts, 'render', lambda *_: stopped_by(signal.SIGTERM))
    assert dispatch.main(command) == 143
  lines = capsys.readouterr().err.splitlines()
  assert lines[-1] == 'flan: stopped by SIGTERM; rerun the same command to go on'
  assert [path.name for path in tmp_path.iterdir()] == ['.store.partial']
  assert dispatch.main(command) == 0
  assert [path.name for path in tmp_path.iterdir()] == ['store']

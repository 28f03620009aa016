"""Progress within a dataset: lines from the first seconds on, off a terminal."""

import time

from flan_jax.runtime import metering
from flan_jax.runtime.metering import Meter
from flan_jax.runtime.progress import Progress


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


class TestMeter:
  def test_the_speed_is_that_of_the_last_minute(self):
    """A compilation of 100 s counts at first, and no longer after a minute."""
    clock = Clock()
    meter = Meter(1000, clock=clock)
    clock.now = 100
    meter.add(10, 500)
    assert meter.note() == '5 tokens/s, 2:45:00 left'
    for _ in range(70):
      clock.now += 1
      meter.add(10, 500)
    assert meter.note() == '500 tokens/s, 0:29 left'

  def test_replayed_prompts_are_done_but_no_speed(self):
    clock = Clock()
    meter = Meter(100, clock=clock)
    meter.reach(50)
    assert (meter.done, meter.note()) == (50, '')
    clock.now = 5
    meter.add(10, 100)
    assert (meter.done, meter.note()) == (60, '20 tokens/s, 0:20 left')
    meter.reach(100)
    assert meter.note() == '20 tokens/s, in 0:05'

  def test_only_what_is_computed_in_the_block_is_heard(self):
    meter = Meter(4)
    metering.computed(1, 10)
    with metering.listening(meter):
      report = metering.reporter(4)
      report(1, 2, 30)
      report(2, 2, 70)
    metering.computed(1, 10)
    assert (meter.done, meter.tokens) == (4, 70)


class Quick(Progress):
  first_s = 0.01


def wait_for_line(capsys) -> str:
  """Waits for what is printed next on standard error."""
  for _ in range(500):
    if text := capsys.readouterr().err:
      return text
    time.sleep(0.01)
  raise AssertionError('no line')


def test_the_first_line_comes_before_the_first_batch(capsys):
  """A batch that compiles for minutes does not hold it up; nothing on stdout."""
  with Quick().work('evaluate rte', 1234) as meter:
    assert wait_for_line(capsys) == '            evaluate rte: 0/1,234 prompts\n'
    meter.add(1234, 5)
  found = capsys.readouterr()
  assert found.out == ''
  assert found.err.startswith('            evaluate rte: 1,234/1,234 prompts  ')


def test_short_work_beside_something_else_is_silent(capsys):
  with Progress().brief().work('evaluate rte', 2) as meter:
    meter.add(2, 5)
  assert capsys.readouterr().err == ''
  with Quick().brief().work('evaluate rte', 2) as meter:
    assert 'evaluate rte: 0/2 prompts' in wait_for_line(capsys)
    meter.add(2, 5)
  assert 'evaluate rte: 2/2 prompts' in capsys.readouterr().err


def test_a_resumed_bar_counts_what_was_done_before(capsys):
  with Progress().bar('train', 100, unit='steps', start=60) as bar:
    bar.advance(20)
  with Progress().bar('train', 100, unit='steps', start=100):
    pass
  assert capsys.readouterr().err.split() == ['train:', '80/100', 'steps']


def test_quiet_is_quiet(capsys):
  with Progress(quiet=True).work('evaluate rte', 2) as meter:
    meter.add(2, 5)
  assert capsys.readouterr().err == ''


def test_on_a_terminal_two_bars_share_the_screen(monkeypatch, capsys):
  """An evaluation within a run: its line stays, the bar of the steps goes on."""
  monkeypatch.setattr('sys.stderr.isatty', lambda: True)
  progress = Progress()
  with progress.bar('train', 2, unit='steps') as bar:
    with progress.work('evaluate rte', 2) as meter:
      meter.add(2, 5)
    bar.advance(2)
  shown = capsys.readouterr().err
  assert 'evaluate rte: 2/2 prompts' in shown
  assert '2/2 steps' in shown

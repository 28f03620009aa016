"""Every writer by one protocol: what ships, a user's own, and those that fail."""

import errno
import json
import pathlib
import re
import runpy
import struct
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_jax.errors import InputError
from flan_jax.train.writers import fan_out
from flan_jax.train.writers import writer as writer_lib
from flan_jax.train.writers.fan_out import Writers
from flan_jax.train.writers.writer import RunInfo, Writer, metric_writer
from tests.run_log import read_lines


@pytest.fixture(autouse=True)
def registry(monkeypatch):
  """Has what ships, and forgets what a test registers."""
  writer_lib.names()
  shipped = {
    name: entry
    for name, entry in writer_lib._entries.items()
    if entry.place.startswith(writer_lib.SHIPPED)
  }
  monkeypatch.setattr(writer_lib, '_entries', shipped)


@pytest.fixture
def warnings():
  return []


def write(writers: Writers, run: RunInfo, steps, *, finished=True) -> None:
  """One start of a run, which writes a value of two groups at each step."""
  writers.start(run)
  for step in steps:
    writers.write(step, {'train/loss': 1 / step, 'train/accuracy': None})
    writers.write(step, {'probe/loss': 2 / step})
  report = run.folder / 'report.json'
  report.write_text('{}')
  writers.attach(report)
  writers.close(finished)


def register_notes(name='notes', **attributes) -> list:
  """Registers a writer that notes its calls, as a user would; returns the notes."""
  notes = []

  class Notes(Writer):
    def __init__(self, run):
      notes.append(('start', run.step, run.commit))

    def write(self, step, values):
      notes.append((step, values))

    def attach(self, path):
      notes.append(path.name)

    def close(self, finished):
      notes.append(('close', finished))

  for key, value in attributes.items():
    setattr(Notes, key, value)
  metric_writer(name)(Notes)
  return notes


@pytest.mark.parametrize('remote', [False, True])
def test_a_users_writer_gets_everything_in_order(tmp_path, warnings, remote):
  notes = register_notes(remote=remote)
  run = RunInfo(name='one', folder=tmp_path, step=3, commit='abc')
  write(Writers(['notes', 'notes'], warn=warnings.append), run, [4], finished=False)
  assert notes == [
    ('start', 3, 'abc'),
    (4, {'train/loss': 0.25, 'train/accuracy': None}),
    (4, {'probe/loss': 0.5}),
    'report.json',
    ('close', False),
  ]
  assert warnings == []


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 4)), max_size=4))
def test_json_lines_have_each_step_once_however_often_it_is_computed(
  tmp_path_factory, starts
):
  """Starts (at most the steps that the last one did, steps to do)."""
  folder = tmp_path_factory.mktemp('run')
  done = 0
  for at, count in starts:
    at = min(at, done)
    run = RunInfo(name='one', folder=folder, step=at)
    write(Writers(['jsonl'], warn=print), run, range(at + 1, at + count + 1))
    done = at + count
    with (folder / 'log.jsonl').open('a') as file:
      file.write('{"step": 1, "lo')  # torn by a kill
  log = read_lines(folder / 'log.jsonl')
  assert [line['step'] for line in log] == [*range(1, done + 1)]
  assert all(set(line) == {'step', 'loss', 'accuracy'} for line in log)
  if starts and starts[-1][1]:
    steps = [line['step'] for line in read_lines(folder / 'probe.jsonl')]
    assert steps == [*range(1, done + 1)]


def events(folder) -> list:
  """Events of every file of TensorBoard, in the order of the files."""
  from tensorboardX.proto.event_pb2 import Event

  found = []
  for path in sorted(folder.glob('events.*')):
    data = path.read_bytes()
    while data:
      (size,) = struct.unpack('<Q', data[:8])
      found.append(Event.FromString(data[12 : 12 + size]))
      data = data[size + 16 :]
  return found


def test_tensorboard_has_the_scalars_and_purges_what_is_recomputed(tmp_path):
  for at, steps in ((0, (1, 2, 3)), (2, (3, 4))):
    run = RunInfo(name='one', folder=tmp_path, step=at, config='SEED = 0', commit='abc')
    write(Writers(['tensorboard'], warn=print), run, steps)
  found = events(tmp_path / 'tensorboard')
  kept, texts = {}, []
  for event in found:
    if event.session_log.status == event.session_log.START:
      kept = {key: x for key, x in kept.items() if key[1] < event.step}
    for value in event.summary.value:
      if value.HasField('tensor'):
        texts += value.tensor.string_val
      else:
        kept[value.tag, event.step] = value.simple_value
  wanted = {('train/loss', step): 1 / step for step in (1, 2, 3, 4)}
  wanted |= {('probe/loss', step): 2 / step for step in (1, 2, 3, 4)}
  assert kept == pytest.approx(wanted)
  assert b'    SEED = 0' in texts
  assert b'abc' in texts


@pytest.mark.parametrize('remote', [False, True])
@pytest.mark.parametrize('when', ['__init__', 'write', 'attach', 'close'])
def test_a_writer_that_fails_is_one_warning(tmp_path, warnings, remote, when):
  def fail(self, *_):
    raise ConnectionError('no route\nto the server')

  register_notes(remote=remote, **{when: fail})
  run = RunInfo(name='one', folder=tmp_path)
  write(Writers(['notes', 'jsonl'], warn=warnings.append), run, [1, 2, 3])
  assert warnings == [
    "warning: WRITERS 'notes': ConnectionError: no route to the server; the run goes on"
  ]
  assert len(read_lines(tmp_path / 'log.jsonl')) == 3


def test_a_full_disk_ends_the_run(tmp_path, warnings):
  """At a write: at the end there is another error already, or nothing to lose."""

  def full(self, *_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  register_notes(write=full, close=full)
  writers = Writers(['notes'], warn=warnings.append)
  with pytest.raises(OSError, match='No space'):
    write(writers, RunInfo(name='a', folder=tmp_path), [1])
  writers.close(finished=False)
  assert len(warnings) == 1


def test_what_is_written_before_a_server_answers_reaches_it_later(
  tmp_path, warnings, monkeypatch
):
  monkeypatch.setattr(fan_out, 'RETRY_S', 0.0)
  notes = register_notes()
  base, tries = writer_lib.get('notes'), []

  @metric_writer('late')
  class Late(base):
    remote = True

    def __init__(self, run):
      tries.append(run)
      if len(tries) < 3:
        raise ConnectionError
      super().__init__(run)

  write(
    Writers(['late'], warn=warnings.append), RunInfo(name='a', folder=tmp_path), [1, 2]
  )
  assert [note[0] for note in notes[:-2]] == ['start', 1, 1, 2, 2]
  assert notes[-2:] == ['report.json', ('close', True)]
  assert len(warnings) == 1


def test_a_run_waits_for_a_hanging_server_only_a_moment_at_its_end(
  tmp_path, warnings, monkeypatch
):
  monkeypatch.setattr(fan_out, 'CLOSE_S', 0.2)
  hangs = threading.Event()
  register_notes('one', remote=True, write=lambda *_: hangs.wait(60))
  register_notes('other', remote=True, __init__=lambda *_: hangs.wait(60))
  began = time.monotonic()
  writers = Writers(['one', 'other'], warn=warnings.append)
  write(writers, RunInfo(name='a', folder=tmp_path), range(1, 100))
  assert time.monotonic() - began < 5
  assert sorted(warnings) == [
    f'warning: WRITERS {name!r}: did not answer within 0 s; the run goes on'
    for name in ('one', 'other')
  ]
  hangs.set()


def test_ids_are_kept_in_the_folder_of_the_run(tmp_path):
  run = RunInfo(name='one', folder=tmp_path)
  assert run.saved_id('wandb') is None
  run.save_id('wandb', 'a')
  run.save_id('mlflow', 'b')
  again = RunInfo(name='one', folder=tmp_path, step=9)
  assert (again.saved_id('wandb'), again.saved_id('mlflow')) == ('a', 'b')
  assert json.loads((tmp_path / 'writers.json').read_text()) == {
    'wandb': 'a', 'mlflow': 'b',
  }  # fmt: skip


def test_the_example_of_the_page_runs(tmp_path, warnings):
  page = pathlib.Path(__file__).parents[3] / 'docs' / 'howto' / 'track_metrics.md'
  (code,) = re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL)
  (tmp_path / 'page.py').write_text(code)
  runpy.run_path(str(tmp_path / 'page.py'))
  run = RunInfo(name='a', folder=tmp_path)
  write(Writers(['csv'], warn=warnings.append), run, [1, 2])
  assert (tmp_path / 'log.csv').read_text().splitlines() == [
    '1,train/loss,1.0', '1,train/accuracy,', '1,probe/loss,2.0',
    '2,train/loss,0.5', '2,train/accuracy,', '2,probe/loss,1.0',
  ]  # fmt: skip
  assert warnings == []


def test_mistakes_are_named(monkeypatch):
  with pytest.raises(InputError, match=r"got 'wandbb'; must be.*did you mean 'wandb'"):
    writer_lib.check(['jsonl', 'wandbb'])
  metric_writer('own', needs={'no_such_module': 'no-such'})(Writer)
  with pytest.raises(InputError, match="'no_such_module' is not installed; pip inst"):
    writer_lib.check_installed(['own'])
  with pytest.raises(InputError, match='registered twice, as .*Jsonl and as .*Writer'):
    metric_writer('jsonl')(Writer)
  with pytest.raises(InputError, match='must be a subclass of flan_jax.Writer'):
    metric_writer('odd')(print)
  monkeypatch.setattr(writer_lib.importlib.util, 'find_spec', lambda name: None)
  for name in ('wandb', 'mlflow'):
    with pytest.raises(InputError, match=rf"pip install 'flan_jax\[{name}\]'"):
      writer_lib.check_installed([name])

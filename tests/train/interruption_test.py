"""Runs survive broken checkpoints, full disks, bad steps, hangs and kills.

Runs that are killed have processes of their own; the others run in this one.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import small_run
from compile_flags import QUICK
from safetensors.numpy import load_file

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.config import gin
from flan_jax.data.loader import Loader
from flan_jax.data.store import materialize
from flan_jax.errors import InputError
from flan_jax.jobs import train_and_evaluate
from flan_jax.runtime.progress import Progress
from flan_jax.train import checkpoint as checkpoint_lib
from flan_jax.train import goodput

TASK = 'microworld_mini_arc'


@pytest.fixture(scope='module')
def store(tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(tokenizer='bytes', epochs=1, sequence_length=256),
    out=out,
  )
  return out


def flags(model_dir: pathlib.Path, store: pathlib.Path | None, **more) -> list[str]:
  values = {
    'MODEL_DIR': str(model_dir),
    'MIXTURE_OR_TASK_NAME': TASK,
    **({'STORE': str(store)} if store else {}),
    'TRAIN_STEPS': 6,
    'Run.checkpoint_period': 2,
    'Run.log_period': 1,
    **more,
  }
  return small_run.flags(values)


def run(model_dir, store, **more) -> train_and_evaluate.Outcome:
  settings = gin.load(small_run.FILES, flags(model_dir, store, **more)).build('Run')
  return train_and_evaluate.train_and_evaluate(settings, progress=Progress())


def losses(model_dir: pathlib.Path) -> list[float]:
  lines = (model_dir / 'log.jsonl').read_text().splitlines()
  return [json.loads(line)['loss'] for line in lines]


def weights(model_dir: pathlib.Path) -> dict[str, np.ndarray]:
  return load_file(model_dir / 'model' / 'model.safetensors')


def assert_same_bits(one: pathlib.Path, other: pathlib.Path) -> None:
  first, second = weights(one), weights(other)
  assert first.keys() == second.keys()
  for name, value in first.items():
    assert value.tobytes() == second[name].tobytes(), name
  assert losses(one) == losses(other)


@pytest.fixture(scope='module')
def whole(store, tmp_path_factory) -> pathlib.Path:
  """An uninterrupted run of 6 steps, with checkpoints 4 and 6."""
  out = tmp_path_factory.mktemp('whole') / 'run'
  run(out, store)
  return out


@pytest.fixture
def copied(whole, tmp_path) -> pathlib.Path:
  """A copy of the run, to be corrupted and resumed, without its model folder."""
  out = tmp_path / 'run'
  shutil.copytree(whole, out)
  shutil.rmtree(out / 'model')
  return out


def array_files(checkpoint: pathlib.Path) -> list[pathlib.Path]:
  """Files of arrays, the largest first."""
  files = [p for p in (checkpoint / 'state').rglob('d/*') if p.is_file()]
  return sorted(files, key=lambda p: -p.stat().st_size)


def truncate(checkpoint: pathlib.Path) -> None:
  file = array_files(checkpoint)[0]
  file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(checkpoint: pathlib.Path) -> None:
  file = array_files(checkpoint)[0]
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 0x10
  file.write_bytes(data)


def lose_a_file(checkpoint: pathlib.Path) -> None:
  array_files(checkpoint)[0].unlink()


def lose_the_description(checkpoint: pathlib.Path) -> None:
  for file in (checkpoint / 'state').glob('_METADATA'):
    file.write_text('{"tree_met')


def lose_the_metadata(checkpoint: pathlib.Path) -> None:
  shutil.rmtree(checkpoint / 'about')


@pytest.mark.parametrize(
  'corrupt',
  [
    truncate,
    flip_a_bit,
    pytest.param(lose_a_file, marks=pytest.mark.slow),
    pytest.param(lose_the_description, marks=pytest.mark.slow),
    pytest.param(lose_the_metadata, marks=pytest.mark.slow),
  ],
)
def test_a_broken_newest_checkpoint_gives_way_to_the_one_before(
  corrupt, copied, whole, store, capfd
):
  """It is moved aside with a line, and the run ends as if nothing had happened."""
  corrupt(copied / 'checkpoints' / '6')
  run(copied, store)
  output = capfd.readouterr().err
  assert 'checkpoint of step 6 is broken' in output
  assert 'Resuming at step 4' in output
  assert (copied / checkpoint_lib.BROKEN / '6').is_dir()
  assert_same_bits(copied, whole)


def test_without_a_readable_checkpoint_nothing_is_moved(copied, store):
  for step in ('4', '6'):
    truncate(copied / 'checkpoints' / step)
  with pytest.raises(InputError, match=r'none of the checkpoints \[6, 4\] can be read'):
    run(copied, store)
  assert sorted(os.listdir(copied / 'checkpoints')) == ['4', '6']


def test_a_checkpoint_of_another_model_says_what_differs(copied, store):
  (copied / 'run.json').unlink()  # or the settings would be compared first
  with pytest.raises(InputError, match=r'of another model or optimizer: .*\(512, 16\)'):
    run(copied, store, **{'DecoderConfig.d_model': 32})


def test_checksums_are_those_of_the_bits():
  values = {'a': jax.numpy.array([1.0, -2.0, 3.5]), 'b': jax.numpy.arange(3)}
  bits = np.array([1.0, -2.0, 3.5], np.float32).view(np.uint32)
  expected = {'a': int(bits.sum(dtype=np.uint32)), 'b': 3}
  assert checkpoint_lib.checksums(values) == expected


# Room on the disk.


def test_room_is_checked_before_the_first_step(store, tmp_path, monkeypatch):
  usage = shutil.disk_usage(tmp_path)._replace(free=10_000)
  monkeypatch.setattr(checkpoint_lib.shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(InputError, match=r'0\.00 GB free; 2 checkpoints of .* need'):
    run(tmp_path / 'run', store)
  assert not (tmp_path / 'run' / 'log.jsonl').exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(store):
  with pytest.raises(InputError, match=r"MODEL_DIR '/proc/flan': cannot be written to"):
    run(pathlib.Path('/proc/flan'), store)


@pytest.mark.parametrize('name', ['MODEL_DIR', 'STORE', 'INITIAL_CHECKPOINT_PATH'])
def test_another_object_store_is_refused_and_no_folder_of_that_name_is_made(
  name, store, tmp_path
):
  with pytest.raises(InputError, match=f"{name}: got 's3://b/x'; .* as 'gs://b/x'"):
    run(tmp_path / 'run', store, **{name: 's3://b/x'})
  assert not (tmp_path / 'run').exists()
  assert not pathlib.Path('s3:').exists()


@pytest.fixture
def small_disk(tmp_path):
  """A real file system of 8 MB."""
  mount = tmp_path / 'disk'
  mount.mkdir()
  made = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'none', mount])
  if made.returncode:
    pytest.skip('mounting a file system is not allowed here')
  yield mount
  subprocess.run(['umount', '--lazy', mount], check=True)


@pytest.mark.filterwarnings(  # a write of TensorStore outlives Orbax's event loop
  'ignore::pytest.PytestUnraisableExceptionWarning'
)
def test_a_disk_that_fills_up_costs_no_checkpoint(
  small_disk, store, whole, monkeypatch, capfd
):
  """It is full from step 4 on; then there is room again."""
  out, save = small_disk / 'run', checkpoint_lib.Checkpoints.save

  def fill(self, state, *, step, metadata):
    if step == 4:
      self.wait()
      with contextlib.suppress(OSError), (out / 'pad').open('wb') as file:
        while file.write(b'x' * 4096):
          file.flush()
    save(self, state, step=step, metadata=metadata)

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint_lib.Checkpoints, 'save', fill)
    assert dispatch.main(train_command(out, store)[3:]) == 2
  said = capfd.readouterr().err
  (output,) = [x for x in said.splitlines() if x.startswith('flan: error:')]
  assert 'the disk is full' in output
  assert 'step 2 is saved whole' in output
  assert 'flan_jax/train' not in said  # no stack of ours
  (out / 'pad').unlink()
  run(out, store)
  assert_same_bits(out, whole)


# Bad steps.


class BadBatches(Loader):
  """Batches of the real store; those of chosen steps have a loss of NaN."""

  steps: tuple[int, ...] = ()

  def batch(self, step):
    found = super().batch(step)
    if step in self.steps:
      return found._replace(loss_mask=np.full_like(found.loss_mask, np.nan))
    return found


@pytest.fixture
def bad_at(monkeypatch):
  monkeypatch.setattr('flan_jax.train.loop.Loader', BadBatches)

  def at(*steps):
    monkeypatch.setattr(BadBatches, 'steps', steps)

  return at


@pytest.fixture(scope='module')
def stopped(store, tmp_path_factory) -> pathlib.Path:
  """A run that a bad loss stopped at its fifth step."""
  out = tmp_path_factory.mktemp('stopped') / 'run'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('flan_jax.train.loop.Loader', BadBatches)
    patch.setattr(BadBatches, 'steps', (4,))
    with pytest.raises(
      InputError, match=r'^step 5: loss nan .* step 4 is saved whole: lower'
    ):
      run(out, store)
  return out


def test_a_bad_loss_stops_the_run_and_the_checkpoint_before_it_is_whole(
  stopped, store, tmp_path, whole
):
  assert sorted(os.listdir(stopped / 'checkpoints')) == ['2', '4']
  shutil.copytree(stopped, tmp_path / 'run')
  run(tmp_path / 'run', store)
  assert_same_bits(tmp_path / 'run', whole)


@pytest.mark.slow  # the next test skips one after a checkpoint
def test_a_bad_step_is_skipped_and_counted(bad_at, store, tmp_path):
  """Parameters after it are those before it, to the bit; the log counts it."""
  bad_at(3)
  skip = {'Run.bad_step': "'skip'"}
  run(tmp_path / 'one', store, TRAIN_STEPS=4, **skip)
  run(tmp_path / 'other', store, TRAIN_STEPS=3, **skip)
  one, other = weights(tmp_path / 'one'), weights(tmp_path / 'other')
  assert all(one[name].tobytes() == other[name].tobytes() for name in one)
  lines = (tmp_path / 'one' / 'log.jsonl').read_text().splitlines()
  assert [json.loads(line)['bad_steps'] for line in lines] == [0, 0, 0, 1]
  assert json.loads(lines[-1])['loss'] is None


def test_a_stopped_run_may_resume_with_bad_steps_skipped(
  bad_at, stopped, store, tmp_path
):
  """The setting may change at a checkpoint: the loss guard is added to its state.

  The bad step is counted, and does not change the parameters of step 4 by a bit.
  """
  bad_at(4)
  before, resumed = tmp_path / 'before', tmp_path / 'resumed'
  for out in (before, resumed):
    shutil.copytree(stopped, out)
  run(before, store, TRAIN_STEPS=4)  # no step is left: it saves the model
  skip = {'Run.bad_step': "'skip'"}
  outcome = run(resumed, store, TRAIN_STEPS=5, **skip)
  assert (outcome.step, int(outcome.state.optimizer.bad)) == (5, 1)
  one, other = weights(before), weights(resumed)
  assert all(one[name].tobytes() == other[name].tobytes() for name in one)
  lines = (resumed / 'log.jsonl').read_text().splitlines()
  assert [json.loads(line)['bad_steps'] for line in lines] == [0, 0, 0, 0, 1]
  assert json.loads(lines[-1])['loss'] is None


# Hangs and kills.


def test_a_step_that_hangs_dumps_every_stack(store, tmp_path, monkeypatch, capfd):
  """The fourth step hangs until a dump shows where."""
  said = []

  def wait_for_a_dump():
    deadline = time.monotonic() + 300
    while 'wait_for_a_dump' not in ''.join(said):
      assert time.monotonic() < deadline, 'no stack was dumped'
      time.sleep(0.05)
      said.append(capfd.readouterr().err)

  class Stuck(Loader):
    def batch(self, step):
      if step == 3:
        wait_for_a_dump()
      return super().batch(step)

  monkeypatch.setattr('flan_jax.train.loop.Loader', Stuck)
  assert run(tmp_path / 'run', store, **{'Run.hang_s': 2}).step == 6
  assert 'Timeout (0:00:02)!' in ''.join(said)


@pytest.mark.parametrize(
  'number', [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_saves_the_step_and_the_run_goes_on(
  number, store, tmp_path, whole, monkeypatch, capfd
):
  """Ctrl-C and SIGTERM alike; only the exit code differs."""

  class Signals(Loader):
    def batch(self, step):
      if step == 4:
        os.kill(os.getpid(), number)
      return super().batch(step)

  out = tmp_path / 'run'
  with monkeypatch.context() as patch:
    patch.setattr('flan_jax.train.loop.Loader', Signals)
    outcome = run(out, store)
  assert (outcome.interrupted, outcome.exit_code) == (True, 128 + number)
  name = signal.Signals(number).name
  said = capfd.readouterr().err
  assert f'Stopped by {name}; step {outcome.step} is saved' in said
  assert sorted(os.listdir(out / 'checkpoints'))[-1] == str(outcome.step)
  run(out, store)
  assert_same_bits(out, whole)


KILLED = """
import os, runpy, signal, sys
def kill(event, arguments):
  if event == 'os.rename' and str(arguments[1]).endswith('checkpoints/4'):
    os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
runpy.run_module('flan_jax', run_name='__main__')
"""


def test_a_kill_in_a_save_costs_no_checkpoint(store, tmp_path, whole, capfd):
  """kill -9 when step 4 is written, but has no name; kill_test.py has more kills."""
  out = tmp_path / 'run'
  command = [sys.executable, '-c', KILLED, *train_command(out, store)[3:]]
  assert subprocess.run(command, env=environment(8)).returncode == -signal.SIGKILL
  names = {path.name for path in (out / 'checkpoints').iterdir()}
  assert '2' in names
  assert '4' not in names
  assert any(name.startswith('4.') for name in names)
  run(out, store)
  assert 'Resuming at step 2' in capfd.readouterr().err
  assert_same_bits(out, whole)


def train_command(model_dir, store, **more) -> list[str]:
  command = [sys.executable, '-m', 'flan_jax', 'train']
  command += [f'--gin_file={file}' for file in small_run.FILES]
  return [*command, *(f'--gin.{flag}' for flag in flags(model_dir, store, **more))]


def environment(devices: int) -> dict[str, str]:
  count = f'--xla_force_host_platform_device_count={devices}'
  return {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': f'{count} {QUICK}'}


def test_goodput_accounts_for_the_wall_clock(whole, capsys):
  spent = goodput.summarize(goodput.read(whole / goodput.FILE))
  assert (spent.starts, spent.steps, spent.recomputed_steps) == (1, 6, 0)
  assert sum(spent.seconds.values()) == pytest.approx(spent.wall, rel=1e-3)
  assert spent.seconds['init'] > 0  # and it compiles meanwhile
  assert spent.seconds['save'] > 0
  assert dispatch.main(['report', str(whole)]) == 0
  shown = capsys.readouterr().out
  assert '6 steps in' in shown
  assert 'save' in shown
  assert dispatch.main(['report', '--json', str(whole)]) == 0
  assert json.loads(capsys.readouterr().out)['goodput']['steps'] == 6

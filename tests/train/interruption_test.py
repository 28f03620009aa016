"""Runs survive broken checkpoints, full disks, bad steps, hangs and kills.

Runs that are killed have processes of their own; the others run in this one.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
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
SMALL = [
  'VOCAB_SIZE=512',
  'NUM_LAYERS=1',
  'DecoderConfig.d_model=16',
  'DecoderConfig.d_ff=32',
  'DecoderConfig.head_dim=4',
  'SEQUENCE_LENGTH=256',
  'BATCH_TOKENS=2048',
  'Optimizer.learning_rate=0.01',
  'Evaluate.sequence_length=256',
]


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
  return [*SMALL, *(f'{name}={value}' for name, value in values.items())]


FILES = ['gin/runs/base.gin', 'gin/models/tiny.gin']


def run(model_dir, store, **more) -> train_and_evaluate.Outcome:
  settings = gin.load(FILES, flags(model_dir, store, **more)).build('Run')
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
  [truncate, flip_a_bit, lose_a_file, lose_the_description, lose_the_metadata],
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


FILLS = """
import pathlib, sys
from flan_jax.cli import dispatch
from flan_jax.train import checkpoint
model_dir, pad = sys.argv[1], pathlib.Path(sys.argv[1]) / 'pad'
save = checkpoint.Checkpoints.save
def fills(self, state, *, step, metadata):
  if step == 4:
    self.wait()
    with pad.open('wb') as file:
      try:
        while file.write(b'x' * 4096):
          file.flush()
      except OSError:
        pass
  save(self, state, step=step, metadata=metadata)
checkpoint.Checkpoints.save = fills
sys.exit(dispatch.main(sys.argv[2:]))
"""


def test_a_disk_that_fills_up_costs_no_checkpoint(store, tmp_path, whole):
  """A real file system of 8 MB is full from step 4 on; then there is room again."""
  mount = tmp_path / 'disk'
  mount.mkdir()
  made = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=8m', 'none', mount])
  if made.returncode:
    pytest.skip('mounting a file system is not allowed here')
  try:
    command = train_command(mount / 'run', store)
    done = subprocess.run(
      [sys.executable, '-c', FILLS, str(mount / 'run'), *command[3:]],
      env=environment(8), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    (output,) = [x for x in done.stderr.splitlines() if x.startswith('flan: error:')]
    assert 'the disk is full' in output
    assert 'step 2 is saved whole' in output
    # Only TensorBoard's writer complains at exit.
    assert 'flan_jax/train' not in done.stderr, done.stderr
    (mount / 'run' / 'pad').unlink()
    run(mount / 'run', store)
    assert_same_bits(mount / 'run', whole)
  finally:
    subprocess.run(['umount', mount], check=True)


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


def test_a_bad_loss_stops_the_run_and_the_checkpoint_before_it_is_whole(
  bad_at, store, tmp_path, whole
):
  bad_at(4)  # the fifth step
  with pytest.raises(
    InputError, match=r'^step 5: loss nan .* step 4 is saved whole: lower'
  ):
    run(tmp_path / 'run', store)
  assert sorted(os.listdir(tmp_path / 'run' / 'checkpoints')) == ['2', '4']
  bad_at()
  run(tmp_path / 'run', store)
  assert_same_bits(tmp_path / 'run', whole)


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


def test_a_stopped_run_may_resume_with_bad_steps_skipped(bad_at, store, tmp_path):
  """The setting may change at a checkpoint: the loss guard is added to its state."""
  bad_at(4)
  with pytest.raises(InputError, match='step 5'):
    run(tmp_path / 'run', store)
  outcome = run(tmp_path / 'run', store, **{'Run.bad_step': "'skip'"})
  assert outcome.step == 6
  assert int(outcome.state.optimizer.bad) == 1


# Hangs.

HANGS = """
import sys, threading
from flan_jax.cli import dispatch
from flan_jax.train import loop
class Stuck(loop.Loader):
  def batch(self, step):
    if step == 3:
      wait_forever()
    return super().batch(step)
def wait_forever():
  threading.Event().wait()
loop.Loader = Stuck
sys.exit(dispatch.main(sys.argv[1:]))
"""


def test_a_step_that_hangs_dumps_every_stack(store, tmp_path):
  command = train_command(tmp_path / 'run', store, **{'Run.hang_s': 3})
  process = subprocess.Popen(
    [sys.executable, '-c', HANGS, *command[3:]], env=environment(1),
    stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  output = []
  try:
    for line in process.stderr:
      output.append(line)
      if 'wait_forever' in line:
        break
  finally:
    process.kill()
    process.communicate()
  text = ''.join(output)
  assert 'Timeout (0:00:03)!' in text
  assert 'wait_forever' in text


def train_command(model_dir, store, **more) -> list[str]:
  command = [sys.executable, '-m', 'flan_jax', 'train']
  command += [f'--gin_file={file}' for file in FILES]
  return [*command, *(f'--gin.{flag}' for flag in flags(model_dir, store, **more))]


def environment(devices: int) -> dict[str, str]:
  count = f'--xla_force_host_platform_device_count={devices}'
  fast = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
  return {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': f'{count} {fast}'}


def test_goodput_accounts_for_the_wall_clock(whole, capsys):
  spent = goodput.summarize(goodput.read(whole / goodput.FILE))
  assert (spent.starts, spent.steps, spent.recomputed_steps) == (1, 6, 0)
  assert sum(spent.seconds.values()) == pytest.approx(spent.wall, rel=1e-3)
  assert spent.seconds['compile'] > 0
  assert spent.seconds['save'] > 0
  assert dispatch.main(['report', str(whole)]) == 0
  shown = capsys.readouterr().out
  assert '6 steps in' in shown
  assert 'compile' in shown
  assert dispatch.main(['report', '--json', str(whole)]) == 0
  assert json.loads(capsys.readouterr().out)['goodput']['steps'] == 6

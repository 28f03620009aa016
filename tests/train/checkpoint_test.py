"""Checkpoints: what is restored is what was saved, or one line says why not."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flan_jax.errors import InputError
from flan_jax.train import checkpoint
from flan_jax.train.state import Layout, TrainState


def drawn(step: int, *, width: int = 8) -> TrainState:
  """A state of all dtypes that a run has, with a nan, an infinity and a -0.0."""
  random = np.random.default_rng(step)
  whole = random.normal(size=(4, width)).astype(np.float32)
  whole[0, :3] = np.nan, np.inf, -0.0
  params = {'whole': whole, 'half': whole.astype(jnp.bfloat16)}
  return TrainState(np.int32(step), params, {'moments': (whole**2, np.int32(step))})


def layout(*, width: int = 8, devices: int = 1) -> Layout:
  """The layout of `drawn`, split by rows over the first devices."""
  shapes = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), drawn(0, width=width)
  )
  axes = jax.tree.map(
    lambda leaf: PartitionSpec('rows') if leaf.ndim else PartitionSpec(), shapes
  )
  mesh = Mesh(np.array(jax.devices()[:devices]), ('rows',))
  return Layout(shapes, axes, jax.tree.map(lambda x: NamedSharding(mesh, x), axes))


def saved(folder: pathlib.Path, *steps: int, keep: int = 9, devices: int = 1):
  """Checkpoints of these steps, closed."""
  checkpoints = checkpoint.Checkpoints(str(folder), keep=keep)
  for step in steps:
    state = jax.device_put(drawn(step), layout(devices=devices).shardings)
    checkpoints.save(state, step=step, metadata={'step': step})
  checkpoints.close()


def restored(folder: pathlib.Path, *, onto: Layout | None = None):
  """((step, state) of the newest readable checkpoint or None, warnings)."""
  checkpoints = checkpoint.Checkpoints(str(folder), keep=9)
  lines = []

  def restore(step):
    metadata = checkpoints.metadata(step)
    assert metadata['step'] == step
    return checkpoints.restore(step, layout=onto or layout(), metadata=metadata)

  try:
    return checkpoints.restore_newest(restore, warn=lines.append), lines
  finally:
    checkpoints.close()


def steps_in(folder: pathlib.Path) -> set[str]:
  return {path.name for path in folder.iterdir()} if folder.exists() else set()


def damage(folder: pathlib.Path) -> None:
  """Halves every file of arrays."""
  for path in (folder / 'state').rglob('*'):
    if path.is_file() and path.parent.name == 'd':
      path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bits(state) -> list[bytes]:
  return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(state)]


@pytest.mark.parametrize(('before', 'after'), [(1, 1), (4, 2)])
def test_what_is_saved_is_what_is_restored_bit_for_bit_on_any_mesh(
  before, after, tmp_path
):
  saved(tmp_path, 3, devices=before)
  onto = layout(devices=after)
  (step, state), lines = restored(tmp_path, onto=onto)
  assert (step, lines) == (3, [])
  assert bits(state) == bits(drawn(3))
  assert jax.tree.map(lambda leaf: leaf.sharding, state) == onto.shardings


def test_the_newest_are_kept(tmp_path):
  saved(tmp_path, 1, 2, 3, 4, keep=2)
  assert steps_in(tmp_path / 'checkpoints') == {'3', '4'}
  assert checkpoint.newest_step(str(tmp_path)) == 4


def test_a_saved_step_is_not_saved_again(tmp_path):
  saved(tmp_path, 2)
  about = tmp_path / 'checkpoints' / '2' / 'about' / 'metadata'
  before = about.stat().st_mtime_ns
  saved(tmp_path, 2)
  assert about.stat().st_mtime_ns == before


def test_the_newest_readable_one_wins_and_broken_ones_are_moved_aside(tmp_path):
  saved(tmp_path, 1, 2, 3)
  damage(tmp_path / 'checkpoints' / '3')
  (step, state), lines = restored(tmp_path)
  assert step == 2
  assert bits(state) == bits(drawn(2))
  (line,) = lines
  assert line.startswith('checkpoint of step 3 is broken: ')
  assert '\n' not in line
  assert steps_in(tmp_path / checkpoint.BROKEN) == {'3'}
  assert steps_in(tmp_path / 'checkpoints') == {'1', '2'}


def test_other_bits_than_were_saved_are_not_restored(tmp_path):
  """Arrays that read well, under the checksums of others."""
  saved(tmp_path, 1, 2)
  about = tmp_path / 'checkpoints' / '2' / 'about' / 'metadata'
  metadata = checkpoint.unsealed(json.loads(about.read_text()))
  metadata['checksums']['params/half'] += 1
  about.write_text(json.dumps(checkpoint.sealed(metadata)))
  (step, _), (line,) = restored(tmp_path)
  assert step == 1
  assert 'other bits than were saved in params/half' in line


def test_if_none_can_be_read_none_is_moved(tmp_path):
  saved(tmp_path, 1, 2)
  for step in '12':
    damage(tmp_path / 'checkpoints' / step)
  with pytest.raises(InputError, match=r'none of the checkpoints \[2, 1\] can be read'):
    restored(tmp_path)
  assert steps_in(tmp_path / 'checkpoints') == {'1', '2'}


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path):
  assert checkpoint.newest_step(str(tmp_path)) is None
  assert not steps_in(tmp_path)
  assert restored(tmp_path) == (None, [])


def test_a_checkpoint_of_another_layout_is_refused_with_one_line(tmp_path):
  saved(tmp_path, 1)
  with pytest.raises(InputError) as caught:
    restored(tmp_path, onto=layout(width=6))
  line = str(caught.value)
  assert 'of another model or optimizer' in line
  assert 'params/whole is (4, 8) in the checkpoint, (4, 6) in the run' in line
  assert '\n' not in line
  assert steps_in(tmp_path / 'checkpoints') == {'1'}


def test_a_disk_without_room_is_refused_with_both_sizes(tmp_path, monkeypatch):
  """Room for `keep` checkpoints and the one being written; old ones are room."""
  one = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(drawn(0)))

  def free(size):
    usage = type('Usage', (), {'free': size})
    monkeypatch.setattr(checkpoint.shutil, 'disk_usage', lambda folder: usage)

  free(3 * one)
  checkpoint.check_room(str(tmp_path), layout(), keep=2)
  free(3 * one - 1)
  with pytest.raises(InputError, match=r'0.00 GB free; 2 checkpoints of 0.00 GB'):
    checkpoint.check_room(str(tmp_path), layout(), keep=2)
  (tmp_path / 'checkpoints').mkdir()
  (tmp_path / 'checkpoints' / 'old').write_bytes(b'.')
  checkpoint.check_room(str(tmp_path), layout(), keep=2)


def test_orbax_handles_the_arrays_of_others_as_ever():
  """Nothing is registered for the whole process, which may be a user's own."""
  handler = ocp.type_handlers.get_type_handler(jax.Array)
  assert handler._min_slice_bytes_for_replica_parallel != checkpoint.SHARED_BYTES

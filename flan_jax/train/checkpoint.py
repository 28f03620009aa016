"""Checkpoints of a run: Orbax, asynchronous, whole or absent, verified when restored.

The metadata beside the arrays has a checksum of itself, and of every array: a sum of
its bits, equal on every mesh and number of processes. If a checkpoint is torn, or its
bits differ from those saved, it is moved aside and the one before is restored.
"""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from flan_jax.errors import InputError
from flan_jax.runtime import disk, multihost, renamed_keys
from flan_jax.runtime.renamed_keys import upgraded
from flan_jax.train.metadata_seal import Corrupt, sealed, unsealed
from flan_jax.train.state import Layout, TrainState

BROKEN = 'checkpoints.broken'
"""Folder for unreadable checkpoints, beside `checkpoints`."""

SHARED_BYTES = 2**20
"""Size from which the replicas of an array share its writing.

To take its share, a replica compiles a program for each shape: of small arrays, that
takes longer than to write them.
"""

_ARRAYS = ocp.type_handlers.create_type_handler_registry(
  (np.ndarray, ocp.type_handlers.NumpyHandler()),
  (
    jax.Array,
    ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=SHARED_BYTES),
  ),
)
"""Handlers of these checkpoints alone: Orbax's own stay as they are for others."""


def newest_step(model_dir: str) -> int | None:
  """The newest finished step under MODEL_DIR, or None; creates nothing there."""
  folder = epath.Path(model_dir) / 'checkpoints'
  return (
    max(ocp.utils.checkpoint_steps(folder), default=None) if folder.exists() else None
  )


class Checkpoints:
  """MODEL_DIR/checkpoints/<step>: the TrainState and its metadata.

  The item of the metadata is called `about` on disk: Orbax itself uses `metadata`.
  """

  def __init__(self, model_dir: str, *, keep: int):
    root = epath.Path(model_dir)
    self._root = root if '://' in model_dir else root.resolve()
    self._folder = self._root / 'checkpoints'
    self._manager = ocp.CheckpointManager(
      self._folder,
      item_handlers={
        'state': ocp.PyTreeCheckpointHandler(type_handler_registry=_ARRAYS),
        'about': ocp.JsonCheckpointHandler(),
      },
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=True, cleanup_tmp_directories=True
      ),
    )

  def latest(self) -> int | None:
    """The newest finished step, or None."""
    return self._manager.latest_step()

  def describe(self) -> str:
    """The newest step that is saved whole, as a phrase for messages."""
    steps = self._manager.all_steps(read=True)
    return f'step {max(steps):,} is saved whole' if steps else 'no checkpoint was saved'

  def save(self, state: TrainState, *, step: int, metadata: dict[str, Any]) -> None:
    """Starts saving; the arrays are copied off the device before this returns.

    A step that is already saved is not saved again.

    Raises:
      InputError: if the disk is full, now or in the save before; earlier checkpoints
        are whole.
    """
    if step in self._manager.all_steps():
      return
    metadata = sealed({**metadata, 'checksums': checksums(_tree(state))})
    args = ocp.args.Composite(
      state=ocp.args.PyTreeSave(_tree(state)), about=ocp.args.JsonSave(metadata)
    )
    with self._disk():
      # Forced: to decide whether to save, Orbax would check for preemption in between.
      self._manager.save(step, args=args, force=True)

  def metadata(self, step: int) -> dict[str, Any]:
    """The metadata saved with `step`.

    Raises:
      Corrupt: if it cannot be read, or is not what was saved.
    """
    args = ocp.args.Composite(about=ocp.args.JsonRestore())
    try:
      found = self._manager.restore(step, args=args)['about']
      return upgraded(unsealed(found), renamed_keys.TRAINING)
    except Corrupt:
      raise
    except Exception as error:
      raise Corrupt(f'its metadata cannot be read ({_first(error)})') from None

  def restore_newest(
    self, restore: Callable[[int], Any], *, warn: Callable[[str], None]
  ) -> tuple[int, Any] | None:
    """Restores the newest checkpoint that can be read, and moves broken ones aside.

    They are moved only once an older one was read: if all of them fail, the cause may
    lie elsewhere.

    Args:
      restore: step -> restored; raises Corrupt if it cannot be read.
      warn: called with a line for each checkpoint that was moved aside.

    Returns:
      (step, restored), or None if no checkpoint was ever saved.

    Raises:
      InputError: if there are checkpoints and none can be read.
    """
    steps = sorted(self._manager.all_steps(), reverse=True)
    broken = {}
    for step in steps:
      try:
        found = restore(step)
      except Corrupt as error:
        broken[step] = str(error)
        continue
      for other, why in broken.items():
        aside = self._move_aside(other)
        warn(f'checkpoint of step {other:,} is broken: {why}; moved to {aside}')
      return step, found
    if not steps:
      return None
    raise InputError(
      f'{self._folder}: none of the checkpoints {steps} can be read; of the newest '
      f'{broken[steps[0]]}; to start from the first step, give another MODEL_DIR'
    )

  def restore(
    self, step: int, *, layout: Layout, metadata: dict[str, Any]
  ) -> TrainState:
    """Restores the state of `step` onto the mesh of `layout` (any mesh).

    Args:
      step: a finished step.
      layout: layout that the run needs.
      metadata: metadata of this step.

    Raises:
      InputError: if the checkpoint is of another model or optimizer; says what differs.
      Corrupt: if it is torn, or its checksums differ.
    """
    wanted = _tree(layout.shapes)
    try:
      saved = self._manager.item_metadata(step)['state'].tree
    except Exception as error:
      raise Corrupt(f'its description cannot be read ({_first(error)})') from None
    different = differences(saved, wanted)
    if different:
      more = f' and {len(different) - 5} more' if len(different) > 5 else ''
      raise InputError(
        f'checkpoint {self._folder / str(step)}: of another model or optimizer: '
        f'{"; ".join(different[:5])}{more}; give the settings it was made with, or '
        'another MODEL_DIR'
      )
    target = jax.tree.map(_struct, wanted, _tree(layout.shardings))
    onto = ocp.checkpoint_utils.construct_restore_args(target)
    args = ocp.args.Composite(state=ocp.args.PyTreeRestore(target, restore_args=onto))
    try:
      tree = self._manager.restore(step, args=args)['state']
    except Exception as error:
      raise Corrupt(f'its arrays cannot be read ({_first(error)})') from None
    expected = metadata.get('checksums')
    if expected is not None:
      got = checksums(tree)
      wrong = [name for name in expected if got.get(name) != expected[name]]
      if wrong:
        raise Corrupt(f'other bits than were saved in {", ".join(wrong[:3])}')
    return TrainState(tree['step'], tree['params'], tree['optimizer'])

  def wait(self) -> None:
    """Waits until every save is finished.

    Raises:
      InputError: if the disk is full.
    """
    with self._disk():
      self._manager.wait_until_finished()

  def close(self) -> None:
    """Waits for saves and closes; a full disk was already reported."""
    try:
      self._manager.close()
    except Exception as error:
      if not disk.is_full(error):
        raise

  def _move_aside(self, step: int) -> epath.Path:
    aside = self._root / BROKEN / str(step)
    if multihost.is_main_process():
      aside.parent.mkdir(parents=True, exist_ok=True)
      if aside.exists():
        aside.rmtree()
      (self._folder / str(step)).rename(aside)
    multihost.barrier('put aside')
    self._manager.reload()
    return aside

  def _disk(self) -> '_Disk':
    return _Disk(self._folder, self.describe)


class _Disk:
  """Turns a full disk into one clear line."""

  def __init__(self, folder: epath.Path, describe: Callable[[], str]):
    self._folder, self._describe = folder, describe

  def __enter__(self) -> None:
    pass

  def __exit__(self, kind, error, traceback) -> None:
    if error is None or not disk.is_full(error):
      return
    raise InputError(
      f'{self._folder}: the disk is full; {self._describe()}; free some space and '
      'rerun the same command'
    ) from None


def check_room(model_dir: str, layout: Layout, *, keep: int) -> None:
  """Checks that the disk holds `keep` checkpoints and the one being written.

  Raises:
    InputError: if it does not, before anything is computed; names both sizes.
  """
  one = sum(
    int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(layout.shapes)
  )
  if '://' in model_dir:
    return  # an object store has no limit
  folder = pathlib.Path(model_dir) / 'checkpoints'
  there = sum(path.stat().st_size for path in folder.rglob('*') if path.is_file())
  free = shutil.disk_usage(model_dir).free
  needed = (keep + 1) * one
  if free + there < needed:
    raise InputError(
      f'MODEL_DIR {model_dir!r}: {free / 1e9:,.2f} GB free; {keep} checkpoints of '
      f'{one / 1e9:,.2f} GB and the one being written need {needed / 1e9:,.2f} GB; '
      'free some space, or set Run.keep lower',
      field='Run.model_dir',
    )


def checksums(tree: Any) -> dict[str, int]:
  """Path -> sum of the bits of the array in words, modulo 2**32; exact on any mesh."""
  flat, _ = jax.tree_util.tree_flatten_with_path(tree)
  leaves = [leaf for _, leaf in flat]
  on_cpu = jax.default_backend() == 'cpu' and multihost.is_single_process()
  sums = map(bit_sum, leaves) if on_cpu else jax.device_get(_sums(leaves))
  names = [jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in flat]
  return {name: int(total) for name, total in zip(names, sums, strict=True)}


def bit_sum(leaf: jax.Array | np.ndarray) -> np.uint32:
  """Like `_sums`, in numpy: a program of all sums compiles slowly on a CPU."""
  bits = np.asarray(leaf).view(f'uint{8 * leaf.dtype.itemsize}')
  return np.sum(bits, dtype=np.uint32)


@jax.jit
def _sums(leaves: list[jax.Array]) -> list[jax.Array]:
  def total(leaf):
    words = jnp.dtype(f'uint{8 * leaf.dtype.itemsize}')
    bits = jax.lax.bitcast_convert_type(leaf, words).astype(jnp.uint32)
    return jnp.sum(bits, dtype=jnp.uint32)

  return [total(leaf) for leaf in leaves]


def differences(saved: Any, wanted: Any) -> list[str]:
  """Lists differences in the shapes of two trees of arrays, as phrases."""

  def shapes(tree):
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
      jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape)
      for path, leaf in flat
    }

  before, now = shapes(saved), shapes(wanted)
  out = [f'{name} is not in the run' for name in before if name not in now]
  out += [f'{name} is not in the checkpoint' for name in now if name not in before]
  out += [
    f'{name} is {before[name]} in the checkpoint, {now[name]} in the run'
    for name in now
    if name in before and before[name] != now[name]
  ]
  return out


def _tree(state: TrainState) -> dict[str, Any]:
  return {'step': state.step, 'params': state.params, 'optimizer': state.optimizer}


def _struct(shape: Any, sharding: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def _first(error: Exception) -> str:
  return ' '.join(f'{type(error).__name__}: {error}'.split())[:160]

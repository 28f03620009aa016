"""Checkpoints of a run: Orbax, asynchronous, whole or absent."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from flan_jax.errors import InputError
from flan_jax.train.state import Layout, TrainState


class Checkpoints:
  """MODEL_DIR/checkpoints/<step>: the TrainState and what is said about it."""

  def __init__(self, model_dir: str, *, keep: int):
    self._folder = pathlib.Path(model_dir).absolute() / 'checkpoints'
    self._manager = ocp.CheckpointManager(
      self._folder,
      item_names=('state', 'about'),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
    )

  def latest(self) -> int | None:
    """The newest finished step, or None."""
    return self._manager.latest_step()

  def save(self, state: TrainState, *, step: int, about: dict[str, Any]) -> None:
    """Starts saving; the arrays are copied off the device before this returns.

    A step that was saved before is not saved again.
    """
    if step in self._manager.all_steps():
      return
    self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(_tree(state)), about=ocp.args.JsonSave(about)
      ),
    )

  def about(self, step: int) -> dict[str, Any]:
    """What was said when `step` was saved."""
    args = ocp.args.Composite(about=ocp.args.JsonRestore())
    return self._manager.restore(step, args=args)['about']

  def restore(self, step: int, *, layout: Layout) -> TrainState:
    """The state of `step`, on the mesh of `layout` (any mesh).

    Raises:
      InputError: if the checkpoint is of another model or optimizer.
    """
    target = jax.tree.map(_struct, _tree(layout.shapes), _tree(layout.shardings))
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    try:
      tree = self._manager.restore(step, args=args)['state']
    except (ValueError, KeyError, TypeError) as error:
      first = ' '.join(str(error).split())[:300]
      raise InputError(
        f'checkpoint {self._folder / str(step)}: of another model or optimizer '
        f'({first})'
      ) from None
    return TrainState(tree['step'], tree['params'], tree['optimizer'])

  def wait(self) -> None:
    """Until every save is finished."""
    self._manager.wait_until_finished()

  def close(self) -> None:
    self._manager.close()


def _tree(state: TrainState) -> dict[str, Any]:
  return {'step': state.step, 'params': state.params, 'optimizer': state.optimizer}


def _struct(shape: Any, sharding: Any) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)

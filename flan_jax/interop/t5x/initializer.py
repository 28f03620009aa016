"""Starts a t5x run from a flan_jax model or run. Imports t5x.

t5x's own `RestoreCheckpointConfig.path` cannot be combined with saving the state of the
data iterator: t5x then expects a dataset in the checkpoint.
"""

from typing import Any

import jax
import t5x.utils as t5x_utils

from flan_jax.checkpoints import weights
from flan_jax.interop.t5x import checkpoints


class Initializer(t5x_utils.TrainStateInitializer):
  """The class for `train.train_state_initializer_cls`.

  Args:
    source: a flan_jax model folder (or `microworld`), or the MODEL_DIR of a run, whose
      step and optimizer state are used too; None initializes randomly.
    kwargs: arguments of t5x's initializer.

  Raises:
    InputError: if the source is of another model (names the differences).
  """

  def __init__(self, *, source: str | None = None, **kwargs: Any):
    super().__init__(**kwargs)
    self._source = source

  def from_scratch(self, init_rng: Any) -> Any:
    """The initial train state, on the mesh of the partitioner."""
    state = super().from_scratch(init_rng)
    if self._source is None:
      return state
    old, new = state.state_dict(), checkpoints.train_state(self._source)
    weights.check(new['target'], old['target'], where=self._source)
    return state.restore_state(
      jax.tree.map(lambda to, value: jax.device_put(value, to.sharding), old, new)
    )

"""A t5x run that starts from a model, or in the middle of a run, of ours. Imports t5x.

t5x's own way, `RestoreCheckpointConfig.path`, cannot be had together with saving the
state of the data iterator: it then asks the checkpoint for a dataset.
"""

from typing import Any

import jax
from t5x import utils

from flan_jax.checkpoints import weights
from flan_jax.interop.t5x import checkpoints


class Initializer(utils.TrainStateInitializer):
  """For `train.train_state_initializer_cls`.

  Args:
    source: a model folder of ours (or `microworld`), or the MODEL_DIR of a run, whose
      step and optimizer are taken too; None starts at random.
    more: as t5x's.

  Raises:
    InputError: the source is another model (names what differs).
  """

  def __init__(self, *, source: str | None = None, **more: Any):
    super().__init__(**more)
    self._source = source

  def from_scratch(self, init_rng: Any) -> Any:
    """The first train state, on the mesh of the partitioner."""
    state = super().from_scratch(init_rng)
    if self._source is None:
      return state
    old, new = state.state_dict(), checkpoints.train_state(self._source)
    weights.check(new['target'], old['target'], where=self._source)
    return state.restore_state(
      jax.tree.map(lambda to, value: jax.device_put(value, to.sharding), old, new)
    )

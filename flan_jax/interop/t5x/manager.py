"""t5x's checkpoint manager, which also starts from a checkpoint without a dataset.

t5x's own asks a checkpoint for the state of the data iterator whenever it is to save
one, so that no run that can resume exactly could start from a model. Imports t5x.
"""

import pathlib
from typing import Any

from t5x import checkpoints


class CheckpointManager(checkpoints.OrbaxCheckpointManagerInterface):
  """For `checkpoint_manager_cls`, of saving and of restoring."""

  def restore(self, step: int | None = None, path: str | None = None, **kwargs: Any):
    """As t5x's; the data starts at its beginning where the checkpoint has none."""
    wanted = self._should_write_dataset_ckpt
    if path is not None and not (pathlib.Path(path) / 'dataset').is_dir():
      self._should_write_dataset_ckpt = False
    try:
      return super().restore(step=step, path=path, **kwargs)
    finally:
      self._should_write_dataset_ckpt = wanted

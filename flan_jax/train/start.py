"""What a run starts from: parameters of a model folder, or drawn at random."""

from typing import Any, NamedTuple

from flan_jax.model.config import DecoderConfig
from flan_jax.train import model_folder, settings
from flan_jax.train import state as state_lib


class Model(NamedTuple):
  """The model that a run starts from.

  Attributes:
    run: the settings.
    config: of the decoder.
    shapes: of its parameters.
    shardings: of its parameters.
  """

  run: settings.Run
  config: DecoderConfig
  shapes: Any
  shardings: Any

  def initial(self) -> Any:
    """Its parameters, on the mesh."""
    checkpoint = self.run.initial_checkpoint
    if checkpoint is None:
      return state_lib.init_params(
        self.config, seed=self.run.seed, shardings=self.shardings
      )
    return model_folder.load(
      checkpoint, config=self.config, shapes=self.shapes, shardings=self.shardings
    )

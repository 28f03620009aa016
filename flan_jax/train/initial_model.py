"""What a run starts from: parameters of a model folder, or drawn at random."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir
from flan_jax.config import training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import params
from flan_jax.runtime import multihost, object_store


def shaped(
  run: training.TrainConfig, fields: Mapping[str, Any]
) -> training.TrainConfig:
  """The run with what is bound of DecoderConfig, also where it names no model.

  A run may leave its model's shape to the checkpoint and still set how it is computed:
  REMAT, `DecoderConfig.dtype`. Fields at their defaults leave the checkpoint's own.

  Args:
    run: the settings.
    fields: field of DecoderConfig -> value, as they are bound.

  Raises:
    InputError: if the checkpoint is of another size, or there is none.
  """
  default = {f.name: f.default for f in dataclasses.fields(DecoderConfig)}
  fields = {name: value for name, value in fields.items() if value != default[name]}
  if run.model is not None or run.initial_checkpoint is None or not fields:
    return run
  path = object_store.here('INITIAL_CHECKPOINT_PATH', run.initial_checkpoint)
  own = model_dir.config(path)
  asked = dataclasses.replace(own, **fields)
  if asked == own:
    return run
  return dataclasses.replace(run, model=model_dir.config(path, asked=asked))


def lineage(checkpoint: str | None) -> Lineage:
  """The lineage of what a run starts from; all hosts must call it.

  Args:
    checkpoint: INITIAL_CHECKPOINT_PATH; None for random parameters, which saw nothing.

  Raises:
    InputError: if what the checkpoint says of itself cannot be read.
  """
  if checkpoint is None:
    return lineage_lib.RANDOM
  found = multihost.broadcast_from_main(lambda: model_dir.lineage(checkpoint).as_json())
  return lineage_lib.of_json(found, where=checkpoint)


class Model(NamedTuple):
  """The model that a run starts from.

  Attributes:
    run: the settings.
    config: of the decoder.
    shapes: of its parameters.
    shardings: of its parameters.
  """

  run: training.TrainConfig
  config: DecoderConfig
  shapes: Any
  shardings: Any

  def initial(self) -> Any:
    """Its parameters, on the mesh."""
    checkpoint = self.run.initial_checkpoint
    if checkpoint is None:
      return params.init_params(
        self.config, seed=self.run.seed, shardings=self.shardings
      )
    return model_dir.load(
      checkpoint, config=self.config, shapes=self.shapes, shardings=self.shardings
    )

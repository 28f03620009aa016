"""The initial model of a run: read from a model folder, or drawn at random."""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir
from flan_jax.config import training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import params as params_lib
from flan_jax.runtime import multihost, object_store


def with_decoder_fields(
  run: training.TrainConfig, fields: Mapping[str, Any]
) -> training.TrainConfig:
  """Applies bindings of DecoderConfig to a run that takes its model from a checkpoint.

  Such a run may still set how the model is computed: REMAT, `DecoderConfig.dtype`.
  Fields at their defaults leave the checkpoint's own.

  Args:
    run: settings of the run.
    fields: field of DecoderConfig -> bound value.

  Raises:
    InputError: if the checkpoint has another size, or no model is found there.
  """
  default = {f.name: f.default for f in dataclasses.fields(DecoderConfig)}
  fields = {name: value for name, value in fields.items() if value != default[name]}
  if run.model is not None or run.initial_checkpoint is None or not fields:
    return run
  path = object_store.here('INITIAL_CHECKPOINT_PATH', run.initial_checkpoint)
  initial = model_dir.config(path)
  requested = dataclasses.replace(initial, **fields)
  if requested == initial:
    return run
  return dataclasses.replace(run, model=model_dir.config(path, requested=requested))


def lineage(checkpoint: str | None) -> Lineage:
  """The lineage of a run's initial model; every process must call it.

  Args:
    checkpoint: INITIAL_CHECKPOINT_PATH; None for random parameters, which saw no data.

  Raises:
    InputError: if the checkpoint's lineage cannot be read.
  """
  if checkpoint is None:
    return lineage_lib.RANDOM
  found = multihost.broadcast_from_main(lambda: model_dir.lineage(checkpoint).as_json())
  return lineage_lib.of_json(found, where=checkpoint)


class InitialModel(NamedTuple):
  """The initial model of a run.

  Attributes:
    run: settings of the run.
    config: decoder config.
    shapes: shapes of the parameters.
    shardings: shardings of the parameters.
  """

  run: training.TrainConfig
  config: DecoderConfig
  shapes: Any
  shardings: Any

  def params(self) -> Any:
    """Loads or draws the parameters, on the mesh."""
    checkpoint = self.run.initial_checkpoint
    if checkpoint is None:
      return params_lib.init_params(
        self.config, seed=self.run.seed, shardings=self.shardings
      )
    return model_dir.load(
      checkpoint, config=self.config, shapes=self.shapes, shardings=self.shardings
    )

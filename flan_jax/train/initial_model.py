"""The initial model of a run: read from a model folder, or drawn at random."""

from typing import Any

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir
from flan_jax.model import params as params_lib
from flan_jax.runtime import multihost
from flan_jax.train.trainer import Trainer


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


def params(checkpoint: str | None, trainer: Trainer) -> Any:
  """Loads the parameters of the initial model on the mesh, or draws them.

  Args:
    checkpoint: model folder; None draws them by the seed of the run.
    trainer: trainer of the run, with the shapes and shardings.
  """
  config, shardings = trainer.config, trainer.model_shardings
  if checkpoint is None:
    seed = trainer.settings.seed
    return params_lib.init_params(config, seed=seed, shardings=shardings)
  return model_dir.load(
    checkpoint, config=config, shapes=trainer.model_shapes, shardings=shardings
  )

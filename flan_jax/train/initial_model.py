"""The initial model of a run: read from a model folder, or drawn at random."""

from typing import Any

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir
from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import params as params_lib
from flan_jax.runtime import multihost, object_store
from flan_jax.runtime.progress import Progress
from flan_jax.train import step_model
from flan_jax.train.trainer import Trainer


def here(path: str | None, progress: Progress | None = None) -> str | None:
  """Returns a local path of INITIAL_CHECKPOINT_PATH; of a step, its model folder."""
  if path is not None and step_model.find(path) is not None:
    return step_model.model_folder(path, progress=progress or Progress(quiet=True))
  return object_store.here('INITIAL_CHECKPOINT_PATH', path)


def config(path: str) -> DecoderConfig:
  """The decoder config of INITIAL_CHECKPOINT_PATH, without a look at its weights."""
  step = step_model.find(path)
  return model_dir.config(path) if step is None else step_model.config(step)


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

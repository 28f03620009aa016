"""The model of a run as of a step: what it was trained on."""

import dataclasses
from typing import Any

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Training
from flan_jax.data.loader import Loader
from flan_jax.jobs import training_data
from flan_jax.jobs.run import Data, Run


def training(run: Run, data: Data, step: int) -> Training:
  """The training of a run up to a step, with the examples seen."""
  loader = Loader(
    data.store,
    data.plan,
    batch_size=run.config.batch_size,
    process_index=0,
    process_count=1,
  )
  return lineage_lib.of_mixture(
    run.mixture,
    data.store.datasets,
    model=run.folder.name,
    train_examples=loader.examples_seen(step),
  )


def described(run: Run, data: Data, step: int) -> dict[str, Any]:
  """Describes the model after a step, for its training.json and its checkpoint.

  Args:
    run: the run.
    data: its data.
    step: steps done.

  Returns:
    Entries of training.json; and of the checkpoint alone `config`, the decoder config,
    and `beside`, name -> text of the files beside the weights.
  """
  own = training(run, data, step)
  return {
    'config': dataclasses.asdict(run.trainer.config),
    'beside': training_data.chat_files(run.config, data.store),
    'initial_checkpoint': run.given.initial_checkpoint,
    'train_examples': dict(own.train_examples),
    'lineage': run.lineage.then(own).as_json(),
  }

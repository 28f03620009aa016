"""Loading: a checkpoint as a model that can be asked."""

from typing import Any

import jax
from jax.sharding import NamedSharding

from flan_jax.data import tokenizer as tokenizer_lib
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.evaluate.scoring import Scorer
from flan_jax.model.config import DecoderConfig
from flan_jax.train import mesh as mesh_lib
from flan_jax.train import model_folder, settings
from flan_jax.train import state as state_lib


def scorer(
  params: Any,
  *,
  config: DecoderConfig,
  tokenizer: Tokenizer,
  evaluate: settings.Evaluate,
  sharding: NamedSharding | None = None,
) -> Scorer:
  """A model as the protocol asks it; its batches are what the mesh divides."""
  shards = 1  # the rows of a batch are laid over so many devices
  if sharding is not None:
    shards = sharding.mesh.size // sharding.mesh.shape['model']
  return Scorer(
    params=params,
    config=config,
    tokenizer=tokenizer,
    rows=-(-evaluate.batch_rows // shards) * shards,
    row_length=evaluate.row_length,
    sharding=sharding,
  )


def checkpoint(path: str, evaluation: settings.Evaluation) -> Scorer:
  """The model at `path`, on the devices of all hosts.

  Raises:
    InputError: if there is none, or the mesh does not divide it.
  """
  config = model_folder.config(path)
  shapes, axes = state_lib.abstract_params(config)
  params = model_folder.load(path, config=config, shapes=shapes)
  tokenizer = evaluation.tokenizer or model_folder.tokenizer_file(path)
  mesh = mesh_lib.build(evaluation.mesh)
  sharding = None
  if mesh.size == 1:
    params = jax.device_put(params)
  else:
    rules = evaluation.mesh.rules
    mesh_lib.check(shapes, axes, mesh=mesh, rules=rules, batch_rows=mesh.size)
    params = jax.device_put(params, mesh_lib.shardings(axes, mesh=mesh, rules=rules))
    sharding = mesh_lib.batch_sharding(mesh, rules)
  return scorer(
    params,
    config=config,
    tokenizer=tokenizer_lib.load(tokenizer),
    evaluate=evaluation.evaluate,
    sharding=sharding,
  )

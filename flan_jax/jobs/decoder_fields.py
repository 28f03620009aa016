"""Settings of the decoder for a run that takes its model from a checkpoint."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flan_jax.checkpoints import model_dir
from flan_jax.config import training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.train import initial_model


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
  path = initial_model.here(run.initial_checkpoint)
  assert path is not None  # the run has an initial checkpoint
  initial = model_dir.config(path)
  requested = dataclasses.replace(initial, **fields)
  if requested == initial:
    return run
  return dataclasses.replace(run, model=model_dir.config(path, requested=requested))

"""The store of a run, made before the run: `flan materialize --gin_file=FILE`."""

import hashlib
import json
import os
from typing import Any

from flan_jax.catalog import leakage
from flan_jax.checkpoints import model_dir
from flan_jax.config.training import TrainConfig
from flan_jax.jobs import training_data
from flan_jax.runtime.progress import Progress

_SETTINGS = (
  'mixture', 'train_steps', 'batch_tokens', 'sequence_length', 'held_out', 'tokenizer',
  'vocab_size', 'tfds_data_dir', 'inputs', 'targets', 'messages', 'chat_template',
  'validation', 'task_feature_lengths', 'missing', 'template_seed',
  'shuffle_targets',
)  # fmt: skip
"""Settings that a store depends on, beside the model and the evaluation's length."""


def materialize(
  config: TrainConfig, *, out: str | os.PathLike, progress: Progress
) -> dict[str, Any]:
  """Renders the examples of a run, held-out ones included; returns the manifest.

  Args:
    config: settings of the run; with another SEED alone, the store is the same.
    out: directory of the store.
    progress: progress output.

  Raises:
    InputError: if a dataset is not prepared, or the leakage check fails.
  """
  mixture = training_data.mixture(config)
  held_out = leakage.check(
    mixture, config.held_out, allow_overlap=config.allow_overlap
  ).held_out
  config = training_data.local(config)
  return training_data.build_store(config, mixture, held_out, out, progress=progress)


def digest(config: TrainConfig) -> str:
  """Returns a digest of what the store of a run depends on."""
  kept: list[Any] = [getattr(config, name) for name in _SETTINGS]
  kept.append(min(config.sequence_length, config.evaluate.sequence_length))
  initial = config.initial_checkpoint
  if initial is not None:
    kept.append(model_dir.tokenizer_digest(initial) or initial)
  text = json.dumps(kept, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:8]

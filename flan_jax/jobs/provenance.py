"""Provenance: the facts needed to reproduce the figures of a report."""

import dataclasses
import importlib.metadata
import pathlib
import platform
from collections.abc import Mapping
from typing import Any

from flan_jax import __version__
from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog.lineage import Lineage
from flan_jax.checkpoints import model_dir, weights
from flan_jax.config import decoder
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.evaluate.response_cache import fingerprint
from flan_jax.interop.huggingface import conversion_cache, packages, training_history
from flan_jax.runtime import modules, multihost
from flan_jax.train import step_model

CONVERSION = 'conversion.json'
"""File in which `flan_jax.interop.huggingface.convert` describes its conversion."""

PACKAGES = (
  'jax',
  'flax',
  'numpy',
  'sacrebleu',
  'rouge-score',
  'tokenizers',
  'seqio',
)


def versions() -> dict[str, str]:
  """Returns the versions of the packages that figures depend on."""
  found = {'flan_jax': __version__, 'python': platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def of(config: str, models: Mapping[str, Any]) -> dict[str, Any]:
  """Makes the `provenance` of report.json.

  Args:
    config: resolved settings with their origins.
    models: name -> value of `of_model`.

  Returns:
    'config', 'models', 'versions', and 'modules' (`runtime.modules.provenance`) if the
    user named any.
  """
  found = {'config': config, 'models': models, 'versions': versions()}
  return found | of_modules()


def of_modules() -> dict[str, Any]:
  """The user's modules as `modules`, if any (`runtime.modules.provenance`)."""
  own = modules.provenance()
  return {'modules': own} if own else {}


def of_model(
  params: Any, *, config: DecoderConfig, tokenizer: Tokenizer
) -> dict[str, Any]:
  """Describes a model: fingerprint, size, config, tokenizer."""
  return {
    'fingerprint': fingerprint(params),
    'parameters': decoder.parameter_count(config),
    'config': dataclasses.asdict(config),
    'tokenizer': {'name': tokenizer.name, 'digest': tokenizer.digest},
  }


def of_conversion(folder: str) -> dict[str, Any]:
  """Describes the conversion of a foreign model: its source and its check."""
  path = model_dir.find(folder) / CONVERSION
  if not path.is_file():
    return {}
  found = weights.read_object(path)
  return {
    'converted': {
      'source': found['source'],
      'family': found['family'],
      'logits_of': found['check']['method'],
    }
  }


def training(folder: str | pathlib.Path, lineage: Lineage) -> dict[str, Any] | None:
  """Reads the training that made the model in a folder, from its training.json.

  Args:
    folder: the model folder.
    lineage: lineage of the model, which knows whether its weights are those recorded.

  Returns:
    'run', 'seed', 'step' and 'settings', a digest of all that its steps depend on but
    the seed (`claim.digest`); None if unknown, and on a process that writes no report.
  """
  path = model_dir.find(folder) / model_dir.PROVENANCE
  known = lineage.trainings and lineage.trainings[-1].datasets is not None
  if not (multihost.is_main_process() and known and path.is_file()):
    return None
  found = weights.read_object(path)
  if 'settings_digest' not in found:
    return None
  step = found['step']
  return {
    'run': found['lineage'][-1]['model'].removesuffix(f'@{step}'),
    'seed': found['seed'],
    'step': step,
    'settings': found['settings_digest'],
  }


def lineage(checkpoint: str) -> Lineage:
  """Reads the training history of a model and its ancestors; every process calls it.

  Args:
    checkpoint: model folder, step of a run, Hugging Face folder, GGUF file, or the
      name of a shipped model.

  Raises:
    InputError: if the record of its training is damaged.
  """

  def read() -> list[dict[str, Any]]:
    if conversion_cache.needs_conversion(checkpoint):
      return training_history.read(packages.find(checkpoint)).as_json()
    if (step := step_model.find(checkpoint)) is not None:
      return step_model.lineage(step).as_json()
    return model_dir.lineage(checkpoint).as_json()

  return lineage_lib.of_json(multihost.broadcast_from_main(read), where=checkpoint)

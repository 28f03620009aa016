"""Provenance: what a report must say for its figures to be found again."""

import dataclasses
import importlib.metadata
import platform
from typing import Any

from flan_jax import __version__
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.evaluate.journal import fingerprint
from flan_jax.model import config as config_lib
from flan_jax.model import weights
from flan_jax.model.config import DecoderConfig
from flan_jax.train import model_folder

CONVERSION = 'conversion.json'
"""What `flan_jax.interop.convert` says of the model it wrote."""

PACKAGES = ('jax', 'flax', 'numpy', 'sacrebleu', 'rouge-score', 'tokenizers')


def versions() -> dict[str, str]:
  """Package -> version, of what the figures depend on."""
  found = {'flan_jax': __version__, 'python': platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue
  return found


def of_model(
  params: Any, *, config: DecoderConfig, tokenizer: Tokenizer
) -> dict[str, Any]:
  """A model by its numbers: the bits of its parameters, its shape, its tokenizer."""
  return {
    'fingerprint': fingerprint(params),
    'parameters': config_lib.parameter_count(config),
    'config': dataclasses.asdict(config),
    'tokenizer': {'name': tokenizer.name, 'digest': tokenizer.digest},
  }


def of_conversion(folder: str) -> dict[str, Any]:
  """Where a model from elsewhere was converted from, and what it was held against."""
  path = model_folder.find(folder) / CONVERSION
  if not path.is_file():
    return {}
  found = weights.read_object(path)
  about = {'source': found['source'], 'family': found['family']}
  return {'converted': {**about, 'logits_of': found['check']['method']}}


def of_training(checkpoint: str) -> dict[str, Any]:
  """What a run says of the model it wrote, where it is one of ours; else {}."""
  path = model_folder.find(checkpoint) / model_folder.PROVENANCE
  if not path.is_file():
    return {}
  return weights.read_object(path)

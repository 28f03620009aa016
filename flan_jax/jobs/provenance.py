"""Provenance: what a report must say for its figures to be found again."""

import dataclasses
import importlib.metadata
import platform
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
from flan_jax.runtime import multihost

CONVERSION = 'conversion.json'
"""What `flan_jax.interop.huggingface.convert` says of the model it wrote."""

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
    'parameters': decoder.parameter_count(config),
    'config': dataclasses.asdict(config),
    'tokenizer': {'name': tokenizer.name, 'digest': tokenizer.digest},
  }


def of_conversion(folder: str) -> dict[str, Any]:
  """Where a model from elsewhere was converted from, and what it was held against."""
  path = model_dir.find(folder) / CONVERSION
  if not path.is_file():
    return {}
  found = weights.read_object(path)
  about = {'source': found['source'], 'family': found['family']}
  return {'converted': {**about, 'logits_of': found['check']['method']}}


def lineage(checkpoint: str) -> Lineage:
  """What a model was trained on and its ancestors; all hosts must call it.

  Args:
    checkpoint: a model of ours, a Hugging Face folder, a GGUF file, or the word for
      one.

  Raises:
    InputError: if what it says of its training cannot be read.
  """

  def read() -> list[dict[str, Any]]:
    if conversion_cache.needs_conversion(checkpoint):
      return training_history.read(packages.find(checkpoint)).as_json()
    return model_dir.lineage(checkpoint).as_json()

  return lineage_lib.of_json(multihost.broadcast_from_main(read), where=checkpoint)

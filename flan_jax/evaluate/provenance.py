"""Provenance: what a report must say for its figures to be found again."""

import dataclasses
import importlib.metadata
import platform
from typing import Any

from flan_jax import __version__, hosts
from flan_jax import lineage as lineage_lib
from flan_jax.data.tokenizer import Tokenizer
from flan_jax.evaluate.journal import fingerprint
from flan_jax.interop import cache as cache_lib
from flan_jax.interop import history, packages
from flan_jax.lineage import Lineage
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


def lineage(checkpoint: str) -> Lineage:
  """What a model was trained on and its ancestors; all hosts must call it.

  Args:
    checkpoint: a model of ours, a Hugging Face folder, a GGUF file, or the word for
      one.

  Raises:
    InputError: if what it says of its training cannot be read.
  """

  def read() -> list[dict[str, Any]]:
    if cache_lib.is_theirs(checkpoint):
      return history.read(packages.find(checkpoint)).as_json()
    return model_folder.lineage(checkpoint).as_json()

  return lineage_lib.of_json(hosts.from_first(read), where=checkpoint)

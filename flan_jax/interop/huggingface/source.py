"""Sources of models: files that are read one tensor at a time and never run code.

A source knows every tensor's shape and dtype from the headers alone, so that errors are
found before the first byte of weights is read.
"""

import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from flan_jax.checkpoints import weights
from flan_jax.checkpoints.weights import TensorInfo
from flan_jax.errors import InputError
from flan_jax.runtime import input_file


class Source(Protocol):
  """The files of a model.

  Attributes:
    where: path, for messages.
    config: config.json, in Hugging Face's format.
    tensors: header of every tensor, by name.
  """

  @property
  def where(self) -> str: ...

  @property
  def config(self) -> Mapping[str, Any]: ...

  @property
  def tensors(self) -> Mapping[str, TensorInfo]: ...

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor."""
    ...


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
  """The file `name` of the folder.

  Raises:
    InputError: if its name or a link leads out of the folder.
  """
  path = folder / name
  if not path.resolve().is_relative_to(folder.resolve()):
    raise InputError(
      f'{folder}: {name!r} leads out of the folder, to {str(path.resolve())!r}; files '
      'of a model must be inside it: copy them with `cp -rL`'
    )
  return path


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON object of finite numbers.

  Raises:
    InputError: if the file does not hold one.
  """
  return input_file.read_object(path, finite=True)


class Folder:
  """A Hugging Face folder: config.json and one or several safetensors files."""

  def __init__(self, folder: pathlib.Path):
    self.where = str(folder)
    self.folder = folder
    path = inside(folder, 'config.json')
    if not path.is_file():
      raise InputError(f'{folder}: no config.json; must be a Hugging Face folder')
    self.config = read_json(path)
    self.tensors: dict[str, TensorInfo] = {}
    self._files: dict[str, Any] = {}
    for file in _weights(folder):
      self._open(file)
    index = inside(folder, 'model.safetensors.index.json')
    if index.is_file():
      self._check_index(read_json(index).get('weight_map', {}))

  def _open(self, path: pathlib.Path) -> None:
    file, tensors = weights.open_safetensors(path)
    if twice := sorted(tensors.keys() & self.tensors.keys()):
      raise InputError(f'{path}: tensor {twice[0]!r} is in another file too')
    self.tensors |= tensors
    self._files |= dict.fromkeys(tensors, file)

  def _check_index(self, names: Mapping[str, str]) -> None:
    missing = sorted(set(names) - set(self.tensors))
    if missing:
      raise InputError(
        f'{self.where}: the index names {len(missing)} tensors that no file holds: '
        f'{", ".join(missing[:4])}'
      )

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor."""
    return self._files[name].get_tensor(name)


def _weights(folder: pathlib.Path) -> list[pathlib.Path]:
  index = inside(folder, 'model.safetensors.index.json')
  if index.is_file():
    names = read_json(index).get('weight_map')
    if not isinstance(names, dict) or not all(
      isinstance(name, str) for name in names.values()
    ):
      raise InputError(f'{index}: no "weight_map" of tensors to files')
    files = [inside(folder, name) for name in sorted(set(names.values()))]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
      raise InputError(
        f'{folder}: the index names {missing[0]!r}, which does not exist'
      )
    return files
  whole = inside(folder, 'model.safetensors')
  if whole.is_file():
    return [whole]
  pickled = [*folder.glob('*.bin'), *folder.glob('*.pt'), *folder.glob('*.pth')]
  if pickled:
    raise InputError(
      f'{folder}: {pickled[0].name} is a pickle, which can run code when it is opened; '
      'must be safetensors. If you trust it: python -c "from transformers '
      f"import AutoModelForCausalLM as M; M.from_pretrained('{folder}')"
      f".save_pretrained('{folder.name}-safe')\""
    )
  raise InputError(f'{folder}: no model.safetensors')

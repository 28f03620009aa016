"""What a model is read from: one tensor at a time, never code.

A source tells every tensor's shape and type from the headers alone, so that whatever is
wrong is found before the first byte of weights is read.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from flan_jax.checkpoints.weights import DTYPES, Held
from flan_jax.errors import InputError


class Source(Protocol):
  """A model as its files hold it.

  Attributes:
    where: for messages.
    config: as Hugging Face writes it.
    tensors: what there is, by name.
  """

  where: str
  config: Mapping[str, Any]
  tensors: Mapping[str, Held]

  def read(self, name: str) -> np.ndarray:
    """One tensor, read now."""


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
  """The file `name` of the folder.

  Raises:
    InputError: if it leaves the folder, by its name or by a link.
  """
  path = folder / name
  if not path.resolve().is_relative_to(folder.resolve()):
    raise InputError(
      f'{folder}: {name!r} leads out of the folder, to {str(path.resolve())!r}; files '
      'of a model must lie in it: copy them in with `cp -rL`'
    )
  return path


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """A JSON object.

  Raises:
    InputError: if it is none.
  """
  try:
    value = json.loads(path.read_text(encoding='utf-8'))
  except (ValueError, OSError) as error:
    raise InputError(f'{path}: not readable as JSON ({error})') from None
  if not isinstance(value, dict):
    raise InputError(f'{path}: must hold a JSON object')
  return value


class Folder:
  """A Hugging Face folder: config.json and safetensors, in one file or in several."""

  def __init__(self, folder: pathlib.Path):
    self.where = str(folder)
    self.folder = folder
    path = inside(folder, 'config.json')
    if not path.is_file():
      raise InputError(f'{folder}: no config.json; must be a Hugging Face folder')
    self.config = read_json(path)
    self.tensors: dict[str, Held] = {}
    self._files: dict[str, Any] = {}
    for file in _weights(folder):
      self._open(file)
    index = inside(folder, 'model.safetensors.index.json')
    if index.is_file():
      self._check_index(read_json(index).get('weight_map', {}))

  def _open(self, path: pathlib.Path) -> None:
    from safetensors import safe_open

    try:
      file = safe_open(path, framework='numpy')
      names = list(file.keys())
    except Exception as error:  # safetensors raises no narrower class
      raise InputError(f'{path}: broken or truncated ({error})') from None
    for name in names:
      found = file.get_slice(name)
      kind = found.get_dtype()
      if kind not in DTYPES:
        raise InputError(
          f'{path}: tensor {name!r} is {kind}; must be one of {", ".join(DTYPES)}: a '
          'quantized model is brought as GGUF'
        )
      if name in self.tensors:
        raise InputError(f'{path}: tensor {name!r} is in two files')
      self.tensors[name] = Held(tuple(found.get_shape()), DTYPES[kind])
      self._files[name] = file

  def _check_index(self, names: Mapping[str, str]) -> None:
    lost = sorted(set(names) - set(self.tensors))
    if lost:
      raise InputError(
        f'{self.where}: the index names {len(lost)} tensors that no file holds: '
        f'{", ".join(lost[:4])}'
      )

  def read(self, name: str) -> np.ndarray:
    """One tensor, read now."""
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
    lost = [path.name for path in files if not path.is_file()]
    if lost:
      raise InputError(f'{folder}: the index names {lost[0]!r}, which is not there')
    return files
  whole = inside(folder, 'model.safetensors')
  if whole.is_file():
    return [whole]
  pickled = [*folder.glob('*.bin'), *folder.glob('*.pt'), *folder.glob('*.pth')]
  if pickled:
    raise InputError(
      f'{folder}: {pickled[0].name} is a pickle, which can run code when it is opened; '
      'only safetensors are read. Where you trust it: python -c "from transformers '
      f"import AutoModelForCausalLM as M; M.from_pretrained('{folder}')"
      f".save_pretrained('{folder.name}-safe')\""
    )
  raise InputError(f'{folder}: no model.safetensors')

"""The weights and the config in a model folder.

MODEL/model.safetensors holds one tensor per parameter, named by its path; layers are
stacked (`layers/query` [N, D, H, C]) whatever layout the run uses.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import ml_dtypes
import numpy as np
from flax import traverse_util
from safetensors import safe_open
from safetensors.numpy import save_file

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import atomic_file, checksums, input_file

WEIGHTS = 'model.safetensors'
"""File of the weights in a model folder."""

DTYPES = {
  'F32': np.dtype(np.float32),
  'F16': np.dtype(np.float16),
  'BF16': np.dtype(ml_dtypes.bfloat16),
}
"""Dtypes of stored tensors, by their safetensors names."""

_UNSTACKED = re.compile(r'^layers_(\d+)/(.*)$')


def stack(flat: dict[str, Any]) -> dict[str, Any]:
  """Stacks `layers_0/x`, `layers_1/x`, ... to one `layers/x`; numpy arrays by path."""
  out, layers = {}, {}
  for path, value in flat.items():
    name, layer = locate(path)
    if layer is None:
      out[name] = value
    else:
      layers.setdefault(name, {})[layer] = value
  for name, parts in layers.items():
    out[name] = np.stack([parts[i] for i in range(len(parts))])
  return out


def locate(path: str) -> tuple[str, int | None]:
  """The tensor that holds a parameter, and its layer there: None for the whole."""
  match = _UNSTACKED.match(path)
  return (f'layers/{match[2]}', int(match[1])) if match else (path, None)


def unstack(flat: dict[str, Any]) -> dict[str, Any]:
  """The inverse of `stack`."""
  out = {}
  for name, value in flat.items():
    if name.startswith('layers/'):
      out |= {f'layers_{i}/{name[7:]}': part for i, part in enumerate(value)}
    else:
      out[name] = value
  return out


def flatten(params: Any) -> dict[str, np.ndarray]:
  """Parameter tree -> arrays by path, layers stacked."""
  flat = traverse_util.flatten_dict(params, sep='/')
  return stack({name: np.asarray(value) for name, value in flat.items()})


def unflatten(flat: dict[str, Any], config: DecoderConfig) -> dict[str, Any]:
  """Arrays by path -> the parameter tree of `config`'s layout."""
  flat = stack(flat)
  if not config.scan_layers:
    flat = unstack(flat)
  return traverse_util.unflatten_dict(flat, sep='/')


def save(
  folder: str | os.PathLike,
  params: Any,
  *,
  config: DecoderConfig,
  dtype: str | None = None,
) -> None:
  """Writes model.safetensors and config.json; each appears whole or not at all.

  Args:
    folder: created if absent.
    params: the parameter tree, addressable by this process.
    config: decoder config.
    dtype: dtype of the stored tensors; None keeps the parameters' own.
  """
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  flat = flatten(params)
  if dtype is not None:
    flat = {name: value.astype(dtype) for name, value in flat.items()}
  flat = {name: np.ascontiguousarray(value) for name, value in flat.items()}
  with atomic_file.replacing(folder / WEIGHTS) as draft:
    save_file(flat, draft)
  checksums.update(folder, WEIGHTS)
  save_config(folder, config)


def save_config(folder: str | os.PathLike, config: DecoderConfig) -> None:
  """Writes config.json, whole or not at all."""
  path = pathlib.Path(folder) / 'config.json'
  atomic_file.write_json(path, dataclasses.asdict(config))
  checksums.update(path.parent, path.name)


def load_config(folder: str | os.PathLike) -> DecoderConfig:
  """Reads config.json.

  Raises:
    InputError: if the folder holds no model of flan_jax.
  """
  path = pathlib.Path(folder) / 'config.json'
  if not path.is_file():
    if path.parent.suffix == '.gguf' and path.parent.is_file():
      raise InputError(_foreign(path.parent, 'a GGUF file'))
    lacking = 'no config.json' if path.parent.is_dir() else 'no such folder'
    raise InputError(
      f'checkpoint {str(folder)!r}: {lacking}; must be a model folder '
      '(model.safetensors, config.json) or the MODEL_DIR of a run; `flan convert` '
      'makes a model folder from a Hugging Face folder or a .gguf file'
    )
  values = input_file.read_object(path, finite=True)
  if 'model_type' in values or 'architectures' in values:
    raise InputError(_foreign(path.parent, 'a Hugging Face folder'))
  legal = {field.name for field in dataclasses.fields(DecoderConfig)}
  for name in values:
    if name not in legal:
      raise InputError(
        f'{path}: got field {name!r}; must be a field of DecoderConfig'
        f'{did_you_mean(name, legal)}'
      )
  try:
    return DecoderConfig(**values)
  except InputError as error:
    raise InputError(f'{path}: {error}') from None
  except TypeError:  # a field without a default is missing
    absent = [
      field.name
      for field in dataclasses.fields(DecoderConfig)
      if field.default is dataclasses.MISSING and field.name not in values
    ]
    raise InputError(f'{path}: lacks {", ".join(absent)}') from None


def _foreign(path: pathlib.Path, what: str) -> str:
  """The error for another library's model, with the command that converts it."""
  here = path.with_name(f'{path.stem if path.is_file() else path.name}_flan')
  command = shlex.join(['flan', 'convert', str(path), str(here)])
  return f'checkpoint {str(path)!r}: {what}; convert it and give the copy: {command}'


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in a file.

  Raises:
    InputError: if the file holds anything else.
  """
  return input_file.read_object(path)


class TensorInfo(NamedTuple):
  """Shape and dtype of a tensor, from the header of a file."""

  shape: tuple[int, ...]
  dtype: np.dtype


def open_safetensors(path: pathlib.Path) -> tuple[Any, dict[str, TensorInfo]]:
  """Opens a safetensors file: (the open file, name -> header of every tensor).

  Raises:
    InputError: if it is damaged, has dtypes other than DTYPES, or an empty tensor: such
      a one takes no bytes, so that the length of the file does not bound its shape.
  """
  try:
    file = safe_open(path, framework='numpy')
    names = list(file.keys())
  except Exception as error:  # safetensors raises no narrower class
    raise InputError(f'{path}: broken or truncated ({error})') from None
  tensors = {}
  for name in names:
    found = file.get_slice(name)
    kind, shape = found.get_dtype(), tuple(found.get_shape())
    if kind not in DTYPES:
      raise InputError(
        f'{path}: tensor {name!r} is {kind}; must be one of {", ".join(DTYPES)}: a '
        'quantized model must be a GGUF file'
      )
    if 0 in shape:
      raise InputError(
        f'{path}: tensor {name!r} has shape {list(shape)}; must have values'
      )
    tensors[name] = TensorInfo(shape, DTYPES[kind])
  return file, tensors


class SafetensorsFile:
  """model.safetensors, read tensor by tensor.

  The blocks of a tensor are checked when it is first read, if the folder has checksums.

  Attributes:
    tensors: shape and dtype of every tensor, by path of the parameter, layers stacked.

  Raises:
    InputError: if the file is absent, truncated, damaged, or has dtypes other than
      DTYPES.
  """

  def __init__(self, folder: str | os.PathLike, *, check: bool = True):
    """Opens the file.

    Args:
      folder: the model folder.
      check: False to read tensors unchecked.
    """
    path = pathlib.Path(folder) / WEIGHTS
    if not path.is_file():
      raise InputError(f'checkpoint {str(folder)!r}: no model.safetensors')
    known = checksums.of(folder) if check else None
    listed = known.files.get(WEIGHTS) if known is not None else None
    self._blocks = checksums.Blocks(path, listed)
    self._blocks.check(0, 1)  # the length of the header
    self._file, self.tensors = open_safetensors(path)
    self._places = _places(path, self._blocks)

  def read(
    self, name: str, layer: int | None = None, part: tuple[slice, ...] | None = None
  ) -> np.ndarray:
    """Reads a tensor, or one layer of a stacked one.

    Args:
      name: name of the tensor.
      layer: layer of a stacked tensor; None for the whole tensor.
      part: slice of each axis, of that layer or of the whole; None for all.

    Raises:
      InputError: if it is damaged.
    """
    info = self.tensors[name]
    index = (*(() if layer is None else (layer,)), *(part or ()))
    start, stop, shape = _span(index, info.shape, self._places[name])
    if shape is None:
      self._blocks.check(start, stop)
      return self._file.get_slice(name)[index]
    # Twice as fast as the package, which maps the file into memory.
    out = np.empty(shape, info.dtype)
    self._blocks.read_into(out.reshape(-1).view(np.uint8).data, start)
    return out


def _places(path: pathlib.Path, blocks: checksums.Blocks) -> dict[str, tuple[int, int]]:
  """Name of a tensor -> first byte in the file, and the byte after its last."""
  with path.open('rb') as file:
    length = int.from_bytes(file.read(_LENGTH), 'little')
    blocks.check(0, _LENGTH + length)
    header = json.loads(file.read(length))
  header.pop('__metadata__', None)
  offsets = {name: entry['data_offsets'] for name, entry in header.items()}
  data = _LENGTH + length
  return {name: (data + start, data + stop) for name, (start, stop) in offsets.items()}


_LENGTH = 8
"""Bytes of the length of the header, with which a safetensors file begins."""


def _span(
  index: tuple[int | slice, ...], shape: tuple[int, ...], place: tuple[int, int]
) -> tuple[int, int, tuple[int, ...] | None]:
  """The bytes that hold a part of a tensor, and its shape if it is all of them.

  Args:
    index: numbers, then slices, of the first axes.
    shape: shape of the tensor.
    place: its first byte in the file, and the byte after its last.
  """
  start, stop = place
  for axis, each in enumerate(index):
    step = (stop - start) // shape[axis]
    if isinstance(each, slice):
      first, last, stride = each.indices(shape[axis])
      start, stop = start + first * step, start + max(first, last) * step
      rest = shape[axis + 1 :]
      whole = stride == 1 and all(
        inner == slice(None) or inner == slice(0, size) or inner == slice(0, size, 1)
        for inner, size in zip(index[axis + 1 :], rest, strict=False)
      )
      return start, stop, (max(0, last - first), *rest) if whole else None
    start += each * step
    stop = start + step
  return start, stop, shape[len(index) :]


def load(folder: str | os.PathLike, config: DecoderConfig) -> dict[str, Any]:
  """Parameters (numpy) in the layout and dtype of `config`.

  Raises:
    InputError: if the file is absent or truncated.
  """
  stored = SafetensorsFile(folder)
  flat = {
    name: stored.read(name).astype(config.param_dtype, copy=False)
    for name in stored.tensors
  }
  return unflatten(flat, config)


def load_onto(
  folder: str | os.PathLike, config: DecoderConfig, *, shapes: Any, shardings: Any
) -> Any:
  """Like `load`, sharded over devices; each process reads what its own devices hold.

  Args:
    folder: the model folder.
    config: decoder config.
    shapes: shapes that the model needs.
    shardings: the same tree of shardings.

  Raises:
    InputError: as `load` and `check` do.
  """
  stored = SafetensorsFile(folder)
  sources = _sources(stored, config)
  there = {
    name: stored.tensors[tensor].shape[0 if layer is None else 1 :]
    for name, (tensor, layer) in sources.items()
  }
  found = {name: jax.ShapeDtypeStruct(shape, 'int8') for name, shape in there.items()}
  check(traverse_util.unflatten_dict(found, sep='/'), shapes, where=str(folder))
  out = {}
  flat: dict[str, Any] = traverse_util.flatten_dict(shardings, sep='/')
  for name, sharding in flat.items():
    parts: dict[str, np.ndarray] = {}

    def read(index, name=name, parts=parts):
      if (key := str(index)) not in parts:  # replicas are read once
        part = stored.read(*sources[name], part=index)
        parts[key] = part.astype(config.param_dtype, copy=False)
      return parts[key]

    out[name] = jax.make_array_from_callback(there[name], sharding, read)
  return traverse_util.unflatten_dict(out, sep='/')


def _sources(
  stored: SafetensorsFile, config: DecoderConfig
) -> dict[str, tuple[str, int | None]]:
  """Parameter -> (the tensor that holds it, its layer there or None)."""
  out: dict[str, tuple[str, int | None]] = {}
  for tensor, info in stored.tensors.items():
    if tensor.startswith('layers/') and not config.scan_layers:
      for layer in range(info.shape[0]):
        out[f'layers_{layer}/{tensor[7:]}'] = tensor, layer
    else:
      out[tensor] = tensor, None
  return out


def digest(folder: str | os.PathLike) -> str:
  """Digest (hex) of the shapes and the first values of the weights in a folder.

  It is quick for weights of any size, so they are not checked; models from different
  trainings differ in it.

  Raises:
    InputError: as `SafetensorsFile` does.
  """
  stored = SafetensorsFile(folder, check=False)
  found = hashlib.sha256()
  for name, info in sorted(stored.tensors.items()):
    first = tuple(slice(0, min(size, 2)) for size in info.shape[:-1])
    found.update(f'{name} {info.shape} {info.dtype}\0'.encode())
    found.update(stored.read(name, part=first or None).tobytes())
  return found.hexdigest()


def checksum(tensors: Mapping[str, TensorInfo], read: Callable[..., np.ndarray]) -> str:
  """Checksum (hex) of every byte of every tensor, independent of the file format.

  Args:
    tensors: shape and dtype of every tensor, by name; stacked layers are read one at a
      time.
    read: (name) or (name, layer) -> the tensor, or one layer of it.
  """
  found = hashlib.sha256()
  for name, info in sorted(tensors.items()):
    found.update(f'{name} {info.shape} {info.dtype}\0'.encode())
    stacked = name.startswith('layers/') and info.shape
    for layer in range(info.shape[0]) if stacked else [None]:
      array = read(name) if layer is None else read(name, layer)
      found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
  return found.hexdigest()


def _by_name(tree: Any) -> dict[str, tuple[int, ...]]:
  """Path of every array -> its shape."""
  flat: dict[str, Any] = traverse_util.flatten_dict(tree, sep='/')
  return {name: array.shape for name, array in flat.items()}


def check(params: Any, shapes: Any, *, where: str) -> None:
  """Checks that parameters fit the model.

  Raises:
    InputError: naming tensors that are missing, superfluous, or of another shape.
  """
  got, want = _by_name(params), _by_name(shapes)
  problems = [f'{name} is missing' for name in want if name not in got]
  problems += [f'{name} is not in this model' for name in got if name not in want]
  problems += [
    f'{name} is {got[name]}, must be {want[name]}'
    for name in want
    if name in got and got[name] != want[name]
  ]
  if problems:
    more = f' (and {len(problems) - 3} more)' if len(problems) > 3 else ''
    raise InputError(f'checkpoint {where!r}: {"; ".join(problems[:3])}{more}')

"""Writes safetensors files tensor by tensor: only one is in memory at a time.

The bytes are those that the `safetensors` package, which needs all tensors at once,
writes for the same tensors.
"""

import json
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from flan_jax.checkpoints.weights import DTYPES, TensorInfo

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ORDER = {np.dtype(np.float32): 0, DTYPES['BF16']: 1, DTYPES['F16']: 2}
"""The package writes the widest types first, and sorts equals by name."""


class _NamedTensor(NamedTuple):
  name: str
  info: TensorInfo


def _sorted_tensors(tensors: Mapping[str, TensorInfo]) -> list[_NamedTensor]:
  found = [_NamedTensor(name, info) for name, info in tensors.items()]
  return sorted(found, key=lambda tensor: (_ORDER[tensor.info.dtype], tensor.name))


def order(tensors: Mapping[str, TensorInfo]) -> list[str]:
  """The names in the order of `write`."""
  return [tensor.name for tensor in _sorted_tensors(tensors)]


def _header(tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> bytes:
  header: dict[str, object] = {'__metadata__': dict(metadata)} if metadata else {}
  start = 0
  for name, (shape, dtype) in _sorted_tensors(tensors):
    end = start + math.prod(shape) * dtype.itemsize
    header[name] = {
      'dtype': _NAMES[dtype],
      'shape': list(shape),
      'data_offsets': [start, end],
    }
    start = end
  text = json.dumps(header, separators=(',', ':'), ensure_ascii=False).encode()
  text += b' ' * (-len(text) % 8)
  return len(text).to_bytes(8, 'little') + text


def write(
  path: pathlib.Path,
  tensors: Mapping[str, TensorInfo],
  parts: Iterable[tuple[str, Iterator[np.ndarray]]],
  *,
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes a file.

  Args:
    path: the file.
    tensors: shape and dtype of every tensor, by name.
    parts: (name, chunks along the first axis) in the order of `order`.
    metadata: strings of the header.
  """
  with path.open('wb') as file:
    file.write(_header(tensors, metadata or {}))
    for name, chunks in parts:
      info = tensors[name]
      count = 0
      for chunk in chunks:
        array = np.ascontiguousarray(chunk, info.dtype)
        file.write(array.reshape(-1).view(np.uint8).data)
        count += array.size
      if count != math.prod(info.shape):
        raise ValueError(f'{name}: {count} values, header says {info.shape}')

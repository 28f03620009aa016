"""Safetensors, written tensor by tensor: only the one at hand is in memory.

The bytes are those that the `safetensors` package writes for the same tensors, which
wants them all at once.
"""

import json
import math
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from flan_jax.checkpoints.weights import DTYPES, Held

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ORDER = {np.dtype(np.float32): 0, DTYPES['BF16']: 1, DTYPES['F16']: 2}
"""The package writes the widest types first, and among equals the names in order."""


class _Place(NamedTuple):
  name: str
  held: Held


def _places(tensors: Mapping[str, Held]) -> list[_Place]:
  found = [_Place(name, held) for name, held in tensors.items()]
  return sorted(found, key=lambda place: (_ORDER[place.held.dtype], place.name))


def order(tensors: Mapping[str, Held]) -> list[str]:
  """The names in the order in which `write` asks for them."""
  return [place.name for place in _places(tensors)]


def _header(tensors: Mapping[str, Held], metadata: Mapping[str, str]) -> bytes:
  header: dict[str, object] = {'__metadata__': dict(metadata)} if metadata else {}
  start = 0
  for name, (shape, dtype) in _places(tensors):
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
  tensors: Mapping[str, Held],
  parts: Iterable[tuple[str, Iterator[np.ndarray]]],
  *,
  metadata: Mapping[str, str] | None = None,
) -> None:
  """Writes a file.

  Args:
    path: of the file.
    tensors: what it will hold.
    parts: (name, pieces along the first axis) in the order of `order`.
    metadata: strings of the header.
  """
  with path.open('wb') as file:
    file.write(_header(tensors, metadata or {}))
    for name, pieces in parts:
      held = tensors[name]
      count = 0
      for piece in pieces:
        array = np.ascontiguousarray(piece, held.dtype)
        file.write(array.reshape(-1).view(np.uint8).data)
        count += array.size
      if count != math.prod(held.shape):
        raise ValueError(f'{name}: {count} values, header says {held.shape}')

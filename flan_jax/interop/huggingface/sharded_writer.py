"""Writes tensors to one safetensors file, or to shards with an index.

Only one tensor is in memory at a time. The names are those that `transformers` writes.
"""

import json
import math
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from flan_jax.checkpoints import safetensors_writer
from flan_jax.checkpoints.weights import TensorInfo

SHARD_BYTES = 5 * 10**9
"""Largest shard, unless one tensor alone is larger."""

INDEX = 'model.safetensors.index.json'
METADATA = {'format': 'pt'}


def split(
  tensors: Mapping[str, TensorInfo], *, shard_bytes: int = SHARD_BYTES
) -> list[list[str]]:
  """Splits the names, in the order given, into shards of at most `shard_bytes`."""
  shards: list[list[str]] = []
  room = 0
  for name, info in tensors.items():
    size = math.prod(info.shape) * info.dtype.itemsize
    if size > room or not shards:
      shards.append([])
      room = shard_bytes
    shards[-1].append(name)
    room -= size
  return shards


def write(
  folder: pathlib.Path,
  tensors: Mapping[str, TensorInfo],
  read: Callable[[str], Iterator[np.ndarray]],
  *,
  shard_bytes: int = SHARD_BYTES,
) -> None:
  """Writes the tensors.

  Args:
    folder: folder of the files.
    tensors: shape and dtype of every tensor, by name.
    read: name -> chunks of the tensor along its first axis.
    shard_bytes: largest shard.
  """
  shards = split(tensors, shard_bytes=shard_bytes)
  if len(shards) == 1:
    _write_one(folder / 'model.safetensors', shards[0], tensors, read)
    return
  places = {}
  for i, names in enumerate(shards, 1):
    file = f'model-{i:05d}-of-{len(shards):05d}.safetensors'
    _write_one(folder / file, names, tensors, read)
    places |= dict.fromkeys(names, file)
  total = sum(math.prod(t.shape) * t.dtype.itemsize for t in tensors.values())
  index = {
    'metadata': {'total_size': total},
    'weight_map': dict(sorted(places.items())),
  }
  (folder / INDEX).write_text(json.dumps(index, indent=2) + '\n', encoding='utf-8')


def _write_one(
  path: pathlib.Path,
  names: Sequence[str],
  tensors: Mapping[str, TensorInfo],
  read: Callable[[str], Iterator[np.ndarray]],
) -> None:
  held = {name: tensors[name] for name in names}
  parts = ((name, read(name)) for name in safetensors_writer.order(held))
  safetensors_writer.write(path, held, parts, metadata=METADATA)

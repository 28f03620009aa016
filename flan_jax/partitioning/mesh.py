"""The device mesh, and the mapping of logical axes onto it."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax.linen import spmd
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flan_jax.config import mesh as mesh_config
from flan_jax.errors import InputError
from flan_jax.partitioning import torus

AXES = mesh_config.MESH_AXES


def build(shape: mesh_config.MeshConfig, *, devices: list | None = None) -> Mesh:
  """The mesh (data, fsdp, model) over `devices` (all of them by default).

  Raises:
    InputError: if the axes do not multiply to the devices; names the nearest shape.
  """
  devices = jax.devices() if devices is None else devices
  sizes = [shape.data, shape.fsdp, shape.model]
  others = shape.fsdp * shape.model
  count = len(devices)
  if shape.data == -1:
    sizes[0] = count // others
  if sizes[0] * others != count:
    legal = [n for n in range(1, count + 1) if count % n == 0]
    nearest = min(legal, key=lambda n: abs(n - others))
    data = '' if shape.data == -1 else f'data={shape.data} x '
    raise InputError(
      f'mesh: {data}fsdp={shape.fsdp} x model={shape.model} does not make '
      f'{count} devices; the nearest fsdp x model that divides them is {nearest}',
      field='Mesh.fsdp',
    )
  if shape.along is not None:
    sized: dict[str, int] = dict(zip(AXES, sizes, strict=True))
    return Mesh(torus.arrange(devices, along=shape.along, sizes=sized), AXES)
  if torus.grid(devices) is not None and count > 1:
    laid = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(laid, AXES)
  return Mesh(np.asarray(devices).reshape(sizes), AXES)


def mesh_axes(name: str | None, rules: mesh_config.Rules) -> tuple[str, ...]:
  """Mesh axes of a logical axis."""
  for logical, physical in rules:
    if logical == name:
      return (physical,) if isinstance(physical, str) else tuple(physical or ())
  return ()


def parts(name: str, *, mesh: Mesh, rules: mesh_config.Rules) -> int:
  """The number of shards of a logical axis, were it alone in its array."""
  return int(np.prod([mesh.shape[axis] for axis in mesh_axes(name, rules)], dtype=int))


def check(
  shapes: Any, axes: Any, *, mesh: Mesh, rules: mesh_config.Rules, batch_size: int
) -> None:
  """Checks that every sharded dimension divides, before anything is compiled.

  Args:
    shapes: tree of arrays or their shapes.
    axes: the same tree, of PartitionSpecs of logical names.
    mesh: the device mesh.
    rules: logical axis -> mesh axes.
    batch_size: sequences of a microbatch.

  Raises:
    InputError: naming parameter, axis, both sizes and the nearest legal one.
  """
  for path, shape, spec in _named(shapes, axes):
    for size, name in zip(shape, spec, strict=True):
      _check_one(f'{path} axis {name!r}', size, mesh_axes(name, rules), mesh)
  size = batch_size
  _check_one(
    'sequences of a microbatch', size, mesh_axes('activation_batch', rules), mesh
  )


def _check_one(what: str, size: int, over: tuple[str, ...], mesh: Mesh) -> None:
  parts = int(np.prod([mesh.shape[axis] for axis in over], dtype=int))
  if size % parts:
    nearest = max(1, round(size / parts)) * parts
    names = ' x '.join(f'{axis}={mesh.shape[axis]}' for axis in over)
    raise InputError(
      f'mesh: {what} has size {size}, which mesh {names} does not divide; '
      f'the nearest size is {nearest}'
    )


def _named(shapes: Any, axes: Any) -> Iterator[tuple[str, tuple[int, ...], tuple]]:
  is_spec = lambda x: isinstance(x, PartitionSpec)  # noqa: E731
  flat, _ = jax.tree_util.tree_flatten_with_path(shapes)
  specs = jax.tree.leaves(axes, is_leaf=is_spec)
  for (path, leaf), spec in zip(flat, specs, strict=True):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    padded = (*spec, *([None] * (len(leaf.shape) - len(spec))))
    yield name, leaf.shape, padded


def shardings(axes: Any, *, mesh: Mesh, rules: mesh_config.Rules) -> Any:
  """Tree of logical PartitionSpecs -> tree of NamedShardings."""
  return spmd.logical_to_mesh_sharding(axes, mesh, rules)


def batch_sharding(mesh: Mesh, rules: mesh_config.Rules) -> NamedSharding:
  """The sharding of the [B, L] arrays of a batch: by sequences, which stay whole."""
  names = PartitionSpec('activation_batch', None)
  return shardings(names, mesh=mesh, rules=rules)


def put_batch(
  batch: Any, sharding: NamedSharding, *, shape: tuple[int, int] | None = None
) -> Any:
  """Makes global arrays [B, L] from the sequences of each process (`process_share`).

  Args:
    batch: tree of arrays [sequences of this process, L].
    sharding: sharding of the batch.
    shape: shape of the global arrays; None if processes share no sequences.
  """
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, x, shape), batch
  )


def process_share(sharding: NamedSharding, shape: tuple[int, int]) -> tuple[int, int]:
  """The part of every batch that this process loads: (part, number of parts).

  Processes that hold replicas of the same sequences load the same part.

  Args:
    sharding: sharding of the batch.
    shape: shape of the global batch, (sequences, length).

  Raises:
    InputError: if the sequences on this process's devices are not adjacent.
  """
  indices = sharding.addressable_devices_indices_map(shape).values()
  bounds = {index[0].indices(shape[0])[:2] for index in indices if index is not None}
  low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
  held = high - low
  if sum(b[1] - b[0] for b in bounds) != held or shape[0] % held or low % held:
    raise InputError(
      f'mesh: one process holds sequences {sorted(bounds)} of a batch, which are not '
      'adjacent; the batch axes must be the outer ones of the mesh'
    )
  return low // held, shape[0] // held


def describe(mesh: Mesh) -> str:
  """`8 x cpu (data=8, fsdp=1, model=1)`."""
  sizes: Mapping[str, int] = mesh.shape
  shape = ', '.join(f'{name}={size}' for name, size in sizes.items())
  return f'{mesh.size} x {mesh.devices.flat[0].device_kind} ({shape})'

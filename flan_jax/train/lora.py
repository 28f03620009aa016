"""Adapters of low rank beside a frozen model (LoRA; Hu et al. 2021, arXiv 2106.09685).

A weight matrix W [in, out] of a layer is used as W + scale * A B, with A [in, r] and
B [r, out]. A is random, B starts at zero: before the first step the model is the
initial one. Adapters are a tree of their own, structured like the parameters; the
decoder reads them as its collection `adapters`.
"""

import hashlib
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import PartitionSpec

from flan_jax.checkpoints import model_dir, weights
from flan_jax.config import optimizer as optimizer_config
from flan_jax.errors import InputError

_IN = {name: 2 if name == 'output' else 1 for name in optimizer_config.LORA_TARGETS}
"""Number of axes of a matrix that are contracted with the layer's input."""


class _Matrix(NamedTuple):
  """A matrix that gets an adapter.

  Attributes:
    name: its path among the parameters.
    stack: number of leading axes over layers.
    inside: number of axes after them that are contracted with the layer's input.
  """

  name: str
  stack: int
  inside: int


def _matrices(shapes: Any, axes: Any, lora: optimizer_config.Lora) -> list[_Matrix]:
  flat_axes: dict[str, Any] = traverse_util.flatten_dict(axes, sep='/')
  found = []
  for name in traverse_util.flatten_dict(shapes, sep='/'):
    group, _, last = name.rpartition('/')
    if group.startswith('layers') and last in (
      lora.targets or optimizer_config.LORA_TARGETS
    ):
      stack = int(tuple(flat_axes[name])[:1] == ('layers',))
      found.append(_Matrix(name, stack, _IN[last]))
  have = {matrix.name.rpartition('/')[2] for matrix in found}
  for name in lora.targets or ():
    if name not in have:
      raise InputError(
        f'Lora.targets: the model has no {name!r}; leave it out, or give None for all '
        'matrices',
        field='Lora.targets',
      )
  return found


def abstract(shapes: Any, axes: Any, *, lora: optimizer_config.Lora) -> tuple[Any, Any]:
  """(shapes, logical axes) of the adapters of a model.

  Args:
    shapes: shapes of the model's parameters.
    axes: the same tree, of PartitionSpecs of logical names.
    lora: adapted matrices and their rank.

  Raises:
    InputError: if the model lacks a named matrix, or the rank is too large for one.
  """
  flat: dict[str, Any] = traverse_util.flatten_dict(shapes, sep='/')
  names: dict[str, Any] = traverse_util.flatten_dict(axes, sep='/')
  out_shapes, out_axes = {}, {}
  for name, stack, inside in _matrices(shapes, axes, lora):
    shape, axis = flat[name].shape, tuple(names[name])
    split = stack + inside
    max_rank = min(math.prod(shape[stack:split]), math.prod(shape[split:]))
    if lora.rank > max_rank:
      raise InputError(
        f'LORA_RANK: got {lora.rank:,}; must be at most {max_rank:,}, the smaller side '
        f'of {name}; 8 or 16 are usual',
        field='Lora.rank',
      )
    for part, size, logical in (
      ('a', (*shape[:split], lora.rank), (*axis[:split], 'lora_rank')),
      (
        'b',
        (*shape[:stack], lora.rank, *shape[split:]),
        (*axis[:stack], 'lora_rank', *axis[split:]),
      ),
    ):
      out_shapes[f'{name}_{part}'] = jax.ShapeDtypeStruct(size, jnp.float32)
      out_axes[f'{name}_{part}'] = PartitionSpec(*logical)
  unflatten = traverse_util.unflatten_dict
  return unflatten(out_shapes, sep='/'), unflatten(out_axes, sep='/')


def starts_at_zero(name: str) -> bool:
  """Returns whether the adapter parameter `name` is zero before the first step."""
  return name.endswith('_b')


def init(shapes: Any, axes: Any, *, seed: int, shardings: Any = None) -> Any:
  """Initial adapters, float32, without effect yet; the same on every mesh.

  Args:
    shapes: shapes of the adapters.
    axes: logical axes of the adapters.
    seed: seed for A, normal with variance 1 / in.
    shardings: shardings of the adapters, or None.
  """
  flat: dict[str, Any] = traverse_util.flatten_dict(shapes, sep='/')
  names: dict[str, Any] = traverse_util.flatten_dict(axes, sep='/')

  def draw():
    out = {}
    for index, (name, leaf) in enumerate(sorted(flat.items())):
      if starts_at_zero(name):
        out[name] = jnp.zeros(leaf.shape, leaf.dtype)
        continue
      stack = int(tuple(names[name])[:1] == ('layers',))
      key = jax.random.fold_in(jax.random.key(seed), index)
      fan_in = np.prod(leaf.shape[stack:-1])
      out[name] = jax.random.normal(key, leaf.shape, leaf.dtype) * fan_in**-0.5
    return traverse_util.unflatten_dict(out, sep='/')

  return jax.jit(draw, out_shardings=shardings)()


def variables(
  params: Any, adapters: Any, *, lora: optimizer_config.Lora
) -> dict[str, Any]:
  """Variables of `Decoder.apply`: the frozen parameters and the scaled adapters."""
  flat: dict[str, Any] = traverse_util.flatten_dict(adapters, sep='/')
  scaled = {
    name: value * lora.scale if name.endswith('_b') else value
    for name, value in flat.items()
  }
  return {
    'params': params,
    'adapters': traverse_util.unflatten_dict(scaled, sep='/'),
  }


def merge(params: Any, adapters: Any, *, lora: optimizer_config.Lora) -> Any:
  """Merges adapters into the parameters: W becomes W + scale * A B.

  Sums are float32 and rounded to each parameter's dtype once. Arrays keep the sharding
  of the parameters.
  """
  flat: dict[str, Any] = traverse_util.flatten_dict(params, sep='/')
  pairs: dict[str, Any] = traverse_util.flatten_dict(adapters, sep='/')

  def add(weight, a, b):
    stack = int(a.ndim + b.ndim - 2 == weight.ndim + 1)  # both have the layers' axis
    wide = jax.vmap(_outer) if stack else _outer
    return (weight.astype(jnp.float32) + lora.scale * wide(a, b)).astype(weight.dtype)

  out = dict(flat)
  for name in flat:
    if f'{name}_a' in pairs:
      join = jax.jit(add, out_shardings=flat[name].sharding)
      out[name] = join(flat[name], pairs[f'{name}_a'], pairs[f'{name}_b'])
  return traverse_util.unflatten_dict(out, sep='/')


def _outer(a: jax.Array, b: jax.Array) -> jax.Array:
  return jnp.tensordot(a, b, axes=1, precision='highest')


def base_digest(checkpoint: str) -> str:
  """SHA-256 (hex) of the file of the frozen weights.

  Raises:
    InputError: if no model is found.
  """
  path = pathlib.Path(model_dir.find(checkpoint)) / 'model.safetensors'
  weights.SafetensorsFile(path.parent)  # raises a clear error if unreadable
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()

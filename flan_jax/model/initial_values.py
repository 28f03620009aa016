"""Initial values of parameters, by their names: one small program for each shape.

A value depends on the seed, the parameter's name and its place in it, and on nothing
else: not on the mesh, the number of processes, the other parameters, or whether layers
are stacked (`layers/query`) or apart (`layers_3/query`). On another kind of device the
last bits may differ.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import struct
from flax.linen import spmd
from jax import lax

_TRUNCATED_STDDEV = 0.8796  # of a standard normal cut at two standard deviations
_WITHIN = 0.9544997  # its share of the standard normal, erf(sqrt(2))


@dataclasses.dataclass(frozen=True)
class Initial:
  """Distribution of a parameter's first values; an initializer of flax, too.

  Attributes:
    mean: mean of the values.
    stddev: standard deviation of a normal cut at two of its own; 0 for a constant.
  """

  mean: float = 0.0
  stddev: float = 0.0

  def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Draws values from flax's stream of keys, as in `Decoder.init`."""
    value = jnp.full(shape, self.mean, dtype)
    if not self.stddev:
      return value
    draw = nn.initializers.truncated_normal(self.stddev / _TRUNCATED_STDDEV)
    return value + draw(key, shape, dtype)


ZEROS, ONES = Initial(), Initial(mean=1.0)


class Box(spmd.LogicallyPartitioned):
  """Logical axes of a parameter and the distribution of its first values."""

  initial: Initial = struct.field(default=ZEROS, pytree_node=False)


def draw(boxed: Any, *, seed: int, shardings: Any = None) -> Any:
  """Draws the parameters of a tree.

  Args:
    boxed: tree of `Box`es with shapes, as `jax.eval_shape` of `Decoder.init` has it.
    seed: the seed.
    shardings: shardings of the parameters, or None.
  """
  paths, tree = jax.tree_util.tree_flatten_with_path(
    boxed, is_leaf=lambda x: isinstance(x, Box)
  )
  laid_out = [None] * len(paths) if shardings is None else tree.flatten_up_to(shardings)
  return tree.unflatten(
    _array(jax.tree_util.keystr(path, simple=True, separator='/'), box, seed, sharding)
    for (path, box), sharding in zip(paths, laid_out, strict=True)
  )


def _array(name: str, box: Box, seed: int, sharding: Any) -> jax.Array:
  shape, dtype, initial = box.value.shape, box.value.dtype, box.initial
  if initial.stddev:
    program = _program(shape, dtype, initial, sharding)
    return program(_keys(name, box, seed=seed))
  if sharding is None:
    return jax.device_put(np.full(shape, initial.mean, dtype))
  return jax.make_array_from_callback(
    shape, sharding, lambda part: np.full(shape, initial.mean, dtype)[part]
  )


@functools.lru_cache(256)
def _program(
  shape: tuple[int, ...], dtype: Any, initial: Initial, sharding: Any
) -> Callable[[np.ndarray], jax.Array]:
  """The program for all parameters of a shape, a jitted function of keys."""
  values = functools.partial(_values, shape=shape, dtype=dtype, initial=initial)
  return jax.jit(values, out_shardings=sharding)


def _keys(name: str, box: Box, *, seed: int) -> np.ndarray:
  """Key of a parameter, uint32 [2], or those of its layers, [layers, 2]."""
  if box.names[0] != 'layers':
    return _key(name, seed)
  stack, _, rest = name.partition('/')
  layers = range(box.value.shape[0])
  return np.stack([_key(f'{stack}_{layer}/{rest}', seed) for layer in layers])


def _key(name: str, seed: int) -> np.ndarray:
  digest = hashlib.sha256(f'{seed} {name}'.encode()).digest()
  return np.frombuffer(digest[:8], '<u4').astype(np.uint32)


def _values(
  keys: jax.Array, *, shape: tuple[int, ...], dtype: Any, initial: Initial
) -> jax.Array:
  stacked = keys.ndim - 1
  row, column = jnp.zeros(shape, jnp.uint32), jnp.zeros(shape, jnp.uint32)
  for axis in range(stacked, len(shape)):
    place = lax.broadcasted_iota(jnp.uint32, shape, axis)
    if axis == len(shape) - 1:
      column = place
    else:
      row = row * np.uint32(shape[axis]) + place
  first, second = (
    lax.broadcast_in_dim(keys[..., part], shape, tuple(range(stacked)))
    for part in (0, 1)
  )
  value = _truncated_normal(_threefry(first, second, row, column))
  return (initial.mean + initial.stddev * value).astype(dtype)


_ERF_INV = (
  2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087,
  -0.00125372503, -0.00417768164, 0.246640727, 1.50140941,
)  # fmt: skip
"""Coefficients of the inverse error function about its middle (Giles 2010)."""


def _truncated_normal(bits: jax.Array) -> jax.Array:
  """Values of variance 1, normal but for the cut, from uint32 bits."""
  # Exact in float32, and symmetric: neither 0 nor an end of (-1, 1) comes up.
  uniform = ((bits >> 9).astype(jnp.float32) + 0.5) * 2.0**-22 - 1.0
  x = uniform * _WITHIN
  # lax.erf_inv without what it needs beyond the cut, which would double the program.
  w = -jnp.log(1.0 - x * x) - 2.5
  value = functools.reduce(lambda total, c: total * w + c, _ERF_INV)
  return value * x * (2**0.5 / _TRUNCATED_STDDEV)


_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)


def _threefry(
  key: jax.Array, other_key: jax.Array, x: jax.Array, y: jax.Array
) -> jax.Array:
  """First word of Threefry-2x32-20 (Salmon et al. 2011), written out.

  JAX's own is a loop on a CPU, one for each array, slow to compile.
  """
  keys = key, other_key, key ^ other_key ^ np.uint32(0x1BD11BDA)
  x, y = x + keys[0], y + keys[1]
  for block in range(5):
    for rotation in _ROTATIONS[block % 2]:
      x += y
      y = x ^ ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation)))
    x += keys[(block + 1) % 3]
    y += keys[(block + 2) % 3] + np.uint32(block + 1)
  return x

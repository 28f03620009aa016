"""Random keys whose programs a CPU compiles fast: the bits of JAX's own.

JAX writes its generator, Threefry (Salmon et al. 2011), as a loop for CPUs. XLA makes
ten kernels of every loop, and a decoder has one for each matrix: to compile them took
as long as to compile the train step. Written out, a draw is one kernel.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import random

from flan_jax.model import cpu

_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = np.uint32(0x1BD11BDA)


def key(seed: int) -> jax.Array:
  """What jax.random.key(seed) is: all that is drawn from it is the same, bit by bit."""
  if cpu.compiling() and jax.config.jax_threefry_partitionable:
    return jax.random.key(seed, impl=_written_out)
  return jax.random.key(seed)


def _hash(key: Any, high: Any, low: Any) -> tuple[jax.Array, jax.Array]:
  """Threefry-2x32 of 20 rounds: the words of `key`, uint32 [2], and of a count."""
  words = key[0], key[1], key[0] ^ key[1] ^ _PARITY
  a, b = high + words[0], low + words[1]
  for turn in range(5):
    for bits in _ROTATIONS[turn % 2]:
      a = a + b
      b = a ^ ((b << np.uint32(bits)) | (b >> np.uint32(32 - bits)))
    a = a + words[(turn + 1) % 3]
    b = b + words[(turn + 2) % 3] + np.uint32(turn + 1)
  return a, b


def _count(shape: tuple[int, ...]) -> jax.Array:
  """Every element's number in row-major order, uint32."""
  if math.prod(shape) >= 2**32:
    raise NotImplementedError(f'draws of 2**32 elements or more on a CPU: {shape}')
  count = jnp.zeros(shape, jnp.uint32)
  for axis in range(len(shape)):
    stride = np.uint32(math.prod(shape[axis + 1 :]))
    count += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * stride
  return count


def _split(key, shape):
  return jnp.stack(_hash(key, np.uint32(0), _count(tuple(shape))), axis=-1)


def _fold_in(key, data):
  return jnp.stack(_hash(key, np.uint32(0), jnp.asarray(data).astype(jnp.uint32)))


def _random_bits(key, bit_width, shape):
  if bit_width > 32:
    raise NotImplementedError(f'draws of {bit_width} bits')
  key = jax.lax.optimization_barrier(key)  # else each kernel hashes its way to it again
  a, b = _hash(key, np.uint32(0), _count(tuple(shape)))
  return (a ^ b).astype(f'uint{bit_width}')


_written_out = random.define_prng_impl(
  key_shape=(2,),
  seed=random.threefry_prng_impl.seed,
  split=_split,
  random_bits=_random_bits,
  fold_in=_fold_in,
  name='threefry2x32_written_out',
  tag='fwo',
)

"""Stochastic rounding, for bfloat16 parameters that learn in small steps.

A bfloat16 holds 8 bits: rounding to the nearest loses a step of 3e-5 of a parameter's
size in 99 entries of 100. Rounding up or down at random, with odds by distance, is
right in the mean for each entry (Gupta et al. 2015, arXiv 1502.02551).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def apply_updates(params: Any, updates: Any, *, seed: int, step: jax.Array) -> Any:
  """`optax.apply_updates`, with bfloat16 parameters rounded stochastically.

  Sums are float32. The draws depend on seed, step and the parameter's index in the
  tree, not on the mesh or on earlier starts.

  Args:
    params: tree of arrays.
    updates: the same tree of updates to add.
    seed: seed for the draws.
    step: int32 scalar, folded into the seed.
  """
  leaves, treedef = jax.tree.flatten(params)
  out = jax.tree.leaves(optax.apply_updates(params, updates))
  for index, (param, update) in enumerate(
    zip(leaves, treedef.flatten_up_to(updates), strict=True)
  ):
    if param.dtype == jnp.bfloat16:
      key = jax.random.fold_in(jax.random.key(seed), step)
      total = param.astype(jnp.float32) + update.astype(jnp.float32)
      out[index] = stochastic(total, jax.random.fold_in(key, index))
  return treedef.unflatten(out)


def stochastic(x: jax.Array, key: jax.Array) -> jax.Array:
  """Rounds float32 to one of two bfloat16 neighbors, x in the mean; x if exact."""
  noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
  cut = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
  return jnp.where(jnp.isfinite(x), cut, x).astype(jnp.bfloat16)

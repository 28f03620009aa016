"""Stochastic rounding: bfloat16 parameters that learn in small steps.

A bfloat16 holds 8 bits: a step of 3e-5 of a parameter's size is lost in rounding to the
nearest for 99 entries of 100. Rounded up or down at random, with odds by distance, each
entry is right in the mean (Gupta et al. 2015, arXiv 1502.02551).
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def apply_updates(params: Any, updates: Any, *, seed: int, step: jax.Array) -> Any:
  """`optax.apply_updates`, with bfloat16 parameters rounded stochastically.

  Sums are float32. What is drawn depends on seed, step and the parameter's place in the
  tree, on no mesh and on no earlier start.

  Args:
    params: a tree of arrays.
    updates: the same tree; what is added.
    seed: of the draws.
    step: int32 scalar, of the draws.
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
  """Float32 as bfloat16: one of its two neighbors, whose mean is x; itself if exact."""
  noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
  cut = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
  return jnp.where(jnp.isfinite(x), cut, x).astype(jnp.bfloat16)

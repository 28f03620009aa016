"""Matrices, biases and adapters of the decoder's modules, and how activations shard."""

from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import spmd

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model.initial_values import ZEROS, Box, Initial
from flan_jax.model.kernels import native

M = TypeVar('M', bound=nn.Module)


def share(module: nn.Module, child: M) -> M:
  """Returns `child`, whose parameters are now those of `module`, by the same paths.

  They are also drawn as those of `module`, in the order of their declaration.
  """
  nn.share_scope(module, child)
  return child


def draw(
  module: nn.Module,
  name: str,
  initial: Initial,
  shape: tuple[int, ...],
  axes: tuple[str, ...],
  config: DecoderConfig,
) -> jax.Array:
  """A parameter in config.param_dtype, boxed with its logical axes where it is kept."""

  def boxed(*arguments):
    return Box(initial(*arguments), axes, initial=initial)

  drawn = module.param(name, boxed, shape, config.param_dtype)
  return cast(jax.Array, drawn)  # `param` takes it out of the box


def matrix(
  module: nn.Module,
  name: str,
  shape: tuple[int, ...],
  axes: tuple[str, ...],
  *,
  fan_in: float,
  config: DecoderConfig,
) -> jax.Array:
  """A parameter in config.dtype, drawn from a normal truncated at two deviations.

  Its variance of 1 / fan_in keeps activations of order one, so that training starts
  near the loss of a uniform guess, ln(vocab_size).
  """
  initial = Initial(stddev=fan_in**-0.5)
  return draw(module, name, initial, shape, axes, config).astype(config.dtype)


def laid_out(params: Any, name: str) -> bool:
  """Returns whether `name` is laid out for decoding (checkpoints.decoding_weights)."""
  return f'{name}_rows' in params or f'{name}_panels' in params


def decoding_product(
  module: nn.Module,
  name: str,
  x: jax.Array,
  *,
  outputs: int,
  dtype: jnp.dtype | None = None,
) -> jax.Array | None:
  """x @ matrix over the last axis, [..., outputs], if it is laid out for decoding.

  Args:
    module: the module that has the matrix.
    name: the matrix.
    x: inputs, [..., I].
    outputs: outputs of the matrix.
    dtype: dtype of the product; None for that of `x`.
  """
  params = module.variables.get('params', {})
  if not laid_out(params, name):
    return None
  x_NxI = x.reshape(-1, x.shape[-1])
  scale_O = params.get(f'{name}_scale')
  if f'{name}_panels' in params:
    out_NxO = native.product(
      x_NxI.astype(jnp.float32),
      params[f'{name}_panels'],
      outputs=outputs,
      scale_O=scale_O,
    ).astype(dtype or x.dtype)
  else:
    rows_OxI = params[f'{name}_rows']
    out_OxN = jnp.matmul(
      rows_OxI.astype(x.dtype), x_NxI.T, preferred_element_type=dtype
    )
    # The barrier keeps XLA from transposing the product back.
    out_NxO = jax.lax.optimization_barrier(out_OxN).T
    if scale_O is not None:
      out_NxO *= scale_O.astype(out_NxO.dtype)
  return out_NxO.reshape(*x.shape[:-1], outputs)


def adapt(
  module: nn.Module, name: str, x: jax.Array, out: jax.Array, *, over: int = 1
) -> jax.Array:
  """Adds the adapter's term to `out`, the product of x and the matrix `name`.

  x is multiplied over its last `over` axes, first by `a` and then by `b`: the product
  of the two, as large as the matrix, is never formed.
  """
  if not module.has_variable('adapters', f'{name}_a'):
    return out
  a, b = (
    module.get_variable('adapters', f'{name}_{part}').astype(out.dtype) for part in 'ab'
  )
  return out + jnp.tensordot(jnp.tensordot(x, a, axes=over), b, axes=1)


def bias(
  module: nn.Module,
  name: str,
  shape: tuple[int, ...],
  axes: tuple[str, ...],
  *,
  config: DecoderConfig,
) -> jax.Array:
  """The bias of the matrix `name`, in config.dtype."""
  return draw(module, f'{name}_bias', ZEROS, shape, axes, config).astype(config.dtype)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Shards an activation [B, L, ...] by logical axes; does nothing without a mesh."""
  return spmd.with_logical_constraint(
    x, ('activation_batch', 'activation_length', *names)
  )

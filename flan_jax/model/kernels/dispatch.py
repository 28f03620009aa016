"""The choice of a layer's products by the platform that is compiled for."""

from collections.abc import Callable
from typing import Any

import jax

from flan_jax.model import attention
from flan_jax.model.kernels import cpu


def matmul(x_BxLxD: jax.Array, matrix_DxF: jax.Array) -> jax.Array:
  """x @ matrix, [B, L, F]."""
  if cpu.compiling():
    return cpu.product(x_BxLxD, matrix_DxF)
  return x_BxLxD @ matrix_DxF


def gated(
  activation: Callable[[jax.Array], jax.Array], gate: jax.Array, up: jax.Array
) -> jax.Array:
  """activation(gate) * up."""
  if cpu.compiling():
    return cpu.gate(activation, gate, up)
  return activation(gate) * up


def scan_unroll(layers: int) -> int:
  """Layers that a scan over `layers` of them unrolls."""
  return cpu.unrolled(layers) if cpu.compiling() else 1


def dense_attention(
  query_BxTxHxC: jax.Array,
  key_BxSxKxC: jax.Array,
  value_BxSxKxC: jax.Array,
  *,
  softcap: float | None,
  **others: Any,
) -> jax.Array:
  """Attention, [B, T, H, C]; arguments are those of attention.dot_product_attention."""
  projections = query_BxTxHxC, key_BxSxKxC, value_BxSxKxC
  if softcap is None and cpu.compiling():
    return cpu.dot_product_attention(*projections, **others)
  return attention.dot_product_attention(*projections, softcap=softcap, **others)

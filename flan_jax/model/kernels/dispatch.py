"""The choice of a layer's products by the platform that is compiled for."""

from collections.abc import Callable

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
  mask_BxTxS: jax.Array,
  bias_BxHxTxS: jax.Array | None = None,
  scale: float | None = None,
  softcap: float | None = None,
) -> jax.Array:
  """Attention as attention.dot_product_attention has it, [B, T, H, C]."""
  projections = query_BxTxHxC, key_BxSxKxC, value_BxSxKxC
  if softcap is None and cpu.compiling():
    return cpu.dot_product_attention(
      *projections, mask_BxTxS=mask_BxTxS, bias_BxHxTxS=bias_BxHxTxS, scale=scale
    )
  return attention.dot_product_attention(
    *projections,
    mask_BxTxS=mask_BxTxS,
    bias_BxHxTxS=bias_BxHxTxS,
    scale=scale,
    softcap=softcap,
  )

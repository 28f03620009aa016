"""The decoder's matrix products for CPUs: the same values, other gradients.

XLA's CPU compiler multiplies at full speed if the contracted axis is the last of the
left operand and the first of the right one; otherwise it transposes in memory first, or
calls a slower routine. The gradients that JAX derives have such transpositions of the
largest arrays. The functions here define their own: they transpose the smaller operand,
divide the softmax by its sum after the product with the values, and recompute what is
cheap.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from flan_jax.model import attention


def compiling() -> bool:
  """Returns whether the code being traced is compiled for a CPU.

  The platform is that of the current mesh (jax.set_mesh), or JAX's default without one.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return (jax.default_backend() if device is None else device.platform) == 'cpu'


def unrolled(layers: int) -> int:
  """Layers that a scan unrolls: up to 8.

  A loop stacks what its iterations save for the backward pass, which takes a third of a
  step of the microworld's decoder (1.1M parameters), 4 % of one of 10.8M.
  """
  return max(n for n in range(1, 9) if layers % n == 0)


@jax.custom_vjp
def product(x_BxLxD: jax.Array, matrix_DxF: jax.Array) -> jax.Array:
  """x @ matrix, [B, L, F]."""
  return x_BxLxD @ matrix_DxF


def _product_forward(x_BxLxD, matrix_DxF):
  return x_BxLxD @ matrix_DxF, (x_BxLxD, matrix_DxF)


def _product_backward(residuals, grad_BxLxF):
  x_BxLxD, matrix_DxF = residuals
  D, F = matrix_DxF.shape
  if D <= F:
    matrix_grad_DxF = jnp.einsum('BLD,BLF->DF', x_BxLxD, grad_BxLxF)
  else:  # the barrier keeps XLA from transposing the product back
    transposed_FxD = jnp.einsum('BLF,BLD->FD', grad_BxLxF, x_BxLxD)
    matrix_grad_DxF = jax.lax.optimization_barrier(transposed_FxD).T
  return grad_BxLxF @ matrix_DxF.T, matrix_grad_DxF


product.defvjp(_product_forward, _product_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def gate(
  activation: Callable[[jax.Array], jax.Array], gate: jax.Array, up: jax.Array
) -> jax.Array:
  """activation(gate) * up; the backward pass recomputes the activation."""
  return activation(gate) * up


def _gate_forward(activation, gate, up):
  return activation(gate) * up, (gate, up)


def _gate_backward(activation, residuals, grad):
  gate, up, grad = jax.lax.optimization_barrier((*residuals, grad))
  active, pull_back = jax.vjp(activation, gate)
  return *pull_back(grad * up), grad * active


gate.defvjp(_gate_forward, _gate_backward)


@jax.custom_vjp
def attend(
  query_BxKxRxC: jax.Array,
  key_BxKxSxC: jax.Array,
  value_BxKxSxC: jax.Array,
  bias: jax.Array,
) -> jax.Array:
  """softmax(query @ key.T + bias) @ value, [B, K, R, C], in the dtype of the values.

  Args:
    query_BxKxRxC: scaled queries; R counts those of a key head, over all its groups.
    key_BxKxSxC, value_BxKxSxC: keys and values of K heads.
    bias: float32, broadcasts to [B, K, R, S]; very negative where a key is masked.
  """
  return _attend_forward(query_BxKxRxC, key_BxKxSxC, value_BxKxSxC, bias)[0]


def _attend_forward(query, key, value, bias):
  logits_BxKxRxS = bias + jnp.einsum(
    'BKRC,BKSC->BKRS', query, key, preferred_element_type=jnp.float32
  )
  max_BxKxRx1 = jnp.max(logits_BxKxRxS, axis=-1, keepdims=True)
  parts_BxKxRxS = jnp.exp(logits_BxKxRxS - max_BxKxRx1)
  share_BxKxRx1 = 1 / jnp.sum(parts_BxKxRxS, axis=-1, keepdims=True)
  parts_BxKxRxS = parts_BxKxRxS.astype(value.dtype)
  mixed_BxKxRxC = jnp.einsum(
    'BKRS,BKSC->BKRC', parts_BxKxRxS, value, preferred_element_type=jnp.float32
  )
  mixed_BxKxRxC = (mixed_BxKxRxC * share_BxKxRx1).astype(value.dtype)
  kept = query, key, value, bias, parts_BxKxRxS, share_BxKxRx1, mixed_BxKxRxC
  return mixed_BxKxRxC, kept


def _attend_backward(kept, grad_BxKxRxC):
  query, key, value, bias, parts_BxKxRxS, share_BxKxRx1, mixed_BxKxRxC = kept
  grad_BxKxRxC = grad_BxKxRxC.astype(jnp.float32) * share_BxKxRx1
  # What a softmax takes off each gradient, from the short axis (Dao et al. 2022,
  # arXiv 2205.14135, B.4).
  along_BxKxRx1 = jnp.sum(grad_BxKxRxC * mixed_BxKxRxC, axis=-1, keepdims=True)
  grad_BxKxRxC = grad_BxKxRxC.astype(value.dtype)
  value_grad_BxKxCxS = jnp.einsum('BKRC,BKRS->BKCS', grad_BxKxRxC, parts_BxKxRxS)
  logits_grad_BxKxRxS = parts_BxKxRxS * (
    jnp.einsum(
      'BKRC,BKSC->BKRS', grad_BxKxRxC, value, preferred_element_type=jnp.float32
    )
    - along_BxKxRx1
  )
  narrow_BxKxRxS = logits_grad_BxKxRxS.astype(key.dtype)
  query_grad_BxKxRxC = jnp.einsum('BKRS,BKSC->BKRC', narrow_BxKxRxS, key)
  key_grad_BxKxCxS = jnp.einsum('BKRC,BKRS->BKCS', query, narrow_BxKxRxS)
  summed = [
    axis for axis in range(4) if bias.shape[axis] < logits_grad_BxKxRxS.shape[axis]
  ]
  return (
    query_grad_BxKxRxC,
    key_grad_BxKxCxS.swapaxes(2, 3),
    value_grad_BxKxCxS.swapaxes(2, 3),
    jnp.sum(logits_grad_BxKxRxS, axis=summed, keepdims=True),
  )


attend.defvjp(_attend_forward, _attend_backward)


def dot_product_attention(
  query_BxTxHxC: jax.Array,
  key_BxSxKxC: jax.Array,
  value_BxSxKxC: jax.Array,
  *,
  mask_BxTxS: jax.Array,
  bias_BxHxTxS: jax.Array | None = None,
  scale: float | None = None,
) -> jax.Array:
  """Grouped-query attention, [B, T, H, C], by `attend`.

  Equal to attention.dot_product_attention without a softcap.
  """
  B, T, H, C = query_BxTxHxC.shape
  query_BxTxHxC = query_BxTxHxC * (C**-0.5 if scale is None else scale)
  S, K = key_BxSxKxC.shape[1:3]
  query_BxKxRxC = query_BxTxHxC.swapaxes(1, 2).reshape(B, K, H // K * T, C)
  # The same arithmetic in every layer, so XLA computes it once for all of them.
  bias = jnp.zeros((), jnp.float32) if bias_BxHxTxS is None else bias_BxHxTxS
  bias = jnp.where(mask_BxTxS[:, None], bias.astype(jnp.float32), attention.MASKED)
  if bias_BxHxTxS is not None:
    bias = bias.reshape(B, K, H // K * T, S)
  elif H > K:
    bias = jnp.tile(bias, (1, 1, H // K, 1))
  mixed_BxKxRxC = attend(
    query_BxKxRxC, key_BxSxKxC.swapaxes(1, 2), value_BxSxKxC.swapaxes(1, 2), bias
  )
  mixed_BxTxHxC = mixed_BxKxRxC.reshape(B, H, T, C).swapaxes(1, 2)
  return attention.zero_blind(mixed_BxTxHxC, mask_BxTxS)

"""Attention for inference: heads first, queries in blocks.

Keys and values come with the heads axis before the slots axis, as in the cache: the two
products are then matrix products of contiguous arrays, without a transposition. If no
query sees a later key, a block of queries skips all keys past its end, and its logits
are few enough to stay in the processor's cache.
"""

import jax
import jax.numpy as jnp

from flan_jax.model import attention
from flan_jax.model.kernels import cpu

_BLOCK = 64
"""Minimum queries of a block; measured on a CPU, where 128 cost a tenth more."""

_BLOCKS = 8
"""Maximum blocks of a sequence: each is compiled separately."""


def attend(
  query_BxTxHxC: jax.Array,
  key_BxKxSxC: jax.Array,
  value_BxKxSxC: jax.Array,
  *,
  mask_BxTxS: jax.Array,
  bias_BxHxTxS: jax.Array | None = None,
  scale: float | None = None,
  softcap: float | None = None,
  ordered: bool = False,
) -> jax.Array:
  """Grouped-query attention, [B, T, H, C], equal to attention.dot_product_attention.

  Args:
    query_BxTxHxC: queries of H heads.
    key_BxKxSxC: keys of K heads; K divides H.
    value_BxKxSxC: values of K heads.
    mask_BxTxS: bool, True where a query may attend to a key.
    bias_BxHxTxS: bias added to the logits, or None.
    scale: factor on the queries; None for C**-0.5.
    softcap: bound of the logits, softcap * tanh(logits / softcap); None for no bound.
    ordered: whether T = S and no query t sees a key past t, so that these are skipped.
  """
  B, T, H, C = query_BxTxHxC.shape
  K, S = key_BxKxSxC.shape[1:3]
  G = H // K
  scale = float(C**-0.5) if scale is None else scale
  query_BxTxKxGxC = (query_BxTxHxC * scale).reshape(B, T, K, G, C)
  query_BxKxGxTxC = query_BxTxKxGxC.transpose(0, 2, 3, 1, 4)

  def block(start: int, stop: int, end: int) -> jax.Array:
    """Attention of queries start .. stop - 1 to keys 0 .. end - 1: [B, K, G, t, C]."""
    t = stop - start
    queries_BxKxGtxC = query_BxKxGxTxC[:, :, :, start:stop].reshape(B, K, G * t, C)
    keys_BxKxSxC = key_BxKxSxC[:, :, :end]
    if T == 1 and cpu.compiling():  # keys first: XLA would pack them
      logits_BxKxSxG = _product(
        keys_BxKxSxC, queries_BxKxGtxC, over=3, dtype=jnp.float32
      )
      logits_BxKxGtxS = jax.lax.optimization_barrier(logits_BxKxSxG).swapaxes(2, 3)
    else:
      logits_BxKxGtxS = _product(
        queries_BxKxGtxC, keys_BxKxSxC, over=3, dtype=jnp.float32
      )
    logits_BxKxGxtxS = logits_BxKxGtxS.reshape(B, K, G, t, end)
    if softcap is not None:
      logits_BxKxGxtxS = softcap * jnp.tanh(logits_BxKxGxtxS / softcap)
    if bias_BxHxTxS is not None:
      bias_BxHxtxS = bias_BxHxTxS[:, :, start:stop, :end]
      logits_BxKxGxtxS += bias_BxHxtxS.reshape(B, K, G, t, end)
    mask_Bx1x1xtxS = mask_BxTxS[:, None, None, start:stop, :end]
    weights_BxKxGxtxS = jax.nn.softmax(
      jnp.where(mask_Bx1x1xtxS, logits_BxKxGxtxS, attention.MASKED)
    ).astype(value_BxKxSxC.dtype)
    mixed_BxKxGtxC = _product(
      weights_BxKxGxtxS.reshape(B, K, G * t, end),
      value_BxKxSxC[:, :, :end],
      over=2,
      dtype=value_BxKxSxC.dtype,
    )
    return mixed_BxKxGtxC.reshape(B, K, G, t, C)

  if ordered:
    size = _BLOCK * max(1, -(-T // (_BLOCK * _BLOCKS)))
    stops = [min(start + size, T) for start in range(0, T, size)]
    parts = [block(stop - 1 - (stop - 1) % size, stop, stop) for stop in stops]
    mixed_BxKxGxTxC = jnp.concatenate(parts, axis=3)
  else:
    mixed_BxKxGxTxC = block(0, T, S)
  mixed_BxTxHxC = mixed_BxKxGxTxC.transpose(0, 3, 1, 2, 4).reshape(B, T, H, C)
  return attention.zero_blind(mixed_BxTxHxC, mask_BxTxS)


def _product(one, other, *, over, dtype):
  """Contracts the last axis of one [B, K, ...] array and axis `over` of the other."""
  return jax.lax.dot_general(
    one, other, (((3,), (over,)), ((0, 1), (0, 1))), preferred_element_type=dtype
  )

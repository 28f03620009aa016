"""Attention masks, position encodings and attention itself, as pure functions.

Positions give the order and segment ids the membership, never the index in an array: so
the same rule serves packed sequences and a cache whose slots came from sequences of
different lengths.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flan_jax.config.decoder import DecoderConfig

MASKED = -1e30  # finite: no NaN, here or in gradients, if a query sees no key


class Layout(NamedTuple):
  """Positions and segments of the tokens of each sequence.

  Attributes:
    positions: int32 [B, L], within the example.
    segment_ids: int32 [B, L], 1.. per example of the sequence, 0 for padding.
    prefix: bool [B, L], True on tokens that see each other both ways; or None.
    subtree_end: int32 [B, L], if the segments are trees laid out depth first: one past
      the last index that descends from the token. None for plain segments.
  """

  positions: jax.Array
  segment_ids: jax.Array
  prefix: jax.Array | None = None
  subtree_end: jax.Array | None = None


def attention_mask(
  query: Layout, key: Layout, *, window: int | None = None
) -> jax.Array:
  """Returns bool [B, T, S]: True where one of T queries may attend to one of S keys.

  A key is visible if it is in the query's segment at or before the query's position, or
  if both are in the prefix of that segment (prefix language model: Raffel et al. 2020,
  arXiv 1910.10683, 3.2.1). Keys of segment 0 are padding and never visible. With a
  window, keys `window` or more positions away are masked too (Beltagy et al. 2020,
  arXiv 2004.05150, 3.1).
  """
  mask_BxTxS = query.positions[:, :, None] >= key.positions[:, None, :]
  if key.subtree_end is not None:  # in a tree, a token sees its ancestors
    index_S = jnp.arange(key.subtree_end.shape[1])
    mask_BxTxS &= (index_S[:, None] >= index_S[None, :])[None]
    mask_BxTxS &= index_S[None, :, None] < key.subtree_end[:, None, :]
  if query.prefix is not None:
    assert key.prefix is not None  # queries are among the keys
    mask_BxTxS |= query.prefix[:, :, None] & key.prefix[:, None, :]
  if window is not None:
    distance_BxTxS = query.positions[:, :, None] - key.positions[:, None, :]
    mask_BxTxS &= jnp.abs(distance_BxTxS) < window
  mask_BxTxS &= query.segment_ids[:, :, None] == key.segment_ids[:, None, :]
  return mask_BxTxS & (key.segment_ids > 0)[:, None, :]


def prefix_mask(
  loss_mask_BxL: jax.Array, *, positions_BxL: jax.Array, segment_ids_BxL: jax.Array
) -> jax.Array:
  """The prefix of every example of packed sequences, bool [B, L]: its input tokens.

  It ends with the separator, which predicts the first token of the target.
  """
  target_BxL = loss_mask_BxL > 0
  after_target_BxL = jnp.pad(target_BxL[:, :-1], ((0, 0), (1, 0))) & (positions_BxL > 0)
  return ~(target_BxL & after_target_BxL) & (segment_ids_BxL > 0)


def rotary_angles(positions_BxL: jax.Array, *, frequencies_c: np.ndarray) -> jax.Array:
  """Returns float32 [B, L, c]: the rotation angle of each pair of channels."""
  frequencies = frequencies_c.astype(np.float32)[None, None, :]
  return positions_BxL[:, :, None] * frequencies


def rotary_frequencies(config: DecoderConfig, *, local: bool = False) -> np.ndarray:
  """Radians per token of each pair of channels, float64 [c], of local or global layers.

  There are c = rotary_dims / 2 pairs. Only global layers are scaled (see
  DecoderConfig.rope_scaling).
  """
  base, dims = config.rope_base, config.rotary_dims
  if local and config.rope_local_base is not None:
    base = config.rope_local_base
  frequencies = base ** -(np.arange(0, dims, 2) / dims)
  if local or config.rope_scaling == 'none':
    return frequencies
  scaled = frequencies / config.rope_factor
  if config.rope_scaling == 'linear':
    return scaled
  low, high = config.rope_low_factor, config.rope_high_factor
  turns = config.rope_original_length * frequencies / (2 * np.pi)
  kept = np.clip((turns - low) / (high - low), 0, 1)
  return kept * frequencies + (1 - kept) * scaled


def rotate(x_BxLxHxC: jax.Array, angles_BxLxc: jax.Array) -> jax.Array:
  """Rotary position embedding (Su et al. 2021, arXiv 2104.09864, 3.2).

  Channel i is paired with channel i + head_dim / 2, the layout of the published Llama
  weights in Hugging Face form. Channels past the first 2c are returned unchanged.
  Computed in float32, returned in the dtype of `x`.
  """
  dims = 2 * angles_BxLxc.shape[-1]
  if dims < x_BxLxHxC.shape[-1]:
    rotated = rotate(x_BxLxHxC[..., :dims], angles_BxLxc)
    return jnp.concatenate([rotated, x_BxLxHxC[..., dims:]], axis=-1)
  cos_BxLx1xc = jnp.cos(angles_BxLxc)[:, :, None, :]
  sin_BxLx1xc = jnp.sin(angles_BxLxc)[:, :, None, :]
  first, second = jnp.split(x_BxLxHxC.astype(jnp.float32), 2, axis=-1)
  rotated = (
    first * cos_BxLx1xc - second * sin_BxLx1xc,
    second * cos_BxLx1xc + first * sin_BxLx1xc,
  )
  return jnp.concatenate(rotated, axis=-1).astype(x_BxLxHxC.dtype)


def relative_buckets(*, num_buckets: int, max_distance: int) -> np.ndarray:
  """The bucket of every distance 0 .. max_distance, int32 [max_distance + 1].

  T5's one-way buckets (Raffel et al. 2020, arXiv 1910.10683, 2.1): half of them hold
  one distance each, the others grow geometrically up to `max_distance`; the last one
  also holds everything beyond.
  """
  exact = num_buckets // 2
  distances = np.arange(max_distance + 1)
  octaves = np.log(np.maximum(distances, exact) / exact) / np.log(max_distance / exact)
  grown = exact + np.floor(octaves * (num_buckets - exact) + 1e-9).astype(np.int32)
  buckets = np.where(distances < exact, distances, np.minimum(grown, num_buckets - 1))
  return buckets.astype(np.int32)


def relative_bias(
  table_RxH: jax.Array,
  *,
  query_positions_BxT: jax.Array,
  key_positions_BxS: jax.Array,
  max_distance: int,
) -> jax.Array:
  """T5's position bias [B, H, T, S], to be added to the attention logits.

  It depends only on query position - key position; keys ahead of the query (in a
  prefix) count as distance 0, as in T5's decoder.
  """
  distance_BxTxS = query_positions_BxT[:, :, None] - key_positions_BxS[:, None, :]
  variants = (_bias_by_look_up, _bias_by_product)
  cpu, others = (functools.partial(f, max_distance=max_distance) for f in variants)
  # Both give the same values. A CPU is twenty times faster with the look-up; a TPU pads
  # the looked-up heads to 128, in time and in memory.
  return jax.lax.platform_dependent(
    table_RxH, jnp.clip(distance_BxTxS, 0, max_distance), cpu=cpu, default=others
  )


def _bias_by_look_up(table_RxH, distance_BxTxS, *, max_distance):
  buckets = relative_buckets(num_buckets=table_RxH.shape[0], max_distance=max_distance)
  return table_RxH[buckets].T[:, distance_BxTxS].swapaxes(0, 1)


def _bias_by_product(table_RxH, distance_BxTxS, *, max_distance):
  R = table_RxH.shape[0]
  buckets = relative_buckets(num_buckets=R, max_distance=max_distance)
  edges = np.append(np.searchsorted(buckets, np.arange(R)), max_distance + 1)
  first_1x1x1xR, end_1x1x1xR = edges[None, None, None, :-1], edges[None, None, None, 1:]
  distance_BxTxSx1 = distance_BxTxS[..., None]
  one_hot_BxTxSxR = (distance_BxTxSx1 >= first_1x1x1xR) & (
    distance_BxTxSx1 < end_1x1x1xR
  )
  return jnp.einsum(
    'BTSR,RH->BHTS',
    one_hot_BxTxSxR.astype(table_RxH.dtype),
    table_RxH,
    precision=jax.lax.Precision.HIGHEST,
  )


def dot_product_attention(
  query_BxTxHxC: jax.Array,
  key_BxSxKxC: jax.Array,
  value_BxSxKxC: jax.Array,
  *,
  mask_BxTxS: jax.Array,
  bias_BxHxTxS: jax.Array | None = None,
  scale: float | None = None,
  softcap: float | None = None,
) -> jax.Array:
  """Grouped-query attention scaled by head_dim**-0.5; returns [B, T, H, C].

  Query head h reads key-value head h // G, with G = H / K heads to the group; keys and
  values are never repeated in memory (Ainslie et al. 2023, arXiv 2305.13245). Logits
  and softmax are float32. A query without a visible key gets zeros. `scale` replaces
  head_dim**-0.5; `softcap` bounds the logits smoothly.
  """
  B, T, H, C = query_BxTxHxC.shape
  S, K = key_BxSxKxC.shape[1:3]
  scale = float(C**-0.5) if scale is None else scale
  logits_BxKxGxTxS = jnp.einsum(
    'BTKGC,BSKC->BKGTS',
    (query_BxTxHxC * scale).reshape(B, T, K, H // K, C),
    key_BxSxKxC,
    preferred_element_type=jnp.float32,
  )
  if softcap is not None:
    logits_BxKxGxTxS = softcap * jnp.tanh(logits_BxKxGxTxS / softcap)
  if bias_BxHxTxS is not None:
    logits_BxKxGxTxS += bias_BxHxTxS.reshape(B, K, H // K, T, S)
  logits_BxKxGxTxS = jnp.where(mask_BxTxS[:, None, None], logits_BxKxGxTxS, MASKED)
  weights_BxKxGxTxS = jax.nn.softmax(logits_BxKxGxTxS).astype(value_BxSxKxC.dtype)
  mixed_BxTxKxGxC = jnp.einsum('BKGTS,BSKC->BTKGC', weights_BxKxGxTxS, value_BxSxKxC)
  return zero_blind(mixed_BxTxKxGxC.reshape(B, T, H, C), mask_BxTxS)


def zero_blind(mixed_BxTxHxC: jax.Array, mask_BxTxS: jax.Array) -> jax.Array:
  """Sets the outputs of queries without a visible key to zero."""
  sees_BxTx1x1 = jnp.any(mask_BxTxS, axis=-1)[:, :, None, None]
  return jnp.where(sees_BxTx1x1, mixed_BxTxHxC, 0)

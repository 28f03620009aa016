"""The key-value cache: what each row has read so far."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model.attention import Layout


class Cache(NamedTuple):
  """Keys and values of the tokens read so far, one example a row.

  Each row fills its own slots 0, 1, 2, ... in the order in which it reads; padding
  takes no slot. No array ever changes its shape, so one compiled program serves every
  step.

  Attributes:
    keys: [N, B, K, S, C] in config.dtype, already rotated where positions are rotary.
      A head's slots lie together, so that reading it is one product of matrices.
    values: [N, B, K, S, C] in config.dtype.
    positions: int32 [B, S], of the token in each slot; -1 where the slot is unused.
  """

  keys: jax.Array
  values: jax.Array
  positions: jax.Array


def init(config: DecoderConfig, *, batch: int, length: int) -> Cache:
  """An empty cache for `batch` rows of up to `length` tokens, prompt and answer."""
  shape = (config.num_layers, batch, config.num_kv_heads, length, config.head_dim)
  return Cache(
    keys=jnp.zeros(shape, config.dtype),
    values=jnp.zeros(shape, config.dtype),
    positions=jnp.full((batch, length), -1, jnp.int32),
  )


def reserve(cache: Cache, new: Layout) -> tuple[Cache, jax.Array]:
  """Notes the positions of L new tokens a row in the next free slots of the row.

  Returns the cache and slots_BxL, int32: where each token goes. Padding gets the slot
  one past the end, which is never written; so does a token for which the row has no
  slot left, which then goes unseen: `init` must be told the whole length.

  Raises:
    InputError: more new tokens than slots.
  """
  batch, slots = cache.positions.shape
  length = new.positions.shape[1]
  if length > slots:
    raise InputError(
      f'cache length: got {slots}; must hold the {length} tokens read in one call; the '
      f'nearest is {length}'
    )
  real_BxL = new.segment_ids > 0
  used_Bx1 = jnp.sum(cache.positions >= 0, axis=1, keepdims=True, dtype=jnp.int32)
  next_BxL = used_Bx1 + jnp.cumsum(real_BxL, axis=1, dtype=jnp.int32) - 1
  slots_BxL = jnp.where(real_BxL, next_BxL, slots)
  positions = cache.positions.at[_rows(batch), slots_BxL].set(
    new.positions, mode='drop'
  )
  return cache._replace(positions=positions), slots_BxL


def layout(cache: Cache, *, new: Layout, slots_BxL: jax.Array) -> Layout:
  """Where the tokens in the slots stand: one segment, and the prefix among the new."""
  prefix = None
  if new.prefix is not None:
    batch, slots = cache.positions.shape
    nothing = jnp.zeros((batch, slots), bool)
    prefix = nothing.at[_rows(batch), slots_BxL].set(new.prefix, mode='drop')
  used = cache.positions >= 0
  return Layout(cache.positions, used.astype(jnp.int32), prefix)


def write(
  cache: Cache,
  keys_BxLxKxC: jax.Array,
  values_BxLxKxC: jax.Array,
  *,
  layer: jax.Array | int,
  slots_BxL: jax.Array,
) -> Cache:
  """Puts the new keys and values of one layer in their slots."""
  at = (layer, _rows(slots_BxL.shape[0]), slice(None), slots_BxL)  # [B, L, K, C]
  return cache._replace(
    keys=cache.keys.at[at].set(keys_BxLxKxC, mode='drop'),
    values=cache.values.at[at].set(values_BxLxKxC, mode='drop'),
  )


def _rows(batch: int) -> jax.Array:
  return jnp.arange(batch)[:, None]

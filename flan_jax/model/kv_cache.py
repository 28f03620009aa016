"""The key-value cache: keys and values of the tokens prefilled so far."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model.attention import Layout


class Cache(NamedTuple):
  """Keys and values of the tokens so far; each sequence is one example.

  Each sequence fills its own slots 0, 1, 2, ... in token order; padding takes no slot.
  No array ever changes its shape, so one compiled program serves every step.

  Attributes:
    keys: [N, B, K, S, C] in config.dtype, already rotated if positions are rotary. A
      head's slots are contiguous, so that attention is one matrix product per head.
      With `by_layer`, N arrays [1, B, K, S, C]: no step copies a layer out of the
      whole.
    values: as `keys`.
    positions: int32 [B, S], position of the token in each slot; -1 in unused slots.
  """

  keys: Any
  values: Any
  positions: jax.Array

  def map(self, change: Callable[..., jax.Array], *others: 'Cache') -> 'Cache':
    """Applies `change` to keys and values, and to those of others with them."""
    keys = jax.tree.map(change, self.keys, *(other.keys for other in others))
    values = jax.tree.map(change, self.values, *(other.values for other in others))
    return self._replace(keys=keys, values=values)

  def layer(self, layer: jax.Array | int) -> tuple[jax.Array, jax.Array]:
    """Keys and values of one layer, [B, K, S, C]."""
    if isinstance(self.keys, tuple):
      assert isinstance(layer, int)  # no scan has a cache by layer
      return self.keys[layer][0], self.values[layer][0]
    return self.keys[layer], self.values[layer]


def init(
  config: DecoderConfig, *, batch: int, length: int, by_layer: bool = False
) -> Cache:
  """An empty cache for `batch` sequences of `length` tokens, prompt and answer.

  Args:
    config: decoder config; `by_layer` needs one without scan_layers.
    batch: sequences.
    length: tokens of each.
    by_layer: gives each layer arrays of its own.
  """
  N = config.num_layers
  shape = (batch, config.num_kv_heads, length, config.head_dim)

  def zeros():
    if by_layer:
      return tuple(jnp.zeros((1, *shape), config.dtype) for _ in range(N))
    return jnp.zeros((N, *shape), config.dtype)

  return Cache(zeros(), zeros(), jnp.full((batch, length), -1, jnp.int32))


def reserve(cache: Cache, new: Layout) -> tuple[Cache, jax.Array]:
  """Assigns the next free slots of each sequence to its L new tokens.

  Returns the cache with their positions and slots_BxL, int32, the slot of each token.
  Padding gets the slot one past the end, which is never written. So does a token for
  which the sequence has no slot left, and it then stays invisible: `init` needs the
  whole length.

  Raises:
    InputError: if there are more new tokens than slots.
  """
  batch, slots = cache.positions.shape
  length = new.positions.shape[1]
  if length > slots:
    raise InputError(
      f'cache length: got {slots}; must hold the {length} tokens of one call; the '
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
  """Layout of the tokens in the slots: one segment, with the prefix of the new ones."""
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
  """Writes the new keys and values of one layer to their slots."""
  by_layer = isinstance(cache.keys, tuple)
  index = 0 if by_layer else layer
  at = (index, _rows(slots_BxL.shape[0]), slice(None), slots_BxL)  # [B, L, K, C]

  def put(whole, new):
    if not by_layer:
      return whole.at[at].set(new, mode='drop')
    written = whole[layer].at[at].set(new, mode='drop')
    return (*whole[:layer], written, *whole[layer + 1 :])

  return cache._replace(
    keys=put(cache.keys, keys_BxLxKxC), values=put(cache.values, values_BxLxKxC)
  )


def _rows(batch: int) -> jax.Array:
  return jnp.arange(batch)[:, None]

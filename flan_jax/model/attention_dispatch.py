"""What a reading of a batch shows every layer, and the attention over it."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import attention
from flan_jax.model.kernels import blockwise, cudnn, splash
from flan_jax.model.kv_cache import Cache

_KERNELS = {'splash': splash, 'cudnn': cudnn}
"""Kernels for rows to train on, beside what XLA makes of dense masks ('xla')."""


class View(NamedTuple):
  """What a layer sees, and how it tells where things stand.

  Attributes:
    mask_BxLxS: bool, True where a token may attend to a key; None where a kernel reads
      that from the ends.
    angles_BxLxc: rotary angles, or None.
  """

  mask_BxLxS: jax.Array | None
  angles_BxLxc: jax.Array | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Shared:
  """What one reading of a batch tells every layer alike.

  Attributes:
    everywhere: the view of global layers.
    near: that of local layers, or None where there are none.
    slots_BxL: the cache slot of each token, or None without a cache.
    bias_BxHxLxS: T5 position bias, or None.
    segment_ids_BxL: of the tokens.
    ends_BxL: of trees in which no token sees what comes after it in the row, or None.
    kernel: what attends over rows without a cache: 'xla', 'splash' or 'cudnn'.
  """

  everywhere: View
  near: View | None
  slots_BxL: jax.Array | None
  bias_BxHxLxS: jax.Array | None
  segment_ids_BxL: jax.Array
  ends_BxL: jax.Array | None = None
  kernel: str = dataclasses.field(default='xla', metadata={'static': True})

  def view(self, layer: jax.Array | int, config: DecoderConfig) -> View:
    """The view of one layer."""
    if self.near is None:
      return self.everywhere
    local = jnp.array(config.local_layers)[layer]
    return jax.tree.map(functools.partial(jnp.where, local), self.near, self.everywhere)


def check(
  kernel: str, config: DecoderConfig, *, sequence_length: int, device_kind: str
) -> None:
  """Refuses what `kernel` cannot compute, before anything is compiled.

  Args:
    kernel: 'xla', which can all of it, 'splash' or 'cudnn'.
    config: of the decoder.
    sequence_length: L, positions of a row.
    device_kind: what JAX calls the devices, as 'TPU v4'.

  Raises:
    InputError: naming the setting.
  """
  if kernel != 'xla':
    _KERNELS[kernel].check(
      config, sequence_length=sequence_length, device_kind=device_kind
    )


def mix(
  query_BxLxHxC: jax.Array,
  key_BxLxKxC: jax.Array,
  value_BxLxKxC: jax.Array,
  cache: Cache | None,
  layer: jax.Array | int,
  shared: Shared,
  config: DecoderConfig,
) -> jax.Array:
  """The values [B, L, H, C] that each query attends to, by the way that suits the rows.

  Rows to train on are read by XLA's products or by the kernel that was asked for; trees
  by the tree kernel or, with rows that have a cache, in blocks of queries. All say the
  same.

  Args:
    query_BxLxHxC: rotated, where positions are rotary.
    key_BxLxKxC: of the same tokens; a cache has them already.
    value_BxLxKxC: likewise.
    cache: of all layers, or None.
    layer: which of them this is.
    shared: what the reading tells every layer.
    config: of the decoder.
  """
  mask_BxLxS = shared.view(layer, config).mask_BxLxS
  rows = query_BxLxHxC, key_BxLxKxC, value_BxLxKxC
  settings = {'scale': config.query_scale, 'softcap': config.attention_softcap}
  if cache is None and shared.kernel == 'splash':
    return splash.attend(*rows, segment_ids_BxL=shared.segment_ids_BxL, **settings)
  settings['bias_BxHxTxS'] = shared.bias_BxHxLxS
  if mask_BxLxS is None:
    from flan_jax.model.kernels import tree  # Pallas is slow to import

    return tree.kernel_attention(*rows, ends_BxT=shared.ends_BxL, **settings)
  settings['mask_BxTxS'] = mask_BxLxS
  if cache is not None:
    heads_first = cache.keys[layer], cache.values[layer]
    return blockwise.attend(query_BxLxHxC, *heads_first, **settings)
  if shared.ends_BxL is not None:
    heads_first = key_BxLxKxC.swapaxes(1, 2), value_BxLxKxC.swapaxes(1, 2)
    return blockwise.attend(query_BxLxHxC, *heads_first, ordered=True, **settings)
  if shared.kernel == 'cudnn':
    del settings['softcap']  # there is none: check
    return cudnn.attend(*rows, causal=config.attention == 'causal', **settings)
  return attention.dot_product_attention(*rows, **settings)

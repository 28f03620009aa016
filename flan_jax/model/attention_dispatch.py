"""Per-batch attention inputs shared by all layers, and kernel dispatch."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model.kernels import blockwise, cudnn, dispatch, native, splash
from flan_jax.model.kv_cache import Cache

_KERNELS = {'splash': splash, 'cudnn': cudnn}
"""Kernels for training sequences; 'xla' is dense attention without a kernel."""


class AttentionInputs(NamedTuple):
  """Attention mask and rotary angles of a layer.

  Attributes:
    mask_BxLxS: bool, True where a token may attend to a key; None if the tree kernel
      computes the mask from `subtree_end_BxL`.
    angles_BxLxc: rotary angles, or None.
  """

  mask_BxLxS: jax.Array | None
  angles_BxLxc: jax.Array | None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedInputs:
  """Attention inputs of one forward pass, shared by all layers.

  Attributes:
    global_inputs: mask and angles of global layers.
    local_inputs: mask and angles of local layers, or None if the model has none.
    slots_BxL: the cache slot of each token, or None without a cache.
    bias_BxHxLxS: T5 position bias, or None.
    segment_ids_BxL: segment of each token.
    subtree_end_BxL: ends of subtrees (attention.Layout), if segments are trees in which
      no token sees a later one; or None.
    kernel: attention kernel without a cache: 'xla', 'splash' or 'cudnn'.
    reads_cache: whether tokens attend to a cache; else to each other.
  """

  global_inputs: AttentionInputs
  local_inputs: AttentionInputs | None
  slots_BxL: jax.Array | None
  bias_BxHxLxS: jax.Array | None
  segment_ids_BxL: jax.Array
  subtree_end_BxL: jax.Array | None = None
  kernel: str = dataclasses.field(default='xla', metadata={'static': True})
  reads_cache: bool = dataclasses.field(default=False, metadata={'static': True})

  def of_layer(self, layer: jax.Array | int, config: DecoderConfig) -> AttentionInputs:
    """The inputs of one layer, global or local."""
    if self.local_inputs is None:
      return self.global_inputs
    local = jnp.array(config.local_layers)[layer]
    choose = functools.partial(jnp.where, local)
    return jax.tree.map(choose, self.local_inputs, self.global_inputs)


def check(
  kernel: str, config: DecoderConfig, *, sequence_length: int, device_kind: str
) -> None:
  """Refuses what `kernel` cannot compute, before anything is compiled.

  Args:
    kernel: 'xla', which supports everything, 'splash' or 'cudnn'.
    config: decoder config.
    sequence_length: L, tokens of a sequence, padding included.
    device_kind: JAX's name of the devices, as 'TPU v4'.

  Raises:
    InputError: naming the setting.
  """
  if kernel != 'xla':
    _KERNELS[kernel].check(
      config, sequence_length=sequence_length, device_kind=device_kind
    )


def attend(
  query_BxLxHxC: jax.Array,
  key_BxLxKxC: jax.Array,
  value_BxLxKxC: jax.Array,
  cache: Cache | None,
  layer: jax.Array | int,
  shared: SharedInputs,
  config: DecoderConfig,
  *,
  native_kernels: bool = False,
) -> jax.Array:
  """Grouped-query attention, [B, L, H, C], by the kernel that suits the sequences.

  Training sequences use XLA's dense attention or the requested kernel; trees use the
  tree kernel or blocks of queries; sequences with a cache use blocks of queries. All
  give the same values.

  Args:
    query_BxLxHxC: queries, rotated if positions are rotary.
    key_BxLxKxC: keys of the same tokens; a cache already holds them.
    value_BxLxKxC: values of the same tokens; a cache already holds them.
    cache: cache of all layers, or None.
    layer: index of this layer.
    shared: attention inputs shared by all layers.
    config: decoder config.
    native_kernels: whether to use the CPU's kernels (kernels.native) if they can.
  """
  mask_BxLxS = shared.of_layer(layer, config).mask_BxLxS
  projections = query_BxLxHxC, key_BxLxKxC, value_BxLxKxC
  scale, softcap = config.query_scale, config.attention_softcap
  if cache is None and shared.kernel == 'splash':
    return splash.attend(
      *projections,
      segment_ids_BxL=shared.segment_ids_BxL,
      scale=scale,
      softcap=softcap,
    )
  bias = shared.bias_BxHxLxS
  if mask_BxLxS is None:
    from flan_jax.model.kernels import tree  # Pallas is slow to import

    assert shared.subtree_end_BxL is not None  # what the kernel masks by
    return tree.attend(
      *projections,
      subtree_end_BxT=shared.subtree_end_BxL,
      bias_BxHxTxS=bias,
      scale=scale,
      softcap=softcap,
    )
  if cache is None and shared.subtree_end_BxL is None and shared.kernel == 'cudnn':
    return cudnn.attend(  # without a softcap: see check
      *projections,
      mask_BxTxS=mask_BxLxS,
      bias_BxHxTxS=bias,
      scale=scale,
      causal=config.attention == 'causal',
    )
  if cache is None and shared.subtree_end_BxL is None:
    return dispatch.dense_attention(
      *projections,
      mask_BxTxS=mask_BxLxS,
      bias_BxHxTxS=bias,
      scale=scale,
      softcap=softcap,
    )
  if cache is not None:
    heads_first = cache.layer(layer)
    plain = bias is None and softcap is None and config.dtype == 'float32'
    one = query_BxLxHxC.shape[1] == 1 and config.head_dim % native.LANES == 0
    if native_kernels and plain and one:
      return _attend_one(query_BxLxHxC, *heads_first, mask_BxLxS, scale)
  else:
    heads_first = key_BxLxKxC.swapaxes(1, 2), value_BxLxKxC.swapaxes(1, 2)
  return blockwise.attend(
    query_BxLxHxC,
    *heads_first,
    mask_BxTxS=mask_BxLxS,
    bias_BxHxTxS=bias,
    scale=scale,
    softcap=softcap,
    ordered=cache is None,
  )


def _attend_one(query_Bx1xHxC, key_BxKxSxC, value_BxKxSxC, mask_Bx1xS, scale):
  """Attention of one token of each sequence by a CPU's kernel, [B, 1, H, C]."""
  B, _, H, C = query_Bx1xHxC.shape
  K = key_BxKxSxC.shape[1]
  scale = float(C**-0.5) if scale is None else scale
  query_BxKxGxC = (query_Bx1xHxC * scale).reshape(B, K, H // K, C)
  mixed = native.attend(query_BxKxGxC, key_BxKxSxC, value_BxKxSxC, mask_Bx1xS[:, 0])
  return mixed.reshape(B, 1, H, C)

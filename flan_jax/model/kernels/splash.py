"""Attention of packed causal sequences by JAX's TPU kernel `splash`: no [T, S] logits.

It processes keys a block at a time with a running maximum and sum (Dao et al. 2022,
arXiv 2205.14135), skips blocks wholly ahead of their queries, and recomputes blocks in
the backward pass, so that memory is linear in the length of a sequence. Pallas is
imported when the kernel is built: the import is slow, and most runs do not need it.
"""

import functools

import jax
import jax.numpy as jnp
from flax.linen import spmd
from jax.sharding import PartitionSpec

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError

_LANES = 128
"""Width of a TPU's vector registers; it must divide the length of a sequence."""

_BLOCK = 512
"""Maximum queries, and maximum keys, of a block."""


def check(config: DecoderConfig, *, sequence_length: int, device_kind: str) -> None:
  """Refuses what the kernel cannot compute, before anything is compiled.

  Args:
    config: decoder config.
    sequence_length: L, tokens of a sequence, padding included.
    device_kind: JAX's name of the devices, as 'TPU v4'.

  Raises:
    InputError: naming the setting.
  """
  prefix = 'Run.attention_kernel: splash'
  if 'TPU' not in device_kind or 'TPU v3' in device_kind or 'TPU v2' in device_kind:
    raise InputError(
      f'{prefix} runs on TPU v4 and later, these devices are {device_kind!r}; must be '
      "'xla'",
      field='Run.attention_kernel',
    )
  unable = {
    'positions': config.positions == 't5',
    'attention': config.attention != 'causal',
    'layer_pattern': any(config.local_layers),
  }
  for name, refused in unable.items():
    if refused:
      raise InputError(
        f'{prefix} does not support DecoderConfig.{name}={getattr(config, name)!r}; '
        "must be 'xla', or a model of causal, global layers without a position bias",
        field='Run.attention_kernel',
      )
  if sequence_length % _LANES:
    nearest = max(1, round(sequence_length / _LANES)) * _LANES
    raise InputError(
      f'SEQUENCE_LENGTH: got {sequence_length:,}; {prefix} needs a multiple of '
      f'{_LANES}; the nearest is {nearest:,}',
      field='Run.sequence_length',
    )


def attend(
  query_BxLxHxC: jax.Array,
  key_BxLxKxC: jax.Array,
  value_BxLxKxC: jax.Array,
  *,
  segment_ids_BxL: jax.Array,
  scale: float | None = None,
  softcap: float | None = None,
  block: int = _BLOCK,
  interpret: bool = False,
) -> jax.Array:
  """Grouped-query attention within the examples of packed sequences, [B, L, H, C].

  A token sees itself and the earlier tokens of its segment. With a mesh (jax.set_mesh),
  every device attends over its own sequences and heads.

  Args:
    query_BxLxHxC: queries of H heads.
    key_BxLxKxC: keys of K heads; K divides H.
    value_BxLxKxC: values of K heads.
    segment_ids_BxL: int32, 1.. per example of the sequence, 0 for padding. Padding
      attends to padding; its output is undefined.
    scale: factor on the queries; None for C**-0.5.
    softcap: bound of the logits, softcap * tanh(logits / softcap); None for no bound.
    block: maximum queries, and maximum keys, of a block.
    interpret: whether to run without a TPU, slowly.
  """
  C = query_BxLxHxC.shape[-1]
  run = functools.partial(
    _attend,
    scale=C**-0.5 if scale is None else scale,
    softcap=softcap,
    block=block,
    interpret=interpret,
  )
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return run(query_BxLxHxC, key_BxLxKxC, value_BxLxKxC, segment_ids_BxL)
  axes = spmd.logical_to_mesh_axes(('activation_batch', 'activation_heads', 'kv_heads'))
  assert axes is not None  # as there are names
  batch, heads, kv_heads = axes
  if heads != kv_heads:  # give every query head its own keys on its device
    group = query_BxLxHxC.shape[2] // key_BxLxKxC.shape[2]
    key_BxLxKxC, value_BxLxKxC = (
      jnp.repeat(x, group, axis=2) for x in (key_BxLxKxC, value_BxLxKxC)
    )
  spec = PartitionSpec(batch, None, heads, None)
  return jax.shard_map(
    run, in_specs=(spec, spec, spec, PartitionSpec(batch, None)), out_specs=spec,
    check_vma=False,
  )(query_BxLxHxC, key_BxLxKxC, value_BxLxKxC, segment_ids_BxL)  # fmt: skip


def _attend(query, key, value, segment_ids_BxL, *, scale, softcap, block, interpret):
  """`attend` on one device."""
  from jax.experimental.pallas.ops.tpu import splash_attention as pallas

  L, H = query.shape[1:3]
  block = max(n for n in range(_LANES, block + 1, _LANES) if L % n == 0)
  kernel = pallas.make_splash_mha(
    pallas.MultiHeadMask([pallas.CausalMask((L, L))] * H),
    block_sizes=pallas.BlockSizes(
      block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block,
      block_q_dq=block, block_kv_dq=block,
    ),
    attn_logits_soft_cap=softcap,
    head_shards=1,
    q_seq_shards=1,
    interpret=interpret,
  )  # fmt: skip

  def one(query_LxHxC, key_LxKxC, value_LxKxC, segment_ids_L):
    mixed_HxLxC = kernel(
      (query_LxHxC * scale).swapaxes(0, 1),
      key_LxKxC.swapaxes(0, 1),
      value_LxKxC.swapaxes(0, 1),
      segment_ids=pallas.SegmentIds(segment_ids_L, segment_ids_L),
    )
    assert not isinstance(mixed_HxLxC, tuple)  # no residuals are asked for
    return mixed_HxLxC.swapaxes(0, 1)

  return jax.vmap(one)(query, key, value, segment_ids_BxL)

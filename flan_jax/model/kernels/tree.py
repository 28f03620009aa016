"""Attention over trees as one TPU kernel: no [T, S] logits, no mask, no dead blocks.

The kernel takes the structure as it is, `ends` of attention.Layout, four bytes a token,
and passes over blocks in which no query descends from a key. It goes over the keys a
block at a time with a running maximum and sum (Dao et al. 2022, arXiv 2205.14135).
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

_MASKED = -1e30
_LANES = 128
"""Rows are padded to a multiple of this, the width of a TPU's vector registers."""

_BLOCK = 512
"""Most queries, and most keys, of a block."""


def kernel_attention(
  query_BxTxHxC: jax.Array,
  key_BxTxKxC: jax.Array,
  value_BxTxKxC: jax.Array,
  *,
  ends_BxT: jax.Array,
  bias_BxHxTxS: jax.Array | None = None,
  scale: float | None = None,
  softcap: float | None = None,
  block: int = _BLOCK,
  interpret: bool = False,
) -> jax.Array:
  """Grouped-query attention of tokens to those that they descend from, [B, T, H, C].

  Args:
    query_BxTxHxC: H heads.
    key_BxTxKxC: K heads, which divide H.
    value_BxTxKxC: likewise.
    ends_BxT: int32, one past the last place that descends from the token; 0 on padding.
    bias_BxHxTxS: added to the logits, or None.
    scale: of queries; None: C**-0.5.
    softcap: logits pass softcap * tanh(logits / softcap) first; None: they do not.
    block: most queries, and most keys, of a block.
    interpret: whether to run without a TPU, slowly.
  """
  B, T, H, C = query_BxTxHxC.shape
  G = H // key_BxTxKxC.shape[2]
  scale = C**-0.5 if scale is None else scale
  length = -(-T // _LANES) * _LANES
  block = max(n for n in range(_LANES, block + 1, _LANES) if length % n == 0)
  blocks = length // block
  unused = length - T

  def heads_first(x_BxTxHxC):
    padded = jnp.pad(x_BxTxHxC, ((0, 0), (0, unused), (0, 0), (0, 0)))
    return padded.swapaxes(1, 2)

  ends_BxT = jnp.pad(ends_BxT, ((0, 0), (0, unused)))
  until_BxN = ends_BxT.reshape(B, blocks, block).max(-1)
  operands = [
    heads_first(query_BxTxHxC * scale),
    heads_first(key_BxTxKxC),
    heads_first(value_BxTxKxC),
    ends_BxT[:, None],
  ]

  def keys(b, h, i, j, _):
    return b, jax.lax.div(h, G), jnp.minimum(i, j), 0  # blocks ahead are never read

  in_specs = [
    pl.BlockSpec((None, None, block, C), lambda b, h, i, j, _: (b, h, i, 0)),
    pl.BlockSpec((None, None, block, C), keys),
    pl.BlockSpec((None, None, block, C), keys),
    pl.BlockSpec((None, 1, block), lambda b, h, i, j, _: (b, 0, jnp.minimum(i, j))),
  ]
  if bias_BxHxTxS is not None:
    operands.append(jnp.pad(bias_BxHxTxS, ((0, 0), (0, 0), (0, unused), (0, unused))))
    in_specs.append(
      pl.BlockSpec(
        (None, None, block, block), lambda b, h, i, j, _: (b, h, i, jnp.minimum(i, j))
      )
    )
  out_BxHxTxC = pl.pallas_call(
    functools.partial(
      _kernel, block=block, biased=bias_BxHxTxS is not None, softcap=softcap
    ),
    grid_spec=pltpu.PrefetchScalarGridSpec(
      num_scalar_prefetch=1,
      grid=(B, H, blocks, blocks),
      in_specs=in_specs,
      out_specs=pl.BlockSpec(
        (None, None, block, C), lambda b, h, i, j, _: (b, h, i, 0)
      ),
      scratch_shapes=[
        pltpu.VMEM((block, _LANES), jnp.float32),
        pltpu.VMEM((block, _LANES), jnp.float32),
        pltpu.VMEM((block, C), jnp.float32),
      ],
    ),
    out_shape=jax.ShapeDtypeStruct((B, H, length, C), value_BxTxKxC.dtype),
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=('parallel', 'parallel', 'parallel', 'arbitrary')
    ),
    interpret=interpret,
    name='tree_attention',
  )(until_BxN, *operands)
  return out_BxHxTxC.swapaxes(1, 2)[:, :T]


def _kernel(
  until_ref, query_ref, key_ref, value_ref, ends_ref, *refs, block, biased, softcap
):
  """One block of queries against one of keys; i and j count them."""
  bias_ref = refs[0] if biased else None
  out_ref, most_ref, total_ref, mixed_ref = refs[biased:]
  b, i, j = pl.program_id(0), pl.program_id(2), pl.program_id(3)

  @pl.when(j == 0)
  def start():
    most_ref[...] = jnp.full_like(most_ref, _MASKED)
    total_ref[...] = jnp.zeros_like(total_ref)
    mixed_ref[...] = jnp.zeros_like(mixed_ref)

  @pl.when((j <= i) & (until_ref[b, j] > i * block))
  def take():
    logits = jax.lax.dot_general(
      query_ref[...],
      key_ref[...],
      (((1,), (1,)), ((), ())),
      precision=_precision(query_ref.dtype),
      preferred_element_type=jnp.float32,
    )
    if softcap is not None:
      logits = softcap * jnp.tanh(logits / softcap)
    if biased:
      logits += bias_ref[...].astype(jnp.float32)
    rows = i * block + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 0)
    columns = j * block + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    visible = (columns <= rows) & (rows < ends_ref[...])
    logits = jnp.where(visible, logits, _MASKED)
    before = most_ref[:, :1]
    most = jnp.maximum(before, logits.max(axis=-1, keepdims=True))
    weights = jnp.where(visible, jnp.exp(logits - most), 0.0)
    decay = jnp.exp(before - most)
    total = total_ref[:, :1] * decay + weights.sum(axis=-1, keepdims=True)
    mixed_ref[...] = mixed_ref[...] * decay + jax.lax.dot_general(
      weights.astype(value_ref.dtype),
      value_ref[...],
      (((1,), (0,)), ((), ())),
      precision=_precision(value_ref.dtype),
      preferred_element_type=jnp.float32,
    )
    most_ref[...] = jnp.broadcast_to(most, most_ref.shape)
    total_ref[...] = jnp.broadcast_to(total, total_ref.shape)

  @pl.when(j == pl.num_programs(3) - 1)
  def finish():
    total = total_ref[:, :1]  # 0 where a query sees nothing
    mixed = mixed_ref[...] / jnp.where(total == 0, 1.0, total)
    out_ref[...] = mixed.astype(out_ref.dtype)


def _precision(dtype) -> jax.lax.Precision | None:
  """Of products: a float32 model is measured in float32."""
  return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None

"""Attention over trees as one TPU kernel: no [T, S] logits, no mask, no dead blocks.

The kernel reads the structure itself, `subtree_end` of attention.Layout, four bytes a
token, and skips blocks in which no query descends from a key. It processes the keys a
block at a time with a running maximum and sum (Dao et al. 2022, arXiv 2205.14135).
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

_MASKED = -1e30
_LANES = 128
"""Width of a TPU's vector registers; sequences are padded to a multiple of it."""

_BLOCK = 512
"""Maximum queries, and maximum keys, of a block."""


def attend(
  query_BxTxHxC: jax.Array,
  key_BxTxKxC: jax.Array,
  value_BxTxKxC: jax.Array,
  *,
  subtree_end_BxT: jax.Array,
  bias_BxHxTxS: jax.Array | None = None,
  scale: float | None = None,
  softcap: float | None = None,
  block: int = _BLOCK,
  interpret: bool = False,
) -> jax.Array:
  """Grouped-query attention of tokens to their ancestors and themselves, [B, T, H, C].

  Args:
    query_BxTxHxC: queries of H heads.
    key_BxTxKxC: keys of K heads; K divides H.
    value_BxTxKxC: values of K heads.
    subtree_end_BxT: int32, one past the last index that descends from the token; 0 on
      padding.
    bias_BxHxTxS: bias added to the logits, or None.
    scale: factor on the queries; None for C**-0.5.
    softcap: bound of the logits, softcap * tanh(logits / softcap); None for no bound.
    block: maximum queries, and maximum keys, of a block.
    interpret: whether to run without a TPU, slowly.
  """
  B, T, H, C = query_BxTxHxC.shape
  G = H // key_BxTxKxC.shape[2]
  scale = float(C**-0.5) if scale is None else scale
  length = -(-T // _LANES) * _LANES
  block = max(n for n in range(_LANES, block + 1, _LANES) if length % n == 0)
  blocks = length // block
  unused = length - T

  def heads_first(x_BxTxHxC):
    padded = jnp.pad(x_BxTxHxC, ((0, 0), (0, unused), (0, 0), (0, 0)))
    return padded.swapaxes(1, 2)

  subtree_end_BxT = jnp.pad(subtree_end_BxT, ((0, 0), (0, unused)))
  until_BxN = subtree_end_BxT.reshape(B, blocks, block).max(-1)
  operands = [
    heads_first(query_BxTxHxC * scale),
    heads_first(key_BxTxKxC),
    heads_first(value_BxTxKxC),
    subtree_end_BxT[:, None],
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
  until_ref,
  query_ref,
  key_ref,
  value_ref,
  subtree_end_ref,
  *refs,
  block,
  biased,
  softcap,
):
  """Attends block i of queries to block j of keys."""
  bias_ref = refs[0] if biased else None
  out_ref, max_ref, total_ref, mixed_ref = refs[biased:]
  b, i, j = pl.program_id(0), pl.program_id(2), pl.program_id(3)

  @pl.when(j == 0)
  def start():
    max_ref[...] = jnp.full_like(max_ref, _MASKED)
    total_ref[...] = jnp.zeros_like(total_ref)
    mixed_ref[...] = jnp.zeros_like(mixed_ref)

  @pl.when((j <= i) & (until_ref[b, j] > i * block))
  def accumulate():
    logits = jax.lax.dot_general(
      query_ref[...],
      key_ref[...],
      (((1,), (1,)), ((), ())),
      precision=_precision(query_ref.dtype),
      preferred_element_type=jnp.float32,
    )
    if softcap is not None:
      logits = softcap * jnp.tanh(logits / softcap)
    if bias_ref is not None:
      logits += bias_ref[...].astype(jnp.float32)
    rows = i * block + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 0)
    columns = j * block + jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    visible = (columns <= rows) & (rows < subtree_end_ref[...])
    logits = jnp.where(visible, logits, _MASKED)
    before = max_ref[:, :1]
    largest = jnp.maximum(before, logits.max(axis=-1, keepdims=True))
    weights = jnp.where(visible, jnp.exp(logits - largest), 0.0)
    decay = jnp.exp(before - largest)
    total = total_ref[:, :1] * decay + weights.sum(axis=-1, keepdims=True)
    mixed_ref[...] = mixed_ref[...] * decay + jax.lax.dot_general(
      weights.astype(value_ref.dtype),
      value_ref[...],
      (((1,), (0,)), ((), ())),
      precision=_precision(value_ref.dtype),
      preferred_element_type=jnp.float32,
    )
    max_ref[...] = jnp.broadcast_to(largest, max_ref.shape)
    total_ref[...] = jnp.broadcast_to(total, total_ref.shape)

  @pl.when(j == pl.num_programs(3) - 1)
  def finish():
    total = total_ref[:, :1]  # 0 if a query sees no key
    mixed = mixed_ref[...] / jnp.where(total == 0, 1.0, total)
    out_ref[...] = mixed.astype(out_ref.dtype)


def _precision(dtype) -> jax.lax.Precision | None:
  """Precision of the products: float32 models need true float32."""
  return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None

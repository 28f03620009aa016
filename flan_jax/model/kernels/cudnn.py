"""Attention for training by cuDNN's kernel on NVIDIA GPUs: no [T, S] logits.

XLA's dense attention writes and reads the float32 logits of every head some ten times a
step. The kernel keeps a block of them on the chip (Dao et al. 2022, arXiv 2205.14135)
and reads only the mask of packed sequences, in bfloat16, shared by all heads.
"""

from typing import Literal

import jax

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError

_MAX_HEAD_DIM = 256
"""Maximum head_dim on Hopper and later; cuDNN takes multiples of 8."""


def check(config: DecoderConfig, *, sequence_length: int, device_kind: str) -> None:
  """Refuses what the kernel cannot compute, before anything is compiled.

  Args:
    config: decoder config.
    sequence_length: L, tokens of a sequence, padding included.
    device_kind: JAX's name of the devices, as 'NVIDIA H100 80GB HBM3'.

  Raises:
    InputError: naming the setting.
  """
  prefix = 'Run.attention_kernel: cudnn'
  if 'NVIDIA' not in device_kind:
    raise InputError(
      f"{prefix} runs on NVIDIA GPUs, these devices are {device_kind!r}; must be 'xla'",
      field='Run.attention_kernel',
    )
  if config.dtype not in ('bfloat16', 'float16'):
    raise InputError(
      f'{prefix} does not support DecoderConfig.dtype={config.dtype!r}; must be '
      'bfloat16',
      field='DecoderConfig.dtype',
    )
  if config.attention_softcap is not None:
    raise InputError(
      f'{prefix} does not support DecoderConfig.attention_softcap='
      f"{config.attention_softcap}; must be None, or the kernel 'xla'",
      field='DecoderConfig.attention_softcap',
    )
  if config.head_dim > _MAX_HEAD_DIM or config.head_dim % 8:
    nearest = min(max(8, round(config.head_dim / 8) * 8), _MAX_HEAD_DIM)
    raise InputError(
      f'DecoderConfig.head_dim: got {config.head_dim}; {prefix} needs a multiple of 8 '
      f'of at most {_MAX_HEAD_DIM}; the nearest is {nearest}',
      field='DecoderConfig.head_dim',
    )
  if sequence_length % 2:
    raise InputError(
      f'SEQUENCE_LENGTH: got {sequence_length:,}; {prefix} needs a multiple of 2; the '
      f'nearest is {sequence_length + 1:,}',
      field='Run.sequence_length',
    )


def attend(
  query_BxTxHxC: jax.Array,
  key_BxSxKxC: jax.Array,
  value_BxSxKxC: jax.Array,
  *,
  mask_BxTxS: jax.Array,
  bias_BxHxTxS: jax.Array | None = None,
  scale: float | None = None,
  causal: bool,
  implementation: Literal['xla', 'cudnn'] = 'cudnn',
) -> jax.Array:
  """Grouped-query attention, [B, T, H, C].

  The output of a query without a visible key is undefined.

  Args:
    query_BxTxHxC: queries of H heads, bfloat16.
    key_BxSxKxC: keys of K heads; K divides H.
    value_BxSxKxC: values of K heads.
    mask_BxTxS: bool, True where a query may attend to a key.
    bias_BxHxTxS: bias added to the logits, in bfloat16, or None. It takes half the
      memory of the float32 logits, which the kernel would save.
    scale: factor on the queries; None for C**-0.5.
    causal: whether no query t sees a key past t, so that these are skipped.
    implementation: passed to jax.nn.dot_product_attention; 'xla' gives the same values
      on any device.
  """
  dtype = query_BxTxHxC.dtype
  bias = None if bias_BxHxTxS is None else bias_BxHxTxS.astype(dtype)
  return jax.nn.dot_product_attention(
    query_BxTxHxC,
    key_BxSxKxC,
    value_BxSxKxC,
    bias=bias,
    mask=mask_BxTxS[:, None],
    scale=scale,
    is_causal=causal,
    implementation=implementation,
  )

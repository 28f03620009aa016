"""Attention of rows to train on as cuDNN's kernel on NVIDIA GPUs: no [T, S] logits.

What XLA makes of dense attention writes and reads the float32 logits of every head some
ten times a step. The kernel keeps a block of them on the chip (Dao et al. 2022, arXiv
2205.14135) and reads only the mask of packed rows, in bfloat16, shared by all heads.
"""

import jax

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError

_MOST_CHANNELS = 256
"""Of a head, on Hopper and later; cuDNN takes multiples of 8."""


def check(config: DecoderConfig, *, sequence_length: int, device_kind: str) -> None:
  """Refuses what the kernel cannot compute, before anything is compiled.

  Args:
    config: of the decoder.
    sequence_length: L, positions of a row.
    device_kind: what JAX calls the devices, as 'NVIDIA H100 80GB HBM3'.

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
      f'{prefix} has no DecoderConfig.dtype={config.dtype!r}; must be bfloat16',
      field='DecoderConfig.dtype',
    )
  if config.attention_softcap is not None:
    raise InputError(
      f'{prefix} has no DecoderConfig.attention_softcap={config.attention_softcap}; '
      "must be None, or the kernel 'xla'",
      field='DecoderConfig.attention_softcap',
    )
  if config.head_dim > _MOST_CHANNELS or config.head_dim % 8:
    nearest = min(max(8, round(config.head_dim / 8) * 8), _MOST_CHANNELS)
    raise InputError(
      f'DecoderConfig.head_dim: got {config.head_dim}; {prefix} needs a multiple of 8 '
      f'of at most {_MOST_CHANNELS}; the nearest is {nearest}',
      field='DecoderConfig.head_dim',
    )
  if sequence_length % 2:
    raise InputError(
      f'SEQUENCE_LENGTH: got {sequence_length:,}; {prefix} needs a multiple of 2; the nearest is '
      f'{sequence_length + 1:,}',
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
  implementation: str = 'cudnn',
) -> jax.Array:
  """Grouped-query attention, [B, T, H, C].

  A query that may attend to nothing gets something, which means nothing.

  Args:
    query_BxTxHxC: H heads, bfloat16.
    key_BxSxKxC: K heads, which divide H.
    value_BxSxKxC: likewise.
    mask_BxTxS: bool, True where a query may attend to a key.
    bias_BxHxTxS: added to the logits in their dtype of bfloat16, or None. It costs the
      memory that the kernel saves, in half the bytes.
    scale: of queries; None: C**-0.5.
    causal: whether no query sees a key past its place, so that these are passed over.
    implementation: of jax.nn.dot_product_attention; 'xla' says the same on any device.
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

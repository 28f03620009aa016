"""The shape of a decoder, and what that shape costs: parameters and FLOPs."""

import dataclasses
from typing import NamedTuple

from flan_jax.errors import InputError, did_you_mean

_WORDS = {
  'activation': ('geglu', 'swiglu'),
  'positions': ('rotary', 't5'),
  'attention': ('causal', 'prefix'),
  'remat': ('none', 'dots', 'full'),
  'dtype': ('float32', 'bfloat16'),
  'param_dtype': ('float32', 'bfloat16'),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """The hyperparameters of a decoder-only language model.

  Attributes:
    vocab_size: rows of the embedding table.
    num_layers: decoder layers.
    d_model: width of the residual stream.
    d_ff: width of the gated feed-forward layer (each of its three matrices).
    num_heads: query heads.
    num_kv_heads: key and value heads, each shared by num_heads / num_kv_heads query
      heads (Ainslie et al. 2023, arXiv 2305.13245).
    head_dim: width of one head; num_heads * head_dim need not be d_model.
    activation: the gate of the feed-forward layer, GELU (tanh form) or SiLU
      (Shazeer 2020, arXiv 2002.05202).
    positions: 'rotary' (Su et al. 2021, arXiv 2104.09864), or 't5': one learned bias
      per head and bucketed distance, shared by all layers (Raffel et al. 2020, 2.1).
    rope_base: longest rotary wavelength / 2 pi, in tokens.
    relative_buckets: buckets of the T5 bias; the first half hold one distance each.
    relative_max_distance: all distances from here on share the last bucket.
    norm_epsilon: added to the mean square in RMSNorm.
    tied_embedding: logits come from the embedding table, the hidden states being
      scaled by d_model**-0.5, as in T5; otherwise from a matrix of their own.
    attention: 'causal', or 'prefix' to let the prefix of an example see itself whole.
    scan_layers: one compiled layer, run num_layers times over stacked parameters; False
      gives every layer its own parameters and code (slower to compile).
    remat: which matrix products the backward pass computes anew: 'none' of them, all
      but the products with weights ('dots'), or all ('full'). Less memory, more time.
    dtype: of activations; norms, softmax and logits are always float32.
    param_dtype: of stored parameters.

  Raises:
    InputError: a field has the wrong type or an illegal value.
  """

  vocab_size: int
  num_layers: int
  d_model: int
  d_ff: int
  num_heads: int
  num_kv_heads: int
  head_dim: int
  activation: str = 'geglu'
  positions: str = 't5'
  rope_base: float = 10_000.0
  relative_buckets: int = 32
  relative_max_distance: int = 128
  norm_epsilon: float = 1e-6
  tied_embedding: bool = True
  attention: str = 'causal'
  scan_layers: bool = True
  remat: str = 'none'
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    for field in dataclasses.fields(self):
      _CHECKS[field.type](field.name, getattr(self, field.name))
    if self.num_heads % self.num_kv_heads:
      divisors = [k for k in range(1, self.num_heads + 1) if self.num_heads % k == 0]
      nearest = min(divisors, key=lambda k: abs(k - self.num_kv_heads))
      raise InputError(
        f'num_kv_heads: got {self.num_kv_heads}; must divide '
        f'num_heads={self.num_heads}; the nearest is {nearest}'
      )
    if self.positions == 'rotary' and self.head_dim % 2:
      raise InputError(
        f'head_dim: got {self.head_dim}; rotary positions turn pairs of channels, so '
        f'it must be even; the nearest is {self.head_dim + 1}'
      )
    if self.positions == 't5':
      if self.relative_buckets < 2 or self.relative_buckets % 2:
        nearest = max(2, self.relative_buckets + 1)
        raise InputError(
          f'relative_buckets: got {self.relative_buckets}; half of them hold one '
          f'distance each, so it must be even; the nearest is {nearest}'
        )
      if self.relative_max_distance <= self.relative_buckets // 2:
        raise InputError(
          f'relative_max_distance: got {self.relative_max_distance}; must exceed half '
          f'of relative_buckets={self.relative_buckets}; the nearest is '
          f'{self.relative_buckets // 2 + 1}'
        )


def _check_integer(name: str, value: object) -> None:
  if not isinstance(value, int) or isinstance(value, bool):
    raise InputError(f'{name}: got {value!r}; must be a whole number, 1 or more')
  if value < 1:
    raise InputError(f'{name}: got {value}; must be 1 or more; the nearest is 1')


def _check_positive(name: str, value: object) -> None:
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or not 0 < value < float('inf'):
    raise InputError(f'{name}: got {value!r}; must be a finite number above 0')


def _check_switch(name: str, value: object) -> None:
  if not isinstance(value, bool):
    raise InputError(f'{name}: got {value!r}; must be True or False')


def _check_word(name: str, value: object) -> None:
  if value not in _WORDS[name]:
    legal = ', '.join(map(repr, _WORDS[name]))
    near = did_you_mean(str(value), _WORDS[name], most=1)
    raise InputError(f'{name}: got {value!r}; must be one of {legal}{near}')


_CHECKS = {
  int: _check_integer,
  float: _check_positive,
  bool: _check_switch,
  str: _check_word,
}


def parameter_count(config: DecoderConfig) -> int:
  """The number of parameters, embedding and norms included."""
  total = config.num_layers * (_layer_products(config) + 2 * config.d_model)
  total += config.d_model  # the final norm
  total += config.vocab_size * config.d_model * (1 if config.tied_embedding else 2)
  if config.positions == 't5':
    total += config.relative_buckets * config.num_heads
  return total


class Flops(NamedTuple):
  """Floating-point operations a token, a multiply-add being two."""

  forward: int
  train: int


def flops_per_token(config: DecoderConfig, length: int) -> Flops:
  """Model FLOPs a token in rows of `length` tokens; recomputation is not counted.

  forward = 2 N + 4 A and train = 6 N + 12 A: the backward pass costs two forward ones
  (Kaplan et al. 2020, arXiv 2001.08361, table 1; Chowdhery et al. 2022, arXiv
  2204.02311, appendix B). N counts every parameter that a token is multiplied by: the
  matrices of all layers and the vocabulary head (tied or not), but not the embedding
  look-up, the norms and the position bias. A = num_layers * length * num_heads *
  head_dim: every query meets every key of its row, since that is what is computed
  where the mask hides half of them.
  """
  products = config.num_layers * _layer_products(config)
  products += config.vocab_size * config.d_model
  attention = config.num_layers * length * config.num_heads * config.head_dim
  forward = 2 * products + 4 * attention
  return Flops(forward=forward, train=3 * forward)


def _layer_products(config: DecoderConfig) -> int:
  """Parameters of one layer's matrices: query, output; key, value; three of d_ff."""
  heads = 2 * config.num_heads + 2 * config.num_kv_heads
  return config.d_model * (heads * config.head_dim + 3 * config.d_ff)

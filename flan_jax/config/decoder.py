"""The shape of a decoder, and what that shape costs: parameters and FLOPs."""

import dataclasses
from typing import NamedTuple

from flan_jax.errors import InputError, did_you_mean

_WORDS = {
  'activation': ('geglu', 'swiglu', 'gelu', 'gelu_exact', 'relu'),
  'positions': ('rotary', 't5', 'learned'),
  'norm': ('rms', 'layer'),
  'attention_bias': ('none', 'qkv', 'all'),
  'rope_scaling': ('none', 'linear', 'llama3'),
  'attention': ('causal', 'prefix'),
  'remat': ('none', 'dots', 'full'),
  'dtype': ('float32', 'bfloat16'),
  'param_dtype': ('float32', 'bfloat16'),
}
GATED = ('geglu', 'swiglu')
"""Activations of a feed-forward layer of three matrices; the others have two."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """The hyperparameters of a decoder-only language model.

  Attributes:
    vocab_size: rows of the embedding table.
    num_layers: decoder layers.
    d_model: width of the residual stream.
    d_ff: width of the feed-forward layer (each of its matrices).
    num_heads: query heads.
    num_kv_heads: key and value heads, each shared by num_heads / num_kv_heads query
      heads (Ainslie et al. 2023, arXiv 2305.13245).
    head_dim: width of one head; num_heads * head_dim need not be d_model.
    activation: 'geglu' and 'swiglu' gate the feed-forward layer, by GELU (tanh form)
      or SiLU (Shazeer 2020, arXiv 2002.05202); 'gelu' (tanh form), 'gelu_exact' and
      'relu' do not, and leave out one of its three matrices.
    positions: 'rotary' (Su et al. 2021, arXiv 2104.09864), 't5': one learned bias per
      head and bucketed distance, shared by all layers (Raffel et al. 2020, 2.1), or
      'learned': a vector per position, added to the embedding of the token.
    rope_base: longest rotary wavelength / 2 pi, in tokens.
    rope_local_base: the same for local layers; None: rope_base.
    rotary_fraction: the share of a head's channels, from the first on, that turns.
    rope_scaling: 'linear' divides every angle of global layers by rope_factor (Chen et
      al. 2023, arXiv 2306.15595); 'llama3' only those of wavelengths that do not fit
      rope_original_length (Llama 3.1; Grattafiori et al. 2024, arXiv 2407.21783).
    rope_factor: by how much positions are drawn together.
    rope_low_factor: llama3: wavelengths above rope_original_length / this are scaled.
    rope_high_factor: llama3: those below rope_original_length / this are left alone.
    rope_original_length: llama3: tokens of a row before the scaling.
    relative_buckets: buckets of the T5 bias; the first half hold one distance each.
    relative_max_distance: all distances from here on share the last bucket.
    max_positions: rows of the table of learned positions (a position past it makes its
      row NaN); with rotary ones, the longest row it was trained on, for the record.
    position_offset: the row of position 0 in that table (2 in OPT).
    norm: 'rms' (Zhang and Sennrich 2019, arXiv 1910.07467), or 'layer', which also
      subtracts the mean and adds a bias (Ba et al. 2016, arXiv 1607.06450).
    norm_epsilon: added to the mean square, or to the variance.
    norm_plus_one: a norm multiplies by 1 + its scale (Gemma).
    qk_norm: queries and keys of each head are normed before they turn.
    post_norms: what a layer adds is normed before it is added (Gemma 2).
    parallel_residual: both halves of a layer read its input (GPT-J, GPT-NeoX).
    attention_bias: which projections add a bias: none, 'qkv', or 'all', output too.
    mlp_bias: whether those of the feed-forward layer do.
    layer_pattern: 'G' and 'L', repeated over the layers: a global layer sees the whole
      row, a local one the last `window` tokens.
    window: tokens that a local layer sees, the one that asks included.
    query_scale: of queries; None: head_dim**-0.5.
    attention_softcap: attention logits pass cap * tanh(logits / cap) (Gemma 2).
    logit_softcap: so do the model's logits.
    tied_embedding: logits come from the embedding table; otherwise from a matrix of
      their own.
    scaled_head: hidden states are scaled by d_model**-0.5 before a tied table, as in
      T5.
    scaled_embedding: embeddings of tokens are scaled by d_model**0.5 (Gemma).
    attention: 'causal', or 'prefix' to let the prefix of an example see itself whole.
    scan_layers: one compiled layer, run num_layers times over stacked parameters; False
      gives every layer its own parameters and code (slower to compile).
    remat: which matrix products the backward pass computes anew: 'none' of them, all
      but the products with weights ('dots'), or all ('full'). Less memory, more time.
    dtype: of activations; norms, softmax and logits are always float32.
    param_dtype: of stored parameters; training adds to 'bfloat16' ones by stochastic
      rounding, so that small steps are not lost.

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
  rope_local_base: float | None = None
  rotary_fraction: float = 1.0
  rope_scaling: str = 'none'
  rope_factor: float = 1.0
  rope_low_factor: float = 1.0
  rope_high_factor: float = 4.0
  rope_original_length: int = 8192
  relative_buckets: int = 32
  relative_max_distance: int = 128
  max_positions: int = 2048
  position_offset: int = 0
  norm: str = 'rms'
  norm_epsilon: float = 1e-6
  norm_plus_one: bool = False
  qk_norm: bool = False
  post_norms: bool = False
  parallel_residual: bool = False
  attention_bias: str = 'none'
  mlp_bias: bool = False
  layer_pattern: str = 'G'
  window: int | None = None
  query_scale: float | None = None
  attention_softcap: float | None = None
  logit_softcap: float | None = None
  tied_embedding: bool = True
  scaled_head: bool = True
  scaled_embedding: bool = False
  attention: str = 'causal'
  scan_layers: bool = True
  remat: str = 'none'
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    for field in dataclasses.fields(self):
      check = _CHECKS.get(field.name) or _CHECKS_BY_TYPE[field.type]
      check(field.name, getattr(self, field.name))
    if self.num_heads % self.num_kv_heads:
      divisors = [k for k in range(1, self.num_heads + 1) if self.num_heads % k == 0]
      nearest = min(divisors, key=lambda k: abs(k - self.num_kv_heads))
      raise InputError(
        f'num_kv_heads: got {self.num_kv_heads}; must divide '
        f'num_heads={self.num_heads}; the nearest is {nearest}',
        field='num_kv_heads',
      )
    if self.positions == 'rotary' and self.head_dim % 2:
      raise InputError(
        f'head_dim: got {self.head_dim}; rotary positions turn pairs of channels, so '
        f'it must be even; the nearest is {self.head_dim + 1}',
        field='head_dim',
      )
    if self.positions == 'rotary' and (self.rotary_dims % 2 or not self.rotary_dims):
      nearest = max(2, self.rotary_dims + 1) / self.head_dim
      raise InputError(
        f'rotary_fraction: got {self.rotary_fraction}, {self.rotary_dims} of '
        f'{self.head_dim} channels; must turn pairs of them; the nearest is {nearest}',
        field='rotary_fraction',
      )
    if 'L' in self.layer_pattern and self.window is None:
      raise InputError(
        f'window: got None; layer_pattern {self.layer_pattern!r} has local layers, so '
        'it must be a whole number, 1 or more',
        field='layer_pattern',
      )
    if self.positions == 'learned' and self.position_offset >= self.max_positions:
      raise InputError(
        f'position_offset: got {self.position_offset}; must be below '
        f'max_positions={self.max_positions}; the nearest is {self.max_positions - 1}',
        field='position_offset',
      )
    if self.positions == 't5':
      if self.relative_buckets < 2 or self.relative_buckets % 2:
        nearest = max(2, self.relative_buckets + 1)
        raise InputError(
          f'relative_buckets: got {self.relative_buckets}; half of them hold one '
          f'distance each, so it must be even; the nearest is {nearest}',
          field='relative_buckets',
        )
      if self.relative_max_distance <= self.relative_buckets // 2:
        raise InputError(
          f'relative_max_distance: got {self.relative_max_distance}; must exceed half '
          f'of relative_buckets={self.relative_buckets}; the nearest is '
          f'{self.relative_buckets // 2 + 1}',
          field='relative_max_distance',
        )

  @property
  def gated(self) -> bool:
    """Whether the feed-forward layer has a gate."""
    return self.activation in GATED

  @property
  def rotary_dims(self) -> int:
    """Channels of a head that turn."""
    return int(self.head_dim * self.rotary_fraction)

  @property
  def longest(self) -> int | None:
    """Most tokens of a row: learned positions end somewhere; None: they do not."""
    if self.positions != 'learned':
      return None
    return self.max_positions - self.position_offset

  @property
  def context(self) -> int | None:
    """Most positions of a sequence that it was made for; None where any will do."""
    return None if self.positions == 't5' else self.max_positions - self.position_offset

  @property
  def local_layers(self) -> tuple[bool, ...]:
    """For each layer, whether it sees its window only."""
    pattern = self.layer_pattern
    return tuple(pattern[i % len(pattern)] == 'L' for i in range(self.num_layers))


def _check_integer(name: str, value: object) -> None:
  if not isinstance(value, int) or isinstance(value, bool):
    message = f'{name}: got {value!r}; must be a whole number, 1 or more'
    raise InputError(message, field=name)
  if value < 1:
    message = f'{name}: got {value}; must be 1 or more; the nearest is 1'
    raise InputError(message, field=name)


def _check_positive(name: str, value: object) -> None:
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not number or not 0 < value < float('inf'):
    message = f'{name}: got {value!r}; must be a finite number above 0'
    raise InputError(message, field=name)


def _check_switch(name: str, value: object) -> None:
  if not isinstance(value, bool):
    raise InputError(f'{name}: got {value!r}; must be True or False', field=name)


def _check_word(name: str, value: object) -> None:
  if value not in _WORDS[name]:
    legal = ', '.join(map(repr, _WORDS[name]))
    near = did_you_mean(str(value), _WORDS[name], most=1)
    message = f'{name}: got {value!r}; must be one of {legal}{near}'
    raise InputError(message, field=name)


def _check_offset(name: str, value: object) -> None:
  if value != 0 or isinstance(value, bool):
    _check_integer(name, value)


def _check_fraction(name: str, value: object) -> None:
  _check_positive(name, value)
  if value > 1:
    message = f'{name}: got {value}; must be at most 1; the nearest is 1'
    raise InputError(message, field=name)


def _check_pattern(name: str, value: object) -> None:
  if not isinstance(value, str) or not value or set(value) - {'G', 'L'}:
    raise InputError(
      f"{name}: got {value!r}; must be letters 'G' (global) and 'L' (local), as "
      "'LLLLLG'",
      field=name,
    )


def _or_none(check):
  def checked(name: str, value: object) -> None:
    if value is not None:
      check(name, value)

  return checked


_CHECKS = {
  'position_offset': _check_offset,
  'rotary_fraction': _check_fraction,
  'layer_pattern': _check_pattern,
}
_CHECKS_BY_TYPE = {
  int: _check_integer,
  float: _check_positive,
  bool: _check_switch,
  str: _check_word,
  int | None: _or_none(_check_integer),
  float | None: _or_none(_check_positive),
}


def parameter_count(config: DecoderConfig) -> int:
  """The number of parameters, embedding and norms included."""
  D, C = config.d_model, config.head_dim
  norm = D if config.norm == 'rms' else 2 * D
  layer = _layer_products(config) + norm * (4 if config.post_norms else 2)
  layer += 2 * C if config.qk_norm else 0
  if config.attention_bias != 'none':
    layer += (config.num_heads + 2 * config.num_kv_heads) * C
    layer += D if config.attention_bias == 'all' else 0
  if config.mlp_bias:
    layer += (2 if config.gated else 1) * config.d_ff + D
  total = config.num_layers * layer + norm
  total += config.vocab_size * D * (1 if config.tied_embedding else 2)
  if config.positions == 't5':
    total += config.relative_buckets * config.num_heads
  if config.positions == 'learned':
    total += config.max_positions * D
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
  """Parameters of a layer's matrices: query, output; key, value; those of d_ff."""
  heads = 2 * config.num_heads + 2 * config.num_kv_heads
  wide = 3 if config.gated else 2
  return config.d_model * (heads * config.head_dim + wide * config.d_ff)

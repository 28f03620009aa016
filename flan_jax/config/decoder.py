"""The architecture of a decoder, and its cost: parameters and FLOPs."""

import dataclasses
from typing import NamedTuple

from flan_jax.config.checks import (
  between,
  fraction,
  nearest_divisor,
  one_of,
  or_none,
  positive,
  switch,
  whole,
  whole_or_zero,
)
from flan_jax.config.setting import check_fields, refusal, setting
from flan_jax.errors import InputError

GATED = ('geglu', 'swiglu')
"""Activations with a gate: their feed-forward layer has three matrices, not two."""


MAX_LAYERS = 10_000
"""Maximum number of layers, of which some settings are listed one by one."""


def _size(value: object) -> str:
  return whole(value) or between(1, 2**31 - 1)(value)


def _layers(value: object) -> str:
  return whole(value) or between(1, MAX_LAYERS)(value)


def _pattern(value: object) -> str:
  if isinstance(value, str) and value and not set(value) - {'G', 'L'}:
    return ''
  return "must be letters 'G' (global) and 'L' (local), as 'LLLLLG'"


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
    rotary_fraction: share of a head's channels, from the first on, that is rotated.
    rope_scaling: 'linear' divides every angle of global layers by rope_factor (Chen et
      al. 2023, arXiv 2306.15595); 'llama3' only those of wavelengths that do not fit
      rope_original_length (Llama 3.1; Grattafiori et al. 2024, arXiv 2407.21783).
    rope_factor: ratio of the extended context to the original one.
    rope_low_factor: llama3: wavelengths above rope_original_length / this are scaled.
    rope_high_factor: llama3: those below rope_original_length / this are not scaled.
    rope_original_length: llama3: context length in tokens before the scaling.
    relative_buckets: buckets of the T5 bias; the first half hold one distance each.
    relative_max_distance: distances from this one on share the last bucket.
    max_positions: rows of the table of learned positions (a position past it makes its
      sequence NaN); with rotary positions, the context length of pretraining.
    position_offset: the row of position 0 in that table (2 in OPT).
    norm: 'rms' (Zhang and Sennrich 2019, arXiv 1910.07467), or 'layer', which also
      subtracts the mean and adds a bias (Ba et al. 2016, arXiv 1607.06450).
    norm_epsilon: added to the mean square, or to the variance.
    norm_plus_one: a norm multiplies by 1 + its scale (Gemma).
    qk_norm: normalize queries and keys before rotary positions.
    qk_norm_width: channels that qk_norm normalizes together: 'head', those of one head
      (Qwen 3), or 'projection', those of all query heads, or of all key heads (OLMo 2).
    pre_norms: normalize the input of attention and feed-forward layer.
    post_norms: normalize the output of attention and feed-forward layer before it is
      added to the residual stream (Gemma 2; OLMo 2, without pre_norms).
    parallel_residual: attention and feed-forward layer share their input (GPT-J,
      GPT-NeoX).
    attention_bias: projections with a bias: 'none', 'qkv', or 'all' (output too).
    mlp_bias: the feed-forward layer's projections have a bias.
    layer_pattern: 'G' and 'L', repeated over the layers: a global layer attends to the
      whole sequence, a local one to the last `window` tokens.
    window: tokens that a local layer attends to, the query's own included.
    query_scale: scale of the queries; None: head_dim**-0.5.
    attention_softcap: attention logits pass cap * tanh(logits / cap) (Gemma 2).
    logit_softcap: the same for the model's logits.
    tied_embedding: logits come from the embedding table, not from a separate matrix.
    scaled_head: hidden states are scaled by d_model**-0.5 before a tied table, as in
      T5.
    scaled_embedding: embeddings of tokens are scaled by d_model**0.5 (Gemma).
    attention: 'causal', or 'prefix': bidirectional over the prefix of an example.
    scan_layers: compile one layer and scan it over stacked parameters; False unrolls
      the layers, each with its own parameters and code (slower to compile).
    remat: matrix products that the backward pass recomputes: 'none', 'dots' (all but
      products with weights) or 'full'. The last two save memory and cost time.
    dtype: dtype of activations; norms, softmax and logits are always float32.
    param_dtype: dtype of stored parameters; training updates 'bfloat16' ones by
      stochastic rounding, so that small steps are not lost.

  Raises:
    InputError: a field has the wrong type or an illegal value.
  """

  vocab_size: int = setting(rule=_size)
  num_layers: int = setting(rule=_layers)
  d_model: int = setting(rule=_size)
  d_ff: int = setting(rule=_size)
  num_heads: int = setting(rule=_size)
  num_kv_heads: int = setting(rule=_size)
  head_dim: int = setting(rule=_size)
  activation: str = setting(
    'geglu', rule=one_of('geglu', 'swiglu', 'gelu', 'gelu_exact', 'relu')
  )
  positions: str = setting('t5', rule=one_of('rotary', 't5', 'learned'))
  rope_base: float = setting(10_000.0, rule=positive)
  rope_local_base: float | None = setting(None, rule=or_none(positive))
  rotary_fraction: float = setting(1.0, rule=fraction)
  rope_scaling: str = setting('none', rule=one_of('none', 'linear', 'llama3'))
  rope_factor: float = setting(1.0, rule=positive)
  rope_low_factor: float = setting(1.0, rule=positive)
  rope_high_factor: float = setting(4.0, rule=positive)
  rope_original_length: int = setting(8192, rule=_size)
  relative_buckets: int = setting(32, rule=_size)
  relative_max_distance: int = setting(128, rule=_size)
  max_positions: int = setting(2048, rule=_size)
  position_offset: int = setting(0, rule=whole_or_zero)
  norm: str = setting('rms', rule=one_of('rms', 'layer'))
  norm_epsilon: float = setting(1e-6, rule=positive)
  norm_plus_one: bool = setting(False, rule=switch)
  qk_norm: bool = setting(False, rule=switch)
  qk_norm_width: str = setting('head', rule=one_of('head', 'projection'))
  pre_norms: bool = setting(True, rule=switch)
  post_norms: bool = setting(False, rule=switch)
  parallel_residual: bool = setting(False, rule=switch)
  attention_bias: str = setting('none', rule=one_of('none', 'qkv', 'all'))
  mlp_bias: bool = setting(False, rule=switch)
  layer_pattern: str = setting('G', rule=_pattern)
  window: int | None = setting(None, rule=or_none(_size))
  query_scale: float | None = setting(None, rule=or_none(positive))
  attention_softcap: float | None = setting(None, rule=or_none(positive))
  logit_softcap: float | None = setting(None, rule=or_none(positive))
  tied_embedding: bool = setting(True, rule=switch)
  scaled_head: bool = setting(True, rule=switch)
  scaled_embedding: bool = setting(False, rule=switch)
  attention: str = setting('causal', rule=one_of('causal', 'prefix'))
  scan_layers: bool = setting(True, rule=switch)
  remat: str = setting('none', macro='REMAT', rule=one_of('none', 'dots', 'full'))
  dtype: str = setting('float32', rule=one_of('float32', 'bfloat16'))
  param_dtype: str = setting('float32', rule=one_of('float32', 'bfloat16'))

  def __post_init__(self):
    check_fields(self)
    if self.num_heads % self.num_kv_heads:
      nearest = nearest_divisor(self.num_heads, self.num_kv_heads)
      raise refusal(
        self,
        'num_kv_heads',
        f'must divide num_heads={self.num_heads}; the nearest is {nearest}',
      )
    if self.positions == 'rotary':
      self._check_rotary()
    if not self.pre_norms and not self.post_norms:
      raise refusal(
        self,
        'pre_norms',
        'a layer must normalize its input or its output: must be True, or post_norms '
        'must be True',
      )
    if self.qk_norm_width != 'head' and not self.qk_norm:
      raise refusal(
        self, 'qk_norm_width', "has no effect without qk_norm: must be 'head'"
      )
    if 'L' in self.layer_pattern and self.window is None:
      raise InputError(
        f'window: got None; layer_pattern {self.layer_pattern!r} has local layers, so '
        'it must be a whole number, 1 or more',
        field='DecoderConfig.layer_pattern',
      )
    if self.positions == 'learned' and self.position_offset >= self.max_positions:
      raise refusal(
        self,
        'position_offset',
        f'must be below max_positions={self.max_positions}; the nearest is '
        f'{self.max_positions - 1}',
      )
    if self.positions == 't5':
      self._check_buckets()

  def _check_rotary(self) -> None:
    if self.head_dim % 2:
      raise refusal(
        self,
        'head_dim',
        'rotary positions turn pairs of channels, so it must be even; the nearest is '
        f'{self.head_dim + 1}',
      )
    if self.rotary_dims % 2 or not self.rotary_dims:
      nearest = max(2, self.rotary_dims + 1) / self.head_dim
      raise refusal(
        self,
        'rotary_fraction',
        f'must turn pairs of channels; the nearest is {nearest}',
        got=f'{self.rotary_fraction}, {self.rotary_dims} of {self.head_dim} channels',
      )

  def _check_buckets(self) -> None:
    if self.relative_buckets < 2 or self.relative_buckets % 2:
      nearest = max(2, self.relative_buckets + 1)
      raise refusal(
        self,
        'relative_buckets',
        'half of them hold one distance each, so it must be even; the nearest is '
        f'{nearest}',
      )
    if self.relative_max_distance <= self.relative_buckets // 2:
      raise refusal(
        self,
        'relative_max_distance',
        f'must exceed half of relative_buckets={self.relative_buckets}; the nearest is '
        f'{self.relative_buckets // 2 + 1}',
      )

  @property
  def gated(self) -> bool:
    """True if the feed-forward layer has a gate."""
    return self.activation in GATED

  @property
  def rotary_dims(self) -> int:
    """Channels of a head that rotary positions rotate."""
    return int(self.head_dim * self.rotary_fraction)

  @property
  def longest(self) -> int | None:
    """Maximum sequence length, which learned positions bound; None if unbounded."""
    if self.positions != 'learned':
      return None
    return self.max_positions - self.position_offset

  @property
  def context(self) -> int | None:
    """Context length of pretraining, in tokens; None if any length will do."""
    return None if self.positions == 't5' else self.max_positions - self.position_offset

  @property
  def local_layers(self) -> tuple[bool, ...]:
    """True for each layer that is local."""
    pattern = self.layer_pattern
    return tuple(pattern[i % len(pattern)] == 'L' for i in range(self.num_layers))


def parameter_count(config: DecoderConfig) -> int:
  """The number of parameters, embedding and norms included."""
  D, C = config.d_model, config.head_dim
  vectors = 1 if config.norm == 'rms' else 2
  norm = vectors * D
  layer = _layer_products(config)
  layer += norm * 2 * (config.pre_norms + config.post_norms)
  if config.qk_norm:
    whole = config.qk_norm_width == 'projection'
    layer += vectors * C * (config.num_heads + config.num_kv_heads if whole else 2)
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
  """Floating-point operations per token; a multiply-add counts as two."""

  forward: int
  train: int


def flops_per_token(config: DecoderConfig, length: int) -> Flops:
  """Model FLOPs per token at sequence length `length`, without recomputation.

  forward = 2 N + 4 A and train = 6 N + 12 A: the backward pass costs two forward ones
  (Kaplan et al. 2020, arXiv 2001.08361, table 1; Chowdhery et al. 2022, arXiv
  2204.02311, appendix B). N counts every parameter that a token is multiplied by: the
  matrices of all layers and the vocabulary head (tied or not), but not the embedding
  look-up, the norms and the position bias. A = num_layers * length * num_heads *
  head_dim: every query meets every key of its sequence, since masked products are
  computed too.
  """
  products = config.num_layers * _layer_products(config)
  products += config.vocab_size * config.d_model
  attention = config.num_layers * length * config.num_heads * config.head_dim
  forward = 2 * products + 4 * attention
  return Flops(forward=forward, train=3 * forward)


def _layer_products(config: DecoderConfig) -> int:
  """Parameters of a layer's matrices: attention and feed-forward layer."""
  heads = 2 * config.num_heads + 2 * config.num_kv_heads
  wide = 3 if config.gated else 2
  return config.d_model * (heads * config.head_dim + wide * config.d_ff)

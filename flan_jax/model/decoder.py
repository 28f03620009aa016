"""The decoder-only language model: a thin flax.linen layer over pure functions."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from flan_jax.errors import InputError
from flan_jax.model import attention, tree_attention
from flan_jax.model import cache as cache_lib
from flan_jax.model.cache import Cache
from flan_jax.model.config import DecoderConfig

_GATES = {
  'geglu': functools.partial(jax.nn.gelu, approximate=True),
  'swiglu': jax.nn.silu,
}
_SAVED = {
  'none': jax.checkpoint_policies.dots_saveable,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
}
_TRUNCATED_STDDEV = 0.8796  # of a standard normal cut at two standard deviations


class Decoder(nn.Module):
  """A decoder-only language model.

  Parameters, boxed with their logical axis names: `embedding` [V, D]; `layers`, every
  leaf stacked on a leading axis (or `layers_0`, `layers_1`, ... where
  config.scan_layers is False); `final_norm` [D]; `head` [D, V] if the embedding is not
  tied; `relative_bias` [R, H], of R buckets, if positions are T5's.
  """

  config: DecoderConfig

  def setup(self):
    config = self.config
    V, D = config.vocab_size, config.d_model
    # As input the table wants variance 1, as output 1 / D. Tied, it gets the mean of
    # the two: from 1 / D the logits take long to grow, from 1 a token predicts itself.
    fan_in = D**0.5 if config.tied_embedding else 1
    axes = ('vocab', 'embed')
    self.embedding = _matrix(self, 'embedding', (V, D), axes, fan_in=fan_in)
    self.final_norm = _scale(self, 'final_norm', D)
    if not config.tied_embedding:
      self.head_kernel = _matrix(self, 'head', (D, V), ('embed', 'vocab'), fan_in=D)
    if config.positions == 't5':
      R, H = config.relative_buckets, config.num_heads
      axes = ('relpos_buckets', 'heads')
      self.relative_bias = _matrix(self, 'relative_bias', (R, H), axes, fan_in=R)
    layer = Layer
    if config.scan_layers or config.remat != 'none':
      # Even 'none' has a policy under a scan: without one, all that a layer computes is
      # stacked over the layers, and moving that costs more than a second GELU.
      layer = nn.remat(
        layer, policy=_SAVED[config.remat], prevent_cse=not config.scan_layers
      )
    if config.scan_layers:
      self.layers = nn.scan(
        layer,
        length=config.num_layers,
        variable_axes={'params': 0},
        split_rngs={'params': True},
        in_axes=(0, nn.broadcast),
        metadata_params={nn.PARTITION_NAME: 'layers'},
      )(config)
    else:
      self.layers = [layer(config) for _ in range(config.num_layers)]

  def __call__(
    self,
    tokens_BxL: jax.Array,
    *,
    positions_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    prefix_BxL: jax.Array | None = None,
    cache: Cache | None = None,
  ) -> jax.Array | tuple[jax.Array, Cache]:
    """Returns logits, float32 [B, L, V]: of the token that follows each token.

    Args:
      tokens_BxL: int32, below vocab_size.
      positions_BxL: int32, restarting at 0 with each example.
      segment_ids_BxL: int32, 1.. per example of the row, 0 for padding. Padding is
        never attended to, and its own logits mean nothing.
      prefix_BxL: bool, True on tokens that see each other both ways; only where
        config.attention is 'prefix'. None: no token does.
      cache: what was read before; then the return value is (logits, new cache). A row
        of a cache is one example. A prefix must be read in one call.

    Raises:
      InputError: a prefix is given to a causal model, or a cache is too short.
    """
    hidden = self.hidden(
      tokens_BxL,
      positions_BxL=positions_BxL,
      segment_ids_BxL=segment_ids_BxL,
      prefix_BxL=prefix_BxL,
      cache=cache,
    )
    if cache is None:
      return self.head(hidden)
    hidden_BxLxD, cache = hidden
    return self.head(hidden_BxLxD), cache

  def hidden(
    self,
    tokens_BxL: jax.Array,
    *,
    positions_BxL: jax.Array,
    segment_ids_BxL: jax.Array,
    prefix_BxL: jax.Array | None = None,
    ends_BxL: jax.Array | None = None,
    tree_kernel: bool = False,
    cache: Cache | None = None,
  ) -> jax.Array | tuple[jax.Array, Cache]:
    """The normed states [B, L, D] that `head` turns into logits, in config.dtype.

    Arguments, the cache in the return value, and errors are those of `__call__`. Where
    segments are trees, ends_BxL says which tokens descend from each (attention.Layout);
    only without a cache. With tree_kernel, attention over them is one TPU kernel
    (tree_attention); there must be one device, then, and no prefix.
    """
    config = self.config
    if prefix_BxL is not None and config.attention != 'prefix':
      raise InputError(
        f'prefix_BxL: got a mask, but config.attention is {config.attention!r}; must '
        "be None, or config.attention 'prefix'"
      )
    query = attention.Layout(positions_BxL, segment_ids_BxL, prefix_BxL, ends_BxL)
    key, slots_BxL = query, None
    if cache is not None:
      cache, slots_BxL = cache_lib.reserve(cache, query)
      key = cache_lib.layout(cache, new=query, slots_BxL=slots_BxL)
      query = query._replace(segment_ids=jnp.minimum(segment_ids_BxL, 1))
    shared = Shared(
      mask_BxLxS=attention.attention_mask(query, key),
      slots_BxL=slots_BxL,
      angles_BxLxc=self._angles(query),
      bias_BxHxLxS=self._bias(query, key),
      ends_BxL=ends_BxL if tree_kernel else None,
    )
    hidden_BxLxD = jnp.take(self.embedding, tokens_BxL, axis=0)
    carry = (_constrain(hidden_BxLxD, 'activation_embed'), cache)
    if config.scan_layers:
      carry, _ = self.layers(carry, jnp.arange(config.num_layers), shared)
    else:
      for index, layer in enumerate(self.layers):
        carry, _ = layer(carry, index, shared)
    hidden_BxLxD, cache = carry
    hidden_BxLxD = rms_norm(hidden_BxLxD, self.final_norm, epsilon=config.norm_epsilon)
    return hidden_BxLxD if cache is None else (hidden_BxLxD, cache)

  def head(self, hidden_BxLxD: jax.Array) -> jax.Array:
    """Logits, float32 [B, L, V], of normed states; L may be any part of a row."""
    config = self.config
    if config.tied_embedding:
      hidden_BxLxD = hidden_BxLxD * config.d_model**-0.5
      kernel_DxV = self.embedding.T
    else:
      kernel_DxV = self.head_kernel
    logits_BxLxV = jnp.einsum(
      'BLD,DV->BLV', hidden_BxLxD, kernel_DxV, preferred_element_type=jnp.float32
    )
    return _constrain(logits_BxLxV, 'activation_vocab')

  def _angles(self, query: attention.Layout) -> jax.Array | None:
    config = self.config
    if config.positions != 'rotary':
      return None
    return attention.rotary_angles(
      query.positions, head_dim=config.head_dim, base=config.rope_base
    )

  def _bias(self, query: attention.Layout, key: attention.Layout) -> jax.Array | None:
    config = self.config
    if config.positions != 't5':
      return None
    return attention.relative_bias(
      self.relative_bias,
      query_positions_BxT=query.positions,
      key_positions_BxS=key.positions,
      max_distance=config.relative_max_distance,
    )


class Shared(NamedTuple):
  """What one reading of a batch tells every layer alike.

  Attributes:
    mask_BxLxS: bool, True where a token may attend to a key.
    slots_BxL: the cache slot of each token, or None without a cache.
    angles_BxLxc: rotary angles, or None.
    bias_BxHxLxS: T5 position bias, or None.
    ends_BxL: of trees that the kernel attends over, or None.
  """

  mask_BxLxS: jax.Array
  slots_BxL: jax.Array | None
  angles_BxLxc: jax.Array | None
  bias_BxHxLxS: jax.Array | None
  ends_BxL: jax.Array | None = None


class Layer(nn.Module):
  """Attention, then a gated feed-forward layer; each reads a norm and adds its result.

  The carry is (hidden_BxLxD, cache or None); the cache travels whole, so that a layer
  writes its new keys and values in place.
  """

  config: DecoderConfig

  @nn.compact
  def __call__(self, carry, layer: jax.Array | int, shared: Shared):
    hidden_BxLxD, cache = carry
    config = self.config
    D = config.d_model
    norm = functools.partial(rms_norm, epsilon=config.norm_epsilon)
    x_BxLxD = norm(hidden_BxLxD, _scale(self, 'attention_norm', D))
    mixed_BxLxD, cache = self._attend(x_BxLxD, cache, layer, shared)
    hidden_BxLxD = _constrain(hidden_BxLxD + mixed_BxLxD, 'activation_embed')
    x_BxLxD = norm(hidden_BxLxD, _scale(self, 'mlp_norm', D))
    hidden_BxLxD = hidden_BxLxD + self._feed_forward(x_BxLxD)
    return (_constrain(hidden_BxLxD, 'activation_embed'), cache), None

  def _attend(self, x_BxLxD, cache, layer, shared):
    config = self.config
    D, C = config.d_model, config.head_dim
    H, K = config.num_heads, config.num_kv_heads

    def project(name, heads, axis):
      axes = ('embed', axis, 'kv')
      kernel = _matrix(self, name, (D, heads, C), axes, fan_in=D)
      return jnp.einsum('BLD,DHC->BLHC', x_BxLxD, kernel)

    query_BxLxHxC = _constrain(project('query', H, 'heads'), 'activation_heads', None)
    key_BxSxKxC = project('key', K, 'kv_heads')
    value_BxSxKxC = project('value', K, 'kv_heads')
    if shared.angles_BxLxc is not None:
      query_BxLxHxC = attention.rotate(query_BxLxHxC, shared.angles_BxLxc)
      key_BxSxKxC = attention.rotate(key_BxSxKxC, shared.angles_BxLxc)
    if cache is not None:
      cache = cache_lib.write(
        cache, key_BxSxKxC, value_BxSxKxC, layer=layer, slots_BxL=shared.slots_BxL
      )
      key_BxSxKxC, value_BxSxKxC = cache.keys[layer], cache.values[layer]
    attend = attention.dot_product_attention
    if shared.ends_BxL is not None:
      attend = functools.partial(tree_attention.attend, ends_BxT=shared.ends_BxL)
    mixed_BxLxHxC = attend(
      query_BxLxHxC,
      key_BxSxKxC,
      value_BxSxKxC,
      mask_BxTxS=shared.mask_BxLxS,
      bias_BxHxTxS=shared.bias_BxHxLxS,
    )
    axes = ('heads', 'kv', 'embed')
    output_HxCxD = _matrix(self, 'output', (H, C, D), axes, fan_in=H * C)
    return jnp.einsum('BLHC,HCD->BLD', mixed_BxLxHxC, output_HxCxD), cache

  def _feed_forward(self, x_BxLxD):
    D, F = self.config.d_model, self.config.d_ff
    gate_DxF = _matrix(self, 'gate', (D, F), ('embed', 'mlp'), fan_in=D)
    up_DxF = _matrix(self, 'up', (D, F), ('embed', 'mlp'), fan_in=D)
    down_FxD = _matrix(self, 'down', (F, D), ('mlp', 'embed'), fan_in=F)
    gate = _GATES[self.config.activation]
    gated_BxLxF = gate(x_BxLxD @ gate_DxF) * (x_BxLxD @ up_DxF)
    return _constrain(gated_BxLxF, 'activation_mlp') @ down_FxD


def rms_norm(x_BxLxD: jax.Array, scale_D: jax.Array, *, epsilon: float) -> jax.Array:
  """Root-mean-square norm (Zhang and Sennrich 2019, arXiv 1910.07467) in float32."""
  x = x_BxLxD.astype(jnp.float32)
  x *= jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
  return (x * scale_D[None, None]).astype(x_BxLxD.dtype)


def _constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Shards an activation [B, L, ...] by logical axes; does nothing without a mesh."""
  return nn.with_logical_constraint(
    x, ('activation_batch', 'activation_length', *names)
  )


def _matrix(module, name, shape, axes, *, fan_in):
  """A parameter in config.dtype, drawn from a normal cut at two standard deviations.

  Its variance of 1 / fan_in keeps activations of order one, so that training starts
  near the loss of a uniform guess, ln(vocab_size).
  """
  stddev = fan_in**-0.5 / _TRUNCATED_STDDEV
  init = nn.with_logical_partitioning(nn.initializers.truncated_normal(stddev), axes)
  matrix = module.param(name, init, shape, module.config.param_dtype)
  return matrix.astype(module.config.dtype)


def _scale(module, name, size):
  """The scale of a norm."""
  init = nn.with_logical_partitioning(nn.initializers.ones, ('norm',))
  return module.param(name, init, (size,), module.config.param_dtype)

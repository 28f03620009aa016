"""The decoder-only language model: a thin flax.linen layer over pure functions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model import attention, attention_dispatch, kv_cache
from flan_jax.model.kernels import cpu
from flan_jax.model.kv_cache import Cache

_ACTIVATIONS = {
  'geglu': functools.partial(jax.nn.gelu, approximate=True),
  'swiglu': jax.nn.silu,
  'gelu': functools.partial(jax.nn.gelu, approximate=True),
  'gelu_exact': functools.partial(jax.nn.gelu, approximate=False),
  'relu': jax.nn.relu,
}


def _and_attention(policy):
  """Also saves what cuDNN's kernel returns, which is as small as the queries."""

  def saved(primitive, *arguments, **parameters):
    fused = primitive.name.startswith('dot_product_attention')
    return fused or policy(primitive, *arguments, **parameters)

  return saved


_SAVED = {
  'none': _and_attention(jax.checkpoint_policies.dots_saveable),
  'dots': _and_attention(jax.checkpoint_policies.dots_with_no_batch_dims_saveable),
  'full': jax.checkpoint_policies.nothing_saveable,
}
_TRUNCATED_STDDEV = 0.8796  # of a standard normal cut at two standard deviations


class Decoder(nn.Module):
  """A decoder-only language model.

  Parameters, boxed with their logical axis names: `embedding` [V, D]; `layers`, every
  leaf stacked on a leading axis (`layers_0`, `layers_1`, ... without
  config.scan_layers); `final_norm` [D]; `head` [D, V] if the embedding is not tied;
  `relative_bias` [R, H], of R buckets, if positions are T5's; `position_embedding`
  [P, D] if they are learned. A bias is named after its parameter: `query_bias`,
  `final_norm_bias`.

  A collection `adapters` beside `params` adds to a layer's matrix `query` the product
  of `query_a` [D, r] and `query_b` [r, H, C] (train.lora), and so for the others.
  """

  config: DecoderConfig

  def setup(self):
    config = self.config
    V, D = config.vocab_size, config.d_model
    # As input the table needs variance 1, as output 1 / D. Tied, it gets the mean of
    # the two: from 1 / D the logits grow slowly, from 1 a token predicts itself.
    fan_in = D**0.5 if config.tied_embedding else 1
    axes = ('vocab', 'embed')
    self.embedding = _matrix(self, 'embedding', (V, D), axes, fan_in=fan_in)
    self.final_norm = _norm(self, 'final_norm', D)
    if not config.tied_embedding:
      self.head_kernel = _matrix(self, 'head', (D, V), ('embed', 'vocab'), fan_in=D)
    if config.positions == 't5':
      R, H = config.relative_buckets, config.num_heads
      axes = ('relpos_buckets', 'heads')
      self.relative_bias = _matrix(self, 'relative_bias', (R, H), axes, fan_in=R)
    if config.positions == 'learned':
      P, axes = config.max_positions, ('relpos_buckets', 'embed')
      self.position_embedding = _matrix(
        self, 'position_embedding', (P, D), axes, fan_in=fan_in
      )
    layer = Layer
    if config.scan_layers or config.remat != 'none':
      # Even 'none' has a policy under a scan: without one, everything that a layer
      # computes is stacked over the layers, and moving it costs more than another GELU.
      layer = nn.remat(
        layer, policy=_SAVED[config.remat], prevent_cse=not config.scan_layers
      )
    if config.scan_layers:
      # With rematerialization, keep the loop: unrolling would raise peak memory.
      loop = config.remat != 'none' or self.is_initializing()
      self.layers = nn.scan(
        layer,
        length=config.num_layers,
        unroll=1 if loop else cpu.unrolled(config.num_layers),
        variable_axes={'params': 0, 'adapters': 0},
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
    """Returns logits of the next token, float32 [B, L, V].

    Args:
      tokens_BxL: int32, below vocab_size.
      positions_BxL: int32, restarting at 0 with each example.
      segment_ids_BxL: int32, 1.. per example of the sequence, 0 for padding. Padding
        is never attended to, and its own logits are undefined.
      prefix_BxL: bool, True on tokens that see each other both ways; only if
        config.attention is 'prefix'. None: no token does.
      cache: keys and values of earlier calls; then the return value is (logits, new
        cache). Each sequence of a cache is one example. A prefix must be prefilled in
        one call.

    Raises:
      InputError: if a prefix is given to a causal model, or a cache is too short.
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
    subtree_end_BxL: jax.Array | None = None,
    tree_kernel: bool = False,
    kernel: str = 'xla',
    cache: Cache | None = None,
  ) -> jax.Array | tuple[jax.Array, Cache]:
    """The normed states [B, L, D], in config.dtype, that `head` turns into logits.

    Arguments, the cache in the return value, and errors are those of `__call__`. If
    segments are trees, subtree_end_BxL gives their structure (attention.Layout); only
    without a cache. With tree_kernel, attention over trees is one TPU kernel
    (kernels.tree), which needs one device, no prefix and no window. `kernel` names the
    attention kernel for calls without a cache (attention_dispatch.check).
    """
    config = self.config
    if prefix_BxL is not None and config.attention != 'prefix':
      raise InputError(
        f'prefix_BxL: got a mask, but config.attention is {config.attention!r}; must '
        "be None, or config.attention 'prefix'"
      )
    query = attention.Layout(
      positions_BxL, segment_ids_BxL, prefix_BxL, subtree_end_BxL
    )
    key, slots_BxL = query, None
    if cache is not None:
      cache, slots_BxL = kv_cache.reserve(cache, query)
      key = kv_cache.layout(cache, new=query, slots_BxL=slots_BxL)
      query = query._replace(segment_ids=jnp.minimum(segment_ids_BxL, 1))
    shared = attention_dispatch.SharedInputs(
      global_inputs=self._attention_inputs(query, key, local=False),
      local_inputs=(
        self._attention_inputs(query, key, local=True)
        if any(config.local_layers)
        else None
      ),
      slots_BxL=slots_BxL,
      bias_BxHxLxS=self._bias(query, key),
      subtree_end_BxL=subtree_end_BxL if prefix_BxL is None else None,
      segment_ids_BxL=segment_ids_BxL,
      kernel=kernel,
    )
    if tree_kernel:
      unmasked = shared.global_inputs._replace(mask_BxLxS=None)
      shared = dataclasses.replace(shared, global_inputs=unmasked)
    hidden_BxLxD = jnp.take(self.embedding, tokens_BxL, axis=0)
    if config.scaled_embedding:
      hidden_BxLxD *= jnp.asarray(config.d_model**0.5, config.dtype)
    if config.positions == 'learned':
      # Padding may be past the end of the table, and NaN there would spread.
      rows_BxL = jnp.where(segment_ids_BxL > 0, positions_BxL, 0)
      rows_BxL += config.position_offset
      hidden_BxLxD += jnp.take(
        self.position_embedding, rows_BxL, axis=0, mode='fill', fill_value=jnp.nan
      )
    carry = (_constrain(hidden_BxLxD, 'activation_embed'), cache)
    if config.scan_layers:
      carry, _ = self.layers(carry, jnp.arange(config.num_layers), shared)
    else:
      for index, layer in enumerate(self.layers):
        carry, _ = layer(carry, index, shared)
    hidden_BxLxD, cache = carry
    hidden_BxLxD = self.final_norm(hidden_BxLxD)
    return hidden_BxLxD if cache is None else (hidden_BxLxD, cache)

  def head(self, hidden_BxLxD: jax.Array) -> jax.Array:
    """Logits, float32 [B, L, V], of normed states; L may be part of a sequence."""
    config = self.config
    if config.tied_embedding:
      if config.scaled_head:
        hidden_BxLxD = hidden_BxLxD * config.d_model**-0.5
      kernel_DxV = self.embedding.T
    else:
      kernel_DxV = self.head_kernel
    logits_BxLxV = jnp.einsum(
      'BLD,DV->BLV', hidden_BxLxD, kernel_DxV, preferred_element_type=jnp.float32
    )
    if config.logit_softcap is not None:
      logits_BxLxV = config.logit_softcap * jnp.tanh(
        logits_BxLxV / config.logit_softcap
      )
    return _constrain(logits_BxLxV, 'activation_vocab')

  def _attention_inputs(
    self, query: attention.Layout, key: attention.Layout, *, local: bool
  ) -> attention_dispatch.AttentionInputs:
    config = self.config
    angles_BxLxc = None
    if config.positions == 'rotary':
      angles_BxLxc = attention.rotary_angles(
        query.positions,
        frequencies_c=attention.rotary_frequencies(config, local=local),
      )
    window = config.window if local else None
    return attention_dispatch.AttentionInputs(
      attention.attention_mask(query, key, window=window), angles_BxLxc
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


class Layer(nn.Module):
  """Attention, then a feed-forward layer; each adds a function of the normed state.

  The carry is (hidden_BxLxD, cache or None); it holds the whole cache, so that a layer
  writes its new keys and values in place.
  """

  config: DecoderConfig

  @nn.compact
  def __call__(
    self, carry, layer: jax.Array | int, shared: attention_dispatch.SharedInputs
  ):
    hidden_BxLxD, cache = carry
    config = self.config
    D = config.d_model
    # Shard a layer's inputs and outputs like the residual stream, each by itself: a sum
    # over devices is then a reduce-scatter, half the traffic of an all-reduce.
    shard = lambda x: _constrain(x, 'activation_embed')  # noqa: E731
    x_BxLxD = shard(_norm(self, 'attention_norm', D)(hidden_BxLxD))
    mixed_BxLxD, cache = self._attend(x_BxLxD, cache, layer, shared)
    mixed_BxLxD = shard(mixed_BxLxD)
    if config.post_norms:
      mixed_BxLxD = _norm(self, 'attention_post_norm', D)(mixed_BxLxD)
    mixed_BxLxD = shard(hidden_BxLxD + mixed_BxLxD)
    x_BxLxD = hidden_BxLxD if config.parallel_residual else mixed_BxLxD
    x_BxLxD = shard(_norm(self, 'mlp_norm', D)(x_BxLxD))
    x_BxLxD = shard(self._feed_forward(x_BxLxD))
    if config.post_norms:
      x_BxLxD = _norm(self, 'mlp_post_norm', D)(x_BxLxD)
    return (shard(mixed_BxLxD + x_BxLxD), cache), None

  def _attend(self, x_BxLxD, cache, layer, shared):
    config = self.config
    D, C = config.d_model, config.head_dim
    H, K = config.num_heads, config.num_kv_heads

    def project(name, heads, axis):
      axes = ('embed', axis, 'kv')
      kernel = _matrix(self, name, (D, heads, C), axes, fan_in=D)
      out_BxLxHxC = jnp.einsum('BLD,DHC->BLHC', x_BxLxD, kernel)
      out_BxLxHxC = _adapt(self, name, x_BxLxD, out_BxLxHxC)
      if config.attention_bias == 'none':
        return out_BxLxHxC
      return out_BxLxHxC + _bias(self, name, (heads, C), (axis, 'kv'))

    query_BxLxHxC = _constrain(project('query', H, 'heads'), 'activation_heads', None)
    key_BxSxKxC = project('key', K, 'kv_heads')
    value_BxSxKxC = project('value', K, 'kv_heads')
    if config.qk_norm:
      query_BxLxHxC = _norm(self, 'query_norm', C)(query_BxLxHxC)
      key_BxSxKxC = _norm(self, 'key_norm', C)(key_BxSxKxC)
    angles_BxLxc = shared.of_layer(layer, config).angles_BxLxc
    if angles_BxLxc is not None:
      query_BxLxHxC = attention.rotate(query_BxLxHxC, angles_BxLxc)
      key_BxSxKxC = attention.rotate(key_BxSxKxC, angles_BxLxc)
    if cache is not None:
      cache = kv_cache.write(
        cache, key_BxSxKxC, value_BxSxKxC, layer=layer, slots_BxL=shared.slots_BxL
      )
    mixed_BxLxHxC = attention_dispatch.attend(
      query_BxLxHxC, key_BxSxKxC, value_BxSxKxC, cache, layer, shared, config
    )
    axes = ('heads', 'kv', 'embed')
    output_HxCxD = _matrix(self, 'output', (H, C, D), axes, fan_in=H * C)
    output_BxLxD = jnp.einsum('BLHC,HCD->BLD', mixed_BxLxHxC, output_HxCxD)
    output_BxLxD = _adapt(self, 'output', mixed_BxLxHxC, output_BxLxD, over=2)
    if config.attention_bias == 'all':
      output_BxLxD += _bias(self, 'output', (D,), ('norm',))
    return output_BxLxD, cache

  def _feed_forward(self, x_BxLxD):
    config = self.config
    D, F = config.d_model, config.d_ff
    on_cpu = cpu.compiling()

    def linear(x, name, shape, axes, bias_axis):
      matrix = _matrix(self, name, shape, axes, fan_in=shape[0])
      out = cpu.product(x, matrix) if on_cpu else x @ matrix
      out = _adapt(self, name, x, out)
      if config.mlp_bias:
        out += _bias(self, name, shape[1:], (bias_axis,))
      return out

    def widen(name):
      return linear(x_BxLxD, name, (D, F), ('embed', 'mlp'), 'mlp')

    activation = _ACTIVATIONS[config.activation]
    if config.gated and on_cpu:
      wide_BxLxF = cpu.gate(activation, widen('gate'), widen('up'))
    elif config.gated:
      wide_BxLxF = activation(widen('gate')) * widen('up')
    else:
      wide_BxLxF = activation(widen('up'))
    wide_BxLxF = _constrain(wide_BxLxF, 'activation_mlp')
    return linear(wide_BxLxF, 'down', (F, D), ('mlp', 'embed'), 'norm')


def rms_norm(x_BxLxD: jax.Array, scale_D: jax.Array, *, epsilon: float) -> jax.Array:
  """Root-mean-square norm (Zhang and Sennrich 2019, arXiv 1910.07467) in float32."""
  x = x_BxLxD.astype(jnp.float32)
  x *= jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
  return (x * scale_D[None, None]).astype(x_BxLxD.dtype)


def layer_norm(
  x_BxLxD: jax.Array, scale_D: jax.Array, bias_D: jax.Array, *, epsilon: float
) -> jax.Array:
  """Layer norm (Ba et al. 2016, arXiv 1607.06450) in float32."""
  x = x_BxLxD.astype(jnp.float32)
  x -= jnp.mean(x, axis=-1, keepdims=True)
  x *= jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + epsilon)
  return (x * scale_D[None, None] + bias_D[None, None]).astype(x_BxLxD.dtype)


def _constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Shards an activation [B, L, ...] by logical axes; does nothing without a mesh."""
  return nn.with_logical_constraint(
    x, ('activation_batch', 'activation_length', *names)
  )


def starts_at_zero(name: str, config: DecoderConfig) -> bool:
  """Returns whether a random initialization sets the parameter at this path to zero."""
  last = name.rpartition('/')[2]
  if last.endswith('_bias'):
    return last != 'relative_bias'
  return config.norm_plus_one and last.endswith('norm')


def _matrix(module, name, shape, axes, *, fan_in):
  """A parameter in config.dtype, drawn from a normal truncated at two deviations.

  Its variance of 1 / fan_in keeps activations of order one, so that training starts
  near the loss of a uniform guess, ln(vocab_size).
  """
  stddev = fan_in**-0.5 / _TRUNCATED_STDDEV
  init = nn.with_logical_partitioning(nn.initializers.truncated_normal(stddev), axes)
  matrix = module.param(name, init, shape, module.config.param_dtype)
  return matrix.astype(module.config.dtype)


def _adapt(module, name, x, out, *, over=1):
  """Adds the adapter's term to `out`, the product of x and the matrix `name`.

  x is multiplied over its last `over` axes, first by `a` and then by `b`: the product
  of the two, as large as the matrix, is never formed.
  """
  if not module.has_variable('adapters', f'{name}_a'):
    return out
  a, b = (
    module.get_variable('adapters', f'{name}_{part}').astype(module.config.dtype)
    for part in 'ab'
  )
  return out + jnp.tensordot(jnp.tensordot(x, a, axes=over), b, axes=1)


def _bias(module, name, shape, axes):
  """The bias of the matrix `name`, in config.dtype."""
  init = nn.with_logical_partitioning(nn.initializers.zeros, axes)
  bias = module.param(f'{name}_bias', init, shape, module.config.param_dtype)
  return bias.astype(module.config.dtype)


def _norm(module, name, size):
  """Builds the norm `name` of the last axis, as a function."""
  config = module.config
  first = nn.initializers.zeros if config.norm_plus_one else nn.initializers.ones
  init = nn.with_logical_partitioning(first, ('norm',))
  scale = module.param(name, init, (size,), config.param_dtype)
  if config.norm_plus_one:
    scale = 1 + scale.astype(jnp.float32)
  if config.norm == 'rms':
    return functools.partial(rms_norm, scale_D=scale, epsilon=config.norm_epsilon)
  init = nn.with_logical_partitioning(nn.initializers.zeros, ('norm',))
  bias = module.param(f'{name}_bias', init, (size,), config.param_dtype)
  return functools.partial(
    layer_norm, scale_D=scale, bias_D=bias, epsilon=config.norm_epsilon
  )

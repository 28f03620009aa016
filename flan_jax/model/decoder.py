"""The decoder-only language model: a thin flax.linen layer over pure functions."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model import attention, attention_dispatch, kv_cache, parameters
from flan_jax.model import norm as norm_lib
from flan_jax.model.attention_layer import Attention
from flan_jax.model.kernels import dispatch
from flan_jax.model.kv_cache import Cache
from flan_jax.model.mlp import MLP
from flan_jax.model.norm import Norm


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
    self.embedding = parameters.matrix(
      self, 'embedding', (V, D), axes, fan_in=fan_in, config=config
    )
    self.last_norm = Norm(config, 'final_norm', D)
    parameters.share(self, self.last_norm).declare()  # drawn in this place
    laid_out = parameters.laid_out(self.variables.get('params', {}), 'head')
    if not config.tied_embedding and not laid_out:
      self.head_kernel = parameters.matrix(
        self, 'head', (D, V), ('embed', 'vocab'), fan_in=D, config=config
      )
    if config.positions == 't5':
      R, H = config.relative_buckets, config.num_heads
      axes = ('relpos_buckets', 'heads')
      self.relative_bias = parameters.matrix(
        self, 'relative_bias', (R, H), axes, fan_in=R, config=config
      )
    if config.positions == 'learned':
      P, axes = config.max_positions, ('relpos_buckets', 'embed')
      self.position_embedding = parameters.matrix(
        self, 'position_embedding', (P, D), axes, fan_in=fan_in, config=config
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
        unroll=1 if loop else dispatch.scan_unroll(config.num_layers),
        variable_axes={'params': 0, 'adapters': 0},
        split_rngs={'params': True},
        in_axes=(0, nn.broadcast),  # pyright: ignore[reportArgumentType]  # untyped
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
    if isinstance(hidden, tuple):
      hidden_BxLxD, cache = hidden
      return self.head(hidden_BxLxD), cache
    return self.head(hidden)

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
    segments are trees, subtree_end_BxL gives their structure (attention.Layout); a
    cache must then be empty and have L slots: token i takes slot i. With tree_kernel,
    attention over trees is one TPU kernel (kernels.tree), which needs one device, no
    prefix and no window. `kernel` names the attention kernel for calls without a cache
    (attention_dispatch.check).
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
    trees = subtree_end_BxL is not None
    if cache is not None and trees:
      slots_BxL = jnp.broadcast_to(jnp.arange(tokens_BxL.shape[1]), tokens_BxL.shape)
    elif cache is not None:
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
      reads_cache=cache is not None and not trees,
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
    carry = (parameters.constrain(hidden_BxLxD, 'activation_embed'), cache)
    if isinstance(self.layers, nn.Module):
      carry, _ = self.layers(carry, jnp.arange(config.num_layers), shared)
    else:
      for index, layer in enumerate(self.layers):
        carry, _ = layer(carry, index, shared)
    hidden_BxLxD, cache = carry
    hidden_BxLxD = self.last_norm(hidden_BxLxD)
    return hidden_BxLxD if cache is None else (hidden_BxLxD, cache)

  def head(self, hidden_BxLxD: jax.Array) -> jax.Array:
    """Logits, float32 [B, L, V], of normed states; L may be part of a sequence."""
    config = self.config
    if config.tied_embedding and config.scaled_head:
      hidden_BxLxD = hidden_BxLxD * config.d_model**-0.5
    logits_BxLxV = parameters.decoding_product(
      self, 'head', hidden_BxLxD, outputs=config.vocab_size, dtype=jnp.float32
    )
    if logits_BxLxV is None:
      kernel_DxV = self.embedding.T if config.tied_embedding else self.head_kernel
      logits_BxLxV = jnp.einsum(
        'BLD,DV->BLV', hidden_BxLxD, kernel_DxV, preferred_element_type=jnp.float32
      )
    if config.logit_softcap is not None:
      logits_BxLxV = config.logit_softcap * jnp.tanh(
        logits_BxLxV / config.logit_softcap
      )
    return parameters.constrain(logits_BxLxV, 'activation_vocab')

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
  """Attention, then a feed-forward layer; each adds a function of the state.

  Each has a norm on its input (config.pre_norms), on its output (post_norms), or both.

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

    norm = functools.partial(norm_lib.shared, self, size=config.d_model)

    # Shard a layer's inputs and outputs like the residual stream, each by itself: a sum
    # over devices is then a reduce-scatter, half the traffic of an all-reduce.
    shard = lambda x: parameters.constrain(x, 'activation_embed')  # noqa: E731
    x_BxLxD = hidden_BxLxD
    if config.pre_norms:
      x_BxLxD = shard(norm('attention_norm')(x_BxLxD))
    mixed_BxLxD, cache = parameters.share(self, Attention(config))(
      x_BxLxD, cache, layer, shared
    )
    mixed_BxLxD = shard(mixed_BxLxD)
    if config.post_norms:
      mixed_BxLxD = norm('attention_post_norm')(mixed_BxLxD)
    mixed_BxLxD = shard(hidden_BxLxD + mixed_BxLxD)
    x_BxLxD = hidden_BxLxD if config.parallel_residual else mixed_BxLxD
    if config.pre_norms:
      x_BxLxD = shard(norm('mlp_norm')(x_BxLxD))
    x_BxLxD = shard(parameters.share(self, MLP(config))(x_BxLxD))
    if config.post_norms:
      x_BxLxD = norm('mlp_post_norm')(x_BxLxD)
    return (shard(mixed_BxLxD + x_BxLxD), cache), None


def starts_at_zero(name: str, config: DecoderConfig) -> bool:
  """Returns whether a random initialization sets the parameter at this path to zero."""
  last = name.rpartition('/')[2]
  if last.endswith('_bias'):
    return last != 'relative_bias'
  return config.norm_plus_one and last.endswith('norm')

"""The attention layer: projections, positions, cache and output."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import attention, attention_dispatch, kv_cache, norm, parameters
from flan_jax.model.attention_dispatch import SharedInputs
from flan_jax.model.kv_cache import Cache


class Attention(nn.Module):
  """Grouped-query attention with its projections.

  Parameters: `query` [D, H, C], `key` and `value` [D, K, C], `output` [H, C, D]; their
  biases as config.attention_bias has it; with config.qk_norm the norms of queries and
  keys, [C], or [H * C] and [K * C] over the whole projection.
  """

  config: DecoderConfig

  @nn.compact
  def __call__(
    self,
    x_BxLxD: jax.Array,
    cache: Cache | None,
    layer: jax.Array | int,
    shared: SharedInputs,
  ) -> tuple[jax.Array, Cache | None]:
    """Returns what the layer adds to the residual stream, and the cache."""
    config = self.config
    D, C = config.d_model, config.head_dim
    H, K = config.num_heads, config.num_kv_heads

    def project(name, heads, axis):
      out = parameters.decoding_product(self, name, x_BxLxD, outputs=heads * C)
      if out is None:
        axes = ('embed', axis, 'kv')
        kernel = parameters.matrix(
          self, name, (D, heads, C), axes, fan_in=D, config=config
        )
        out = jnp.einsum('BLD,DHC->BLHC', x_BxLxD, kernel)
      out_BxLxHxC = out.reshape(*x_BxLxD.shape[:2], heads, C)
      out_BxLxHxC = parameters.adapt(self, name, x_BxLxD, out_BxLxHxC)
      if config.attention_bias == 'none':
        return out_BxLxHxC
      return out_BxLxHxC + parameters.bias(
        self, name, (heads, C), (axis, 'kv'), config=config
      )

    query_BxLxHxC = parameters.constrain(
      project('query', H, 'heads'), 'activation_heads', None
    )
    key_BxSxKxC = project('key', K, 'kv_heads')
    value_BxSxKxC = project('value', K, 'kv_heads')
    if config.qk_norm:
      whole = config.qk_norm_width == 'projection'
      query_norm, key_norm = (
        norm.shared(self, title, heads * C, over=2)
        if whole
        else norm.shared(self, title, C)
        for title, heads in (('query_norm', H), ('key_norm', K))
      )
      query_BxLxHxC, key_BxSxKxC = query_norm(query_BxLxHxC), key_norm(key_BxSxKxC)
    angles_BxLxc = shared.of_layer(layer, config).angles_BxLxc
    if angles_BxLxc is not None:
      query_BxLxHxC = attention.rotate(query_BxLxHxC, angles_BxLxc)
      key_BxSxKxC = attention.rotate(key_BxSxKxC, angles_BxLxc)
    if cache is not None:
      assert shared.slots_BxL is not None  # they come with a cache
      cache = kv_cache.write(
        cache, key_BxSxKxC, value_BxSxKxC, layer=layer, slots_BxL=shared.slots_BxL
      )
    mixed_BxLxHxC = attention_dispatch.attend(
      query_BxLxHxC,
      key_BxSxKxC,
      value_BxSxKxC,
      cache if shared.reads_cache else None,
      layer,
      shared,
      config,
      native_kernels=self.has_variable('params', 'output_panels'),
    )
    flat_BxLxHC = mixed_BxLxHxC.reshape(*x_BxLxD.shape[:2], H * C)
    output_BxLxD = parameters.decoding_product(self, 'output', flat_BxLxHC, outputs=D)
    if output_BxLxD is None:
      axes = ('heads', 'kv', 'embed')
      output_HxCxD = parameters.matrix(
        self, 'output', (H, C, D), axes, fan_in=H * C, config=config
      )
      output_BxLxD = jnp.einsum('BLHC,HCD->BLD', mixed_BxLxHxC, output_HxCxD)
    output_BxLxD = parameters.adapt(self, 'output', mixed_BxLxHxC, output_BxLxD, over=2)
    if config.attention_bias == 'all':
      output_BxLxD += parameters.bias(self, 'output', (D,), ('norm',), config=config)
    return output_BxLxD, cache

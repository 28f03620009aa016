"""Norms of the residual stream, of queries and of keys."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import parameters


class Norm(nn.Module):
  """Root-mean-square or layer norm of the last axis, as config.norm has it.

  Parameters: `title` [D], the scale (less 1 with config.norm_plus_one), and for a layer
  norm `title`_bias [D].
  """

  config: DecoderConfig
  title: str
  size: int

  def setup(self):
    config = self.config
    first = nn.initializers.zeros if config.norm_plus_one else nn.initializers.ones
    scale_D = self._vector(self.title, first)
    if config.norm_plus_one:
      scale_D = 1 + scale_D.astype(jnp.float32)
    self.scale_D = scale_D
    if config.norm != 'rms':
      self.bias_D = self._vector(f'{self.title}_bias', nn.initializers.zeros)

  def declare(self) -> None:
    """Draws the parameters now; otherwise the first call does."""

  def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
    """Returns the normed array, in its own dtype."""
    epsilon = self.config.norm_epsilon
    if self.config.norm == 'rms':
      return rms_norm(x_BxLxD, self.scale_D, epsilon=epsilon)
    return layer_norm(x_BxLxD, self.scale_D, self.bias_D, epsilon=epsilon)

  def _vector(self, name: str, first: nn.initializers.Initializer) -> jax.Array:
    return parameters.draw(self, name, first, (self.size,), ('norm',), self.config)


def shared(module: nn.Module, title: str, size: int) -> Norm:
  """A norm inside `module`, whose parameters are those of `module`."""
  norm = Norm(module.config, title, size, name=f'{title}_of')
  return parameters.share(module, norm)


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

"""Norms of the residual stream, of queries and of keys."""

import jax
import jax.numpy as jnp
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import parameters
from flan_jax.model.initial_values import ONES, ZEROS, Initial


class Norm(nn.Module):
  """Root-mean-square or layer norm of the last axes, as config.norm has it.

  Parameters: `title` [D], the scale (less 1 with config.norm_plus_one), and for a layer
  norm `title`_bias [D].

  Attributes:
    config: config of the decoder.
    title: name of the scale.
    size: number of channels that are normalized together.
    over: number of axes that they fill; of 2, the mean is over heads that may lie on
      several devices.
  """

  config: DecoderConfig
  title: str
  size: int
  over: int = 1

  def setup(self):
    config = self.config
    first = ZEROS if config.norm_plus_one else ONES
    scale_D = self._vector(self.title, first)
    if config.norm_plus_one:
      scale_D = 1 + scale_D.astype(jnp.float32)
    self.scale_D = scale_D
    if config.norm != 'rms':
      self.bias_D = self._vector(f'{self.title}_bias', ZEROS)

  def declare(self) -> None:
    """Draws the parameters now; otherwise the first call does."""

  def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
    """Returns the normed array, in its own dtype."""
    epsilon, shape = self.config.norm_epsilon, x_BxLxD.shape[-self.over :]
    scale_D = self.scale_D.reshape(shape)
    if self.config.norm == 'rms':
      return rms_norm(x_BxLxD, scale_D, epsilon=epsilon)
    return layer_norm(x_BxLxD, scale_D, self.bias_D.reshape(shape), epsilon=epsilon)

  def _vector(self, name: str, first: Initial) -> jax.Array:
    return parameters.draw(self, name, first, (self.size,), ('norm',), self.config)


def shared(module: nn.Module, title: str, size: int, *, over: int = 1) -> Norm:
  """A norm inside `module`, whose parameters are those of `module`."""
  norm = Norm(module.config, title, size, over, name=f'{title}_of')
  return parameters.share(module, norm)


def _axes(scale_D: jax.Array) -> tuple[int, ...]:
  """The last axes of an array, as many as the scale has."""
  return tuple(range(-scale_D.ndim, 0))


def rms_norm(x_BxLxD: jax.Array, scale_D: jax.Array, *, epsilon: float) -> jax.Array:
  """Root-mean-square norm (Zhang and Sennrich 2019, arXiv 1910.07467) in float32.

  One scale per channel: with axes [H, C], heads are normalized together.
  """
  x = x_BxLxD.astype(jnp.float32)
  square = jnp.mean(jnp.square(x), axis=_axes(scale_D), keepdims=True)
  x *= jax.lax.rsqrt(square + epsilon)
  return (x * scale_D[None, None]).astype(x_BxLxD.dtype)


def layer_norm(
  x_BxLxD: jax.Array, scale_D: jax.Array, bias_D: jax.Array, *, epsilon: float
) -> jax.Array:
  """Layer norm (Ba et al. 2016, arXiv 1607.06450) in float32, as `rms_norm`."""
  x, axes = x_BxLxD.astype(jnp.float32), _axes(scale_D)
  x -= jnp.mean(x, axis=axes, keepdims=True)
  x *= jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=axes, keepdims=True) + epsilon)
  return (x * scale_D[None, None] + bias_D[None, None]).astype(x_BxLxD.dtype)

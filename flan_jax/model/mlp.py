"""The feed-forward layer."""

import functools

import jax
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import parameters
from flan_jax.model.kernels import dispatch

_ACTIVATIONS = {
  'geglu': functools.partial(jax.nn.gelu, approximate=True),
  'swiglu': jax.nn.silu,
  'gelu': functools.partial(jax.nn.gelu, approximate=True),
  'gelu_exact': functools.partial(jax.nn.gelu, approximate=False),
  'relu': jax.nn.relu,
}


class MLP(nn.Module):
  """Two matrices with an activation between them, gated by a third or not.

  Parameters: `gate` [D, F] if config.gated, `up` [D, F], `down` [F, D], and their
  biases with config.mlp_bias.
  """

  config: DecoderConfig

  @nn.compact
  def __call__(self, x_BxLxD: jax.Array) -> jax.Array:
    """Returns what the layer adds to the residual stream, [B, L, D]."""
    config = self.config
    D, F = config.d_model, config.d_ff

    def linear(x, name, shape, axes, bias_axis):
      out = parameters.decoding_product(self, name, x, outputs=shape[1])
      if out is None:
        matrix = parameters.matrix(
          self, name, shape, axes, fan_in=shape[0], config=config
        )
        out = dispatch.matmul(x, matrix)
      out = parameters.adapt(self, name, x, out)
      if config.mlp_bias:
        out += parameters.bias(self, name, shape[1:], (bias_axis,), config=config)
      return out

    def widen(name):
      return linear(x_BxLxD, name, (D, F), ('embed', 'mlp'), 'mlp')

    activation = _ACTIVATIONS[config.activation]
    if config.gated:
      wide_BxLxF = dispatch.gated(activation, widen('gate'), widen('up'))
    else:
      wide_BxLxF = activation(widen('up'))
    wide_BxLxF = parameters.constrain(wide_BxLxF, 'activation_mlp')
    return linear(wide_BxLxF, 'down', (F, D), ('mlp', 'embed'), 'norm')

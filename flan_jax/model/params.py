"""Parameters of a decoder: shapes, logical axes and initial values."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model.decoder import Decoder


def abstract_params(config: DecoderConfig) -> tuple[Any, Any]:
  """(shapes, logical axes) of the parameters; nothing is allocated."""
  ones = jax.ShapeDtypeStruct((1, 8), jnp.int32)

  def init(key):
    tokens = jnp.ones(ones.shape, ones.dtype)
    return Decoder(config).init(
      key, tokens, positions_BxL=tokens, segment_ids_BxL=tokens
    )['params']

  boxed = jax.eval_shape(init, jax.random.key(0))
  return nn.meta.unbox(boxed), nn.get_partition_spec(boxed)


def init_params(config: DecoderConfig, *, seed: int, shardings: Any = None) -> Any:
  """Parameters drawn from `seed`; the same on every mesh."""

  def init():
    tokens = jnp.ones((1, 8), jnp.int32)
    boxed = Decoder(config).init(
      jax.random.key(seed), tokens, positions_BxL=tokens, segment_ids_BxL=tokens
    )['params']
    return nn.meta.unbox(boxed)

  return jax.jit(init, out_shardings=shardings)()

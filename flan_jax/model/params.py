"""Parameters of a decoder: shapes, logical axes and initial values."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import initial_values
from flan_jax.model.decoder import Decoder


def abstract_params(config: DecoderConfig) -> tuple[Any, Any]:
  """(shapes, logical axes) of the parameters; nothing is allocated."""
  boxed = _boxed(config)
  return nn.meta.unbox(boxed), nn.get_partition_spec(boxed)


def init_params(config: DecoderConfig, *, seed: int, shardings: Any = None) -> Any:
  """Parameters drawn from `seed`; the same on every mesh."""
  return initial_values.draw(_boxed(config), seed=seed, shardings=shardings)


@functools.lru_cache(8)
def _boxed(config: DecoderConfig) -> Any:
  """Shapes of the parameters, boxed with their axes and distributions."""

  def init():
    tokens = jnp.ones((1, 8), jnp.int32)
    return Decoder(config).init(
      jax.random.key(0), tokens, positions_BxL=tokens, segment_ids_BxL=tokens
    )['params']

  return jax.eval_shape(init)

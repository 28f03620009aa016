"""Keys written out for a CPU: what is drawn is what JAX's own draw, bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flan_jax.model import keys
from flan_jax.model.config import DecoderConfig
from flan_jax.model.decoder import Decoder
from flan_jax.train import state as state_lib


def pair(seed=7):
  """(ours, JAX's own)."""
  return keys.key(seed), jax.random.key(seed)


def words(key):
  return np.asarray(jax.random.key_data(key))


def test_a_key_is_written_out_on_a_cpu():
  ours, own = pair()
  assert ours.dtype != own.dtype
  np.testing.assert_array_equal(words(ours), words(own))


@pytest.mark.parametrize('shape', [(), (3,), (6, 2), (4, 3, 5)])
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'uint32'])
def test_bits(shape, dtype):
  ours, own = (jax.random.bits(key, shape, dtype) for key in pair())
  np.testing.assert_array_equal(ours, own)


@pytest.mark.parametrize('data', [0, 1, 2**31 - 1, np.uint32(2**32 - 1)])
def test_what_is_folded_in(data):
  ours, own = (words(jax.random.fold_in(key, data)) for key in pair())
  np.testing.assert_array_equal(ours, own)


@pytest.mark.parametrize('shape', [2, 6, (2, 3)])
def test_splits(shape):
  ours, own = (words(jax.random.split(key, shape)) for key in pair())
  np.testing.assert_array_equal(ours, own)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_normals(dtype):
  draw = jax.jit(
    lambda key: jax.random.truncated_normal(key, -2, 2, (64, 8), jnp.dtype(dtype))
  )
  ours, own = (draw(key) for key in pair())
  np.testing.assert_array_equal(ours, own)


@pytest.mark.parametrize('scan_layers', [True, False])
def test_parameters_are_those_of_jax_s_own_key(scan_layers):
  config = DecoderConfig(
    vocab_size=32, num_layers=2, d_model=8, d_ff=16, num_heads=2, num_kv_heads=1,
    head_dim=4, scan_layers=scan_layers,
  )  # fmt: skip

  @jax.jit
  def init():
    tokens = jnp.ones((1, 8), jnp.int32)
    boxed = Decoder(config).init(
      jax.random.key(3), tokens, positions_BxL=tokens, segment_ids_BxL=tokens
    )
    return nn.meta.unbox(boxed)['params']

  got = state_lib.init_params(config, seed=3)
  jax.tree.map(np.testing.assert_array_equal, got, init())

"""A decoder on a mesh of 2 x 4 simulated devices equals the decoder on one."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model.decoder import Decoder

CONFIG = DecoderConfig(
  vocab_size=64, num_layers=2, d_model=16, d_ff=64, num_heads=8, num_kv_heads=4,
  head_dim=8,
)  # fmt: skip
RULES = (
  ('activation_batch', 'data'),
  ('activation_heads', 'model'),
  ('activation_mlp', 'model'),
  ('activation_vocab', 'model'),
  ('activation_length', 'model'),  # the residual stream, sharded by position
  ('vocab', 'model'),
  ('mlp', 'model'),
  ('heads', 'model'),
  ('kv_heads', 'model'),
  ('embed', 'data'),
)


def batch():
  tokens = np.random.default_rng(0).integers(0, 64, (4, 17))
  segments = np.repeat([[1, 2, 3, 0]], 4, axis=1) * np.ones((4, 1), int)
  layout = {
    'positions_BxL': np.tile(np.arange(4), (4, 4)),
    'segment_ids_BxL': segments,
  }
  return tokens[:, :-1], tokens[:, 1:], layout


def loss(params, tokens, targets, layout):
  logits = Decoder(CONFIG).apply(params, tokens, **layout)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
  return jnp.mean(losses * (layout['segment_ids_BxL'] > 0)), logits


@functools.cache
def mesh():
  return jax.make_mesh((2, 4), ('data', 'model'), axis_types=(AxisType.Auto,) * 2)


def test_a_mesh_gives_the_logits_loss_and_gradients_of_one_device():
  tokens, targets, layout = batch()
  boxed = jax.eval_shape(Decoder(CONFIG).init, jax.random.key(0), tokens, **layout)
  shardings = nn.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh(), RULES)
  draw = np.random.default_rng(0).uniform
  params = jax.tree.map(lambda x: draw(-0.5, 0.5, x.shape), nn.meta.unbox(boxed))
  params = jax.tree.map(jnp.float32, params)
  grad = jax.jit(jax.value_and_grad(loss, has_aux=True))
  (value, logits), gradient = grad(params, tokens, targets, layout)

  sharded = jax.device_put(params, shardings)
  assert sharded['params']['embedding'].sharding.shard_shape((64, 16)) == (16, 8)
  sharding = NamedSharding(mesh(), PartitionSpec('data'))
  with jax.set_mesh(mesh()), nn.logical_axis_rules(RULES):
    (value_8, logits_8), gradient_8 = grad(
      sharded, *jax.device_put((tokens, targets, layout), sharding)
    )
  assert len(logits_8.sharding.device_set) == 8
  np.testing.assert_allclose(value_8, value, rtol=2e-6)
  np.testing.assert_allclose(logits_8, logits, rtol=1e-5, atol=1e-5)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
  jax.tree.map(close, gradient_8, gradient)


def constraints(context):
  """The number of sharding constraints in the program of one forward pass."""
  tokens, _, layout = batch()
  shapes = jax.eval_shape(Decoder(CONFIG).init, jax.random.key(0), tokens, **layout)
  params = nn.meta.unbox(shapes)
  with context, nn.logical_axis_rules(RULES):
    jaxpr = jax.make_jaxpr(Decoder(CONFIG).apply)(params, tokens, **layout)
  return str(jaxpr).count('sharding_constraint')


def test_activations_are_constrained_on_a_mesh_and_free_without_one():
  assert constraints(contextlib.nullcontext()) == 0
  # embedding, logits, and in the scanned layer: heads, the gated product, and for each
  # half its input, its output and the sum
  assert constraints(jax.set_mesh(mesh())) == 10

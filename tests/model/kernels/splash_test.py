"""The splash kernel equals dense attention over packed sequences."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flan_jax.config import mesh as mesh_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model import attention
from flan_jax.model.attention import Layout
from flan_jax.model.kernels import splash
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import train_step

ROTARY = DecoderConfig(
  vocab_size=64, num_layers=2, d_model=256, d_ff=256, num_heads=2, num_kv_heads=1,
  head_dim=128, positions='rotary',
)  # fmt: skip


def sequences(count: int, *, length: int = 256) -> tuple[np.ndarray, np.ndarray]:
  """(positions, segment ids) of sequences of three examples each, and padding."""
  rng = np.random.default_rng(0)
  positions, segments = np.zeros((2, count, length), np.int32)
  for b in range(count):
    ends = np.sort(rng.choice(np.arange(20, length - 5), 3, replace=False))
    for k, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True), 1):
      segments[b, start:end] = k
      positions[b, start:end] = np.arange(end - start)
  return positions, segments


def operands(B: int, *, H: int, K: int, C: int = 128, length: int = 256):
  rng = np.random.default_rng(1)
  shapes = ((B, length, H, C), (B, length, K, C), (B, length, K, C))
  return tuple(rng.normal(size=s).astype(np.float32) for s in shapes)


def dense(query, key, value, *, positions, segments, **others):
  tokens = Layout(positions, segments)
  mask = attention.attention_mask(tokens, tokens)
  return attention.dot_product_attention(query, key, value, mask_BxTxS=mask, **others)


def without_padding(mixed, segments):
  """Zeroes padding, for which the output is undefined."""
  return np.asarray(mixed) * (segments > 0)[..., None, None]


@pytest.mark.parametrize(
  'others',
  [pytest.param({}, marks=pytest.mark.slow), {'scale': 0.2, 'softcap': 3.0}],
)
def test_output_and_gradients_are_those_of_dense_attention(others):
  positions, segments = sequences(2)
  given = operands(2, H=4, K=2)
  weights = (segments > 0)[..., None, None] * np.random.default_rng(2).normal(
    size=given[0].shape
  )

  @functools.partial(jax.jit, static_argnums=0)
  def through(attend, given):
    def summed(*x):
      mixed = attend(*x)
      return jnp.sum(mixed * weights), mixed

    return jax.value_and_grad(summed, argnums=(0, 1, 2), has_aux=True)(*given)

  kernel = functools.partial(
    splash.attend, segment_ids_BxL=segments, block=128, interpret=True,
    **others,
  )  # fmt: skip
  plain = functools.partial(dense, positions=positions, segments=segments, **others)
  ((_, mixed), got), ((_, dense_mixed), wanted) = (
    through(attend, given) for attend in (kernel, plain)
  )
  np.testing.assert_allclose(
    without_padding(mixed, segments), without_padding(dense_mixed, segments), atol=5e-6
  )
  for one, other in zip(got, wanted, strict=True):
    np.testing.assert_allclose(one, other, atol=5e-5)


@pytest.mark.parametrize(
  'kv_heads', [4, 1], ids=['sharded like queries', 'not sharded']
)
def test_on_a_mesh_every_device_attends_over_its_own_sequences_and_heads(kv_heads):
  positions, segments = sequences(4)
  given = operands(4, H=4, K=kv_heads)
  rules = dict(mesh_config.DATA_PARALLEL)
  if kv_heads == 1:
    rules['kv_heads'] = None
  shape = mesh_config.MeshConfig(fsdp=2, model=4, rules=tuple(rules.items()))
  mesh = mesh_lib.build(shape)
  with train_step.sharded(mesh, shape.rules):
    kernel = functools.partial(splash.attend, block=128, interpret=True)
    got = jax.jit(kernel)(*given, segment_ids_BxL=segments)
  wanted = jax.jit(dense)(*given, positions=positions, segments=segments)
  np.testing.assert_allclose(
    without_padding(got, segments), without_padding(wanted, segments), atol=5e-6
  )


@pytest.mark.parametrize(
  ('config', 'sequence_length', 'kind', 'message'),
  [
    ({}, 256, 'TPU v3', "runs on TPU v4 and later, these devices are 'TPU v3'"),
    ({}, 256, 'cpu', "these devices are 'cpu'; must be 'xla'"),
    ({}, 200, 'TPU v4', 'needs a multiple of 128; the nearest is 256'),
    (
      {'positions': 't5'},
      256,
      'TPU v4',
      "does not support DecoderConfig.positions='t5'",
    ),
    (
      {'attention': 'prefix'},
      256,
      'TPU v4',
      'does not support DecoderConfig.attention',
    ),
    (
      {'layer_pattern': 'LG', 'window': 8},
      256,
      'TPU v4',
      'does not support DecoderConfig.layer',
    ),
  ],
)
def test_unsupported_models_are_refused(config, sequence_length, kind, message):
  with pytest.raises(InputError, match=message):
    splash.check(
      dataclasses.replace(ROTARY, **config),
      sequence_length=sequence_length,
      device_kind=kind,
    )

"""cuDNN's kernel equals dense attention; running it needs a GPU."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flan_jax.config.decoder import DecoderConfig
from flan_jax.data import batch as batch_lib
from flan_jax.data.batch import TokenizedExample
from flan_jax.errors import InputError
from flan_jax.model import attention
from flan_jax.model import params as params_lib
from flan_jax.model.attention import Layout
from flan_jax.model.kernels import cudnn
from flan_jax.train import train_step

H100 = 'NVIDIA H100 80GB HBM3'
MODEL = DecoderConfig(
  vocab_size=64, num_layers=2, d_model=128, d_ff=256, num_heads=2, num_kv_heads=1,
  head_dim=64, positions='rotary', dtype='bfloat16',
)  # fmt: skip


def batch() -> batch_lib.Batch:
  """Two packed sequences of 128 tokens, with padding at the end."""
  rng = np.random.default_rng(0)
  draw = lambda size: rng.integers(3, 64, size, np.int32)  # noqa: E731
  groups = [
    [TokenizedExample(draw(30), draw(9)), TokenizedExample(draw(50), draw(20))],
    [TokenizedExample(draw(70), draw(30)), TokenizedExample(draw(8), draw(5))],
  ]
  return batch_lib.stack([
    batch_lib.assemble(group, sequence_length=128, bos_id=None, eos_id=1)
    for group in groups
  ])  # fmt: skip


@pytest.mark.parametrize('prefix', [False, True], ids=['causal', 'prefix'])
@pytest.mark.parametrize('biased', [False, True], ids=['plain', 'biased'])
def test_the_call_of_the_kernel_equals_dense_attention(prefix, biased):
  found = batch()
  prefix_mask = train_step.prefix_of(found) if prefix else None
  tokens = Layout(
    jnp.asarray(found.positions), jnp.asarray(found.segment_ids), prefix_mask
  )
  rng = np.random.default_rng(1)
  draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  projections = draw(2, 128, 4, 64), draw(2, 128, 2, 64), draw(2, 128, 2, 64)
  others = {'mask_BxTxS': attention.attention_mask(tokens, tokens), 'scale': 0.1}
  others['bias_BxHxTxS'] = draw(2, 4, 128, 128) if biased else None
  got = cudnn.attend(*projections, causal=not prefix, implementation='xla', **others)
  wanted = attention.dot_product_attention(*projections, **others)
  real = (found.segment_ids > 0)[..., None, None]
  np.testing.assert_allclose(got * real, wanted * real, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize('remat', ['none', 'dots', 'full'])
@pytest.mark.parametrize(
  'changes',
  [
    {},
    {'positions': 't5'},
    {'attention': 'prefix'},
    {'layer_pattern': 'LG', 'window': 16},
  ],
  ids=lambda c: next(iter(c), 'rotary'),
)
def test_loss_and_gradients_are_those_of_dense_attention(changes, remat):
  if jax.default_backend() != 'gpu':
    pytest.skip('needs a GPU: JAX_PLATFORMS=cuda pytest -m gpu')
  config = dataclasses.replace(MODEL, remat=remat, **changes)
  params = params_lib.init_params(config, seed=0)

  @functools.partial(jax.jit, static_argnums=0)
  def gradients(kernel):
    loss = train_step.Loss(attention_kernel=kernel)
    return train_step.gradients(params, batch(), config=config, loss=loss)

  (got, metrics), (wanted, dense) = gradients('cudnn'), gradients('xla')
  np.testing.assert_allclose(metrics.loss, dense.loss, rtol=2e-3)
  for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    difference = jnp.linalg.norm((one - other).astype(jnp.float32))
    assert difference <= 0.03 * jnp.linalg.norm(other.astype(jnp.float32)) + 1e-6


@pytest.mark.parametrize(
  ('config', 'sequence_length', 'kind', 'message'),
  [
    ({}, 256, 'cpu', "runs on NVIDIA GPUs, these devices are 'cpu'; must be 'xla'"),
    ({}, 256, 'TPU v4', "these devices are 'TPU v4'"),
    ({'dtype': 'float32'}, 256, H100, "not support DecoderConfig.dtype='float32'"),
    (
      {'attention_softcap': 3.0},
      256,
      H100,
      'not support DecoderConfig.attention_softcap=3.0',
    ),
    (
      {'head_dim': 264},
      256,
      H100,
      'a multiple of 8 of at most 256; the nearest is 256',
    ),
    ({'head_dim': 36}, 256, H100, 'the nearest is 32'),
    ({}, 255, H100, 'SEQUENCE_LENGTH: got 255; .* the nearest is 256'),
  ],
)
def test_unsupported_models_are_refused(config, sequence_length, kind, message):
  with pytest.raises(InputError, match=message):
    cudnn.check(
      dataclasses.replace(MODEL, **config),
      sequence_length=sequence_length,
      device_kind=kind,
    )

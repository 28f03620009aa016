"""Initial values: what they depend on, how they are distributed, what they are."""

import dataclasses

import jax
import numpy as np
import pytest

from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import params as params_lib

WANT = (-0.23694314, -0.10698050), (-0.18773432, -0.22708783)

TINY = DecoderConfig(
  vocab_size=96, num_layers=3, d_model=32, d_ff=64, num_heads=4, num_kv_heads=2,
  head_dim=8, tied_embedding=False,
)  # fmt: skip


@pytest.fixture(scope='module')
def scanned():
  return jax.device_get(params_lib.init_params(TINY, seed=5))


def test_layers_apart_have_the_values_of_stacked_ones(scanned):
  apart = dataclasses.replace(TINY, scan_layers=False)
  found = jax.device_get(params_lib.init_params(apart, seed=5))
  for layer in range(3):
    want = jax.tree.map(lambda x, layer=layer: x[layer], scanned['layers'])
    jax.tree.map(np.testing.assert_array_equal, found[f'layers_{layer}'], want)
  np.testing.assert_array_equal(found['head'], scanned['head'])


def test_other_parameters_change_nothing(scanned):
  more = dataclasses.replace(TINY, positions='t5', attention_bias='all')
  found = jax.device_get(params_lib.init_params(more, seed=5))
  assert 'relative_bias' in found
  for name in ('query', 'down', 'mlp_norm'):
    np.testing.assert_array_equal(found['layers'][name], scanned['layers'][name])


def test_a_seed_of_any_size_has_its_own_values(scanned):
  drawn = [scanned['embedding']]
  for seed in (6, 5 + 2**32, 2**80, -5):
    drawn.append(np.asarray(params_lib.init_params(TINY, seed=seed)['embedding']))
  assert len({array.tobytes() for array in drawn}) == len(drawn)


def test_no_two_layers_or_matrices_share_values(scanned):
  gate, up = scanned['layers']['gate'], scanned['layers']['up']
  every = np.concatenate([gate, up]).reshape(6, -1)
  correlations = np.corrcoef(every) - np.eye(6)
  assert np.abs(correlations).max() < 5 / np.sqrt(every.shape[1])


def test_values_are_normal_up_to_the_cut():
  """All moments of 300,000 values; and no row or column of them stands out."""
  from scipy import stats

  config = dataclasses.replace(TINY, vocab_size=600, d_model=512)
  table = np.asarray(params_lib.init_params(config, seed=0)['head'], np.float64)
  values = table * 512**0.5 * 0.8796
  assert 1.99 < np.abs(values).max() < 2
  assert stats.kstest(values.ravel(), stats.truncnorm(-2, 2).cdf).pvalue > 1e-3
  for axis, size in ((0, 512), (1, 600)):
    means = table.mean(axis) * (512 * size) ** 0.5
    assert stats.kstest(means, stats.norm.cdf).pvalue > 1e-3


def test_the_values_of_a_seed_stay_what_they_are(scanned):
  """A new version of the package, or of JAX, draws the same model."""
  found = scanned['layers']['query'][1, :2, 0, 0], scanned['embedding'][-1, -2:]
  np.testing.assert_allclose(found, WANT, rtol=2e-6)
  assert (scanned['final_norm'] == 1).all()

"""The kernel for few tokens multiplies as XLA does, and each row by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flan_jax.model.kernels import native

pytestmark = pytest.mark.skipif(
  not native.available(), reason='no C compiler, or no CPU'
)


def draw(*shape):
  return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def multiply(x_NxI, matrix_IxO, **settings):
  outputs = matrix_IxO.shape[1]
  packed = native.pack(jnp.asarray(matrix_IxO))
  return native.product(jnp.asarray(x_NxI), packed, outputs=outputs, **settings)


@pytest.mark.parametrize(
  ('rows', 'inputs', 'outputs'),
  # Odd sizes; several parts of the inputs; enough for several threads.
  [(1, 7, 5), (3, 64, 24), (9, 2100, 49), (4, 576, 1536)],
)
def test_equals_the_product_of_xla(rows, inputs, outputs):
  x_NxI, matrix_IxO = draw(rows, inputs), draw(inputs, outputs)
  expected = x_NxI.astype(np.float64) @ matrix_IxO
  np.testing.assert_allclose(multiply(x_NxI, matrix_IxO), expected, atol=1e-3)


def test_a_row_does_not_depend_on_its_neighbors():
  x_NxI, matrix_IxO = draw(11, 2100), draw(2100, 100)
  together = multiply(x_NxI, matrix_IxO)
  for row in range(11):
    alone = multiply(x_NxI[row : row + 1], matrix_IxO)
    np.testing.assert_array_equal(alone[0], together[row])


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.int8])
def test_smaller_panels_are_widened_exactly(dtype):
  matrix_IxO = jnp.asarray(20 * draw(65, 30)).astype(dtype)
  x_NxI, scale_O = draw(5, 65), draw(30)
  expected = x_NxI.astype(np.float64) @ np.asarray(matrix_IxO, np.float64)
  got = multiply(x_NxI, matrix_IxO, scale_O=jnp.asarray(scale_O))
  np.testing.assert_allclose(got, expected * scale_O, rtol=1e-4, atol=1e-3)


def test_nan_stays_in_its_row():
  x_NxI = draw(5, 8)
  x_NxI[2, 3] = np.nan
  found = np.isnan(multiply(x_NxI, draw(8, 30))).all(1)
  assert found.tolist() == [False, False, True, False, False]


def test_without_a_compiler_there_is_no_kernel(monkeypatch, tmp_path):
  def tried():
    return native.available.__wrapped__()

  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setenv('CC', 'no_such_compiler')
  assert not tried()
  monkeypatch.setenv('CC', 'false')  # a compiler that fails
  assert not tried()
  monkeypatch.setenv('FLAN_JAX_C_KERNELS', '0')
  monkeypatch.delenv('XDG_CACHE_HOME')
  assert not tried()
  assert jax.default_backend() == 'cpu'


def test_attention_reads_the_slots_in_use():
  B, K, G, S, C = 3, 2, 3, 21, 40
  query, key, value = draw(B, K, G, C), draw(B, K, S, C), draw(B, K, S, C)
  mask_BxS = np.random.default_rng(0).random((B, S)) < 0.6
  mask_BxS[1] = False
  got = native.attend(*map(jnp.asarray, (4 * query, key, value, mask_BxS)))
  logits = np.einsum('bkgc,bksc->bkgs', 4 * query.astype(np.float64), key)
  logits = np.where(mask_BxS[:, None, None], logits, -1e30)
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  expected = np.einsum('bkgs,bksc->bkgc', weights, value)
  expected[1] = 0
  np.testing.assert_allclose(got, expected, atol=2e-5)

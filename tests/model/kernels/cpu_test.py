"""The products' own gradients equal those that JAX derives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flan_jax.model import attention
from flan_jax.model.kernels import cpu


def normal(seed: int, *shape: int) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_same(custom, plain, *arguments):
  """Compares values and all gradients of a sum with unequal weights."""
  weights = normal(9, *jax.eval_shape(plain, *arguments).shape)

  def of(function):
    return jax.jit(
      jax.value_and_grad(lambda arguments: jnp.sum(weights * function(*arguments)))
    )(arguments)

  for got, want in zip(
    jax.tree.leaves(of(custom)), jax.tree.leaves(of(plain)), strict=True
  ):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(('rows', 'columns'), [(4, 12), (12, 4)])
def test_a_product_has_the_gradients_of_a_product(rows, columns):
  assert_same(cpu.product, jnp.matmul, normal(0, 2, 5, rows), normal(1, rows, columns))


def test_a_gate_has_the_gradients_of_its_parts():
  def custom(gate, up):
    return cpu.gate(jax.nn.gelu, gate, up)

  assert_same(custom, lambda g, u: jax.nn.gelu(g) * u, normal(0, 2, 3), normal(1, 2, 3))


@pytest.mark.parametrize(
  ('heads', 'biased'),
  [
    pytest.param(2, False, id='one group'),
    pytest.param(4, True, id='groups of two, biased'),
    pytest.param(2, True, id='one group, biased', marks=pytest.mark.slow),
    pytest.param(4, False, id='groups of two', marks=pytest.mark.slow),
  ],
)
def test_attention_is_the_one_of_other_devices(heads, biased):
  B, L, K, C = 2, 6, 2, 4
  mask_BxLxL = np.tril(np.ones((B, L, L), bool))
  mask_BxLxL[0, 2] = False  # sees nothing
  arguments = [normal(0, B, L, heads, C), normal(1, B, L, K, C), normal(2, B, L, K, C)]
  if biased:
    arguments.append(normal(3, B, heads, L, L))

  def attend(dense):
    def call(query, key, value, bias=None):
      return dense(query, key, value, mask_BxTxS=mask_BxLxL, bias_BxHxTxS=bias)

    return call

  assert_same(
    attend(cpu.dot_product_attention),
    attend(attention.dot_product_attention),
    *arguments,
  )


def test_the_mesh_decides_the_platform_compiled_for():
  mesh = jax.make_mesh((1,), ('data',), devices=jax.devices('cpu')[:1])
  with jax.set_mesh(mesh):
    assert cpu.compiling()


@pytest.mark.parametrize(
  ('layers', 'unrolled'), [(1, 1), (6, 6), (12, 6), (30, 6), (13, 1)]
)
def test_a_divisor_of_the_number_of_layers_is_unrolled(layers, unrolled):
  assert cpu.unrolled(layers) == unrolled

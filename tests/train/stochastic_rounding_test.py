"""Stochastic rounding keeps in the mean what rounding to the nearest loses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util

from flan_jax.config import mesh as mesh_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from flan_jax.train import stochastic_rounding, train_step
from tests.train.train_step_test import TINY, drawn, eight_sequences


def test_each_entry_goes_to_a_neighbor_and_the_mean_is_right():
  exact = jnp.full(200_000, 1 + 2**-7 / 5, jnp.float32)  # a fifth of the way up
  got = np.asarray(stochastic_rounding.stochastic(exact, jax.random.key(0)), np.float32)
  assert set(np.unique(got)) == {1, 1 + 2**-7}
  assert (got > 1).mean() == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize(
  'value', [0.0, -0.0, 1.5, -3.0, float('inf'), float('-inf'), float('nan')]
)
def test_values_exact_in_bfloat16_are_unchanged(value):
  x = jnp.full(1000, value, jnp.float32)
  got = np.asarray(stochastic_rounding.stochastic(x, jax.random.key(1)), np.float32)
  np.testing.assert_array_equal(got, x)
  assert (np.signbit(got) == np.signbit(value)).all()


def test_float32_is_added_as_in_optax_and_draws_depend_on_seed_and_step():
  params = {'half': jnp.ones(4096, jnp.bfloat16), 'whole': jnp.ones(8)}
  updates = {'half': jnp.full(4096, 1e-3), 'whole': jnp.full(8, 1e-3)}

  def half(seed, step):
    out = stochastic_rounding.apply_updates(
      params, updates, seed=seed, step=jnp.int32(step)
    )
    np.testing.assert_array_equal(
      out['whole'], optax.apply_updates(params, updates)['whole']
    )
    return np.asarray(out['half'], np.float32)

  np.testing.assert_array_equal(half(0, 3), half(0, 3))
  assert (half(0, 3) != half(0, 4)).any()
  assert (half(0, 3) != half(1, 3)).any()


def moved(dtype: str, rate: float = 3e-5, steps: int = 20) -> dict[str, np.ndarray]:
  """Name -> change of each parameter from the same bfloat16 start."""
  mesh = mesh_lib.build(mesh_config.MeshConfig(), devices=jax.devices()[:1])
  rules = mesh_config.MeshConfig().rules
  shapes, axes = params_lib.abstract_params(TINY)
  start = jax.tree.map(lambda x: x.astype(jnp.bfloat16), drawn())
  params = jax.tree.map(lambda x: x.astype(dtype), start)
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
  optimizer = optimizer_lib.make_optimizer(
    optimizer_config.OptimizerConfig(learning_rate=rate), config=TINY, logical_axes=axes
  )
  layout = state_lib.layout(
    TINY, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=rules
  )
  state = state_lib.create(
    jax.device_put(params, layout.shardings.params), optimizer, layout=layout
  )
  step = train_step.make(TINY, optimizer, layout=layout, mesh=mesh, rules=rules)
  batch = mesh_lib.put_batch(eight_sequences(), mesh_lib.batch_sharding(mesh, rules))
  with train_step.sharded(mesh, rules):
    for _ in range(steps):
      state, _ = step(state, batch)
  assert {str(x.dtype) for x in jax.tree.leaves(state.params)} == {dtype}
  delta = jax.tree.map(
    lambda a, b: np.asarray(a, np.float64) - np.asarray(b, np.float64),
    jax.device_get(state.params),
    start,
  )
  return traverse_util.flatten_dict(delta, sep='/')


@pytest.mark.slow
def test_bfloat16_parameters_move_like_float32_ones():
  """At the paper's rate of 3e-5, where rounding to the nearest moves 1 % of them."""
  half, whole = moved('bfloat16'), moved('float32')
  name = 'layers/up'
  along = np.vdot(half[name], whole[name]) / np.vdot(whole[name], whole[name])
  assert along == pytest.approx(1, abs=0.15)

"""Optimizers of optax: their state is sharded, saved and restored as Adafactor's is."""

import jax
import numpy as np
import optax
import pytest
from flax import traverse_util

from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.mesh import MeshConfig
from flan_jax.config.recipe import Recipe
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import checkpoint, matrices, train_step
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from tests.train.train_step_test import TINY, abstract_params, drawn, eight_sequences

ONE, EIGHT, OTHER = (
  MeshConfig(),
  MeshConfig(data=2, fsdp=2, model=2),
  MeshConfig(fsdp=2, model=4),
)


def recipe(name: str, **arguments) -> Recipe:
  """An optimizer of gin, with a learning rate of 0.01."""
  given = {'learning_rate': 0.01, **arguments}
  return Recipe(name, tuple(sorted(given.items())))


OPTIMIZERS = {
  'adafactor': optimizer_config.OptimizerConfig(learning_rate=0.01),
  'adamw': recipe('optax.adamw'),
  'lion': recipe('optax.lion'),
  'sgd': recipe('optax.sgd', momentum=0.9),
  'muon': recipe('optax.contrib.muon'),
}


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


class Steps:
  """Train steps with an optimizer on a mesh."""

  def __init__(self, optimizer, shape: MeshConfig):
    devices = jax.devices()[: 1 if shape == ONE else 8]
    self.mesh, self.rules = mesh_lib.build(shape, devices=devices), shape.rules
    shapes, axes = abstract_params(TINY)
    self.optimizer = optimizer_lib.make_optimizer(
      optimizer, config=TINY, logical_axes=axes
    )
    self.layout = state_lib.layout(
      TINY, self.optimizer, axes=axes, shapes=shapes, mesh=self.mesh, rules=self.rules
    )
    self._step = train_step.make(
      TINY, self.optimizer, layout=self.layout, mesh=self.mesh, rules=self.rules
    )

  def create(self):
    params = jax.device_put(drawn(), self.layout.shardings.params)
    return state_lib.create(params, self.optimizer, layout=self.layout)

  def __call__(self, state, steps: int = 1):
    sharding = mesh_lib.batch_sharding(self.mesh, self.rules)
    with train_step.sharded(self.mesh, self.rules):
      for _ in range(steps):
        state, _ = self._step(state, mesh_lib.put_batch(eight_sequences(), sharding))
    return state


@pytest.mark.parametrize(
  'name',
  [
    name if name == 'adamw' else pytest.param(name, marks=pytest.mark.slow)
    for name in OPTIMIZERS
  ],
)
def test_a_run_goes_on_from_a_checkpoint_on_another_mesh(name, tmp_path):
  """Two steps on eight devices and two on another mesh are four on one device."""
  before = Steps(OPTIMIZERS[name], EIGHT)
  state = before(before.create(), 2)
  checkpoints = checkpoint.Checkpoints(str(tmp_path), keep=1)
  checkpoints.save(state, step=2, metadata={})
  checkpoints.wait()
  after = Steps(OPTIMIZERS[name], OTHER)
  saved = checkpoints.metadata(2)
  state = checkpoints.restore(2, layout=after.layout, metadata=saved)
  checkpoints.close()
  state = after(state, 2)
  alone = Steps(OPTIMIZERS[name], ONE)
  expected = alone(alone.create(), 4)
  for got, want in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(got, want, rtol=2e-3, atol=2e-4)


def paths(tree) -> dict:
  """Path of every leaf, as `0/mu/layers/query`, and the leaf."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


@pytest.mark.parametrize('name', ['adamw', 'lion', 'sgd', 'muon'])
def test_moments_are_sharded_as_their_parameters(name):
  layout = Steps(OPTIMIZERS[name], EIGHT).layout
  params = flat(layout.shardings.params)
  found = set()
  for path, sharding in paths(layout.shardings.optimizer).items():
    parameter = next((p for p in params if path.endswith(f'/{p}')), None)
    if parameter is None:
      assert not any(sharding.spec), path
    else:
      assert sharding == params[parameter], path
      found.add(parameter)
  assert found == set(params)


def test_matrices_of_layers_are_muons_and_the_rest_is_adams():
  """Of scanned layers too, whose arrays have one axis more than a matrix."""
  state = paths(Steps(OPTIMIZERS['muon'], ONE).layout.shapes.optimizer)
  muon, adam = (
    {
      name
      for name in flat(abstract_params(TINY)[0])
      if any(path.endswith(f'/mu/{name}') and f'/{kind}/' in path for path in state)
    }
    for kind in ('muon', 'adam')
  )
  kinds = ('query', 'key', 'value', 'output', 'gate', 'up', 'down')
  assert muon == {f'layers/{name}' for name in kinds}
  assert adam == set(flat(abstract_params(TINY)[0])) - muon


def test_muon_takes_the_inputs_of_a_matrix_for_its_rows():
  shapes, axes = abstract_params(TINY)
  found = flat(matrices.dimension_numbers(axes)(shapes))
  assert found['layers/query'] == ((1,), (2, 3))  # [layers, embed, heads, kv]
  assert found['layers/output'] == ((1, 2), (3,))  # [layers, heads, kv, embed]
  assert found['layers/down'] == ((1,), (2,))  # [layers, mlp, embed]
  assert found['embedding'] is None


def test_weight_decay_leaves_norms_alone():
  found = flat(matrices.without_norms(abstract_params(TINY)[0]))
  assert {name for name, decays in found.items() if not decays} == {
    name for name in found if name.endswith('norm')
  }


def test_adamw_is_that_of_torch():
  """Three steps, float32, within 1e-6."""
  torch = pytest.importorskip('torch')
  rng = np.random.default_rng(0)
  start = rng.normal(size=(4, 3)).astype(np.float32)
  grads = rng.normal(size=(3, 4, 3)).astype(np.float32)
  settings = {'b1': 0.9, 'b2': 0.98, 'eps': 1e-8, 'weight_decay': 0.1}
  optimizer = optimizer_lib.make_optimizer(
    recipe('optax.adamw', **settings),
    config=TINY,
    logical_axes={'w': ('embed', 'mlp')},
  )
  ours = {'w': start}
  state = optimizer.init(ours)
  weight = torch.nn.Parameter(torch.tensor(start))
  theirs = torch.optim.AdamW(
    [weight], lr=0.01, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1
  )
  for grad in grads:
    updates, state = optimizer.update({'w': grad}, state, ours)
    ours = optax.apply_updates(ours, updates)
    weight.grad = torch.tensor(grad)
    theirs.step()
  np.testing.assert_allclose(ours['w'], weight.detach().numpy(), atol=1e-6)

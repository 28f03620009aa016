"""Frozen parameters: they stay as they are, and have no state in the optimizer."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.mesh import MeshConfig
from flan_jax.errors import InputError
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from flan_jax.train import train_step, tuning
from tests.train.train_step_test import TINY, abstract_params, drawn, eight_sequences

MESH = MeshConfig(data=2, fsdp=2, model=2)


def flat(tree):
  return traverse_util.flatten_dict(tree, sep='/')


def after_a_step(freeze, *, logits_chunk=None):
  """State before and after one step on eight devices."""
  mesh = mesh_lib.build(MESH)
  shapes, axes = abstract_params(TINY)
  strategy = tuning.of(optimizer_config.Lora(), freeze=freeze)
  strategy.abstract(shapes, axes)
  settings = optimizer_config.OptimizerConfig(learning_rate=0.1)
  optimizer = optimizer_lib.make_optimizer(
    settings, config=TINY, logical_axes=axes, tuning=strategy
  )
  layout = state_lib.layout(
    TINY, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=MESH.rules
  )
  step = train_step.make(
    TINY,
    optimizer,
    layout=layout,
    mesh=mesh,
    rules=MESH.rules,
    loss=train_step.Loss(tuning=strategy, logits_chunk=logits_chunk),
  )
  before = drawn()
  params = jax.device_put(before, layout.shardings.params)
  state = state_lib.create(params, optimizer, layout=layout)
  with train_step.sharded(mesh, MESH.rules):
    state, _ = step(state, eight_sequences())
  return before, state, layout


@pytest.mark.parametrize(
  ('freeze', 'logits_chunk'),
  [(('embedding', '*norm'), 8), (('layers/attention_norm',), None)],
)
def test_frozen_parameters_stay_and_the_others_move(freeze, logits_chunk):
  before, state, layout = after_a_step(freeze, logits_chunk=logits_chunk)
  strategy = tuning.of(optimizer_config.Lora(), freeze=freeze)
  moved = {
    name: not np.array_equal(value, flat(before)[name])
    for name, value in flat(state.params).items()
  }
  assert moved == {name: strategy.trains(name) for name in moved}
  assert not all(moved.values())
  paths = [
    jax.tree_util.keystr(path, simple=True, separator='/')
    for path, _ in jax.tree_util.tree_flatten_with_path(state.optimizer)[0]
  ]
  for name in moved:
    assert moved[name] == any(f'/{name}/' in path for path in paths), name


@pytest.mark.parametrize(
  ('pattern', 'found'),
  [
    ('layers', 9),
    ('attention_norm', 1),
    ('layers/query', 1),
    ('*norm', 3),
  ],
)
def test_a_pattern_names_a_parameter_a_group_or_an_end(pattern, found):
  names = flat(abstract_params(TINY)[0])
  strategy = tuning.of(optimizer_config.Lora(), freeze=(pattern,))
  assert sum(not strategy.trains(name) for name in names) == found


@pytest.mark.parametrize(
  ('freeze', 'message'),
  [
    (('layers/querry',), "no parameter 'layers/querry'.*did you mean 'layers/query'"),
    (('*',), 'leaves no parameter to train'),
  ],
)
def test_a_pattern_that_fits_nothing_or_all_is_refused(freeze, message):
  strategy = tuning.of(optimizer_config.Lora(), freeze=freeze)
  with pytest.raises(InputError, match=message):
    strategy.abstract(*abstract_params(TINY))


def test_frozen_parameters_beside_adapters_are_refused():
  with pytest.raises(InputError, match='LORA_RANK 4'):
    tuning.of(optimizer_config.Lora(rank=4), freeze=('embedding',))

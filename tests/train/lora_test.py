"""LoRA: adapters, their training, and the model that a run leaves."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import traverse_util
from safetensors.numpy import load_file

from flan_jax.catalog import registry
from flan_jax.checkpoints import model_dir as model_dir_lib
from flan_jax.checkpoints import weights
from flan_jax.config import gin, training
from flan_jax.config import mesh as mesh_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data.store import materialize
from flan_jax.data.store import store as store_lib
from flan_jax.errors import InputError
from flan_jax.jobs import train_and_evaluate
from flan_jax.model import params as params_lib
from flan_jax.model.decoder import Decoder
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime.progress import Progress
from flan_jax.train import checkpoint, lora, metric_writer, train_step, tuning
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from tests.train.train_step_test import TINY, eight_sequences

TASK = 'microworld_mini_arc'
LORA = optimizer_config.Lora(rank=4, alpha=8.0)
MODELS = {
  'gated': TINY,
  'unrolled': dataclasses.replace(TINY, scan_layers=False),
  'biased': dataclasses.replace(
    TINY, activation='gelu', norm='layer', attention_bias='all', mlp_bias=True
  ),
  'grouped': dataclasses.replace(TINY, num_kv_heads=2, qk_norm=True, post_norms=True),
}


def flat(tree) -> dict:
  return traverse_util.flatten_dict(tree, sep='/')


def drawn(shapes, *, seed: int = 0):
  """Adapters that change the model: neither matrix is zero."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda s: jnp.asarray(rng.normal(size=s.shape, scale=0.1), s.dtype), shapes
  )


def logits(config: DecoderConfig, variables) -> np.ndarray:
  batch = eight_sequences()
  return np.asarray(
    Decoder(config).apply(
      variables,
      batch.tokens,
      positions_BxL=batch.positions,
      segment_ids_BxL=batch.segment_ids,
    )
  )


@pytest.mark.parametrize('config', MODELS.values(), ids=MODELS)
def test_merged_weights_are_the_model_with_its_adapters(config):
  shapes, axes = params_lib.abstract_params(config)
  params = params_lib.init_params(config, seed=0)
  small, _ = lora.abstract(shapes, axes, lora=LORA)
  adapters = drawn(small)
  beside = logits(config, lora.variables(params, adapters, lora=LORA))
  merged = lora.merge(params, adapters, lora=LORA)
  np.testing.assert_allclose(logits(config, {'params': merged}), beside, atol=2e-5)
  assert np.abs(beside - logits(config, {'params': params})).max() > 0.1
  layer = 'layers/' if config.scan_layers else 'layers_1/'
  changed = {
    name for name, value in flat(merged).items() if (value != flat(params)[name]).any()
  }
  assert {f'{layer}{name}' for name in ('query', 'output', 'up', 'down')} <= changed
  assert not {'embedding', 'final_norm', f'{layer}mlp_norm'} & changed


def test_initial_adapters_change_nothing():
  shapes, axes = params_lib.abstract_params(TINY)
  params = params_lib.init_params(TINY, seed=0)
  adapters = lora.init(*lora.abstract(shapes, axes, lora=LORA), seed=0)
  variables = lora.variables(params, adapters, lora=LORA)
  assert (logits(TINY, variables) == logits(TINY, {'params': params})).all()
  assert all((v != 0).any() for k, v in flat(adapters).items() if k.endswith('_a'))


def test_their_gradient_is_that_of_the_merged_weights():
  """By the chain rule over W + scale * A B, without the decoder's shortcut."""
  shapes, axes = params_lib.abstract_params(TINY)
  params = params_lib.init_params(TINY, seed=0)
  adapters = drawn(lora.abstract(shapes, axes, lora=LORA)[0])
  batch = eight_sequences()

  def through_the_sum(adapters):
    merged = dict(flat(params))
    for name, weight in merged.items():
      if f'{name}_a' in flat(adapters):
        a, b = (flat(adapters)[f'{name}_{part}'] for part in 'ab')
        pattern = 'ndr,nrhc->ndhc' if b.ndim == 4 else 'n...r,nrd->n...d'
        merged[name] = weight + LORA.scale * jnp.einsum(pattern, a, b)
    tree = traverse_util.unflatten_dict(merged, sep='/')
    return train_step.loss_sums(tree, batch, config=TINY)[0]

  def beside(adapters):
    return train_step.loss_sums(
      adapters,
      batch,
      config=TINY,
      loss=train_step.Loss(tuning=tuning.LowRank(LORA)),
      frozen=params,
    )[0]

  want, got = jax.grad(through_the_sum)(adapters), jax.grad(beside)(adapters)
  for name, value in flat(want).items():
    np.testing.assert_allclose(flat(got)[name], value, rtol=1e-4, atol=1e-4)


def run_steps(
  shape: mesh_config.MeshConfig,
  *,
  devices: int,
  base_dtype='float32',
  steps=30,
  scaled: bool | None = None,
):
  """(losses, adapters, optimizer state, base) of a few steps."""
  config = dataclasses.replace(TINY, param_dtype=base_dtype)
  mesh = mesh_lib.build(shape, devices=jax.devices()[:devices])
  shapes, axes = params_lib.abstract_params(config)
  shardings = mesh_lib.shardings(axes, mesh=mesh, rules=shape.rules)
  base = params_lib.init_params(config, seed=0, shardings=shardings)
  small, small_axes = lora.abstract(shapes, axes, lora=LORA)
  optimizer = optimizer_lib.make_optimizer(
    optimizer_config.OptimizerConfig(
      learning_rate=0.02, multiply_by_parameter_scale=scaled
    ),
    config=config,
    logical_axes=small_axes,
    tuning=tuning.LowRank(LORA),
  )
  layout = state_lib.layout(
    config, optimizer, axes=small_axes, shapes=small, mesh=mesh, rules=shape.rules
  )
  adapters = lora.init(small, small_axes, seed=0, shardings=layout.shardings.params)
  state = state_lib.create(adapters, optimizer, layout=layout)
  step = train_step.make(
    config, optimizer, layout=layout, mesh=mesh, rules=shape.rules,
    loss=train_step.Loss(tuning=tuning.LowRank(LORA)), frozen_shardings=shardings,
  )  # fmt: skip
  batch = mesh_lib.put_batch(
    eight_sequences(), mesh_lib.batch_sharding(mesh, shape.rules)
  )
  losses = []
  with train_step.sharded(mesh, shape.rules):
    for _ in range(steps):
      state, metrics = step(state, batch, base)
      losses.append(float(metrics.loss) / float(metrics.weight))
  return np.array(losses), state, base


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_they_learn_beside_a_frozen_model_of_either_dtype(dtype):
  losses, state, base = run_steps(mesh_config.MeshConfig(), devices=1, base_dtype=dtype)
  assert losses[-1] < losses[0] - 0.5
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(base)} == {dtype}
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(state.params)} == {'float32'}
  # Nothing in the state has the size of the model.
  sizes = sum(leaf.size for leaf in jax.tree.leaves(state))
  adapters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  assert sizes < 2.1 * adapters
  assert jax.tree.structure(state.params) == jax.tree.structure(
    lora.abstract(*params_lib.abstract_params(TINY), lora=LORA)[0]
  )


def test_steps_use_the_rate_itself_unless_scaled_by_parameters():
  """The default is no scaling; with scaling, zero-initialized matrices learn too."""
  default, off, on = (
    run_steps(mesh_config.MeshConfig(), devices=1, scaled=scaled)
    for scaled in (None, False, True)
  )
  np.testing.assert_array_equal(default[0], off[0])
  for losses, state, _ in (default, on):
    assert losses[-1] < losses[0] - 0.5
    largest = {n: float(np.abs(v).max()) for n, v in flat(state.params).items()}
    assert all(v > 0.05 for n, v in largest.items() if n.endswith('_b')), largest


def test_on_a_mesh_they_learn_as_on_one_device():
  one, _, _ = run_steps(mesh_config.MeshConfig(), devices=1, steps=3)
  many, _, _ = run_steps(mesh_config.MeshConfig(fsdp=2, model=2), devices=8, steps=3)
  np.testing.assert_allclose(many, one, rtol=2e-6)


def test_named_targets_are_the_only_ones():
  shapes, axes = params_lib.abstract_params(TINY)
  some = optimizer_config.Lora(rank=2, targets=('query', 'value'))
  small, _ = lora.abstract(shapes, axes, lora=some)
  found = {f'layers/{name}_{part}' for name in ('query', 'value') for part in 'ab'}
  assert set(flat(small)) == found
  ungated, axes = params_lib.abstract_params(MODELS['biased'])
  with pytest.raises(InputError, match="Lora.targets: the model has no 'gate'"):
    lora.abstract(ungated, axes, lora=optimizer_config.Lora(rank=2, targets=('gate',)))
  with pytest.raises(
    InputError, match="'querry' must be one of 'query', .*did you mean 'query'"
  ):
    optimizer_config.Lora(rank=2, targets=('querry',))


@pytest.fixture(scope='module')
def folders(tmp_path_factory):
  """(store, model folder) for the runs below."""
  out = tmp_path_factory.mktemp('lora')
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(tokenizer='bytes', epochs=1, sequence_length=256),
    out=out / 'store',
  )
  model = dataclasses.replace(TINY, vocab_size=512)
  model_dir_lib.save(
    out / 'base',
    params_lib.init_params(model, seed=5),
    config=model,
    tokenizer=store_lib.Store.open(out / 'store').tokenizer(),
  )
  return out / 'store', out / 'base'


def build(model_dir, folders, **more) -> training.TrainConfig:
  store, base = folders
  values = {
    'MODEL_DIR': model_dir,
    'MIXTURE_OR_TASK_NAME': TASK,
    'STORE': store,
    'INITIAL_CHECKPOINT_PATH': base,
    'TRAIN_STEPS': 8,
    'SEQUENCE_LENGTH': 256,
    'BATCH_TOKENS': 2048,
    'LORA_RANK': 4,
    'Optimizer.learning_rate': 0.01,
    'Run.logits_chunk': 64,
    'Run.checkpoint_period': 3,
    'Run.log_period': 1,
    **more,
  }
  flags = [f'{name}={value}' for name, value in values.items()]
  return gin.load(['gin/runs/base.gin'], flags).build('Run')


QUIET = Progress(quiet=True)


class Killed(Exception):
  pass


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
  folders, tmp_path, monkeypatch
):
  """Bit for bit; and the merged model is a plain one."""
  whole = train_and_evaluate.train_and_evaluate(
    build(tmp_path / 'whole', folders), progress=QUIET
  )
  flush = metric_writer.MetricWriter.flush

  def dies(self, step, **more):
    if step == 5:
      raise Killed
    return flush(self, step, **more)

  with monkeypatch.context() as patch:
    patch.setattr(metric_writer.MetricWriter, 'flush', dies)
    with pytest.raises(Killed):
      train_and_evaluate.train_and_evaluate(
        build(tmp_path / 'broken', folders), progress=QUIET
      )
  assert not (tmp_path / 'broken' / 'model').exists()
  train_and_evaluate.train_and_evaluate(
    build(tmp_path / 'broken', folders), progress=QUIET
  )

  one, other = (
    load_file(tmp_path / name / 'model' / 'model.safetensors')
    for name in ('whole', 'broken')
  )
  base = load_file(folders[1] / 'model.safetensors')
  assert one.keys() == other.keys() == base.keys()
  for name, value in one.items():
    assert value.tobytes() == other[name].tobytes(), name
  assert (one['layers/query'] != base['layers/query']).any()
  assert (one['embedding'] == base['embedding']).all()

  metadata = json.loads((tmp_path / 'whole' / 'model' / 'training.json').read_text())
  assert metadata['lora']['rank'] == 4
  assert metadata['lora']['base_digest'] == lora.base_digest(str(folders[1]))
  assert set(flat(whole.state.params)) == {
    f'layers/{name}_{part}' for name in optimizer_config.LORA_TARGETS for part in 'ab'
  }
  # It opens as a model without adapters.
  found = weights.load_config(tmp_path / 'whole' / 'model')
  weights.load(tmp_path / 'whole' / 'model', found)


def test_adapters_do_not_resume_on_another_base(folders, tmp_path):
  store, base = folders
  copy = tmp_path / 'base'
  copy.mkdir()
  for file in base.iterdir():
    (copy / file.name).write_bytes(file.read_bytes())
  run = build(tmp_path / 'run', (store, copy), TRAIN_STEPS=3)
  train_and_evaluate.train_and_evaluate(run, progress=QUIET)
  model = weights.load_config(copy)
  weights.save(copy, params_lib.init_params(model, seed=6), config=model)
  with pytest.raises(InputError, match='INITIAL_CHECKPOINT_PATH: the adapters'):
    train_and_evaluate.train_and_evaluate(
      dataclasses.replace(run, train_steps=4), progress=QUIET
    )


def test_checkpoints_hold_only_the_adapters(folders, tmp_path):
  train_and_evaluate.train_and_evaluate(
    build(tmp_path, folders, TRAIN_STEPS=3), progress=QUIET
  )
  saved = checkpoint.Checkpoints(str(tmp_path), keep=1)
  assert saved.metadata(3)['lora']['base'] == str(folders[1])
  saved.close()
  state = ocp.StandardCheckpointer().restore(tmp_path / 'checkpoints' / '3' / 'state')
  assert all(name.endswith(('_a', '_b')) for name in flat(state['params']))
  numbers = sum(leaf.size for leaf in jax.tree.leaves(state))
  base = load_file(folders[1] / 'model.safetensors')
  assert numbers < sum(tensor.size for tensor in base.values()) / 2


def test_bad_settings_are_refused(folders, tmp_path):
  with pytest.raises(InputError, match='LORA_RANK: got 4, and no model to adapt'):
    build(tmp_path, folders, INITIAL_CHECKPOINT_PATH=None)
  with pytest.raises(InputError, match=r'LORA_RANK: got 999; must be at most \d+, the'):
    train_and_evaluate.train_and_evaluate(
      build(tmp_path, folders, LORA_RANK=999), progress=Progress(quiet=True)
    )
  with pytest.raises(InputError, match='LORA_RANK: got -1; must be 0 or more'):
    build(tmp_path, folders, LORA_RANK=-1)
  with pytest.raises(InputError, match='Run.logits_chunk: got 60; .* nearest is 64'):
    build(tmp_path, folders, **{'Run.logits_chunk': 60})

"""LoRA: adapters, their training, and the model that a run leaves."""

import dataclasses
import functools
import json
import shutil

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
from flan_jax.model.decoder import Decoder
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime.progress import Progress
from flan_jax.train import checkpoint, lora, metric_writer, train_step, tuning
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from tests.train import train_step_test
from tests.train.train_step_test import TINY, abstract_params, eight_sequences

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
MODELS['unrolled-biased-grouped'] = dataclasses.replace(
  MODELS['biased'], num_kv_heads=2, qk_norm=True, post_norms=True, scan_layers=False
)
DEFAULT = ('gated', 'unrolled-biased-grouped')


def flat(tree) -> dict:
  return traverse_util.flatten_dict(tree, sep='/')


def drawn(shapes, *, seed: int = 0):
  """Adapters that change the model: neither matrix is zero."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda s: rng.normal(size=s.shape, scale=0.1).astype(s.dtype), shapes
  )


def initial(shapes):
  """Adapters without effect, as those of a new run."""
  zeroed = {
    name: value * (not lora.starts_at_zero(name))
    for name, value in flat(drawn(shapes)).items()
  }
  return traverse_util.unflatten_dict(zeroed, sep='/')


def model(config: DecoderConfig):
  """Parameters of a model, before any adapters."""
  return jax.tree.map(jnp.asarray, train_step_test.drawn(config))


@functools.partial(jax.jit, static_argnums=0)
def forward(config: DecoderConfig, variables, batch):
  return Decoder(config).apply(
    variables,
    batch.tokens,
    positions_BxL=batch.positions,
    segment_ids_BxL=batch.segment_ids,
  )


def logits(config: DecoderConfig, variables) -> np.ndarray:
  return np.asarray(forward(config, variables, eight_sequences()))


@pytest.mark.parametrize(
  'config',
  [
    pytest.param(one, id=name, marks=() if name in DEFAULT else pytest.mark.slow)
    for name, one in MODELS.items()
  ],
)
def test_merged_weights_are_the_model_with_its_adapters(config):
  shapes, axes = abstract_params(config)
  params = model(config)
  small, _ = lora.abstract(shapes, axes, lora=LORA)
  adapters = drawn(small)
  beside = logits(config, lora.variables(params, adapters, lora=LORA))
  merged = jax.device_get(lora.merge(params, adapters, lora=LORA))
  np.testing.assert_allclose(logits(config, {'params': merged}), beside, atol=2e-5)
  assert np.abs(beside - logits(config, {'params': params})).max() > 0.1
  layer = 'layers/' if config.scan_layers else 'layers_1/'
  changed = {
    name
    for name, value in flat(merged).items()
    if (value != np.asarray(flat(params)[name])).any()
  }
  assert {f'{layer}{name}' for name in ('query', 'output', 'up', 'down')} <= changed
  assert not {'embedding', 'final_norm', f'{layer}mlp_norm'} & changed


def test_initial_adapters_change_nothing():
  shapes, axes = abstract_params(TINY)
  params = model(TINY)
  adapters = jax.device_get(lora.init(*lora.abstract(shapes, axes, lora=LORA), seed=0))
  variables = lora.variables(params, adapters, lora=LORA)
  assert (logits(TINY, variables) == logits(TINY, {'params': params})).all()
  assert all((v != 0).any() for k, v in flat(adapters).items() if k.endswith('_a'))


def test_their_gradient_is_that_of_the_merged_weights():
  """By the chain rule over W + scale * A B, without the decoder's shortcut."""
  shapes, axes = abstract_params(TINY)
  params = model(TINY)
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

  want, got = (jax.jit(jax.grad(loss))(adapters) for loss in (through_the_sum, beside))
  for name, value in flat(want).items():
    np.testing.assert_allclose(flat(got)[name], value, rtol=1e-4, atol=1e-4)


@functools.cache
def run_steps(
  shape: mesh_config.MeshConfig | None = None,
  *,
  devices: int = 1,
  base_dtype='float32',
  steps=30,
  scaled: bool | None = None,
):
  """(losses, adapters, optimizer state, base) of a few steps."""
  shape = shape or mesh_config.MeshConfig()
  config = dataclasses.replace(TINY, param_dtype=base_dtype)
  mesh = mesh_lib.build(shape, devices=jax.devices()[:devices])
  shapes, axes = abstract_params(config)
  shardings = mesh_lib.shardings(axes, mesh=mesh, rules=shape.rules)
  base = jax.device_put(train_step_test.drawn(config), shardings)
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
  state = state_lib.create(
    jax.device_put(initial(small), layout.shardings.params), optimizer, layout=layout
  )
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
  losses, state, base = run_steps(base_dtype=dtype)
  assert losses[-1] < losses[0] - 0.5
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(base)} == {dtype}
  assert {str(leaf.dtype) for leaf in jax.tree.leaves(state.params)} == {'float32'}
  # Nothing in the state has the size of the model.
  sizes = sum(leaf.size for leaf in jax.tree.leaves(state))
  adapters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
  assert sizes < 2.1 * adapters
  assert jax.tree.structure(state.params) == jax.tree.structure(
    lora.abstract(*abstract_params(TINY), lora=LORA)[0]
  )


@pytest.mark.slow
def test_steps_use_the_rate_itself_unless_scaled_by_parameters():
  """The default is no scaling; with scaling, zero-initialized matrices learn too."""
  default, on = run_steps(), run_steps(scaled=True)
  off = run_steps(scaled=False, steps=3)
  np.testing.assert_array_equal(default[0][:3], off[0])
  assert (default[0][:3] != on[0][:3]).any()
  for losses, state, _ in (default, on):
    assert losses[-1] < losses[0] - 0.5
    largest = {n: float(np.abs(v).max()) for n, v in flat(state.params).items()}
    assert all(v > 0.05 for n, v in largest.items() if n.endswith('_b')), largest


def test_on_a_mesh_they_learn_as_on_one_device():
  one, _, _ = run_steps()
  many, _, _ = run_steps(mesh_config.MeshConfig(fsdp=2, model=2), devices=8, steps=3)
  np.testing.assert_allclose(many, one[:3], rtol=2e-6)


def test_named_targets_are_the_only_ones():
  shapes, axes = abstract_params(TINY)
  some = optimizer_config.Lora(rank=2, targets=('query', 'value'))
  small, _ = lora.abstract(shapes, axes, lora=some)
  found = {f'layers/{name}_{part}' for name in ('query', 'value') for part in 'ab'}
  assert set(flat(small)) == found
  ungated, axes = abstract_params(MODELS['biased'])
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
  config = dataclasses.replace(TINY, vocab_size=512)
  model_dir_lib.save(
    out / 'base',
    model(config),
    config=config,
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
    'TRAIN_STEPS': 5,
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


@pytest.fixture(scope='module')
def whole(folders, tmp_path_factory):
  """(MODEL_DIR, result) of a run that nothing interrupted, on the base `base`."""
  out = tmp_path_factory.mktemp('runs') / 'whole'
  with pytest.MonkeyPatch.context() as patch:
    patch.chdir(folders[1].parent)
    run = build(out, folders, INITIAL_CHECKPOINT_PATH=folders[1].name)
    return out, train_and_evaluate.train_and_evaluate(run, progress=QUIET)


class Killed(Exception):
  pass


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(
  folders, whole, tmp_path, monkeypatch
):
  """Bit for bit."""
  flush = metric_writer.MetricWriter.flush

  def dies(self, step, **more):
    if step == 4:
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
    load_file(out / 'model' / 'model.safetensors')
    for out in (whole[0], tmp_path / 'broken')
  )
  assert one.keys() == other.keys()
  for name, value in one.items():
    assert value.tobytes() == other[name].tobytes(), name


def test_the_model_that_a_run_leaves_is_a_plain_one(folders, whole):
  out, result = whole
  merged, base = (
    load_file(folder / 'model.safetensors') for folder in (out / 'model', folders[1])
  )
  assert merged.keys() == base.keys()
  assert (merged['layers/query'] != base['layers/query']).any()
  assert (merged['embedding'] == base['embedding']).all()

  metadata = json.loads((out / 'model' / 'training.json').read_text())
  assert metadata['lora']['rank'] == 4
  assert metadata['lora']['base_digest'] == lora.base_digest(str(folders[1]))
  assert set(flat(result.state.params)) == {
    f'layers/{name}_{part}' for name in optimizer_config.LORA_TARGETS for part in 'ab'
  }
  # It opens as a model without adapters.
  found = weights.load_config(out / 'model')
  weights.load(out / 'model', found)


def test_adapters_do_not_resume_on_another_base(folders, whole, tmp_path, monkeypatch):
  """Not even if it lies where their own was."""
  run, base = (
    shutil.copytree(folder, tmp_path / folder.name) for folder in (whole[0], folders[1])
  )
  monkeypatch.chdir(tmp_path)
  config = weights.load_config(base)
  other = jax.tree.map(lambda weight: weight + 1, train_step_test.drawn(config))
  weights.save(base, other, config=config)
  changes = {'INITIAL_CHECKPOINT_PATH': base.name, 'TRAIN_STEPS': 6}
  with pytest.raises(InputError, match='INITIAL_CHECKPOINT_PATH: the adapters'):
    train_and_evaluate.train_and_evaluate(
      build(run, folders, **changes), progress=QUIET
    )


def test_checkpoints_hold_only_the_adapters(folders, whole):
  out, _ = whole
  saved = checkpoint.Checkpoints(str(out), keep=2)
  assert saved.metadata(5)['lora']['base'] == folders[1].name
  saved.close()
  state = ocp.StandardCheckpointer().restore(out / 'checkpoints' / '5' / 'state')
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

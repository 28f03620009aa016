"""Parity with the real t5x: the same loss, update and generated tokens."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import EOS, TINY, examples, flan_batch, pairs, t5x_features
from flax import traverse_util

from flan_jax.checkpoints import weights
from flan_jax.config import mesh as mesh_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.interop.t5x import recipe
from flan_jax.interop.t5x.network import Network
from flan_jax.model import params as params_lib
from flan_jax.model.decoder import Decoder
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from flan_jax.train import train_step

pytestmark = pytest.mark.t5x

LENGTH = 40
RATE, WARMUP = 0.03, 2
STEPS = 3
# Large enough that t5x factors the second moments of the embedding.
WIDE = dataclasses.replace(TINY, vocab_size=160, d_model=128, d_ff=160)
CONFIGS = {
  'scanned': WIDE,
  'unrolled': dataclasses.replace(WIDE, scan_layers=False),
  't5 positions, prefix': dataclasses.replace(WIDE, positions='t5', attention='prefix'),
  'remat': dataclasses.replace(WIDE, remat='full'),
}
Z_LOSS = 1e-3


def make_model(config, **settings):
  """t5x's model around our network, with t5x's Adafactor."""
  import seqio
  from t5x import adafactor, models

  return models.DecoderOnlyModel(
    module=Network(config),
    vocabulary=seqio.ByteVocabulary(),
    optimizer_def=adafactor.Adafactor(
      decay_rate=0.8,
      step_offset=0,
      logical_factor_rules=adafactor.standard_logical_factor_rules(),
    ),
    inputs_bidirectional_attention=config.attention == 'prefix',
    loss_normalizing_factor='NUM_REAL_TARGET_TOKENS',
    z_loss=Z_LOSS,
    **settings,
  )


def batches():
  return [pairs(16, seed=seed) for seed in range(STEPS)]


def run_t5x(config, params):
  """Runs t5x's train step on one device: (losses, parameters, moments)."""
  from t5x import train_state, trainer

  model = make_model(config)
  ones = {'decoder_input_tokens': (2, LENGTH)}
  key = jax.random.PRNGKey(0)
  variables = model.get_initial_variables(key, ones, {'decoder_input_tokens': 'int32'})
  state = train_state.FlaxOptimTrainState.create(model.optimizer_def, variables)
  tree = state.state_dict()
  tree['target'] = {'decoder': params}
  state = state.restore_state(tree)
  rate = recipe.learning_rate(RATE, 'rsqrt', WARMUP)

  @jax.jit
  def step(state, batch):
    loss, _ = model.loss_fn(state.params, batch, None)
    state, _ = trainer.train_with_lr(state, batch, rate(state.step), key, model, None)
    return state, loss

  losses = []
  for groups in batches():
    batch = t5x_features(groups, sequence_length=LENGTH)
    state, loss = step(state, batch)
    losses.append(float(loss))
  return results(losses, state)


def run_t5x_on_a_mesh(config, params, tmp_path):
  """The same with t5x's Trainer and partitioner, data 4 x model 2, from a folder."""
  from t5x import partitioning, trainer

  weights.save(tmp_path, params, config=config)
  partitioner = partitioning.PjitPartitioner(
    model_parallel_submesh=(1, 2),
    logical_axis_rules=partitioning.standard_logical_axis_rules(),
  )
  model = make_model(config)
  from flan_jax.interop.t5x.initializer import Initializer

  initializer = Initializer(
    source=str(tmp_path),
    optimizer_def=model.optimizer_def,
    init_fn=model.get_initial_variables,
    input_shapes={'decoder_input_tokens': (8, LENGTH)},
    input_types={'decoder_input_tokens': jnp.int32},
    partitioner=partitioner,
  )
  key = jax.random.PRNGKey(0)
  made = trainer.Trainer(
    model=model,
    train_state=initializer.from_scratch(key),
    partitioner=partitioner,
    eval_names=[],
    summary_dir=None,
    train_state_axes=initializer.train_state_axes,
    rng=key,
    learning_rate_fn=recipe.learning_rate(RATE, 'rsqrt', WARMUP),
    num_microbatches=None,
  )
  gate = made.train_state.params['decoder']['layers']['gate']
  assert gate.sharding.shard_shape(gate.shape) == (2, 128, 80)
  losses = []
  for groups in batches():
    batch = t5x_features(groups, sequence_length=LENGTH)
    made.train_state, metrics = made._partitioned_train_step(made.train_state, batch)
    losses.append(float(metrics['loss'].compute()))
  return results(losses, made.train_state)


def results(losses, state):
  tree = jax.device_get(state.state_dict())
  return losses, tree['target']['decoder'], tree['state']['param_states']['decoder']


def run_flan_jax(config, params):
  """The same with our train step."""
  run = mesh_config.MeshConfig()
  mesh = mesh_lib.build(run, devices=jax.devices()[:1])
  shapes, axes = params_lib.abstract_params(config)
  optimizer = optimizer_lib.make_optimizer(
    optimizer_config.OptimizerConfig(
      learning_rate=RATE, schedule='rsqrt', warmup_steps=WARMUP
    ),
    config=config,
    logical_axes=axes,
  )
  layout = state_lib.layout(
    config, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=run.rules
  )
  params = jax.device_put(params, layout.shardings.params)
  state = state_lib.create(params, optimizer, layout=layout)
  step = train_step.make(
    config, optimizer, layout=layout, mesh=mesh, rules=run.rules,
    loss=train_step.Loss(z_loss=Z_LOSS),
  )  # fmt: skip
  sharding = mesh_lib.batch_sharding(mesh, run.rules)
  losses = []
  with train_step.sharded(mesh, run.rules):
    for groups in batches():
      batch = mesh_lib.put_batch(flan_batch(groups, sequence_length=LENGTH), sharding)
      state, metrics = step(state, batch)
      losses.append(float(metrics.loss) / float(metrics.weight))
  moments = jax.tree.map(
    lambda one: one._asdict(),
    jax.device_get(state.optimizer.moments),
    is_leaf=lambda node: hasattr(node, '_asdict'),
  )
  return losses, jax.device_get(state.params), moments


def assert_same(got, want):
  losses, params, moments = got
  np.testing.assert_allclose(losses, want[0], rtol=1e-5)
  for ours, other, tolerance in ((params, want[1], 1e-5), (moments, want[2], 1e-4)):
    ours, other = (traverse_util.flatten_dict(t, sep='/') for t in (ours, other))
    assert set(ours) == set(other)
    for name, value in ours.items():
      assert value.shape == other[name].shape, name
      scale = np.max(np.abs(other[name])) + 1e-30
      np.testing.assert_allclose(
        value / scale, other[name] / scale, atol=tolerance, err_msg=name
      )


@pytest.mark.parametrize('name', CONFIGS)
def test_the_same_batches_give_the_same_losses_and_the_same_adafactor_updates(name):
  config = CONFIGS[name]
  params = jax.device_get(params_lib.init_params(config, seed=0))
  want = run_flan_jax(config, params)
  assert want[0][-1] < want[0][0]
  assert_same(run_t5x(config, params), want)


def test_the_same_on_a_t5x_mesh_from_a_model_folder(tmp_path):
  """Its partitioner finds an axis for every parameter."""
  params = jax.device_get(params_lib.init_params(WIDE, seed=0))
  got = run_t5x_on_a_mesh(WIDE, params, tmp_path)
  assert_same(got, run_flan_jax(WIDE, params))


@pytest.mark.parametrize('attention', ['causal', 'prefix'])
def test_t5x_generates_the_same_tokens(attention):
  """Greedy, from prompts of different lengths, with t5x's own decoding loop."""
  from t5x import decoding

  config = dataclasses.replace(WIDE, attention=attention)
  params = jax.device_get(params_lib.init_params(config, seed=3))
  batch = t5x_features([[one] for one in examples(4)], sequence_length=24)
  given = batch['decoder_causal_attention']
  lengths = given.sum(-1) - 1
  model = make_model(config, decode_fn=decoding.temperature_sample)
  found, _ = model.predict_batch_with_aux(
    {'decoder': params}, batch, decoder_params={'temperature': 0.0, 'eos_id': EOS}
  )
  forward = jax.jit(Decoder(config).apply)
  tokens = batch['decoder_target_tokens'] * (np.arange(24) < lengths[:, None])
  batch_index = np.arange(len(lengths))
  prefix_BxL = np.arange(24) < lengths[:, None] if attention == 'prefix' else None
  for end in lengths + np.arange(24 - lengths.max())[:, None]:
    real = np.arange(24) < end[:, None]
    logits = forward(
      {'params': params},
      tokens,
      positions_BxL=np.broadcast_to(np.arange(24), tokens.shape),
      segment_ids_BxL=real.astype(np.int32),
      prefix_BxL=prefix_BxL,
    )
    tokens[batch_index, end] = np.argmax(logits[batch_index, end - 1], axis=-1)
  for got, generated, length in zip(np.asarray(found), tokens, lengths, strict=True):
    want = generated[length : length + 24 - lengths.max()]
    ends = np.flatnonzero(want == EOS)
    answer = want[: ends[0] + 1 if len(ends) else None]
    np.testing.assert_array_equal(got[: len(answer)], answer)


def test_scores_are_summed_log_probabilities_of_the_targets():
  params = jax.device_get(params_lib.init_params(TINY, seed=1))
  groups = [[one] for one in examples(4)]
  got = make_model(TINY).score_batch(
    {'decoder': params}, t5x_features(groups, sequence_length=24)
  )
  want = [
    -float(
      train_step.loss_sums(
        params, flan_batch([group], sequence_length=24), config=TINY
      )[0]
    )
    for group in groups
  ]
  np.testing.assert_allclose(got, want, rtol=1e-5)

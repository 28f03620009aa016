"""One step: packed == unpacked, microbatched == whole, any mesh == one device."""

import dataclasses
import functools
import re

import jax
import numpy as np
import pytest
from flax import traverse_util

from flan_jax.config import gin
from flan_jax.config import mesh as mesh_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.data import batch as batch_lib
from flan_jax.data.batch import TokenizedExample
from flan_jax.errors import InputError
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from flan_jax.train import train_step

TINY = DecoderConfig(
  vocab_size=64,
  num_layers=2,
  d_model=32,
  d_ff=64,
  num_heads=4,
  num_kv_heads=4,
  head_dim=8,
  positions='rotary',
)


abstract_params = functools.cache(params_lib.abstract_params)


def drawn(config: DecoderConfig = TINY):
  """Parameters of the scale of initial ones, drawn without compiling a program."""
  shapes, _ = abstract_params(config)
  flat = traverse_util.flatten_dict(shapes, sep='/')
  rng = np.random.default_rng(0)
  for name, leaf in flat.items():
    value = np.ones(leaf.shape) if 'norm' in name else rng.normal(0, 0.2, leaf.shape)
    flat[name] = value.astype(leaf.dtype)
  return traverse_util.unflatten_dict(flat, sep='/')


# One program for all tests that give it the same shapes and settings.
loss_sums = jax.jit(train_step.loss_sums, static_argnames=('config', 'loss'))
gradients = jax.jit(
  train_step.gradients, static_argnames=('config', 'accumulation', 'loss', 'dtype')
)


def examples(count: int, *, seed: int = 0) -> list[TokenizedExample]:
  rng = np.random.default_rng(seed)
  draw = lambda low, high: rng.integers(3, 64, rng.integers(low, high), np.int32)  # noqa: E731
  return [TokenizedExample(draw(3, 9), draw(1, 5)) for _ in range(count)]


def batch(
  groups: list[list[TokenizedExample]], *, sequence_length: int = 32
) -> batch_lib.Batch:
  """One packed sequence per group."""
  return batch_lib.stack([
    batch_lib.assemble(group, sequence_length=sequence_length, bos_id=None, eos_id=1)
    for group in groups
  ])  # fmt: skip


def eight_sequences() -> batch_lib.Batch:
  found = examples(16)
  return batch([found[i : i + 2] for i in range(0, 16, 2)])


def run_steps(
  shape: mesh_config.MeshConfig, *, devices: int, steps: int = 3, accumulation=1
):
  """(losses, parameters) of a few steps on a mesh of the first `devices` devices."""
  mesh = mesh_lib.build(shape, devices=jax.devices()[:devices])
  shapes, axes = abstract_params(TINY)
  optimizer = optimizer_lib.make_optimizer(
    optimizer_config.OptimizerConfig(learning_rate=0.01), config=TINY, logical_axes=axes
  )
  layout = state_lib.layout(
    TINY, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=shape.rules
  )
  params = jax.device_put(drawn(), layout.shardings.params)
  state = state_lib.create(params, optimizer, layout=layout)
  step = train_step.make(
    TINY,
    optimizer,
    layout=layout,
    mesh=mesh,
    rules=shape.rules,
    accumulation=accumulation,
  )
  sharding = mesh_lib.batch_sharding(mesh, shape.rules)
  losses = []
  with train_step.sharded(mesh, shape.rules):
    for _ in range(steps):
      state, metrics = step(state, mesh_lib.put_batch(eight_sequences(), sharding))
      losses.append(float(metrics.loss) / float(metrics.weight))
  return np.array(losses), jax.device_get(state.params)


def layout(name: str, **macros: int) -> mesh_config.MeshConfig:
  """A shipped mesh, gin/mesh/NAME.gin."""
  flags = [f'{macro}={value}' for macro, value in macros.items()]
  return gin.load([f'gin/mesh/{name}.gin'], flags).build('Mesh')


@pytest.fixture(scope='module')
def one_device():
  return run_steps(mesh_config.MeshConfig(), devices=1)


@pytest.mark.parametrize(
  'shape',
  [
    pytest.param(mesh_config.MeshConfig(data=8), id='data', marks=pytest.mark.slow),
    pytest.param(mesh_config.MeshConfig(fsdp=8), id='fsdp', marks=pytest.mark.slow),
    pytest.param(
      mesh_config.MeshConfig(data=2, model=4), id='data x model', marks=pytest.mark.slow
    ),
    pytest.param(
      mesh_config.MeshConfig(data=2, fsdp=2, model=2), id='data x fsdp x model'
    ),
    *(
      pytest.param(layout(name, FSDP=2, MODEL=4), id=name)
      for name in ('sequence', 'weight_stationary')
    ),
  ],
)
def test_any_mesh_gives_the_losses_of_one_device(shape, one_device):
  losses, _ = run_steps(shape, devices=8)
  np.testing.assert_allclose(losses, one_device[0], rtol=2e-6)


@pytest.mark.parametrize(
  'accumulation', [pytest.param(n, marks=pytest.mark.slow) for n in (2, 8)] + [4]
)
def test_microbatches_give_the_whole_step(accumulation, one_device):
  losses, params = run_steps(
    mesh_config.MeshConfig(), devices=1, accumulation=accumulation
  )
  np.testing.assert_allclose(losses, one_device[0], rtol=2e-6)
  want = traverse_util.flatten_dict(one_device[1], sep='/')
  for name, value in traverse_util.flatten_dict(params, sep='/').items():
    np.testing.assert_allclose(value, want[name], atol=2e-5, err_msg=name)


def test_microbatches_take_no_second_copy_of_the_gradients():
  """For any number of them, the temporaries hardly grow with the model."""

  def temporaries(num_layers: int) -> tuple[int, int]:
    config = dataclasses.replace(
      TINY, num_layers=num_layers, d_model=64, d_ff=2048, remat='full'
    )
    shapes, _ = abstract_params(config)
    found = gradients.lower(shapes, eight_sequences(), config=config, accumulation=4)
    memory = found.compile().memory_analysis()
    return memory.temp_size_in_bytes, memory.output_size_in_bytes

  (few, small), (many, large) = temporaries(4), temporaries(20)
  assert large - small > 16 * 3 * 64 * 2048 * 4  # sixteen layers of gradients more
  assert many - few < 0.1 * (large - small)


def test_gradients_in_bfloat16_are_those_in_float32_rounded():
  exact, _ = gradients(drawn(), eight_sequences(), config=TINY)
  half, _ = gradients(drawn(), eight_sequences(), config=TINY, dtype='bfloat16')
  for one, other in zip(jax.tree.leaves(exact), jax.tree.leaves(half), strict=True):
    assert other.dtype == 'bfloat16'
    scale = np.abs(one).max()
    np.testing.assert_allclose(np.float32(other), one, atol=0.05 * scale)


def test_activations_are_constrained():
  """On a mesh the traced step holds sharding constraints; without one, none."""
  shape = mesh_config.MeshConfig(data=2, model=4)
  mesh = mesh_lib.build(shape)
  shapes, _ = abstract_params(TINY)

  def constraints() -> int:
    trace = jax.make_jaxpr(lambda p, b: train_step.loss_sums(p, b, config=TINY))
    return str(trace(shapes, eight_sequences())).count('sharding_constraint')

  assert constraints() == 0
  with train_step.sharded(mesh, shape.rules):
    assert constraints() > 3


def test_initial_parameters_are_sharded_and_do_not_depend_on_the_mesh():
  _, axes = abstract_params(TINY)
  shape = mesh_config.MeshConfig(data=2, fsdp=2, model=2)
  shardings = mesh_lib.shardings(axes, mesh=mesh_lib.build(shape), rules=shape.rules)
  split = params_lib.init_params(TINY, seed=3, shardings=shardings)
  query = split['layers']['query']
  assert query.sharding.shard_shape(query.shape) == (2, 16, 2, 8)
  whole = params_lib.init_params(TINY, seed=3)
  jax.tree.map(np.testing.assert_array_equal, split, whole)


@pytest.mark.parametrize('attention', ['causal', 'prefix'])
def test_packed_loss_is_unpacked_loss(attention):
  config = dataclasses.replace(TINY, attention=attention)
  found = examples(8)
  packed = batch([found[:2], found[2:5], found[5:], *[[]] * 5])
  alone = batch([[example] for example in found])
  one, many = (loss_sums(drawn(config), b, config=config)[1] for b in (packed, alone))
  assert one.weight == many.weight == sum(len(e.targets) + 1 for e in found)
  np.testing.assert_allclose(one.loss, many.loss, rtol=2e-6)
  assert one.correct == many.correct


def test_loss_is_on_targets_only():
  """Changing an input token's own prediction target changes nothing."""
  b = eight_sequences()
  other = b._replace(targets=np.where(b.loss_mask > 0, b.targets, 7))
  loss, _ = loss_sums(drawn(), b, config=TINY)
  same, _ = loss_sums(drawn(), other, config=TINY)
  assert loss == same


def test_z_loss_adds_the_squared_log_normalizer():
  params = jax.tree.map(np.zeros_like, drawn())
  plain, metrics = loss_sums(params, eight_sequences(), config=TINY)
  with_z, _ = loss_sums(
    params, eight_sequences(), config=TINY, loss=train_step.Loss(z_loss=0.1)
  )
  expected = 0.1 * np.log(64) ** 2 * metrics.weight
  np.testing.assert_allclose(with_z - plain, expected, rtol=1e-5)


def uneven() -> batch_lib.Batch:
  """Sequences with a target of 13 tokens, with short targets, and with none."""
  rng = np.random.default_rng(1)
  long = TokenizedExample(*(rng.integers(3, 64, n, np.int32) for n in (9, 12)))
  return batch([[long], examples(2), examples(1, seed=2), []])


@pytest.mark.parametrize(
  'chunk', [pytest.param(n, marks=pytest.mark.slow) for n in (1, 32)] + [4]
)
def test_logits_in_chunks_change_no_loss_and_no_gradient(chunk):
  """Within 1e-6, for any number of loss tokens in a sequence."""

  def found(logits_chunk):
    loss = train_step.Loss(z_loss=0.01, logits_chunk=logits_chunk)
    return gradients(drawn(), uneven(), config=TINY, accumulation=2, loss=loss)

  (whole, full), (parts, chunked) = found(None), found(chunk)
  for name in full._fields:
    np.testing.assert_allclose(
      getattr(chunked, name), getattr(full, name), rtol=1e-6, err_msg=name
    )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole, parts
  )


def test_chunked_logits_of_a_whole_sequence_never_exist():
  """Forward or backward: the largest array with a vocabulary axis is one chunk's."""
  config = dataclasses.replace(TINY, vocab_size=96)  # no other axis has that size
  shapes, _ = abstract_params(config)

  def largest(logits_chunk) -> int:
    loss = train_step.Loss(logits_chunk=logits_chunk)
    trace = jax.make_jaxpr(
      lambda p, b: train_step.gradients(p, b, config=config, loss=loss)
    )(shapes, uneven())
    found = re.findall(r'f32\[4,(\d+),96\]', str(trace))
    return max(int(size) for size in found)

  assert largest(None) == 32
  assert largest(4) == 4


def test_schedules():
  warm = optimizer_lib.schedule(
    optimizer_config.OptimizerConfig(learning_rate=1.0, warmup_steps=4)
  )
  np.testing.assert_allclose([warm(s) for s in range(6)], [0.25, 0.5, 0.75, 1, 1, 1])
  root = optimizer_lib.schedule(
    optimizer_config.OptimizerConfig(
      learning_rate=1.0, warmup_steps=4, schedule='rsqrt'
    )
  )
  np.testing.assert_allclose([root(3), root(15)], [1.0, 0.5])


def test_mesh_errors_name_axis_sizes_and_the_nearest():
  with pytest.raises(InputError, match=r'fsdp=3 x model=1 .* 8 devices; .* is 2'):
    mesh_lib.build(mesh_config.MeshConfig(fsdp=3))
  shapes, axes = abstract_params(TINY)
  mesh = mesh_lib.build(mesh_config.MeshConfig(model=8))
  with pytest.raises(InputError, match=r"heads' has size 4, .* model=8 .* size is 8"):
    mesh_lib.check(
      shapes, axes, mesh=mesh, rules=mesh_config.DATA_PARALLEL, batch_size=8
    )
  mesh = mesh_lib.build(mesh_config.MeshConfig(data=8))
  with pytest.raises(InputError, match=r'sequences of a microbatch has size 6'):
    mesh_lib.check(
      shapes, axes, mesh=mesh, rules=mesh_config.DATA_PARALLEL, batch_size=6
    )

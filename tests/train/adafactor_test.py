"""Adafactor is t5x's: against arrays that t5x made, and against t5x where it imports.

tests/golden/adafactor/make.py holds the cases (one per row of the acceptance table),
their parameters and gradients, and makes the arrays.
"""

import dataclasses
import functools
import importlib.util
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flan_jax.errors import InputError
from flan_jax.train.adafactor import (
  STANDARD_RULES,
  AdafactorConfig,
  AdafactorState,
  Factoring,
  Moments,
  adafactor,
  factoring,
  state_logical_axes,
)

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'adafactor'


def _module(path):
  spec = importlib.util.spec_from_file_location(f'golden_adafactor_{path.stem}', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


make = _module(GOLDEN / 'make.py')
CASES = make.CASES
GOLDEN_CASES = [name for name, case in CASES.items() if case.golden]


def _axes(parameters):
  return {name: parameter.axes for name, parameter in parameters.items()}


def _optimizer(case):
  axes = _axes(case.parameters)
  config = AdafactorConfig(**case.settings)
  if case.weight_decay:
    config = dataclasses.replace(config, weight_decay=case.weight_decay)
  optimizer = adafactor(case.rate, logical_axes=axes, config=config)
  if case.unscaled:
    unscaled = dataclasses.replace(config, multiply_by_parameter_scale=False)
    labels = {name: name in case.unscaled for name in case.parameters}
    other = adafactor(case.rate, logical_axes=axes, config=unscaled)
    transforms = {False: optimizer, True: other}
    optimizer = optax.multi_transform(transforms, labels)
  if case.clip_norm:
    optimizer = optax.chain(optax.clip_by_global_norm(case.clip_norm), optimizer)
  return optimizer


@functools.cache
def _jitted(optimizer):
  @jax.jit
  def step(params, state, grads):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  return step


def _steps(optimizer, params, gradients, *, first_step=0):
  """Yields (params, {name: Moments}) after each step."""
  state = optimizer.init(params)
  if first_step:
    state = optax.tree.set(state, count=jnp.asarray(first_step, jnp.int32))
  for grads in gradients:
    params, state = _jitted(optimizer)(params, state, grads)
    found = {}
    for part in jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, AdafactorState)):
      if isinstance(part, AdafactorState):
        found |= {k: v for k, v in part.moments.items() if isinstance(v, Moments)}
    yield params, found


def _run(case):
  return _steps(
    _optimizer(case),
    make.parameters(case),
    [make.gradients(case, i) for i in range(1, make.STEPS + 1)],
    first_step=case.first_step,
  )


def _assert_close(got, wanted, *, tolerance, what):
  got, wanted = np.asarray(got, np.float32), np.asarray(wanted, np.float32)
  if tolerance == make.BIT_EQUAL:
    np.testing.assert_array_equal(got, wanted, err_msg=what)
  else:
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=tolerance, err_msg=what)


@pytest.fixture(scope='module')
def rounds_alike():
  """True if this machine rounds like the one that made the arrays, so bits compare."""
  with np.load(GOLDEN / f'{GOLDEN_CASES[0]}.npz') as arrays:
    return str(arrays['control']) == make.control()


@pytest.mark.parametrize('name', GOLDEN_CASES)
def test_equals_the_arrays_that_t5x_made(name, rounds_alike):
  case = CASES[name]
  tolerance = case.tolerance
  if not rounds_alike:  # sums in another order; a bfloat16 may round the other way
    tolerance = 0.05 if case.dtype == 'bfloat16' else 1e-5
  steps = list(_run(case))
  with np.load(GOLDEN / f'{name}.npz') as arrays:
    for i in make.SAVED:
      params, _ = steps[i - 1]
      for key, param in params.items():
        what = f'{key} after step {i}'
        assert param.dtype == case.dtype
        _assert_close(param, arrays[f'{i}/{key}'], tolerance=tolerance, what=what)
    for key, moments in steps[-1][1].items():
      for field, value in moments._asdict().items():
        what = f'{field} of {key}'
        _assert_close(value, arrays[f'{field}/{key}'], tolerance=tolerance, what=what)


@pytest.fixture(scope='module')
def t5x_adafactor():
  try:
    from t5x import adafactor as module
  except ImportError as error:
    pytest.skip(f't5x does not import: {error}')
  return module


@pytest.mark.t5x
@pytest.mark.parametrize('name', CASES)
def test_equals_t5x_after_every_step(name, t5x_adafactor):
  case = CASES[name]
  pairs = zip(_run(case), make.run_t5x(case), strict=True)
  for i, ((params, moments), (t5x_params, t5x_states)) in enumerate(pairs, start=1):
    for key, param in params.items():
      t5x_value, tolerance = t5x_params[key], case.tolerance
      assert param.dtype == t5x_value.dtype
      _assert_close(param, t5x_value, tolerance=tolerance, what=f'{key}, step {i}')
      for field, value in moments[key]._asdict().items():
        what = f'{field} of {key}, step {i}'
        t5x_value = getattr(t5x_states[key], field)
        assert value.dtype == t5x_value.dtype
        _assert_close(value, t5x_value, tolerance=tolerance, what=what)


@pytest.mark.t5x
def test_rules_are_t5x_standard_rules(t5x_adafactor):
  t5x_rules = t5x_adafactor.standard_logical_factor_rules()
  names = {'kv_heads': 'multiquery_heads', 'norm': 'layer_norm_scale'}
  own = {'lora_rank'}  # adapters, which t5x lacks
  assert own <= set(STANDARD_RULES)
  for name in STANDARD_RULES.keys() - own:
    assert t5x_rules[names.get(name, name)].name == STANDARD_RULES[name].name


@pytest.mark.t5x
@pytest.mark.parametrize(
  ('axes', 'error'),
  [
    (('embed', 'heads', 'relpos_buckets'), ValueError),
    (('embed', 'heads', 'unheard_of'), KeyError),
    (('embed', 'heads'), ValueError),
  ],
)
def test_refuses_what_t5x_refuses(axes, error, t5x_adafactor):
  params = {'kernel': jnp.ones((4, 2, 3))}
  t5x_optimizer = t5x_adafactor.Adafactor(
    logical_factor_rules=t5x_adafactor.standard_logical_factor_rules()
  )

  def init(axes):
    t5x_optimizer.set_param_axes({'kernel': PartitionSpec(*axes)})
    t5x_optimizer.init_state(params)

  with pytest.raises(error):
    init(axes)
  with pytest.raises(InputError):
    adafactor(0.1, logical_axes={'kernel': axes}).init(params)


@pytest.mark.parametrize(
  ('axes', 'shape', 'expected'),
  [
    # Rank 2 without layers is factored by size: rows are the smaller dimension.
    (('embed', 'mlp'), (128, 256), Factoring((0,), (1,), (0, 1))),
    (('vocab', 'embed'), (256, 128), Factoring((1,), (0,), (0, 1))),
    (('embed', 'mlp'), (128, 128), Factoring((0,), (1,), (0, 1))),
    (('embed', 'mlp'), (127, 256), Factoring((), (), (0, 1))),
    (('relpos_buckets', 'heads'), (32, 16), Factoring((), (), (0, 1))),
    (None, (128, 256), Factoring((0,), (1,), (0, 1))),
    (('norm',), (512,), Factoring((), (), (0,))),
    ((), (), Factoring((), (), ())),
    # By name, however small: fused axes are one side of the matrix.
    (('embed', 'heads', 'kv'), (8, 4, 2), Factoring((0,), (1, 2), (0, 1, 2))),
    (('embed', 'kv_heads', 'kv'), (8, 1, 2), Factoring((0,), (1, 2), (0, 1, 2))),
    (('heads', 'kv', 'embed'), (4, 2, 8), Factoring((2,), (0, 1), (0, 1, 2))),
    # Layers stay separate, wherever the axis is.
    (('layers', 'embed', 'mlp'), (3, 8, 9), Factoring((1,), (2,), (1, 2))),
    (('embed', 'layers', 'mlp'), (8, 3, 9), Factoring((0,), (2,), (0, 2))),
    (('layers', 'norm'), (3, 512), Factoring((), (), (1,))),
    (('embed', 'layers'), (512, 256), Factoring((), (), (0,))),
    (('layers', 'relpos_buckets', 'heads'), (3, 32, 4), Factoring((), (), (1, 2))),
  ],
)
def test_dimensions_are_factored_by_name_or_by_size(axes, shape, expected):
  assert factoring(axes, shape=shape) == expected


@pytest.mark.parametrize('factored', [True, False])
def test_a_stack_of_layers_takes_the_steps_of_its_layers_alone(factored):
  axes = {'wi': ('embed', 'mlp'), 'query': ('embed', 'heads', 'kv'), 'norm': ('norm',)}
  config = AdafactorConfig(min_dim_size_to_factor=0, factored=factored)
  shapes = {'wi': (6, 8), 'query': (6, 2, 4), 'norm': (6,)}

  def draw(step, layer):
    random = np.random.RandomState(step * 10 + layer)
    return {
      key: jnp.asarray(random.random_sample(shape) - 0.5, jnp.float32) * 10.0**-layer
      for key, shape in shapes.items()
    }

  def stack(layers):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)

  alone = []
  optimizer = adafactor(0.1, logical_axes=axes, config=config)
  for layer in range(3):
    grads = [draw(step, layer) for step in range(1, 5)]
    *_, (params, _) = _steps(optimizer, draw(0, layer), grads)
    alone.append(params)
  stacked = adafactor(
    0.1,
    logical_axes={key: ('layers', *names) for key, names in axes.items()},
    config=config,
  )
  grads = [stack([draw(step, layer) for layer in range(3)]) for step in range(1, 5)]
  *_, (params, _) = _steps(stacked, stack([draw(0, i) for i in range(3)]), grads)
  for key, wanted in stack(alone).items():
    np.testing.assert_allclose(params[key], wanted, rtol=2e-6, atol=1e-8, err_msg=key)


def test_a_decay_offset_ahead_of_the_step_gives_no_nan():
  case = CASES['step_1000_offset']._replace(first_step=0)
  *_, (params, _) = _run(case)
  assert all(np.isfinite(param).all() for param in params.values())


def test_a_factored_kernel_keeps_rows_and_columns_only():
  axes = {'kernel': ('layers', 'embed', 'heads', 'kv')}
  params = {'kernel': jnp.zeros((3, 64, 4, 16), jnp.bfloat16)}
  moments = adafactor(0.1, logical_axes=axes).init(params).moments['kernel']
  shapes = Moments(*(leaf.shape for leaf in moments))
  assert shapes == Moments(v_row=(3, 64), v_col=(3, 4, 16), v=(1,), m=(1,))
  assert {leaf.dtype for leaf in moments} == {jnp.dtype('float32')}


SMALL_WITH_MOMENTUM = AdafactorConfig(min_dim_size_to_factor=16, momentum=0.9)
SHARDED = {
  'wi': (('layers', 'embed', 'mlp'), (2, 16, 24)),
  'query': (('layers', 'embed', 'heads', 'kv'), (2, 16, 4, 8)),
  'norm': (('layers', 'norm'), (2, 16)),
  'embedding': (('vocab', 'embed'), (40, 16)),
  'tiny': (('embed', 'mlp'), (4, 8)),
}


def test_state_axes_are_those_that_survive_in_it():
  axes = {key: names for key, (names, _) in SHARDED.items()}
  params = {
    key: jax.ShapeDtypeStruct(shape, jnp.float32) for key, (_, shape) in SHARDED.items()
  }
  optimizer = adafactor(0.1, logical_axes=axes, config=SMALL_WITH_MOMENTUM)
  optimizer = optax.MultiSteps(
    optax.chain(optax.clip_by_global_norm(1.0), optimizer), every_k_schedule=2
  )
  shapes = jax.eval_shape(optimizer.init, params)
  specs = state_logical_axes(shapes, params, logical_axes=axes)
  assert jax.tree.structure(specs) == jax.tree.structure(shapes)
  assert specs.acc_grads['wi'] == PartitionSpec('layers', 'embed', 'mlp')
  assert specs.mini_step == PartitionSpec()
  count, moments = specs.inner_opt_state[1]
  spec, filler = PartitionSpec, PartitionSpec()
  assert count == filler
  assert moments == {
    'wi': Moments(
      spec('layers', 'embed'),
      spec('layers', 'mlp'),
      filler,
      spec('layers', 'embed', 'mlp'),
    ),
    'query': Moments(
      spec('layers', 'embed'),
      spec('layers', 'heads', 'kv'),
      filler,
      spec('layers', 'embed', 'heads', 'kv'),
    ),
    'norm': Moments(filler, filler, spec('layers', 'norm'), spec('layers', 'norm')),
    'embedding': Moments(spec('embed'), spec('vocab'), filler, spec('vocab', 'embed')),
    'tiny': Moments(filler, filler, spec('embed', 'mlp'), spec('embed', 'mlp')),
  }


def test_sharded_steps_equal_those_of_one_device_and_survive_a_checkpoint(tmp_path):
  axes = {key: names for key, (names, _) in SHARDED.items()}
  random = np.random.RandomState(0)
  params, *grads = (
    {
      key: jnp.asarray(random.random_sample(shape) - 0.5, jnp.float32)
      for key, (_, shape) in SHARDED.items()
    }
    for _ in range(4)
  )
  optimizer = adafactor(0.1, logical_axes=axes, config=SMALL_WITH_MOMENTUM)
  *_, (wanted, _) = _steps(optimizer, params, grads)

  mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ('data', 'model'))
  rules = (('embed', 'data'), ('mlp', 'model'), ('heads', 'model'), ('vocab', 'model'))
  specs = {key: PartitionSpec(*names) for key, names in axes.items()}
  state_specs = state_logical_axes(
    jax.eval_shape(optimizer.init, params), params, logical_axes=specs
  )
  shardings = nn.logical_to_mesh_sharding((specs, state_specs), mesh, rules)
  replicated = NamedSharding(mesh, PartitionSpec())

  @jax.jit
  def step(params, state, grads):
    updates, state = optimizer.update(grads, state, params)
    new = optax.apply_updates(params, updates), state
    return jax.lax.with_sharding_constraint(new, shardings)

  got = jax.device_put((params, optimizer.init(params)), shardings)
  for i, grad in enumerate(jax.device_put(grads, replicated)):
    if i == 2:
      with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / 'state', got)
        checkpointer.wait_until_finished()
        target = jax.tree.map(
          lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
          got,
          shardings,
        )
        restored = checkpointer.restore(tmp_path / 'state', target)
      assert jax.tree.structure(restored) == jax.tree.structure(got)
      got = restored
    got = step(*got, grad)
  params, state = got
  assert state.moments['wi'].v_row.sharding.spec == PartitionSpec(None, 'data')
  for key in wanted:
    np.testing.assert_allclose(params[key], wanted[key], rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
  ('axes', 'message'),
  [
    ({'kernel': ('embed', 'head', 'kv')}, "kernel: .*'head' .*did you mean 'heads'"),
    ({'kernel': ('embed', 'kv')}, 'kernel: .*one name per dimension of'),
    ({'kernel': ('embed', 'norm', 'kv')}, 'kernel: .*must not mix rows and columns'),
    ({'kernel': None}, 'kernel: .*cannot be factored by size'),
    ({'kernels': ()}, "kernel: has no logical axes.*did you mean 'kernels'"),
  ],
)
def test_axes_that_do_not_fit_are_refused_by_name(axes, message):
  with pytest.raises(InputError, match=message):
    adafactor(0.1, logical_axes=axes).init({'kernel': jnp.ones((4, 2, 3))})


@pytest.mark.parametrize(
  'setting', [{'decay_rate': 0.0}, {'momentum': 1.0}, {'clipping_threshold': 0.0}]
)
def test_settings_out_of_range_are_refused_by_name(setting):
  (name,) = setting
  with pytest.raises(InputError, match=name):
    AdafactorConfig(**setting)

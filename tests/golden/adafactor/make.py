"""Makes the golden arrays of tests/train/adafactor_test.py by running t5x's Adafactor.

They were made by this command, from the root of the checkout, on a CPU, with t5x at
cc342d4, airio at 69897df, jestimator at 326824a, jax 0.10.2 and optax 0.2.8:

  PYTHONPATH=T5X:AIRIO:JESTIMATOR JAX_PLATFORMS=cpu \
    python tests/golden/adafactor/make.py

T5X, AIRIO and JESTIMATOR being checkouts of google-research/t5x, google/airio and
google-research/jestimator. `import t5x.adafactor` also wants cached_property and
tensorboard from PyPI, beside what this project installs with seqio.

Parameters and gradients are sums and products of uniform numbers of a frozen generator,
so that every machine makes the same bits. What the test imports from here needs no t5x.
"""

import hashlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

STEPS = 10
SAVED = (2, 10)  # steps whose parameters are kept; statistics: the last one's
SPIKES = {3: 16.0, 8: 64.0}  # step -> factor of its gradients
FOLDER = pathlib.Path(__file__).parent

BIT_EQUAL = 0.0
ROUNDING = 9.5e-7  # absolute, on parameters of size 1


class Parameter(NamedTuple):
  """`axes` are our names; `scales` one factor per layer (or one for all)."""

  shape: tuple[int, ...]
  axes: tuple[str, ...] | None
  scales: tuple[float, ...] = (1.0,)


# By size: factored the other way round, below the limit, and a vector.
MATRICES = {
  'tall': Parameter((40, 16), ('vocab', 'embed'), (0.02,)),
  'thin': Parameter((8, 40), ('embed', 'mlp')),
  'scale': Parameter((5,), ('norm',), (1e-4,)),
}
# What the default limit of 128 lets be factored, and what not.
AROUND_LIMIT = {
  'wide': Parameter((128, 130), ('embed', 'mlp')),
  'thin': Parameter((32, 130), ('embed', 'mlp')),
}
# The sizes of the acceptance table, for the live comparison alone.
LARGE = {
  'wide': Parameter((256, 512), ('embed', 'mlp')),
  'square': Parameter((256, 256), ('embed', 'mlp')),
  'thin': Parameter((64, 512), ('embed', 'mlp')),
  'scale': Parameter((512,), ('norm',)),
  'short': Parameter((7,), ('norm',)),
}
FUSED = {
  'query': Parameter((16, 4, 8), ('embed', 'heads', 'kv')),
  'key': Parameter((16, 2, 8), ('embed', 'kv_heads', 'kv')),
  'out': Parameter((4, 8, 16), ('heads', 'kv', 'embed'), (0.1,)),
  'relpos': Parameter((8, 4), ('relpos_buckets', 'heads')),
}
_LAYERS = (1.0, 0.01, 5.0)
STACKS = {
  'wi': Parameter((3, 16, 24), ('layers', 'embed', 'mlp'), _LAYERS),
  'wo': Parameter((24, 3, 16), ('mlp', 'layers', 'embed'), _LAYERS),
  'query': Parameter((3, 16, 4, 8), ('layers', 'embed', 'heads', 'kv'), _LAYERS),
  'out': Parameter((4, 3, 8, 16), ('heads', 'layers', 'kv', 'embed'), _LAYERS),
  'norm': Parameter((3, 16), ('layers', 'norm'), _LAYERS),
  'vector': Parameter((16, 3), ('embed', 'layers'), _LAYERS),
  'relpos': Parameter((3, 8, 4), ('layers', 'relpos_buckets', 'heads'), _LAYERS),
}


class Case(NamedTuple):
  """One row of the acceptance table.

  `settings` are fields of our `AdafactorConfig`; `rate` is a number or a schedule,
  `weight_decay` a schedule.
  """

  parameters: dict[str, Parameter]
  settings: dict[str, Any] = {}
  rate: Any = 0.05
  weight_decay: Any = None
  clip_norm: float | None = None
  unscaled: tuple[str, ...] = ()  # parameters without parameter scale
  first_step: int = 0
  dtype: str = 'float32'
  grad_dtype: str = 'float32'
  size: float = 1.0  # of parameters
  grad_size: float = 1.0
  nan_step: int | None = None
  tolerance: float = BIT_EQUAL
  golden: bool = True


def rsqrt(value: float, *, warmup: int = 4) -> Any:
  return lambda step: value / jnp.sqrt(jnp.maximum(step, warmup).astype(jnp.float32))


def _small(**fields: Any) -> Case:
  settings = {'min_dim_size_to_factor': 16, **fields.pop('settings', {})}
  return Case(MATRICES, settings, **fields)


CASES = {
  'default': Case(AROUND_LIMIT),
  'default_large': Case(LARGE, golden=False),
  'min_dim': _small(),
  'factored_off': _small(settings={'factored': False}),
  'parameter_scale_off': _small(settings={'multiply_by_parameter_scale': False}),
  'parameter_scale_by_name': _small(unscaled=('tall', 'scale')),
  'clipping_off': _small(settings={'clipping_threshold': None}),
  'clipping_2': _small(settings={'clipping_threshold': 2.0}),
  'decay_rate': _small(settings={'decay_rate': 0.5}),
  'momentum': _small(settings={'momentum': 0.9}),
  'momentum_bfloat16': _small(settings={'momentum': 0.9, 'momentum_dtype': 'bfloat16'}),
  'zero_parameters': _small(size=0.0),
  'zero_gradients': _small(grad_size=0.0),
  'huge_gradients': _small(grad_size=1e4),
  'tiny_gradients': _small(grad_size=1e-12),
  'step_1000': _small(first_step=1000),
  'step_1000_offset': _small(first_step=1000, settings={'decay_offset': 1000}),
  'skip_nan': _small(
    nan_step=2,
    settings={'skip_nan_updates': True, 'momentum': 0.9},
    tolerance=ROUNDING,
  ),
  'weight_decay': _small(settings={'weight_decay': 1e-3}, tolerance=ROUNDING),
  'weight_decay_lr_squared': _small(
    settings={'weight_decay': 1e-3, 'weight_decay_lr_exponent': 2.0}, tolerance=ROUNDING
  ),
  'weight_decay_is_lr_squared': _small(
    settings={'weight_decay_lr_exponent': 2.0}, tolerance=ROUNDING
  ),
  'weight_decay_schedule': _small(
    rate=rsqrt(1.0), weight_decay=rsqrt(1e-2), tolerance=2 * ROUNDING
  ),
  'rsqrt': _small(rate=rsqrt(0.1)),
  'global_norm': _small(clip_norm=1.0, tolerance=ROUNDING),
  'epsilon2': _small(settings={'epsilon2': 0.1}),
  'max_parameter_scale': _small(settings={'max_parameter_scale': 0.01}),
  'fused': Case(FUSED),
  'stacks': Case(STACKS),
  'stacks_momentum': Case(STACKS, {'momentum': 0.9, 'clipping_threshold': 0.5}),
  'bfloat16_gradients': _small(grad_dtype='bfloat16'),
  'bfloat16_parameters': _small(dtype='bfloat16'),
  'bfloat16_both_stacks': Case(STACKS, dtype='bfloat16', grad_dtype='bfloat16'),
}


def parameters(case: Case) -> dict[str, jax.Array]:
  return {
    name: jnp.asarray(_draw(name, 0, parameter) * case.size, case.dtype)
    for name, parameter in case.parameters.items()
  }


def gradients(case: Case, step: int) -> dict[str, jax.Array]:
  """Step counts from 1; rows differ in size, and `SPIKES` must be clipped."""
  out = {}
  for name, parameter in case.parameters.items():
    grad = _draw(name, step, parameter) * case.grad_size
    grad *= np.exp2(np.arange(grad.shape[0]) % 7 - 3).reshape(
      -1, *[1] * (grad.ndim - 1)
    )
    grad *= SPIKES.get(step, 1.0)
    if step == case.nan_step:
      grad.flat[3 % grad.size] = np.nan
    out[name] = jnp.asarray(grad.astype(np.float32), case.grad_dtype)
  return out


def _draw(name: str, step: int, parameter: Parameter) -> np.ndarray:
  seed = int.from_bytes(hashlib.sha256(f'{name} {step}'.encode()).digest()[:4], 'big')
  values = np.random.RandomState(seed).random_sample(parameter.shape) * 2 - 1
  scales = np.asarray(parameter.scales)
  if 'layers' in (parameter.axes or ()):
    layers = parameter.axes.index('layers')
    scales = np.expand_dims(scales, [i for i in range(values.ndim) if i != layers])
  return (values * scales).astype(np.float32)


def control() -> str:
  """Digest of ten steps of `optax.adafactor`: machines that agree on it round alike.

  Compilers sum and fuse as each CPU likes best, so bits of one machine can be asked of
  another only if a third optimizer's bits agree between them.
  """
  case = _small(settings={'momentum': 0.9})
  optimizer = optax.adafactor(0.05, min_dim_size_to_factor=16, momentum=0.9)
  params = parameters(case)
  state = optimizer.init(params)

  @jax.jit
  def step(params, state, grads):
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  for i in range(1, STEPS + 1):
    params, state = step(params, state, gradients(case, i))
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves((params, state)):
    digest.update(np.asarray(leaf).tobytes())
  return digest.hexdigest()


# Our field -> t5x's, where they differ.
_SETTINGS = {
  'momentum': 'beta1',
  'momentum_dtype': 'dtype_momentum',
  'decay_offset': 'step_offset',
  'weight_decay': 'weight_decay_rate',
  'weight_decay_lr_exponent': 'weight_decay_rate_lr_exponent',
}
# Our axis name -> the one that t5x's standard rules know.
_AXES = {'kv_heads': 'multiquery_heads', 'norm': 'layer_norm_scale'}


def run_t5x(case: Case) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
  """Parameters and their t5x states (v_row, v_col, v, m) after each step."""
  from t5x import adafactor

  settings = {_SETTINGS.get(name, name): v for name, v in case.settings.items()}
  if case.unscaled:
    names = '|'.join(case.unscaled)
    settings['multiply_by_parameter_scale'] = adafactor.HParamMap(
      [(f'^({names})$', False), ('', True)]
    )
  definition = adafactor.Adafactor(
    learning_rate=0.0,
    logical_factor_rules=adafactor.standard_logical_factor_rules(),
    global_norm_clip_threshold=case.clip_norm,
    **settings,
  )
  if settings.get('factored', True):
    definition.set_param_axes(
      {
        name: PartitionSpec(*(_AXES.get(axis, axis) for axis in parameter.axes))
        for name, parameter in case.parameters.items()
      }
    )
  optimizer = definition.create(parameters(case))
  first = jnp.asarray(case.first_step, jnp.int32)
  optimizer = optimizer.replace(state=optimizer.state.replace(step=first))

  @jax.jit
  def step(optimizer, grads):
    count = optimizer.state.step
    rate = case.rate(count) if callable(case.rate) else case.rate
    # t5x's schedules give float32 arrays.
    settings = {'learning_rate': jnp.asarray(rate, jnp.float32)}
    if case.weight_decay:
      settings['weight_decay_rate'] = case.weight_decay(count)
    return optimizer.apply_gradient(grads, **settings)

  for i in range(1, STEPS + 1):
    optimizer = step(optimizer, gradients(case, i))
    yield optimizer.target, optimizer.state.param_states


def main() -> None:
  digest = control()
  for name, case in CASES.items():
    if not case.golden:
      continue
    arrays = {'control': np.asarray(digest)}
    steps = list(run_t5x(case))
    for i in SAVED:
      params, _ = steps[i - 1]
      for key, value in params.items():
        arrays[f'{i}/{key}'] = np.asarray(value, np.float32)
    _, states = steps[-1]
    for key, state in states.items():
      for field in ('v_row', 'v_col', 'v', 'm'):
        arrays[f'{field}/{key}'] = np.asarray(getattr(state, field), np.float32)
    np.savez_compressed(FOLDER / f'{name}.npz', **arrays)
    print(name)


if __name__ == '__main__':
  main()

"""Adafactor with sublinear memory (Shazeer and Stern, 2018), step for step as t5x's.

`optax.adafactor` uses shapes alone and each array as a whole. A scanned decoder needs
more, and this is where the two differ:

  * a stack of layers is many parameters: its factors, its parameter scale and its
    update clipping are computed layer by layer;
  * a kernel with fused axes (embed, heads, kv) is a matrix: embed by heads * kv;
  * statistics are float32 whatever the dtypes of parameters and gradients.

Logical axis names tell the rows from the columns. The rest comes from optax: schedules,
`apply_updates`, and the clip by global norm, which goes in front, as
`optax.chain(optax.clip_by_global_norm(1.0), adafactor(3e-5, logical_axes=axes))`.
"""

import dataclasses
import enum
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar, cast

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec

from flan_jax.errors import InputError, did_you_mean

A = TypeVar('A')
"""Leaves of a state: arrays, or their shapes or shardings."""


class Part(enum.Enum):
  """Part of a dimension in the factored second moment."""

  ROW = 'row'
  COLUMN = 'column'
  BATCH = 'batch'  # one parameter per index: nothing is averaged over it
  NONE = 'none'


STANDARD_RULES: Mapping[str, Part] = MappingProxyType(
  {
    'embed': Part.ROW,
    'vocab': Part.COLUMN,
    'mlp': Part.COLUMN,
    'mlp_activations': Part.COLUMN,
    'heads': Part.COLUMN,
    'kv_heads': Part.COLUMN,
    'kv': Part.COLUMN,
    'joined_kv': Part.COLUMN,
    'layers': Part.BATCH,
    'stack': Part.BATCH,
    'relpos_buckets': Part.NONE,
    'norm': Part.NONE,
    'lora_rank': Part.NONE,
  }
)


class Factoring(NamedTuple):
  """Dimensions of one parameter; `rows` and `columns` are empty if it is unfactored."""

  rows: tuple[int, ...]
  columns: tuple[int, ...]
  block: tuple[int, ...]  # the dimensions of one layer: all but the BATCH ones


class Moments(NamedTuple, Generic[A]):
  """Statistics of one parameter, float32 but for `m`; fields as in t5x's checkpoints.

  Unused ones are fillers of shape [1], so that the state has the same leaves under
  every setting.
  """

  v_row: A  # mean squared gradient over the columns, shaped like the rest
  v_col: A  # the same over the rows
  v: A  # squared gradient of an unfactored parameter, in its shape
  m: A  # momentum of the update, in the parameter's shape


class AdafactorState(NamedTuple, Generic[A]):
  """`count`: int32, steps taken; `moments`: a `Moments` in each parameter's place."""

  count: A
  moments: Any


def factoring(
  axes: tuple[str, ...] | None,
  *,
  shape: tuple[int, ...],
  name: str = 'parameter',
  rules: Mapping[str, Part] = STANDARD_RULES,
  factored: bool = True,
  min_dim_size_to_factor: int = 128,
) -> Factoring:
  """The factoring of one parameter, by t5x's rules.

  A parameter with ROW and COLUMN axes is a matrix of all its rows by all its columns,
  once per BATCH index; with only one of the two it is left unfactored. Vectors and
  matrices without a BATCH axis go by size instead, whatever their names: the larger
  dimension is the columns if the smaller reaches `min_dim_size_to_factor`.

  Args:
    axes: a logical name per dimension of `shape`; None goes by size.
    name: name of the parameter in errors.
    rules: axis name -> part.
    factored: False leaves the parameter unfactored; its layers stay apart (not in t5x).
    min_dim_size_to_factor: least size of both dimensions of a matrix without BATCH.

  Raises:
    InputError: if names are unknown, too few, or mix ROW and COLUMN with NONE.
  """
  parts = _parts(axes, shape=shape, name=name, rules=rules)
  block = tuple(i for i, part in enumerate(parts) if part is not Part.BATCH)
  rows = tuple(i for i, part in enumerate(parts) if part is Part.ROW)
  columns = tuple(i for i, part in enumerate(parts) if part is Part.COLUMN)
  if len(block) == len(shape) <= 2:
    rows = columns = ()
    if len(shape) == 2 and min(shape) >= min_dim_size_to_factor:
      rows, columns = ((0,), (1,)) if shape[0] <= shape[1] else ((1,), (0,))
  if factored and rows and columns:
    return Factoring(rows, columns, block)
  return Factoring((), (), block)


def _parts(
  axes: tuple[str, ...] | None,
  *,
  shape: tuple[int, ...],
  name: str,
  rules: Mapping[str, Part],
) -> tuple[Part, ...]:
  if axes is None:
    if len(shape) > 2:
      raise InputError(
        f'{name}: shape {shape} cannot be factored by size (rank 2 at most); '
        'give it logical axes'
      )
    return (Part.NONE,) * len(shape)
  if len(axes) != len(shape):
    raise InputError(
      f'{name}: logical axes {axes} must be one name per dimension of {shape}'
    )
  for axis in axes:
    if axis not in rules:
      raise InputError(
        f'{name}: logical axis {axis!r} must be one of {", ".join(rules)}'
        f'{did_you_mean(str(axis), rules)}'
      )
  parts = tuple(rules[axis] for axis in axes)
  if {Part.ROW, Part.COLUMN, Part.NONE} <= set(parts):
    raise InputError(
      f'{name}: logical axes {axes} must not mix rows and columns with an axis '
      'that is neither'
    )
  return parts


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdafactorConfig:
  """Settings of Adafactor; defaults are t5x's.

  Attributes:
    factored: keep row and column means of the squared gradient in place of all of it.
    min_dim_size_to_factor: see `factoring`.
    decay_rate: step t, counted from 0, keeps 1 - (t + 1)^-decay_rate of the moment.
    decay_offset: step at which t is 0 (it is never less): the first of fine-tuning.
    clipping_threshold: an update's RMS above this is scaled down to it, per layer.
    multiply_by_parameter_scale: makes the step relative to the parameter's RMS; a
      function decides for each parameter, by its name.
    max_parameter_scale: upper bound of that RMS.
    epsilon1: added to the squared gradient.
    epsilon2: lower bound of the parameter's RMS.
    momentum: share of the last update that is kept, in [0, 1); None keeps no buffer.
    momentum_dtype: dtype of the buffer.
    weight_decay: share of the parameter taken off a step, not scaled by the learning
      rate, in float32 (t5x: in the parameter's dtype); a float or schedule of the step.
    weight_decay_lr_exponent: multiplies the decay by learning_rate^exponent (a decay
      of None then counts as 1).
    skip_nan_updates: entries whose update or statistic would be NaN stay as they are.

  Raises:
    InputError: if a setting is out of its range.
  """

  factored: bool = True
  min_dim_size_to_factor: int = 128
  decay_rate: float = 0.8
  decay_offset: int = 0
  clipping_threshold: float | None = 1.0
  multiply_by_parameter_scale: bool | Callable[[str], bool] = True
  max_parameter_scale: float | None = None
  epsilon1: float = 1e-30
  epsilon2: float = 1e-3
  momentum: float | None = None
  momentum_dtype: Any = jnp.float32
  weight_decay: optax.ScalarOrSchedule | None = None
  weight_decay_lr_exponent: float | None = None
  skip_nan_updates: bool = False

  def __post_init__(self):
    if not self.decay_rate > 0:
      raise InputError(
        f'Adafactor decay_rate = {self.decay_rate}: must be above 0, as 0.8',
        field='Optimizer.decay_rate',
      )
    if not 0 <= (self.momentum or 0) < 1:
      raise InputError(
        f'Adafactor momentum = {self.momentum}: must be in [0, 1), as 0.9',
        field='Optimizer.momentum',
      )
    if self.clipping_threshold is not None and not self.clipping_threshold > 0:
      got = f'clipping_threshold = {self.clipping_threshold}'
      raise InputError(
        f'Adafactor {got}: must be None or above 0, as 1.0',
        field='Optimizer.clipping_threshold',
      )

  def scales(self, name: str) -> bool:
    """Returns whether the steps of a parameter are relative to its RMS."""
    scaled = self.multiply_by_parameter_scale
    return scaled(name) if callable(scaled) else scaled


def adafactor(
  learning_rate: optax.ScalarOrSchedule,
  *,
  logical_axes: Any,
  config: AdafactorConfig = AdafactorConfig(),
  rules: Mapping[str, Part] = STANDARD_RULES,
) -> optax.GradientTransformation:
  """Builds the optimizer.

  Updates are float32: `optax.apply_updates` adds them in float32 and rounds the sum to
  the parameter's dtype once. Parameters held back by `optax.masked` or
  `optax.multi_transform` are left out, `logical_axes` may still name them. `init` and
  `update` raise InputError if logical axes do not fit the parameters.

  Args:
    learning_rate: step size, relative to the parameter's RMS unless
      `multiply_by_parameter_scale` is off; a float, or a schedule of the step.
    logical_axes: one tuple of axis names (or a `PartitionSpec` of them, or None) per
      parameter, in a tree structured like the parameters.
    config: settings.
    rules: axis name -> part in the factoring.
  """
  axes_of = _axes_by_path(logical_axes)

  def plan(path: Any, param: jax.Array) -> Factoring:
    return factoring(
      _lookup(axes_of, _name(path)),
      shape=param.shape,
      name=_name(path),
      rules=rules,
      factored=config.factored,
      min_dim_size_to_factor=config.min_dim_size_to_factor,
    )

  def init(params: Any) -> AdafactorState[jax.Array]:
    moments = jax.tree_util.tree_map_with_path(
      lambda path, param: _zeros(param, plan(path, param), config), params
    )
    return AdafactorState(jnp.zeros([], jnp.int32), moments)

  def update(
    updates: Any, state: AdafactorState[jax.Array], params: Any = None
  ) -> tuple[Any, AdafactorState[jax.Array]]:
    if params is None:
      raise ValueError('Adafactor scales by the parameters: call update with params')
    rates = _rates(state.count, learning_rate, config)
    paths, treedef = jax.tree_util.tree_flatten_with_path(params)
    grads = treedef.flatten_up_to(updates)
    moments = treedef.flatten_up_to(state.moments)
    out = []
    for (path, param), grad, old in zip(paths, grads, moments, strict=True):
      parameter = _Parameter(_name(path), param, plan(path, param))
      out.append(_step(parameter, grad, old, rates=rates, config=config))
    steps = treedef.unflatten([step for step, _ in out])
    moments = treedef.unflatten([new for _, new in out])
    count = cast(jax.Array, optax.safe_increment(state.count))  # of the type it takes
    return steps, AdafactorState(count, moments)

  return optax.GradientTransformation(init, cast(optax.TransformUpdateFn, update))


class _Rates(NamedTuple):
  """Rates of one step: of learning, of weight decay, and what its moments keep."""

  learning: jax.Array
  decay: Any
  keep: jax.Array


class _Parameter(NamedTuple):
  """One parameter and its dimensions."""

  name: str
  value: jax.Array
  factoring: Factoring


def _zeros(
  param: jax.Array, dimensions: Factoring, config: AdafactorConfig
) -> Moments[jax.Array]:
  shape = param.shape
  rows, columns, _ = dimensions
  return Moments(
    v_row=jnp.zeros(_without(shape, columns) if columns else 1, jnp.float32),
    v_col=jnp.zeros(_without(shape, rows) if rows else 1, jnp.float32),
    v=jnp.zeros(1 if columns else shape, jnp.float32),
    m=jnp.zeros(1 if config.momentum is None else shape, config.momentum_dtype),
  )


def _rates(
  count: jax.Array, learning_rate: optax.ScalarOrSchedule, config: AdafactorConfig
) -> _Rates:
  rate = learning_rate(count) if callable(learning_rate) else learning_rate
  rate = jnp.asarray(rate, jnp.float32)
  decay = config.weight_decay
  decay = decay(count) if callable(decay) else decay
  if config.weight_decay_lr_exponent:
    decay = (1.0 if decay is None else decay) * rate**config.weight_decay_lr_exponent
  nth = jnp.maximum(count - config.decay_offset, 0).astype(jnp.float32) + 1.0
  return _Rates(rate, decay, 1.0 - nth ** (-config.decay_rate))


def _step(
  parameter: _Parameter,
  grad: jax.Array,
  old: Moments[jax.Array],
  *,
  rates: _Rates,
  config: AdafactorConfig,
) -> tuple[jax.Array, Moments[jax.Array]]:
  """Returns one parameter's update and its new moments."""
  param, block = parameter.value, parameter.factoring.block
  grad = grad.astype(jnp.float32)
  step, new = _preconditioned(
    grad, old, parameter.factoring, keep=rates.keep, epsilon=config.epsilon1
  )
  if config.clipping_threshold is not None:
    step /= jnp.maximum(1.0, _rms(step, block) / config.clipping_threshold)
  scale = rates.learning
  if config.scales(parameter.name):
    # The RMS is in the parameter's dtype: t5x's bfloat16 steps come out of that.
    bounds = config.epsilon2, config.max_parameter_scale
    scale = rates.learning * jnp.clip(_rms(param, block), *bounds)
  step = scale * step
  if config.momentum is not None:
    step = config.momentum * old.m + (1.0 - config.momentum) * step
    new = new._replace(m=step.astype(config.momentum_dtype))
  if rates.decay is not None:
    # As a difference, so that param - step rounds like (1 - decay) * param - step.
    value = param.astype(jnp.float32)
    step = value - ((1.0 - rates.decay) * value - step)
  if config.skip_nan_updates:
    step = jnp.where(jnp.isnan(step), 0.0, step)
    new = jax.tree.map(lambda a, b: jnp.where(jnp.isnan(a), b, a), new, old)
  return -step, new


def _preconditioned(
  grad: jax.Array, old: Moments[jax.Array], dimensions: Factoring, *, keep: jax.Array,
  epsilon: float,
) -> tuple[jax.Array, Moments[jax.Array]]:  # fmt: skip
  """Returns the gradient over the root of its second moment, and the new moments."""
  rows, columns, _ = dimensions
  square = grad * grad + epsilon
  if not columns:
    v = keep * old.v + (1.0 - keep) * square
    return grad * v**-0.5, old._replace(v=v)
  v_row = keep * old.v_row + (1.0 - keep) * jnp.mean(square, axis=columns)
  v_col = keep * old.v_col + (1.0 - keep) * jnp.mean(square, axis=rows)
  new = old._replace(v_row=v_row, v_col=v_col)
  v_row = jnp.expand_dims(v_row, columns)
  v_col = jnp.expand_dims(v_col, rows)
  v_row = v_row / jnp.mean(v_row, axis=rows, keepdims=True)
  return grad * v_row**-0.5 * v_col**-0.5, new


def state_logical_axes(
  state: Any,
  params: Any,
  *,
  logical_axes: Any,
  rules: Mapping[str, Part] = STANDARD_RULES,
) -> Any:
  """Logical axes of an optimizer's state, to shard it like the parameters.

  `v` and `m` have their parameter's axes, `v_row` and `v_col` the remaining ones. Any
  other state of optax, around it or in its place, goes by names and shapes: an array
  whose path ends with that of a parameter, and whose shape is the parameter's, has its
  axes; everything else is replicated.

  Args:
    state: the state or its shapes, as `jax.eval_shape(optimizer.init, params)`.
    params: the parameters or their shapes.
    logical_axes, rules: as given to `adafactor`.

  Returns:
    The state's tree with a `PartitionSpec` of logical names for each leaf, as
    `flax.linen.logical_to_mesh_sharding` takes it.
  """
  axes_of = _axes_by_path(logical_axes)
  pairs, _ = jax.tree_util.tree_flatten_with_path(params)
  shapes = {_name(path): tuple(leaf.shape) for path, leaf in pairs}

  def parameter(path: Any) -> str | None:
    """The parameter whose path ends that of a leaf; the longest one."""
    tails = (_name(path[start:]) for start in range(len(path)))
    return next((tail for tail in tails if tail in shapes), None)

  def remaining(name: str, leaf: Any, reduced: tuple[int, ...] = ()) -> PartitionSpec:
    axes = _lookup(axes_of, name)
    if axes is None or tuple(leaf.shape) != _without(shapes[name], reduced):
      return PartitionSpec()  # a filler
    return PartitionSpec(*_without(axes, reduced))

  def specs(path: Any, leaf: Any) -> Any:
    name = parameter(path)
    if name is None:
      return PartitionSpec()
    if not isinstance(leaf, Moments):
      return remaining(name, leaf)
    rows, columns, _ = factoring(
      _lookup(axes_of, name),
      shape=shapes[name],
      name=name,
      rules=rules,
      min_dim_size_to_factor=0,  # fillers show whether it was factored
    )
    return Moments(
      v_row=remaining(name, leaf.v_row, columns),
      v_col=remaining(name, leaf.v_col, rows),
      v=remaining(name, leaf.v),
      m=remaining(name, leaf.m),
    )

  return jax.tree_util.tree_map_with_path(
    specs, state, is_leaf=lambda leaf: isinstance(leaf, Moments)
  )


def _rms(x: jax.Array, dims: tuple[int, ...]) -> jax.Array:
  return jnp.sqrt(jnp.mean(x * x, axis=dims, keepdims=True))


def _without(items: tuple, dims: tuple[int, ...]) -> tuple:
  return tuple(item for i, item in enumerate(items) if i not in dims)


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')


def _axes_by_path(logical_axes: Any) -> dict[str, tuple[str, ...] | None]:
  def is_axes(x: Any) -> bool:
    # The names of one parameter are a tuple, which JAX would treat as a tree.
    if isinstance(x, tuple | list):
      return all(axis is None or isinstance(axis, str) for axis in x)
    return x is None or isinstance(x, PartitionSpec)

  pairs, _ = jax.tree_util.tree_flatten_with_path(logical_axes, is_leaf=is_axes)
  return {_name(path): None if axes is None else tuple(axes) for path, axes in pairs}


def _lookup(axes_of: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
  if name not in axes_of:
    raise InputError(
      f'{name}: has no logical axes; every parameter needs its tuple of names'
      f'{did_you_mean(name, axes_of)}'
    )
  return axes_of[name]

"""Optimizer of a run: Adafactor with its schedule, or any function that makes one."""

import contextlib
from collections.abc import Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.recipe import Recipe, recipes_in
from flan_jax.errors import InputError, failure
from flan_jax.train import adafactor, matrices
from flan_jax.train.tuning import FULL, Subset, Tuning


def schedule(optimizer: optimizer_config.OptimizerConfig) -> optax.Schedule:
  """The learning rate as a function of the step, from 0; an int compiles nothing."""
  peak, warmup = optimizer.learning_rate, optimizer.warmup_steps

  def rate(step):
    at = np if isinstance(step, int) else jnp
    done = at.asarray(step, at.float32) + 1
    scale = at.minimum(1.0, done / warmup) if warmup else 1.0
    if optimizer.schedule == 'rsqrt':
      scale = scale * at.sqrt(max(warmup, 1) / at.maximum(done, max(warmup, 1)))
    return peak * scale

  return rate


def learning_rate(
  optimizer: optimizer_config.OptimizerConfig | Recipe,
) -> optax.Schedule | None:
  """The learning rate of a run as a function of the step, from 0.

  That of a recipe is its `learning_rate`, or the only one among the recipes in its
  arguments; None if it has none, or several.
  """
  if not isinstance(optimizer, Recipe):
    return schedule(optimizer)
  rates = list(_rates(optimizer))
  if len(rates) != 1:
    return None
  rate: Any = rates[0].build() if isinstance(rates[0], Recipe) else rates[0]
  return cast(optax.Schedule, rate) if callable(rate) else optax.constant_schedule(rate)


def _rates(recipe: Recipe) -> Iterator[Any]:
  """Learning rates of a recipe: its own, or those of the recipes in its arguments."""
  own = recipe.get('learning_rate')
  if own is not None:
    yield own
    return
  for _, value in recipe.arguments:
    for inner in recipes_in(value):
      yield from _rates(inner)


def check(
  optimizer: optimizer_config.OptimizerConfig | Recipe,
  transform: optax.GradientTransformation,
  *,
  params: Any,
) -> None:
  """Traces the learning rates of a recipe and one update; computes nothing.

  Args:
    optimizer: the recipe; settings of Adafactor are not checked.
    transform: the optimizer that it makes.
    params: shapes of the parameters that it is given.

  Raises:
    InputError: if a rate is not a number, or the optimizer fails or returns updates of
      other parameters.
  """
  if not isinstance(optimizer, Recipe):
    return
  for rate in _rates(optimizer):
    _check_rate(rate)
  with _stated(str(optimizer)):
    state = jax.eval_shape(transform.init, params)
    found = jax.eval_shape(transform.update, params, state, params)
  if not (isinstance(found, tuple) and len(found) == 2):
    what = f'update returns {type(found).__name__}; must return (updates, state)'
  elif _shapes(found[0]) != _shapes(params):
    what = 'update returns no update of the shape of each parameter; must return them'
  elif jax.tree.structure(found[1]) != jax.tree.structure(state):
    what = 'update returns another kind of state than init; must return the same kind'
  else:
    return
  raise InputError(f'Run.optimizer: {optimizer}: {what}', field='Run.optimizer')


def _check_rate(rate: Any) -> None:
  """Traces a learning rate at a step, and calls it as the log does."""
  name = str(rate) if isinstance(rate, Recipe) else f'learning rate {rate!r}'
  made = rate.build() if isinstance(rate, Recipe) else rate
  if not callable(made):
    made = optax.constant_schedule(cast(float, made))
  got: list[Any] = []
  with _stated(name):
    jax.eval_shape(lambda step: got.append(made(step)), jnp.zeros((), jnp.int32))
    got.append(made(0))
  for value in got:
    number = isinstance(value, (int, float, np.number, np.ndarray, jax.Array))
    if not number or np.ndim(value):
      what = f'an array of shape {np.shape(value)}' if number else repr(value)
      raise InputError(
        f'Run.optimizer: {name}: got {what} at a step; must return a number',
        field='Run.optimizer',
      )


@contextlib.contextmanager
def _stated(what: str) -> Iterator[None]:
  """States an error of a recipe's function in one line."""
  try:
    yield
  except InputError:
    raise
  except Exception as error:
    raise failure(f'Run.optimizer: {what}', error) from error


def _shapes(tree: Any) -> Any:
  """The structure of a tree, and the shapes of its leaves."""
  leaves, structure = jax.tree.flatten(tree)
  return structure, [np.shape(leaf) for leaf in leaves]


def make_optimizer(
  optimizer: optimizer_config.OptimizerConfig | Recipe,
  *,
  config: DecoderConfig,
  logical_axes: Any,
  tuning: Tuning = FULL,
) -> optax.GradientTransformation:
  """Builds the optimizer of the trained parameters.

  Args:
    optimizer: settings of Adafactor, or a recipe that makes another optimizer; it gets
      those of `of_model`'s arguments that it has and that are not given, and so do the
      recipes in it.
    config: decoder config.
    logical_axes: logical axes of the trained parameters.
    tuning: the strategy that names the trained parameters.

  Raises:
    InputError: if a recipe does not build, or builds something else.
  """
  if isinstance(optimizer, Recipe):
    transform = _built(optimizer.offered(of_model(logical_axes)))
  else:
    transform = _adafactor(
      optimizer, config=config, logical_axes=logical_axes, tuning=tuning
    )
  return _of_trained(transform, tuning)


def _built(recipe: Recipe) -> optax.GradientTransformation:
  made = recipe.build()
  if not isinstance(made, optax.GradientTransformation):
    raise InputError(
      f'Run.optimizer: {recipe} returns {type(made).__name__}; must return an '
      'optax.GradientTransformation, as @optax.adamw() does',
      field='Run.optimizer',
    )
  return made


def of_model(logical_axes: Any) -> dict[str, Any]:
  """Arguments of optimizers that only a model can give, by name.

  Args:
    logical_axes: logical axes of the trained parameters.
  """
  numbers = matrices.dimension_numbers(logical_axes)
  return dict(
    zip(optimizer_config.OF_MODEL, (logical_axes, numbers, numbers), strict=True)
  )


def _adafactor(
  optimizer: optimizer_config.OptimizerConfig,
  *,
  config: DecoderConfig,
  logical_axes: Any,
  tuning: Tuning,
) -> optax.GradientTransformation:
  """Builds Adafactor as t5x runs it, behind a clip by global norm if one is set.

  The steps of parameters that start at zero are not relative to their size: they use
  the learning rate itself.
  """

  def scaled(name: str) -> bool:
    return not tuning.starts_at_zero(name, config)

  scales = optimizer.scales(adapters=tuning.freezes)
  settings = adafactor.AdafactorConfig(
    decay_rate=optimizer.decay_rate,
    clipping_threshold=optimizer.clipping_threshold,
    multiply_by_parameter_scale=scaled if scales else False,
    momentum=optimizer.momentum,
    weight_decay=optimizer.weight_decay,
  )
  transform = adafactor.adafactor(
    schedule(optimizer), logical_axes=logical_axes, config=settings
  )
  if optimizer.clip_global_norm is None:
    return transform
  return optax.chain(optax.clip_by_global_norm(optimizer.clip_global_norm), transform)


def _of_trained(
  transform: optax.GradientTransformation, tuning: Tuning
) -> optax.GradientTransformation:
  """Holds an optimizer to the trained parameters; the others have no state."""

  if not isinstance(tuning, Subset):
    return transform

  def labels(params: Any) -> Any:
    flat = traverse_util.flatten_dict(params, sep='/')
    found = {name: 'train' if tuning.trains(name) else 'freeze' for name in flat}
    return traverse_util.unflatten_dict(found, sep='/')

  both: dict[Any, optax.GradientTransformation] = {
    'train': transform,
    'freeze': optax.set_to_zero(),
  }
  return optax.multi_transform(both, labels)

"""A trial of an optimizer that a recipe makes: some steps on small parameters.

What the arguments of a foreign function may be is known to that function alone. What it
makes can be tried: its updates must be finite.
"""

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from flan_jax.config.recipe import Recipe
from flan_jax.errors import InputError, failure

STEPS = 256
"""Steps of a trial: a factor of 1.5 a step, which a bad decay gives, overflows."""

SIDE = 2
"""Maximum size of an axis of a parameter in the trial."""

MAX_PARAMETERS = 100
"""Maximum number of parameters: more, as of unrolled layers, take long to compile."""


def check(optimizer: Any, transform: optax.GradientTransformation, params: Any) -> None:
  """Tries the optimizer of a recipe, with gradients of both signs.

  Args:
    optimizer: the recipe; settings of Adafactor have ranges, and are not tried.
    transform: the optimizer that it makes.
    params: shapes of the parameters that it is given.

  Raises:
    InputError: if an update is not finite; names the step.
  """
  if not isinstance(optimizer, Recipe):
    return
  if len(jax.tree.leaves(params)) > MAX_PARAMETERS:
    return
  try:
    with _on_cpu():
      finite = np.asarray(jax.jit(lambda: _steps(transform, params))())
  except InputError:
    raise
  except Exception as error:
    raise failure(f'Run.optimizer: {optimizer}', error) from error
  if not finite.all():
    raise InputError(
      f'Run.optimizer: {optimizer.described}: its update is not finite at step '
      f'{int(finite.argmin()) + 1} of a trial of {STEPS} on small parameters; check '
      'its arguments',
      field='Run.optimizer',
    )


def _steps(transform: optax.GradientTransformation, params: Any) -> jax.Array:
  """Returns whether the updates of each step are finite, bool [STEPS]."""
  start = jax.tree.map(
    lambda leaf: jnp.ones([min(size, SIDE) for size in leaf.shape], leaf.dtype), params
  )

  def step(carry: Any, k: jax.Array) -> Any:
    params, state = carry
    gradient = jax.tree.map(lambda x: jnp.full_like(x, 1e-2 * jnp.cos(k)), params)
    updates, state = transform.update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates)]
    return (params, state), jnp.stack(finite).all()

  carry = start, transform.init(start)
  return jax.lax.scan(step, carry, jnp.arange(STEPS, dtype=jnp.float32))[1]


def _on_cpu() -> contextlib.AbstractContextManager[Any]:
  """Context of computations on a CPU, where it compiles fast, if JAX has one."""
  try:
    return jax.default_device(jax.local_devices(backend='cpu')[0])
  except RuntimeError:
    return contextlib.nullcontext()

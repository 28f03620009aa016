"""Steps that are not to be taken: a loss that is no number, or far above its average.

`Guarded` wraps an optimizer's state with the running average of the loss, so that the
verdict on a step is reached on the device, within the step, the same on every host and
after every resume. Steps judged bad are skipped and counted, or end the run.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

WINDOW = 50
"""Steps that the average remembers; it is a plain mean until then."""

WARM = 20
"""Good steps before a loss can be called a spike."""


class Guarded(NamedTuple):
  """An optimizer's state, watched.

  Attributes:
    average: of the loss over good steps, nats per token, float32.
    good: good steps so far, int32.
    bad: steps judged bad so far, int32.
    inner: the optimizer's own state.
  """

  average: jax.Array
  good: jax.Array
  bad: jax.Array
  inner: Any


def watch(
  inner: optax.GradientTransformation, *, loss_spike: float | None, skip: bool
) -> optax.GradientTransformationExtraArgs:
  """An optimizer that judges each step by its loss before taking it.

  `update` needs the keyword arguments `loss` (mean of the step, nats per token) and
  `norm` (of the gradient).

  Args:
    inner: the optimizer.
    loss_spike: a loss above so many times its average is bad; None judges finiteness alone.
    skip: whether a bad step leaves parameters and moments as they are.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params: Any) -> Guarded:
    zero = jnp.zeros((), jnp.int32)
    return Guarded(jnp.zeros((), jnp.float32), zero, zero, inner.init(params))

  def update(grads, state, params=None, *, loss, norm, **more):
    bad = ~(jnp.isfinite(loss) & jnp.isfinite(norm))
    if loss_spike is not None:
      bad |= (state.good >= WARM) & (loss > loss_spike * state.average)
    updates, moments = inner.update(grads, state.inner, params, **more)
    if skip:
      # x + -0.0 is x to the bit, for -0.0 too.
      updates = jax.tree.map(lambda u: jnp.where(bad, -0.0, u), updates)
      moments = jax.tree.map(lambda o, n: jnp.where(bad, o, n), state.inner, moments)
    good = state.good + jnp.where(bad, 0, 1)
    moved = state.average + (loss - state.average) / jnp.minimum(good, WINDOW)
    average = jnp.where(bad, state.average, moved)
    return updates, Guarded(average, good, state.bad + jnp.where(bad, 1, 0), moments)

  return optax.GradientTransformationExtraArgs(init, update)


def adopt(optimizer: Any, *, watched: bool) -> Any:
  """An optimizer's state with or without its watch, as a run's settings now want it."""
  if isinstance(optimizer, Guarded):
    return optimizer if watched else optimizer.inner
  if not watched:
    return optimizer
  # Each in a buffer of its own: the step gives them back to be overwritten.
  average, good, bad = (jnp.zeros((), d) for d in (jnp.float32, jnp.int32, jnp.int32))
  return Guarded(average, good, bad, optimizer)

"""Skip or abort on bad steps: a non-finite loss or gradient, or a loss spike.

`LossGuardState` adds the running average of the loss to an optimizer's state, so that
the device judges a step within the step, alike on every process and after every resume.
Bad steps are skipped and counted, or end the run.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

WINDOW = 50
"""Window of the running average, in steps; it is a plain mean until then."""

WARM = 20
"""Good steps before a loss can count as a spike."""


class LossGuardState(NamedTuple):
  """State of the loss guard around an optimizer; field names are checkpoint paths.

  Attributes:
    average: average loss of good steps, nats per token, float32.
    good: good steps so far, int32.
    bad: steps judged bad so far, int32.
    inner: the optimizer's own state.
  """

  average: jax.Array
  good: jax.Array
  bad: jax.Array
  inner: Any


def guard(
  inner: optax.GradientTransformation, *, loss_spike: float | None, skip: bool
) -> optax.GradientTransformationExtraArgs:
  """Wraps an optimizer so that it judges each step by its loss before taking it.

  `update` needs the keyword arguments `loss` (mean of the step, nats per token) and
  `norm` (norm of the gradient).

  Args:
    inner: the optimizer.
    loss_spike: a loss above this multiple of its average is bad; None judges finiteness
      alone.
    skip: whether a bad step leaves parameters and moments unchanged.
  """
  optimizer = optax.with_extra_args_support(inner)

  def init(params: Any) -> LossGuardState:
    zero = jnp.zeros((), jnp.int32)
    return LossGuardState(
      jnp.zeros((), jnp.float32), zero, zero, optimizer.init(params)
    )

  def update(
    grads: Any,
    state: LossGuardState,
    params: Any = None,
    *,
    loss: jax.Array,
    norm: jax.Array,
    **more: Any,
  ) -> tuple[Any, LossGuardState]:
    bad = ~(jnp.isfinite(loss) & jnp.isfinite(norm))
    if loss_spike is not None:
      bad |= (state.good >= WARM) & (loss > loss_spike * state.average)
    updates, moments = optimizer.update(grads, state.inner, params, **more)
    if skip:
      # x + -0.0 is x to the bit, for -0.0 too.
      updates = jax.tree.map(lambda u: jnp.where(bad, -0.0, u), updates)
      moments = jax.tree.map(lambda o, n: jnp.where(bad, o, n), state.inner, moments)
    good = state.good + jnp.where(bad, 0, 1)
    moved = state.average + (loss - state.average) / jnp.minimum(good, WINDOW)
    average = jnp.where(bad, state.average, moved)
    return updates, LossGuardState(
      average, good, state.bad + jnp.where(bad, 1, 0), moments
    )

  judged = cast(optax.TransformUpdateExtraArgsFn, update)
  return optax.GradientTransformationExtraArgs(init, judged)


def convert_state(optimizer: Any, *, guarded: bool) -> Any:
  """Adds the loss guard to an optimizer's state, or removes it, for new settings."""
  if isinstance(optimizer, LossGuardState):
    return optimizer if guarded else optimizer.inner
  if not guarded:
    return optimizer
  # Each in a buffer of its own, since the step donates them.
  average, good, bad = (jnp.zeros((), d) for d in (jnp.float32, jnp.int32, jnp.int32))
  return LossGuardState(average, good, bad, optimizer)

"""The loss of a row from its hidden states, a chunk of positions at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Sums = tuple[jax.Array, jax.Array]
"""(loss in nats, right guesses), summed over positions as the mask weighs them."""


def sums(
  logits_BxPxV: jax.Array,
  targets_BxP: jax.Array,
  mask_BxP: jax.Array,
  *,
  z_loss: float = 0.0,
) -> Sums:
  """Cross-entropy, and z_loss * log(Z)**2, where the mask is not 0."""
  log_z_BxP = jax.nn.logsumexp(logits_BxPxV, axis=-1)
  picked_BxP = jnp.take_along_axis(
    logits_BxPxV, targets_BxP[..., None], axis=-1
  ).squeeze(-1)
  loss_BxP = log_z_BxP - picked_BxP + z_loss * jnp.square(log_z_BxP)
  right_BxP = jnp.argmax(logits_BxPxV, axis=-1) == targets_BxP
  return jnp.sum(loss_BxP * mask_BxP), jnp.sum(right_BxP * mask_BxP)


def in_chunks(
  of_chunk: Callable[..., Sums],
  trained: Any,
  frozen: Any,
  hidden_BxLxD: jax.Array,
  targets_BxL: jax.Array,
  mask_BxL: jax.Array,
  *,
  chunk: int,
) -> Sums:
  """`of_chunk` added up over chunks of each row, positions with a loss first.

  A chunk without a loss is skipped, not multiplied by zero: how many are computed
  follows the data, while every shape is static. Where a gradient is asked for, that of
  a chunk is taken together with its loss and kept: its logits are computed once, and
  neither they nor the weights are held for each chunk until the backward pass.

  Args:
    of_chunk: (trained, frozen, hidden [B, P, D], targets [B, P], mask [B, P]) -> Sums.
    trained: weights of the head that get a gradient.
    frozen: weights that get none.
    hidden_BxLxD: normed hidden states.
    targets_BxL: int32.
    mask_BxL: float32; 0 where there is no loss.
    chunk: P, positions of a row whose logits exist at a time; it divides L.
  """
  order_BxL = jnp.argsort(mask_BxL <= 0, axis=1, stable=True)

  def split(x):
    index = order_BxL if x.ndim == 2 else order_BxL[..., None]
    x = jnp.take_along_axis(x, index, axis=1)
    return x.reshape(x.shape[0], -1, chunk, *x.shape[2:]).swapaxes(0, 1)

  parts = tuple(split(x) for x in (hidden_BxLxD, targets_BxL, mask_BxL))
  return _total(of_chunk, trained, frozen, *parts)


def _total(of_chunk, trained, frozen, *parts):
  has_loss = lambda part: jnp.any(part[2] > 0)  # noqa: E731
  nothing = jnp.zeros(()), jnp.zeros(())

  @jax.custom_vjp
  def total(trained, frozen, *parts):
    def add(found, part):
      more = lambda: jax.tree.map(jnp.add, found, of_chunk(trained, frozen, *part))  # noqa: E731
      return jax.lax.cond(has_loss(part), more, lambda: found), None

    return jax.lax.scan(add, nothing, parts)[0]

  def forward(trained, frozen, *parts):
    def add(carry, part):
      hidden_BxPxD, *rest = part

      def more():
        found, gradient = carry
        loss, pull_back, right = jax.vjp(
          lambda trained, hidden: of_chunk(trained, frozen, hidden, *rest),
          trained,
          hidden_BxPxD,
          has_aux=True,
        )
        own, of_hidden_BxPxD = pull_back(jnp.ones_like(loss))
        gradient = jax.tree.map(lambda sum, one: sum + one, gradient, own)
        return ((found[0] + loss, found[1] + right), gradient), of_hidden_BxPxD

      return jax.lax.cond(
        has_loss(part), more, lambda: (carry, jnp.zeros_like(hidden_BxPxD))
      )

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), trained)
    (found, gradient), of_hidden = jax.lax.scan(add, (nothing, zeros), parts)
    gradient = jax.tree.map(lambda sum, x: sum.astype(x.dtype), gradient, trained)
    return found, (gradient, of_hidden)

  def backward(kept, cotangent):
    gradient, of_hidden = jax.tree.map(
      lambda x: (x * cotangent[0]).astype(x.dtype), kept
    )
    return gradient, None, of_hidden, None, None

  total.defvjp(forward, backward)
  return total(trained, frozen, *parts)

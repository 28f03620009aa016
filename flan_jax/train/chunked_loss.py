"""The loss of a sequence from its hidden states, a chunk of tokens at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from flan_jax.train.losses import LossFunction

Sums = tuple[jax.Array, jax.Array]
"""(loss in nats, correct predictions), summed over tokens, weighted by the mask."""


def sums(
  logits_BxPxV: jax.Array,
  targets_BxP: jax.Array,
  mask_BxP: jax.Array,
  *,
  loss: LossFunction,
) -> Sums:
  """Sums of a loss and of correct predictions, weighted by the mask."""
  correct_BxP = jnp.argmax(logits_BxPxV, axis=-1) == targets_BxP
  total = loss(logits_BxPxV, targets_BxP, mask_BxP)
  return total, jnp.sum(correct_BxP * mask_BxP)


def in_chunks(
  chunk_sums: Callable[..., Sums],
  trained: Any,
  frozen: Any,
  hidden_BxLxD: jax.Array,
  targets_BxL: jax.Array,
  mask_BxL: jax.Array,
  *,
  chunk: int,
) -> Sums:
  """Sums `chunk_sums` over chunks of each sequence, tokens with a loss first.

  A chunk without a loss is skipped, not multiplied by zero: the number computed follows
  the data, while every shape is static. Under differentiation, the gradient of a chunk
  is computed together with its loss and kept: its logits are computed once, and neither
  they nor the weights are held for each chunk until the backward pass.

  Args:
    chunk_sums: function of (trained, frozen, hidden [B, P, D], targets [B, P], mask
      [B, P]); returns Sums.
    trained: weights of the head with a gradient.
    frozen: weights without a gradient.
    hidden_BxLxD: normed hidden states.
    targets_BxL: int32.
    mask_BxL: float32; 0 on tokens without a loss.
    chunk: P, tokens of a sequence whose logits exist at a time; it divides L.
  """
  order_BxL = jnp.argsort(mask_BxL <= 0, axis=1, stable=True)

  def split(x):
    index = order_BxL if x.ndim == 2 else order_BxL[..., None]
    x = jnp.take_along_axis(x, index, axis=1)
    return x.reshape(x.shape[0], -1, chunk, *x.shape[2:]).swapaxes(0, 1)

  parts = tuple(split(x) for x in (hidden_BxLxD, targets_BxL, mask_BxL))
  return _total(chunk_sums, trained, frozen, *parts)


def _total(chunk_sums, trained, frozen, *parts):
  has_loss = lambda part: jnp.any(part[2] > 0)  # noqa: E731
  zero = jnp.zeros(()), jnp.zeros(())

  @jax.custom_vjp
  def total(trained, frozen, *parts):
    def add(found, part):
      more = lambda: jax.tree.map(jnp.add, found, chunk_sums(trained, frozen, *part))  # noqa: E731
      return jax.lax.cond(has_loss(part), more, lambda: found), None

    return jax.lax.scan(add, zero, parts)[0]

  def forward(trained, frozen, *parts):
    def add(carry, part):
      hidden_BxPxD, *rest = part

      def more():
        found, gradient = carry
        loss, pull_back, correct = jax.vjp(
          lambda trained, hidden: chunk_sums(trained, frozen, hidden, *rest),
          trained,
          hidden_BxPxD,
          has_aux=True,
        )
        trained_grad, hidden_grad_BxPxD = pull_back(jnp.ones_like(loss))
        gradient = jax.tree.map(lambda sum, one: sum + one, gradient, trained_grad)
        return ((found[0] + loss, found[1] + correct), gradient), hidden_grad_BxPxD

      return jax.lax.cond(
        has_loss(part), more, lambda: (carry, jnp.zeros_like(hidden_BxPxD))
      )

    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), trained)
    (found, gradient), hidden_grad = jax.lax.scan(add, (zero, zeros), parts)
    gradient = jax.tree.map(lambda sum, x: sum.astype(x.dtype), gradient, trained)
    return found, (gradient, hidden_grad)

  def backward(kept, cotangent):
    gradient, hidden_grad = jax.tree.map(
      lambda x: (x * cotangent[0]).astype(x.dtype), kept
    )
    return gradient, None, hidden_grad, None, None

  total.defvjp(forward, backward)
  return total(trained, frozen, *parts)

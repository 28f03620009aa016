"""Losses: functions of logits, targets and a mask, summed over tokens."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from flan_jax.config.recipe import Recipe
from flan_jax.errors import InputError, failure

LossFunction = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""A loss of logits [B, P, V] float32, targets [B, P] int32 and a mask [B, P] float32.

It returns a scalar: the sum over tokens, each weighted by the mask. Where logits are
computed in chunks it is called for each chunk, and the sums are added.
"""


def cross_entropy(
  logits_BxPxV: jax.Array,
  targets_BxP: jax.Array,
  mask_BxP: jax.Array,
  *,
  z_loss: float = 0.0,
  label_smoothing: float = 0.0,
) -> jax.Array:
  """Sums the cross-entropy in nats over tokens, weighted by the mask.

  Args:
    logits_BxPxV: float32.
    targets_BxP: int32.
    mask_BxP: float32.
    z_loss: weight of log(Z)**2 per token.
    label_smoothing: share of the target's probability that is spread evenly over the
      whole vocabulary (Szegedy et al. 2015, arXiv 1512.00567).
  """
  log_z_BxP = jax.nn.logsumexp(logits_BxPxV, axis=-1)
  score_BxP = jnp.take_along_axis(
    logits_BxPxV, targets_BxP[..., None], axis=-1
  ).squeeze(-1)
  if label_smoothing:
    even_BxP = jnp.mean(logits_BxPxV, axis=-1)
    score_BxP = (1 - label_smoothing) * score_BxP + label_smoothing * even_BxP
  loss_BxP = log_z_BxP - score_BxP + z_loss * jnp.square(log_z_BxP)
  return jnp.sum(loss_BxP * mask_BxP)


def of_recipe(recipe: Recipe | None) -> LossFunction | None:
  """The loss of the setting `Run.loss`; None for the cross-entropy."""
  return None if recipe is None else checked(str(recipe), recipe.build())


def checked(name: str, loss: LossFunction) -> LossFunction:
  """Wraps a loss of the user's to refuse a result that is no scalar.

  Args:
    name: its name in messages.
    loss: the loss.
  """

  def function(logits_BxPxV, targets_BxP, mask_BxP):
    try:
      found = loss(logits_BxPxV, targets_BxP, mask_BxP)
    except InputError:
      raise
    except Exception as error:  # any, of a function of the user's
      raise failure(f'loss {name}', error) from error
    shape = getattr(found, 'shape', None)
    if shape is None and isinstance(found, (int, float)):
      shape = ()
    if shape != ():
      got = type(found).__name__ if shape is None else f'an array of shape {shape}'
      raise InputError(
        f'loss {name}: returned {got}; must be a scalar, the sum over tokens weighted '
        'by the mask'
      )
    return jnp.asarray(found, jnp.float32)

  return function

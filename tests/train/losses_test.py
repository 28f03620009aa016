"""Losses: the cross-entropy and its smoothing, and losses of one's own."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flan_jax.errors import InputError
from flan_jax.train import losses, train_step
from tests.train.train_step_test import TINY, drawn, eight_sequences, gradients, uneven


def logits_targets_mask():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 5, 7)).astype(np.float32)
  mask = np.float32([[1, 1, 0, 1, 0], [0, 1, 1, 1, 0]])
  return jnp.asarray(logits), rng.integers(0, 7, (2, 5)), mask


@pytest.mark.parametrize('smoothing', [0.0, 0.1])
def test_label_smoothing_is_that_of_optax(smoothing):
  logits, targets, mask = logits_targets_mask()
  labels = optax.smooth_labels(np.eye(7)[targets], smoothing)
  expected = (optax.softmax_cross_entropy(logits, labels) * mask).sum()
  found = losses.cross_entropy(logits, targets, mask, label_smoothing=smoothing)
  np.testing.assert_allclose(found, expected, rtol=1e-6)


def focal(logits, targets, mask):
  """The loss of hard tokens counts more (Lin et al. 2017)."""
  p = jnp.take_along_axis(jnp.exp(logits), targets[..., None], -1)[..., 0]
  p = p / jnp.exp(logits).sum(-1)
  return (-((1 - p) ** 2) * jnp.log(p) * mask).sum()


def test_a_loss_of_ones_own_is_the_same_in_chunks():
  settings = {'function': focal}
  whole = train_step.Loss(**settings)
  chunks = train_step.Loss(**settings, logits_chunk=4)
  plain = train_step.Loss()
  found = [
    gradients(drawn(), uneven(), config=TINY, loss=loss)[1]
    for loss in (whole, chunks, plain)
  ]
  np.testing.assert_allclose(found[0].loss, found[1].loss, rtol=1e-6)
  assert found[0].loss < found[2].loss
  assert found[0].correct == found[2].correct


def test_a_loss_that_is_no_scalar_is_refused():
  loss = losses.checked('per_token', lambda logits, targets, mask: mask)
  with pytest.raises(InputError, match=r'per_token: returned .*\(2, 5\); must be a sc'):
    loss(*logits_targets_mask())


def test_an_error_of_a_loss_is_one_line_with_its_place():
  loss = losses.checked('mine', lambda logits, targets, mask: logits @ targets)
  with pytest.raises(InputError, match=r'^loss mine: TypeError: .*\(.*:\d+\)$'):
    loss(*logits_targets_mask())


def test_smoothing_reaches_the_step():
  smooth = train_step.Loss(label_smoothing=0.5)
  found = [
    gradients(drawn(), eight_sequences(), config=TINY, loss=loss)[1].loss
    for loss in (smooth, train_step.Loss())
  ]
  assert found[0] != found[1]

"""Intervals over seeds cover the truth of a simulation, and nest the examples'."""

import numpy as np
import pytest
from scipy import stats

from flan_jax.evaluate import metrics, seeds, statistics

ACCURACY = metrics.METRICS['accuracy']


def simulated(*, number, of_seeds, of_examples, examples=60, replicates=600):
  """Draws binary answers [B, S, N] with a mean of exactly a half.

  The probability of a right answer is a half plus an effect of the seed and one of the
  example, uniform with the given half-widths.
  """
  rng = np.random.default_rng([number, examples])
  effect = of_seeds * rng.uniform(-1, 1, (replicates, number, 1))
  difficulty = of_examples * rng.uniform(-1, 1, (replicates, 1, examples))
  right = rng.random((replicates, number, examples)) < 0.5 + effect + difficulty
  return right.astype(np.float64)


def covered(right_BxSxN, *, nested=True, resamples=400):
  """Returns the share of simulated intervals that hold the truth, and their width."""
  mean_BxN = right_BxSxN.mean(1)
  replicates, examples = mean_BxN.shape
  ends = [
    statistics.interval(right[..., None], metric=ACCURACY) for right in right_BxSxN
  ]
  low, high = np.array(ends).T
  counts_RxN = seeds._counts(examples, resamples, 0)
  drawn_BxR = 100 * (mean_BxN - mean_BxN.mean(1, keepdims=True)) @ counts_RxN.T
  drawn_BxR /= np.sqrt(examples * (examples - 1))
  found = seeds.solve(
    100 * right_BxSxN.mean(2), (low, high), drawn_BxR if nested else None
  )
  assert len(found[0]) == replicates
  return np.mean((found[0] <= 50) & (50 <= found[1])), np.mean(found[1] - found[0])


@pytest.mark.parametrize('nested', [True, False])
@pytest.mark.parametrize('number', [3, 5])
@pytest.mark.parametrize('of_seeds,of_examples', [(0.1, 0.3), (0.3, 0.1), (0.2, 0.0)])
def test_coverage(number, of_seeds, of_examples, nested):
  right = simulated(number=number, of_seeds=of_seeds, of_examples=of_examples)
  print(number, of_seeds, of_examples, nested, covered(right, nested=nested))

"""Intervals of 95 % for means, differences and correlations, near 0 and 1 too.

Every interval is a function of a few moments, float64 of one shape, so that a coverage
simulation is one call (tests/populations.py and coverage_test.py). Figures are from 0
to 1 here (a correlation from -1 to 1).

Rare outcomes may not occur in the sample: among 20 answers, all right, there is no
variance to estimate. The limit that faces 0 or 1 therefore adds some variance to the
sample's (`_UNSEEN`), and no interval is a point.
"""

import statistics
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95

_Z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)

_UNSEEN = 0.15
"""Variance added for unseen outcomes, in examples at a rate of a half.

Chosen by the simulation of means of ten templates: with 0.15 or 0.2 every cell of the
grid covers 92 to 98 %, with 0 the lowest falls to about 80 %.
"""

_NOTHING = 1e-12


def of_mean(
  mean: ArrayLike,
  variance: ArrayLike,
  count: ArrayLike,
  *,
  max_effect: ArrayLike = 1.0,
  prior_effect: ArrayLike = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes Wilson's score interval of a mean of values in [0, 1], at effective size.

  The variance of the values over that of a coin with the same mean is the design effect
  (Kish 1965; Franco et al. 2019): 1 for right or wrong under one template, down to
  1 / T for the mean over T templates that are independent of each other.

  Args:
    mean: mean of the examples' values.
    variance: population variance of the values (divided by the count).
    count: number of examples; at least 1.
    max_effect: upper bound on the design effect; np.inf for none.
    prior_effect: design effect assumed for unseen outcomes, that of templates that
      agree: above 1 if some of them have few of the examples.

  Returns:
    The lower and the upper limit.
  """
  mean, variance, count = np.broadcast_arrays(
    *(np.asarray(of, np.float64) for of in (mean, variance, count))
  )
  sums = _unbiased(variance, count) * count
  coin = np.maximum(mean * (1 - mean), 0.0) * count
  low, _ = _wilson(
    mean, count / _ratio(sums, coin, _UNSEEN * mean, max_effect, prior_effect)
  )
  _, high = _wilson(
    mean, count / _ratio(sums, coin, _UNSEEN * (1 - mean), max_effect, prior_effect)
  )
  return low, high


def of_difference(
  gain: ArrayLike,
  loss: ArrayLike,
  square: ArrayLike,
  count: ArrayLike,
  *,
  max_effect: ArrayLike = 1.0,
  prior_effect: ArrayLike = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes Tango's score interval of a mean difference in [-1, 1], at effective size.

  For right or wrong under one template it is the interval of Tango (1998), whose test
  of no difference is McNemar's. If two models differ partially on examples (under some
  templates, in some words), the effective size is the variance of the differences over
  that of whole ones.

  Args:
    gain: mean of the positive parts of the examples' differences.
    loss: mean of the negative parts, not negative.
    square: mean of the squares.
    count: number of examples; at least 1.
    max_effect: upper bound on the design effect.
    prior_effect: design effect assumed for unseen outcomes.

  Returns:
    The lower and the upper limit.
  """
  gain, loss, square, count = np.broadcast_arrays(
    *(np.asarray(of, np.float64) for of in (gain, loss, square, count))
  )
  mean = gain - loss
  sums = _unbiased(np.maximum(square - mean * mean, 0.0), count) * count
  whole = np.maximum(gain + loss - mean * mean, 0.0) * count
  moved = gain + loss
  lost = np.where(moved > _NOTHING, loss / np.maximum(moved, _NOTHING), 0.5)
  limits = []
  for end, unseen in ((-1.0, lost), (1.0, 1 - lost)):
    size = count / _ratio(sums, whole, _UNSEEN * unseen, max_effect, prior_effect)
    limits.append(_tango(gain * size, loss * size, size, end=end))
  return limits[0], limits[1]


def of_correlation(
  r: ArrayLike, variance: ArrayLike, count: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """Computes Fisher's interval of a correlation, with the jackknife's variance.

  If nothing varies (all points on one line, or a constant answer), the interval is that
  of a mean of (r + 1) / 2 over as many examples.

  Args:
    r: correlation.
    variance: population variance of the examples' influences on r.
    count: number of examples; at least 1.
  """
  from scipy.special import stdtrit

  r, variance, count = np.broadcast_arrays(
    *(np.asarray(of, np.float64) for of in (r, variance, count))
  )
  room = 1 - r * r
  varies = (variance > _NOTHING) & (room > _NOTHING) & (count > 2)
  error = np.sqrt(_unbiased(variance, count) / count) / np.where(varies, room, 1.0)
  quantile = stdtrit(np.maximum(count - 2, 1), (1 + LEVEL) / 2)
  center = np.arctanh(np.where(varies, r, 0.0))
  coarse = of_mean((r + 1) / 2, 0.0, count)
  low, high = (
    np.where(varies, np.tanh(center + sign * quantile * error), 2 * limit - 1)
    for sign, limit in zip((-1, 1), coarse, strict=True)
  )
  return low, high


def of_values(
  mean: ArrayLike, variance: ArrayLike, count: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """Computes Student's interval of a mean of values without bounds.

  It is a point if the values do not vary, and NaN for one value.

  Args:
    mean: mean of the examples' values, or of their differences.
    variance: population variance of the values (divided by the count).
    count: number of examples; at least 1.
  """
  from scipy.special import stdtrit

  mean, variance, count = np.broadcast_arrays(
    *(np.asarray(of, np.float64) for of in (mean, variance, count))
  )
  error = np.sqrt(_unbiased(np.maximum(variance, 0.0), count) / count)
  quantile = stdtrit(np.maximum(count - 1, 1), (1 + LEVEL) / 2)
  half = np.where(count > 1, quantile * error, np.nan)
  return mean - half, mean + half


_Floats = float | np.ndarray


class Pair(NamedTuple):
  """Moments of two models' values on the same examples, each divided by the count.

  Attributes:
    gain: mean of the positive parts of the differences.
    loss: mean of the negative parts of the differences, not negative.
    square: mean of the squared differences.
    means: mean of each model's values.
    variances: variance of each model's values.
    covariance: covariance of the two models' values.
  """

  gain: _Floats
  loss: _Floats
  square: _Floats
  means: tuple[_Floats, _Floats]
  variances: tuple[_Floats, _Floats]
  covariance: _Floats


FEW = 5
"""Minimum number of differing examples to estimate how much examples differ."""


def of_pair(
  pair: Pair,
  count: ArrayLike,
  *,
  templates: tuple[int, int] = (1, 1),
  max_effects: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
  prior_effects: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the interval of one model's mean minus another's on the same examples.

  With one template each, it is `of_difference`. With several, each model's answers may
  agree more or less across templates: the limits are then recovered from each model's
  own (`subtracted`), widened to those of `of_difference`, which are wider if two models
  give nearly equal answers. With unequal numbers of templates, such as ten against one,
  they are widened only if fewer than `FEW` examples differ.

  Args:
    pair: moments of the two models.
    count: number of examples; at least 1.
    templates: number of templates of each model.
    max_effects: upper bound on the design effect of each model.
    prior_effects: design effect of each model assumed for unseen outcomes.
  """
  tango = of_difference(
    pair.gain,
    pair.loss,
    pair.square,
    count,
    max_effect=np.maximum(*max_effects),
    prior_effect=np.maximum(*prior_effects),
  )
  if tuple(templates) == (1, 1):
    return tango
  one, other = (
    (mean, *of_mean(mean, variance, count, max_effect=largest, prior_effect=prior))
    for mean, variance, largest, prior in zip(
      pair.means, pair.variances, max_effects, prior_effects, strict=True
    )
  )
  product = np.sqrt(np.multiply(*pair.variances))
  correlation = np.where(
    product > _NOTHING, pair.covariance / np.maximum(product, _NOTHING), 0.0
  )
  low, high = subtracted(one, other, np.clip(correlation, -1, 1))
  if templates[0] != templates[1]:
    square = np.maximum(pair.square, _NOTHING)
    few = count * np.square(pair.gain + pair.loss) / square < FEW
  else:
    few = True
  return (
    np.where(few, np.minimum(low, tango[0]), low),
    np.where(few, np.maximum(high, tango[1]), high),
  )


_Limits = tuple[_Floats, _Floats, _Floats]


def subtracted(
  one: _Limits, other: _Limits, correlation: _Floats
) -> tuple[np.ndarray, np.ndarray]:
  """Computes limits of one figure minus another from the limits of each (MOVER).

  Zou and Donner 2008; Newcombe 1998 for two proportions.

  Args:
    one: minuend, its lower and its upper limit.
    other: subtrahend, its lower and its upper limit.
    correlation: correlation of the two estimates.
  """
  (a, low_a, high_a), (b, low_b, high_b) = one, other

  def root(x, y):
    return np.sqrt(np.maximum(x * x + y * y - 2 * correlation * x * y, 0.0))

  delta = np.subtract(a, b)
  return delta - root(a - low_a, high_b - b), delta + root(high_a - a, b - low_b)


def _unbiased(variance: np.ndarray, count: np.ndarray) -> np.ndarray:
  return variance * count / np.maximum(count - 1, 1)


def _ratio(sums, whole, unseen, max_effect, prior_effect) -> np.ndarray:
  """Estimates the design effect, shrunk toward the prior by unseen outcomes."""
  below = whole + unseen
  drawn = (sums + prior_effect * unseen) / np.maximum(below, _NOTHING)
  found = np.where(below > _NOTHING, drawn, prior_effect)
  return np.clip(found, _NOTHING, max_effect)


def _wilson(mean: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  per = _Z * _Z / np.maximum(size, _NOTHING)
  center = (mean + per / 2) / (1 + per)
  room = np.maximum(mean * (1 - mean), 0.0)
  half = np.sqrt(per * (room + per / 4)) / (1 + per)
  return np.maximum(center - half, 0.0), np.minimum(center + half, 1.0)


def _tango(gained, lost, size, *, end: float) -> np.ndarray:
  """Finds the limit between the observed difference and `end`, at score z."""

  def inside(delta):
    # Maximum-likelihood rate of losses if the true difference is delta.
    linear = (2 * size - gained + lost) * delta - gained - lost
    root = np.sqrt(np.maximum(linear**2 + 8 * size * lost * delta * (1 - delta), 0.0))
    rate = (root - linear) / (4 * size)
    variance = size * (2 * rate + delta * (1 - delta))
    return np.square(gained - lost - size * delta) < _Z * _Z * variance

  near, far = (gained - lost) / size, np.full_like(size, end)
  for _ in range(32):
    middle = (near + far) / 2
    within = inside(middle)
    near, far = np.where(within, middle, near), np.where(within, far, middle)
  return (near + far) / 2

"""Intervals of 95 % for means, differences and correlations, near 0 and 1 too.

Everything is a function of a few moments, float64 of one shape, so that a simulation
of their coverage costs one call (tests/populations.py and coverage_test.py).
Figures are from 0 to 1 here (a correlation from -1 to 1).

What is rare may not have been seen at all: among 20 answers, all right, there is no
variance to estimate. The limit that faces 0 or 1 therefore takes the variance for
somewhat more than it was found to be (`_UNSEEN`), and no interval is a point.
"""

import statistics
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95

_Z = statistics.NormalDist().inv_cdf((1 + LEVEL) / 2)

_UNSEEN = 0.15
"""Variance added on the side of what was not seen, in examples at a rate of a half.

Chosen by the simulation of means of ten templates: with 0.15 or 0.2 every cell of its
grid covers 92 to 98 %, with 0 the lowest falls to about 80 %.
"""

_NOTHING = 1e-12


def of_mean(
  mean: ArrayLike,
  variance: ArrayLike,
  count: ArrayLike,
  *,
  most: ArrayLike = 1.0,
  usual: ArrayLike = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Wilson's score interval of a mean of values in [0, 1], at its effective size.

  The variance of the values over that of a coin with the same mean is the design effect
  (Kish 1965; Franco et al. 2019): 1 for right or wrong under one template, down to
  1 / T for the mean over T templates that are independent of each other.

  Args:
    mean: of the examples' values.
    variance: of the values, divided by the count.
    count: number of examples; at least 1.
    most: the largest design effect; np.inf where there is none.
    usual: the design effect that is taken for what was not seen, of templates that
      agree: above 1 where some of them have few of the examples.

  Returns:
    The lower and the upper limit.
  """
  mean, variance, count = np.broadcast_arrays(
    *(np.asarray(of, np.float64) for of in (mean, variance, count))
  )
  sums = _unbiased(variance, count) * count
  coin = np.maximum(mean * (1 - mean), 0.0) * count
  low, _ = _wilson(mean, count / _ratio(sums, coin, _UNSEEN * mean, most, usual))
  _, high = _wilson(mean, count / _ratio(sums, coin, _UNSEEN * (1 - mean), most, usual))
  return low, high


def of_difference(
  gain: ArrayLike,
  loss: ArrayLike,
  square: ArrayLike,
  count: ArrayLike,
  *,
  most: ArrayLike = 1.0,
  usual: ArrayLike = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
  """Tango's score interval of a mean of differences in [-1, 1], at its effective size.

  For right or wrong under one template it is the interval of Tango (1998), whose test
  of no difference is McNemar's. Examples on which two models differ by a part (some of
  the templates, some of the words) count by the variance of the differences over that
  of whole ones.

  Args:
    gain: mean of the positive parts of the examples' differences.
    loss: mean of the negative parts, not negative.
    square: mean of the squares.
    count: number of examples; at least 1.
    most: the largest design effect.
    usual: the design effect that is taken for what was not seen.

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
    size = count / _ratio(sums, whole, _UNSEEN * unseen, most, usual)
    limits.append(_tango(gain * size, loss * size, size, end=end))
  return limits[0], limits[1]


def of_correlation(
  r: ArrayLike, variance: ArrayLike, count: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """Fisher's interval of a correlation, with the jackknife's variance.

  Where nothing varies (all of it on one line, or a constant answer) the interval is
  that of a mean of (r + 1) / 2 over as many examples.

  Args:
    r: the correlation.
    variance: of the examples' influences on r, divided by the count.
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
  return tuple(
    np.where(varies, np.tanh(center + sign * quantile * error), 2 * limit - 1)
    for sign, limit in zip((-1, 1), coarse, strict=True)
  )


class Pair(NamedTuple):
  """Moments of what two models did on the same examples, each divided by the count.

  Attributes:
    gain, loss: of the positive and the negative parts of the differences.
    square: of the squared differences.
    means, variances: of each model's values.
    covariance: of the two.
  """

  gain: ArrayLike
  loss: ArrayLike
  square: ArrayLike
  means: tuple[ArrayLike, ArrayLike]
  variances: tuple[ArrayLike, ArrayLike]
  covariance: ArrayLike


FEW = 5
"""Fewer examples than this that differ say nothing of how much examples differ."""


def of_pair(
  pair: Pair,
  count: ArrayLike,
  *,
  templates: tuple[int, int] = (1, 1),
  most: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
  usual: tuple[ArrayLike, ArrayLike] = (1.0, 1.0),
) -> tuple[np.ndarray, np.ndarray]:
  """The interval of one model's mean minus another's, over the same examples.

  Under one template each it is `of_difference`. Under several the two may agree with
  themselves more or less: then the limits are recovered from each model's own
  (`subtracted`), and those of `of_difference` stand where they are wider, which they
  are for two models that say nearly the same. A base model that was asked once beside
  ten templates has them only where fewer than `FEW` examples differ.

  Args:
    pair: the moments.
    count: number of examples; at least 1.
    templates: how many each model was asked by.
    most: the largest design effect of each.
    usual: the design effect of each that is taken for what was not seen.
  """
  tango = of_difference(
    pair.gain,
    pair.loss,
    pair.square,
    count,
    most=np.maximum(*most),
    usual=np.maximum(*usual),
  )
  if tuple(templates) == (1, 1):
    return tango
  one, other = (
    (mean, *of_mean(mean, variance, count, most=largest, usual=unseen))
    for mean, variance, largest, unseen in zip(
      pair.means, pair.variances, most, usual, strict=True
    )
  )
  product = np.sqrt(np.multiply(*pair.variances))
  together = np.where(
    product > _NOTHING, pair.covariance / np.maximum(product, _NOTHING), 0.0
  )
  low, high = subtracted(one, other, np.clip(together, -1, 1))
  if templates[0] != templates[1]:
    square = np.maximum(pair.square, _NOTHING)
    few = count * np.square(pair.gain + pair.loss) / square < FEW
  else:
    few = True
  return (
    np.where(few, np.minimum(low, tango[0]), low),
    np.where(few, np.maximum(high, tango[1]), high),
  )


_Limits = tuple[ArrayLike, ArrayLike, ArrayLike]


def subtracted(
  one: _Limits, other: _Limits, together: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
  """Limits of one figure minus another, from the limits of each (MOVER).

  Zou and Donner 2008; Newcombe 1998 for two proportions.

  Args:
    one: the figure that is subtracted from, its lower and its upper limit.
    other: the figure subtracted, its lower and its upper limit.
    together: correlation of the two estimates.
  """
  (a, low_a, high_a), (b, low_b, high_b) = one, other

  def root(x, y):
    return np.sqrt(np.maximum(x * x + y * y - 2 * together * x * y, 0.0))

  delta = np.subtract(a, b)
  return delta - root(a - low_a, high_b - b), delta + root(high_a - a, b - low_b)


def _unbiased(variance: np.ndarray, count: np.ndarray) -> np.ndarray:
  return variance * count / np.maximum(count - 1, 1)


def _ratio(sums, whole, unseen, most, usual) -> np.ndarray:
  """The design effect, drawn toward the usual one by what was not seen."""
  below = whole + unseen
  drawn = (sums + usual * unseen) / np.maximum(below, _NOTHING)
  found = np.where(below > _NOTHING, drawn, usual)
  return np.clip(found, _NOTHING, most)


def _wilson(mean: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  per = _Z * _Z / np.maximum(size, _NOTHING)
  center = (mean + per / 2) / (1 + per)
  room = np.maximum(mean * (1 - mean), 0.0)
  half = np.sqrt(per * (room + per / 4)) / (1 + per)
  return np.maximum(center - half, 0.0), np.minimum(center + half, 1.0)


def _tango(gained, lost, size, *, end: float) -> np.ndarray:
  """The limit between the difference found and `end`, where the score is just z."""

  def inside(delta):
    # The likeliest rate of losses if the true difference were delta.
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

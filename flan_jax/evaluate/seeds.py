"""Intervals over seeds: runs that differ in their seed, measured on shared examples.

Letters in shape suffixes: S seed, R resample; the others as in `statistics`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.evaluate import statistics
from flan_jax.evaluate.intervals import LEVEL
from flan_jax.evaluate.metric import Metric, is_measured
from flan_jax.evaluate.statistics import Interval

_BLOCK = 4_000_000  # resampled counts held at once: 32 MB
_HALVINGS = 26
_NOTHING = 1e-9


class Figure(NamedTuple):
  """One figure under several seeds, in percent (a difference: in points).

  Attributes:
    by_seed: the figure under each seed, float64 [S].
    examples: 95 % interval of the mean over seeds, over examples alone; NaN if unknown.
    drawn: deviation of the mean over seeds on resamples of the examples, float64 [R];
      None if the examples' scores are not at hand.
  """

  by_seed: np.ndarray
  examples: Interval
  drawn: np.ndarray | None

  @property
  def mean(self) -> float:
    return float(np.mean(self.by_seed))

  @property
  def std(self) -> float | None:
    """Standard deviation over seeds, divided by S - 1; None for one seed."""
    return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None


def figure(
  scores: Sequence[np.ndarray],
  base: Sequence[np.ndarray] | None = None,
  *,
  metric: Metric,
  seed: int | Sequence[int],
  resamples: int = statistics.RESAMPLES,
) -> Figure:
  """Computes the mean over templates under each seed, and resamples the examples.

  A resample draws the examples once for all seeds, templates and models: the seeds were
  measured on the same examples, and their difficulty is no property of a seed.

  Args:
    scores: statistics of `metric` of each seed, [T, N, K], on the same examples.
    base: likewise of each seed's base: the figure is then the difference.
    metric: one of flan_jax.evaluate.metrics.METRICS.
    seed: seed for the resamples.
    resamples: number of resamples.
  """
  by_seed = _means(scores, metric)
  examples = scores[0].shape[1]
  counts = _counts(examples, resamples, seed)
  drawn = _drawn(scores, metric, counts)
  stacked = np.concatenate(scores)
  if base is None:
    interval = statistics.interval(stacked, metric=metric)
  else:
    by_seed = by_seed - _means(base, metric)
    drawn = drawn - _drawn(base, metric, counts)
    interval = statistics.paired_interval(stacked, np.concatenate(base), metric=metric)
  # A resample of N examples varies by (N - 1) / N of what N new examples would.
  scale = np.sqrt(examples / max(examples - 1, 1))
  return Figure(by_seed, interval, scale * (drawn - drawn.mean()))


def average(figures: Sequence[Sequence[Figure]]) -> Figure:
  """Averages the figures of several datasets under each seed.

  Datasets are independent draws of examples: resample r of the average is the mean of
  every dataset's own resample r. Results of one dataset share its examples, and their
  intervals are averaged, which is wide enough for any correlation.

  Args:
    figures: figures of each dataset, one for each of its results.
  """
  flat = [part for parts in figures for part in parts]
  weights = [len(figures) * len(parts) / len(flat) for parts in figures]
  bounds, means = [], []
  for weight, parts in zip(weights, figures, strict=True):
    low, high = weight * np.mean([part.examples for part in parts], axis=0)
    bounds.append(Interval(float(low), float(high)))
    means.append(float(weight * np.mean([part.mean for part in parts])))
  known = [part.drawn for part in flat if part.drawn is not None]
  drawn = np.mean(known, axis=0) if len(known) == len(flat) else None
  by_seed = np.mean([part.by_seed for part in flat], axis=0)
  return Figure(by_seed, statistics.average_interval(means, bounds), drawn)


def reported(by_seed: Sequence[float], intervals: Sequence[Sequence[float]]) -> Figure:
  """Makes a figure from reported figures and intervals, without the examples' scores.

  The seeds share their examples, with an unknown correlation: the intervals over
  examples are averaged, which is wide enough for any.
  """
  low, high = np.mean(np.asarray(intervals, np.float64), axis=0)
  return Figure(np.asarray(by_seed, np.float64), Interval(low, high), None)


def interval(of: Figure, *, limits: tuple[float, float] | None = None) -> Interval:
  """Computes the 95 % interval of the mean over seeds and examples.

  It is a t interval on the seeds with the bootstrap of the examples nested in it. With
  figures m_s of S seeds, their mean m and variance v = sum (m_s - m)^2 / (S - 1), and
  the deviation d_r of the mean over seeds on resample r of the examples, the limits x
  solve F(x) = 0.025 and F(x) = 0.975 of

    F(x) = mean over r of T((x - m - d_r) / sqrt(v / S)),

  where T is the distribution function of Student's t with S - 1 degrees of freedom. F
  is the distribution of m plus two independent errors: of the seeds, t times its
  standard error, and of the examples, as the resamples have it. If the examples
  do not matter, it is the t interval; if the seeds are equal, the bootstrap's. It is
  never narrower than the interval over the examples alone, which knows that an outcome
  may be absent from the sample.

  Without resamples the two are combined by MOVER (Zou and Donner 2008): the distance of
  a limit from m is the root of (its distance in the interval over examples)^2 +
  (t_0.975 sqrt(v / S))^2. It is the t interval alone if that interval is unknown.

  Args:
    of: figure under each seed. With one seed it is the interval over the examples.
    limits: least and greatest value that the figure can have; None for any.
  """
  if len(of.by_seed) < 2:
    return of.examples
  drawn = None if of.drawn is None else of.drawn[None]
  low, high = solve(of.by_seed[None], of.examples, drawn)
  if limits is not None:
    low, high = np.clip(low, *limits), np.clip(high, *limits)
  return Interval(float(low[0]), float(high[0]))


def solve(
  by_seed_BxS: np.ndarray,
  examples: tuple[np.ndarray | float, np.ndarray | float],
  drawn_BxR: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the limits of `interval` for many figures at once, float64 [B]."""
  from scipy.special import stdtr, stdtrit

  freedom = by_seed_BxS.shape[-1] - 1
  mean_B = by_seed_BxS.mean(-1)
  error_B = by_seed_BxS.std(-1, ddof=1) / np.sqrt(freedom + 1)
  low, high = examples
  half_B = stdtrit(freedom, (1 + LEVEL) / 2) * error_B
  if drawn_BxR is None:
    return (
      mean_B - np.hypot(np.nan_to_num(mean_B - low), half_B),
      mean_B + np.hypot(np.nan_to_num(high - mean_B), half_B),
    )
  error_B = np.maximum(error_B, _NOTHING)
  found = []
  for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
    below = drawn_BxR.min(-1) - half_B - _NOTHING
    above = drawn_BxR.max(-1) + half_B + _NOTHING
    for _ in range(_HALVINGS):
      middle = (below + above) / 2
      places = (middle[:, None] - drawn_BxR) / error_B[:, None]
      reached = stdtr(freedom, places).mean(-1) >= share
      below, above = np.where(reached, below, middle), np.where(reached, middle, above)
    found.append(mean_B + (below + above) / 2)
  return np.minimum(found[0], low), np.maximum(found[1], high)


def _means(scores: Sequence[np.ndarray], metric: Metric) -> np.ndarray:
  """Returns the mean over templates under each seed, float64 [S]."""
  return np.array(
    [statistics.spread(statistics.figures(one, metric=metric)).mean for one in scores]
  )


def _counts(examples: int, resamples: int, seed: int | Sequence[int]) -> np.ndarray:
  """Draws how often each resample has each example, float32 [R, N]."""
  generator = np.random.default_rng(seed)
  share = np.full(examples, 1 / examples)
  return generator.multinomial(examples, share, size=resamples).astype(np.float32)


def _drawn(
  scores: Sequence[np.ndarray], metric: Metric, counts_RxN: np.ndarray
) -> np.ndarray:
  """Computes the mean over seeds and templates on each resample, float64 [R]."""
  found = []
  for scores_TxNxK in scores:
    present_TxN = is_measured(scores_TxNxK)
    filled = np.where(present_TxN[..., None], scores_TxNxK, 0.0)
    totals_TxRxK = counts_RxN.astype(np.float64) @ filled
    count_TxR = present_TxN.astype(np.float64) @ counts_RxN.T
    figures_TxR = np.where(
      count_TxR > 0, metric.combine(totals_TxRxK, count_TxR), np.nan
    )
    measured_R = np.maximum((~np.isnan(figures_TxR)).sum(0), 1)
    found.append(np.nansum(figures_TxR, axis=0) / measured_R)
  return np.mean(found, axis=0)

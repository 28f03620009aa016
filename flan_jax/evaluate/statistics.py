"""Statistics of an evaluation: spread over templates, intervals over rows, baselines.

Letters in shape suffixes: T template, N row, S statistic of a metric, R resample.
A row that a template could not be measured on is NaN there and leaves that
template's sums; it stays in the other templates'.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.evaluate.metrics import Metric
from flan_jax.fields import Answer

RESAMPLES = 2_000
_BLOCK = 4_000_000  # resampled rows held at once: 32 MB of weights


class Interval(NamedTuple):
  """A 95 % interval, in percent (or in points, of a difference)."""

  low: float
  high: float


class Spread(NamedTuple):
  """Mean and standard deviation over templates (FLAN tables 1 and 2).

  The deviation is that of the templates themselves, not of a population they stand
  for: divided by T, zero for one template.
  """

  mean: float
  std: float


def spread(figures: Sequence[float]) -> Spread:
  return Spread(float(np.nanmean(figures)), float(np.nanstd(figures)))


def _combined(metric: Metric, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
  """The metric of sums over `count` rows; NaN where there is no row."""
  return np.where(count > 0, metric.combine(totals, count), np.nan)


def figures(scores_TxNxS: np.ndarray, *, metric: Metric) -> np.ndarray:
  """The metric of every template in percent, float64 [T]; NaN without a row."""
  present_TxN = ~np.isnan(scores_TxNxS).any(-1)
  totals_TxS = np.where(present_TxN[..., None], scores_TxNxS, 0.0).sum(1)
  return _combined(metric, totals_TxS, present_TxN.sum(1))


def _weights(rows: int, *, seed: int, resamples: int) -> Iterator[np.ndarray]:
  """How often each row stands in each resample, float64 [block of R, N]."""
  generator = np.random.default_rng(seed)
  block = max(1, _BLOCK // rows)
  for start in range(0, resamples, block):
    size = min(block, resamples - start)
    drawn_RxN = generator.integers(0, rows, (size, rows))
    drawn_RxN += np.arange(size)[:, None] * rows
    counts = np.bincount(drawn_RxN.ravel(), minlength=size * rows)
    yield counts.reshape(size, rows).astype(np.float64)


def replicates(
  scores_TxNxS: np.ndarray,
  *,
  metric: Metric,
  seed: int,
  resamples: int = RESAMPLES,
) -> np.ndarray:
  """Bootstrap replicates of the mean over templates, in percent, float64 [R].

  Rows are resampled, and a drawn row brings all its templates: ten templates of one
  row are ten looks at one draw from the world, not ten draws. Equal seeds and equal
  N draw equal rows, which is what pairs two models.
  """
  templates, rows, kinds = scores_TxNxS.shape
  present_TxN = ~np.isnan(scores_TxNxS).any(-1)
  filled_TxNxS = np.where(present_TxN[..., None], scores_TxNxS, 0.0)
  by_row_Nx_TS = filled_TxNxS.transpose(1, 0, 2).reshape(rows, templates * kinds)
  out = []
  for weights_RxN in _weights(rows, seed=seed, resamples=resamples):
    totals_RxTxS = (weights_RxN @ by_row_Nx_TS).reshape(-1, templates, kinds)
    count_RxT = weights_RxN @ present_TxN.T
    figures_RxT = _combined(metric, totals_RxTxS, count_RxT)
    measured_R = np.maximum((~np.isnan(figures_RxT)).sum(-1), 1)
    out.append(np.nansum(figures_RxT, axis=-1) / measured_R)
  return np.concatenate(out)


def percentiles(values: np.ndarray) -> Interval:
  """The middle 95 % of bootstrap replicates, float64 [R]."""
  low, high = np.percentile(values, [2.5, 97.5])
  return Interval(float(low), float(high))


def interval(
  scores_TxNxS: np.ndarray,
  *,
  metric: Metric,
  seed: int,
  resamples: int = RESAMPLES,
) -> Interval:
  """95 % percentile bootstrap interval of the mean over templates, by row.

  Args:
    scores_TxNxS: statistics of `metric` per template and row, NaN where missing.
    metric: one of flan_jax.evaluate.metrics.METRICS.
    seed: of the resampling; the interval is a function of scores and seed.
    resamples: number of bootstrap resamples.
  """
  return percentiles(
    replicates(scores_TxNxS, metric=metric, seed=seed, resamples=resamples)
  )


def paired_interval(
  tuned_TxNxS: np.ndarray,
  base_TxNxS: np.ndarray,
  *,
  metric: Metric,
  seed: int,
  resamples: int = RESAMPLES,
) -> Interval:
  """95 % interval of tuned minus base, in points, over the same rows.

  Each resample draws the same rows for both models, so that what makes a row hard
  for both cancels.
  """
  if tuned_TxNxS.shape[1] != base_TxNxS.shape[1]:
    raise ValueError(
      f'paired interval: {tuned_TxNxS.shape[1]} rows against '
      f'{base_TxNxS.shape[1]}; both models must be measured on the same rows'
    )
  draws = {'metric': metric, 'seed': seed, 'resamples': resamples}
  return percentiles(replicates(tuned_TxNxS, **draws) - replicates(base_TxNxS, **draws))


def average_interval(means: Sequence[float], parts: Sequence[Interval]) -> Interval:
  """95 % interval of the average of independent figures, from their own intervals.

  The recovered variances of each side are added (MOVER; Zou and Donner 2008), so
  that an average over datasets needs no more than what each dataset's row reports.
  """
  means_ = np.asarray(means)
  low, high = np.asarray(parts, np.float64).T
  below = np.sqrt(np.square(means_ - low).sum()) / len(means_)
  above = np.sqrt(np.square(high - means_).sum()) / len(means_)
  centre = means_.mean()
  return Interval(float(centre - below), float(centre + above))


def _right(answer: Answer) -> list[str]:
  return [answer.options[i] for i in answer.gold]


def chance(answers: Sequence[Answer], *, metric: Metric) -> float | None:
  """What drawing an option at random scores on average; None for free text.

  For accuracy this is the mean of 1 / number of options (of gold / options, where
  several are right).
  """
  if not answers or not all(answer.options for answer in answers):
    return None
  expected = [
    metric.scores(answer.options, [_right(answer)] * len(answer.options)).mean(0)
    for answer in answers
  ]
  return metric.aggregate(np.stack(expected))


def majority(answers: Sequence[Answer], *, metric: Metric) -> float | None:
  """What the best constant answer scores on these very rows; None for free text.

  The constant is a label word where every row has the same options, and a position
  among the options otherwise.
  """
  if not answers or not all(answer.options for answer in answers):
    return None
  right = [_right(answer) for answer in answers]
  words = set(answers[0].options)
  if all(set(answer.options) == words for answer in answers):
    constants = [[word] * len(answers) for word in sorted(words)]
  else:
    most = max(len(answer.options) for answer in answers)
    constants = [
      [a.options[place] if place < len(a.options) else '' for a in answers]
      for place in range(most)
    ]
  return max(metric.aggregate(metric.scores(said, right)) for said in constants)

"""Statistics of an evaluation: spread over templates, intervals over rows, baselines.

Letters in shape suffixes: T template, N row, S statistic of a metric, R resample.
A row that a template could not be measured on is NaN there and leaves that
template's sums; it stays in the other templates'.
"""

import statistics
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


def _like(base_TxNxS: np.ndarray, tuned_TxNxS: np.ndarray) -> np.ndarray:
  """The base model's scores, its only template repeated beside several."""
  templates = tuned_TxNxS.shape[0]
  if base_TxNxS.shape[0] == 1 < templates:
    return np.repeat(base_TxNxS, templates, axis=0)
  if base_TxNxS.shape[:2] != tuned_TxNxS.shape[:2]:
    raise ValueError(
      f'paired test: templates and rows {tuned_TxNxS.shape[:2]} against '
      f'{base_TxNxS.shape[:2]}; both models must be measured on the same'
    )
  return base_TxNxS


def paired_p_value(
  tuned_TxNxS: np.ndarray,
  base_TxNxS: np.ndarray,
  *,
  metric: Metric,
  seed: int,
  resamples: int = RESAMPLES,
) -> float:
  """Two-sided p-value of approximate randomisation (Noreen 1989), by row.

  If the models do not differ, a row's answers might as well have come from the other
  one: each resample swaps the models on half of the rows, all templates of a row
  together, and the p-value is how often the difference is then as large as the one
  seen. Good for corpus metrics too, and never 0: at least 1 / (resamples + 1).
  """
  base_TxNxS = _like(base_TxNxS, tuned_TxNxS)
  templates, rows, kinds = tuned_TxNxS.shape

  def flat(scores_TxNxS):
    present_TxN = ~np.isnan(scores_TxNxS).any(-1)
    filled = np.where(present_TxN[..., None], scores_TxNxS, 0.0)
    counted = np.concatenate([filled, present_TxN[..., None]], axis=-1)
    return counted.transpose(1, 0, 2).reshape(rows, templates * (kinds + 1))

  def means(sums):
    sums_RxTxS = sums.reshape(-1, templates, kinds + 1)
    figures_RxT = _combined(metric, sums_RxTxS[..., :-1], sums_RxTxS[..., -1])
    measured_R = np.maximum((~np.isnan(figures_RxT)).sum(-1), 1)
    return np.nansum(figures_RxT, axis=-1) / measured_R

  one, other = flat(tuned_TxNxS), flat(base_TxNxS)
  totals = one.sum(0)[None], other.sum(0)[None]
  seen = abs(float((means(totals[0]) - means(totals[1]))[0]))
  generator = np.random.default_rng(seed)
  block = max(1, _BLOCK // rows)
  as_large = 0
  for start in range(0, resamples, block):
    size = min(block, resamples - start)
    swapped_RxN = generator.integers(0, 2, (size, rows)).astype(np.float64)
    moved = swapped_RxN @ (other - one)
    found = means(totals[0] + moved) - means(totals[1] - moved)
    as_large += int((np.abs(found) >= seen - 1e-9).sum())
  return (as_large + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
  """P-values corrected for being several (Holm 1979), in their own order.

  The chance that any of the differences called significant is none stays below the
  level, whatever the tests have to do with each other.
  """
  count = len(p_values)
  order = sorted(range(count), key=lambda i: p_values[i])
  out = [0.0] * count
  highest = 0.0
  for rank, i in enumerate(order):
    highest = max(highest, min(1.0, (count - rank) * p_values[i]))
    out[i] = highest
  return out


_NORMAL = statistics.NormalDist()
_SEEN = _NORMAL.inv_cdf(0.975) + _NORMAL.inv_cdf(0.8)


def detectable(differences: np.ndarray) -> float | None:
  """The smallest true difference that would be seen, in points.

  Seen is: an interval of 95 % without zero, in 80 of 100 evaluations of this size. A
  difference that varies by s over resamples must be 2.8 s (Card et al. 2020).

  Args:
    differences: bootstrap replicates of the difference, float64 [R].

  Returns:
    None where nothing varies, and nothing can be said.
  """
  spread_ = float(np.std(differences))
  return _SEEN * spread_ if spread_ > 1e-9 else None


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


def chance(answers: Sequence[Answer], *, metric: Metric) -> float | None:
  """What drawing an option at random scores on average; None for free text.

  For accuracy this is the mean of 1 / number of options (of gold / options, where
  several are right).
  """
  if not answers or not all(answer.options for answer in answers):
    return None
  expected = [
    metric.scores(answer.options, [answer.right] * len(answer.options)).mean(0)
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
  right = [answer.right for answer in answers]
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

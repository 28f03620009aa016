"""Statistics of an evaluation: spread over templates, intervals over rows, baselines.

Letters in shape suffixes: T template, N row, S statistic of a metric, R resample.
A row that a template could not be measured on is NaN there and leaves that
template's sums; it stays in the other templates'.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.evaluate import intervals
from flan_jax.evaluate.metrics import Metric
from flan_jax.fields import Answer

RESAMPLES = 2_000
_BLOCK = 4_000_000  # resampled rows held at once: 32 MB of swaps


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


class _Estimate(NamedTuple):
  """A mean over templates, and what each row does to it.

  Attributes:
    figure: from 0 to 1 (a correlation from -1).
    influences: of each row, float64 [N], 0 on average; their variance over N is that of
      the figure. For a mean of row values they are those values less the figure.
    present: which rows any template was measured on, bool [N].
    cases: on how many right or wrong decisions the figure stands: the rows, for a mean.
    most: the largest design effect, 1 where every template has every row.
  """

  figure: float
  influences: np.ndarray
  present: np.ndarray
  cases: float
  most: float

  @property
  def variance(self) -> float:
    """The variance of the influences, in units of the cases."""
    rows = max(int(self.present.sum()), 1)
    return float(np.square(self.influences).sum()) / rows * self.cases / rows


def _estimate(scores_TxNxS: np.ndarray, metric: Metric) -> _Estimate:
  """The mean over templates with the jackknife's influences (Efron and Stein 1981).

  All templates of a row are one draw from the world: their influences are added before
  anything is squared.
  """
  present_TxN = ~np.isnan(scores_TxNxS).any(-1)
  measured_T = present_TxN.any(-1)
  if not measured_T.any():
    return _Estimate(np.nan, np.zeros(present_TxN.shape[1]), present_TxN[0], 1.0, 1.0)
  present_TxN = present_TxN[measured_T]
  filled_TxNxS = np.where(present_TxN[..., None], scores_TxNxS[measured_T], 0.0)
  totals_TxS, count_T = filled_TxNxS.sum(1), present_TxN.sum(1)
  figures_T = metric.combine(totals_TxS, count_T) / 100
  others_TxN = np.maximum(count_T[:, None] - 1, 0)
  without_TxN = metric.combine(totals_TxS[:, None] - filled_TxNxS, others_TxN) / 100
  influences_TxN = np.where(present_TxN, figures_T[:, None] - without_TxN, 0.0)
  influences_TxN *= others_TxN
  influences_TxN -= np.where(
    present_TxN, influences_TxN.sum(1, keepdims=True) / count_T[:, None], 0.0
  )
  present_N = present_TxN.any(0)
  scale_T = present_N.sum() / count_T
  return _Estimate(
    figure=float(figures_T.mean()),
    influences=(influences_TxN * scale_T[:, None]).mean(0),
    present=present_N,
    cases=float(np.mean(metric.cases(totals_TxS, count_T) * scale_T)),
    most=float(scale_T.mean()),
  )


def _limits(of: _Estimate, metric: Metric) -> tuple[float, float]:
  if metric.kind == 'correlation':
    limits = intervals.of_correlation(of.figure, of.variance, of.present.sum())
  else:
    most = of.most if metric.kind == 'mean' else np.inf
    limits = intervals.of_mean(of.figure, of.variance, of.cases, most=most)
  low, high = map(float, limits)
  return low, high


def _percent(low: float, high: float) -> Interval:
  return Interval(100 * low, 100 * high)


def interval(scores_TxNxS: np.ndarray, *, metric: Metric) -> Interval:
  """95 % interval of the mean over templates, over the rows of the world.

  A mean of row values and a corpus metric that goes from 0 to 100 have Wilson's score
  interval at their effective size, a correlation has Fisher's; see
  `flan_jax.evaluate.intervals`. NaN where nothing was measured.

  Args:
    scores_TxNxS: statistics of `metric` per template and row, NaN where missing.
    metric: one of flan_jax.evaluate.metrics.METRICS.
  """
  of = _estimate(scores_TxNxS, metric)
  if np.isnan(of.figure):
    return Interval(np.nan, np.nan)
  return _percent(*_limits(of, metric))


_EQUAL = 1e-9  # two values of a row that differ by less are the same


def paired_interval(
  tuned_TxNxS: np.ndarray, base_TxNxS: np.ndarray, *, metric: Metric
) -> Interval:
  """95 % interval of tuned minus base, in points, over the same rows.

  What makes a row hard for both cancels. The difference of two means has the interval
  of `intervals.of_pair`; that of other metrics is recovered from the interval of each
  (MOVER), with the correlation of their influences. The two may have been asked by
  different numbers of templates.
  """
  if tuned_TxNxS.shape[1] != base_TxNxS.shape[1]:
    raise ValueError(
      f'paired interval: {tuned_TxNxS.shape[1]} rows against '
      f'{base_TxNxS.shape[1]}; both models must be measured on the same rows'
    )
  tuned, base = (_estimate(of, metric) for of in (tuned_TxNxS, base_TxNxS))
  if np.isnan(tuned.figure) or np.isnan(base.figure):
    return Interval(np.nan, np.nan)
  if metric.kind != 'mean':
    sums = np.square(tuned.influences).sum() * np.square(base.influences).sum()
    both = float((tuned.influences * base.influences).sum())
    together = both / sums**0.5 if sums > 0 else 0.0
    one, other = ((of.figure, *_limits(of, metric)) for of in (tuned, base))
    return _percent(*map(float, intervals.subtracted(one, other, together)))
  present_N = tuned.present | base.present
  effects = [of.influences[present_N] for of in (tuned, base)]
  differences = tuned.figure - base.figure + effects[0] - effects[1]
  differences[np.abs(differences) < _EQUAL] = 0.0
  pair = intervals.Pair(
    gain=np.maximum(differences, 0.0).mean(),
    loss=np.maximum(-differences, 0.0).mean(),
    square=np.square(differences).mean(),
    means=(tuned.figure, base.figure),
    variances=(np.square(effects[0]).mean(), np.square(effects[1]).mean()),
    covariance=(effects[0] * effects[1]).mean(),
  )
  limits = intervals.of_pair(
    pair,
    present_N.sum(),
    templates=(len(tuned_TxNxS), len(base_TxNxS)),
    most=(tuned.most, base.most),
  )
  return _percent(*map(float, limits))


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


def detectable(interval: Interval) -> float | None:
  """The smallest true difference that would be seen, in points.

  Seen is: an interval of 95 % without zero, in 80 of 100 evaluations of this size. A
  difference with a standard error s must be 2.8 s (Card et al. 2020); s is what the
  width of the interval says.

  Args:
    interval: of the difference.

  Returns:
    None where not even 100 points would be seen.
  """
  found = (interval.high - interval.low) / 2 * _SEEN / _NORMAL.inv_cdf(0.975)
  return found if found <= 100 else None


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

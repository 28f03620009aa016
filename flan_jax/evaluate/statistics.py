"""Statistics of an evaluation: template spread, intervals over examples, baselines.

Letters in shape suffixes: T template, N example, S statistic of a metric, R resample.
An example that could not be evaluated under a template is NaN there, and is left out of
that template's sums only.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.catalog.answers import Answer
from flan_jax.evaluate import intervals
from flan_jax.evaluate.metric import Metric, is_measured

RESAMPLES = 2_000
_BLOCK = 4_000_000  # resampled examples held at once: 32 MB of swaps


class Interval(NamedTuple):
  """A 95 % interval, in percent (a difference: in points)."""

  low: float
  high: float


class Spread(NamedTuple):
  """Mean and standard deviation over templates (FLAN tables 1 and 2).

  The deviation describes these templates, not a population of templates: divided by T,
  zero for one template.
  """

  mean: float
  std: float


def spread(figures: Sequence[float] | np.ndarray) -> Spread:
  return Spread(float(np.nanmean(figures)), float(np.nanstd(figures)))


def _combined(metric: Metric, totals: np.ndarray, count: np.ndarray) -> np.ndarray:
  """Computes the metric from sums over `count` examples; NaN without examples."""
  return np.where(count > 0, metric.combine(totals, count), np.nan)


def figures(scores_TxNxS: np.ndarray, *, metric: Metric) -> np.ndarray:
  """Computes the metric under each template, in percent, float64 [T]; NaN if empty."""
  present_TxN = is_measured(scores_TxNxS)
  totals_TxS = np.where(present_TxN[..., None], scores_TxNxS, 0.0).sum(1)
  return _combined(metric, totals_TxS, present_TxN.sum(1))


class _Estimate(NamedTuple):
  """A mean over templates, and each example's influence on it.

  Attributes:
    figure: mean over templates, from 0 to 1 (a correlation from -1).
    influences: influence of each example, float64 [N], 0 on average; their variance
      over N is the figure's. For a mean, they are the examples' values less the figure.
    spread: variance of the influences, larger if templates have few of the examples.
    present: bool [N], True if the example was evaluated under any template.
    cases: number of binary decisions behind the figure: the examples, for a mean.
    max_effect: upper bound on the design effect, 1 if every template has every example.
    prior_effect: design effect of templates that agree, 1 likewise.
  """

  figure: float
  influences: np.ndarray
  spread: float
  present: np.ndarray
  cases: float
  max_effect: float
  prior_effect: float

  @property
  def variance(self) -> float:
    """Variance of the influences, in units of the cases."""
    return self.spread * self.cases / max(int(self.present.sum()), 1)


_POOLED_EXAMPLES = 10.0
"""Prior examples with the pooled covariance, added to those of two templates."""

_AGREEING_EXAMPLES = 5.0
"""Prior examples of full agreement, added to those that two templates share."""


def _spread(
  influences_TxN: np.ndarray,
  values_TxN: np.ndarray,
  present_TxN: np.ndarray,
  *,
  coin: bool,
) -> tuple[float, float]:
  """Returns N times the variance of the mean over templates, and the prior effect.

  If every template has every example, it is the variance of the examples' means. Two
  examples say little about the variance of a template that fits only those two, so
  covariances on part of the examples are shrunk toward the pooled ones.

  Args:
    influences_TxN: influences less their mean under each template, 0 if missing.
    values_TxN: influences plus the template's figure, 0 if missing.
    present_TxN: True for evaluated cells.
    coin: True for values in [0, 1]. Their variance is then taken in units of a coin's:
      the mean over templates is not the mean of all cells.
  """
  counts_TxT = present_TxN.astype(np.float64) @ present_TxN.T
  count_T = np.diag(counts_TxT)
  examples, templates = int(present_TxN.any(0).sum()), len(count_T)
  products_TxT = influences_TxN @ influences_TxN.T
  center = values_TxN.sum() / count_T.sum()
  pooled = float(np.square(values_TxN - center)[present_TxN].sum() / count_T.sum())
  if coin:
    figure = float((values_TxN.sum(1) / count_T).mean())
    found = figure * (1 - figure), float(center * (1 - center))
    pooled *= found[0] / found[1] if 1e-12 < found[1] < found[0] else 1.0
  apart_TxT = ~np.eye(templates, dtype=bool)
  shared = np.maximum(counts_TxT - 1, 0.0)[apart_TxT].sum()
  joint = products_TxT[apart_TxT].sum() + _AGREEING_EXAMPLES * pooled
  alike = np.clip(joint / (shared + _AGREEING_EXAMPLES), 0.0, pooled)
  prior_TxT = np.where(apart_TxT, alike, pooled)
  drawn_TxT = (products_TxT + _POOLED_EXAMPLES * prior_TxT) / (
    np.maximum(counts_TxT - 1, 0.0) + _POOLED_EXAMPLES
  )
  covariances_TxT = np.where(counts_TxT == examples, products_TxT / examples, drawn_TxT)
  weights_TxT = counts_TxT / np.outer(count_T, count_T) * examples / templates**2
  found = float((weights_TxT * covariances_TxT).sum())
  prior_effect = float(weights_TxT.sum())
  if count_T.min() < min(intervals.FEW, examples):
    # One answer then moves the figure by more than 1 / (effective size).
    heaviest = float((present_TxN / count_T[:, None]).mean(0).max())
    prior_effect = max(prior_effect, examples * heaviest)
    found = max(found, prior_effect * pooled)
  return found, prior_effect


class _Cells(NamedTuple):
  """Influence of each example under each template with any example.

  Attributes:
    figures: figure of each template, float64 [T], from 0 to 1.
    influences: influences less their mean, 0 if missing, float64 [T, N].
    present: bool [T, N], True if evaluated.
    cases: binary decisions behind each template's figure, float64 [T].
  """

  figures: np.ndarray
  influences: np.ndarray
  present: np.ndarray
  cases: np.ndarray

  @property
  def values(self) -> np.ndarray:
    return np.where(self.present, self.influences + self.figures[:, None], 0.0)


def _cells(scores_TxNxS: np.ndarray, metric: Metric) -> _Cells:
  """Computes the jackknife's influences (Efron and Stein 1981)."""
  present_TxN = is_measured(scores_TxNxS)
  measured_T = present_TxN.any(-1)
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
  return _Cells(
    figures_T, influences_TxN, present_TxN, metric.cases(totals_TxS, count_T)
  )


def _estimate(cells: _Cells, metric: Metric) -> _Estimate | None:
  """Estimates the mean over templates; None if nothing was evaluated.

  All templates of an example are one draw: their influences are added before squaring.
  """
  if not len(cells.figures):
    return None
  present_N = np.asarray(cells.present.any(0))
  scale_T = present_N.sum() / cells.present.sum(1)
  spread_, prior_effect = _spread(
    cells.influences, cells.values, cells.present, coin=metric.kind == 'mean'
  )
  return _Estimate(
    figure=float(cells.figures.mean()),
    influences=(cells.influences * scale_T[:, None]).mean(0),
    spread=spread_,
    present=present_N,
    cases=float(np.mean(cells.cases * scale_T)),
    max_effect=float(scale_T.mean()),
    prior_effect=prior_effect,
  )


def _limits(of: _Estimate, metric: Metric) -> tuple[float, float]:
  if metric.kind == 'correlation':
    limits = intervals.of_correlation(of.figure, of.variance, of.present.sum())
  else:
    bound = of.max_effect if metric.kind == 'mean' else np.inf
    effects = {'max_effect': bound, 'prior_effect': of.prior_effect}
    limits = intervals.of_mean(of.figure, of.variance, of.cases, **effects)
  low, high = map(float, limits)
  return low, high


def _percent(low: float, high: float) -> Interval:
  return Interval(100 * low, 100 * high)


def interval(scores_TxNxS: np.ndarray, *, metric: Metric) -> Interval:
  """Computes the 95 % interval of the mean over templates.

  A mean and a corpus metric from 0 to 100 have Wilson's score interval at their
  effective size, a correlation has Fisher's; see `flan_jax.evaluate.intervals`. NaN if
  nothing was evaluated.

  Args:
    scores_TxNxS: statistics of `metric` per template and example, NaN if missing.
    metric: one of flan_jax.evaluate.metrics.METRICS.
  """
  of = _estimate(_cells(scores_TxNxS, metric), metric)
  if of is None:
    return Interval(np.nan, np.nan)
  return _percent(*_limits(of, metric))


_EQUAL = 1e-9  # two values of an example that differ by less are the same


def paired_interval(
  tuned_TxNxS: np.ndarray, base_TxNxS: np.ndarray, *, metric: Metric
) -> Interval:
  """Computes the 95 % interval of tuned minus base, in points, on the same examples.

  Difficulty shared by both models cancels. The difference of two means has the interval
  of `intervals.of_pair`. That of other metrics is recovered from the interval of each
  (MOVER), with the correlation of their influences, and is never narrower than the
  interval from the examples that differ (`_of_swaps`). The two models may have
  different numbers of templates.
  """
  if tuned_TxNxS.shape[1] != base_TxNxS.shape[1]:
    raise ValueError(
      f'paired interval: {tuned_TxNxS.shape[1]} examples against '
      f'{base_TxNxS.shape[1]}; both models must be evaluated on the same examples'
    )
  cells = [_cells(of, metric) for of in (tuned_TxNxS, base_TxNxS)]
  tuned, base = (_estimate(of, metric) for of in cells)
  if tuned is None or base is None:
    return Interval(np.nan, np.nan)
  present_N = tuned.present | base.present
  examples = int(present_N.sum())
  effects = [of.influences[present_N] for of in (tuned, base)]
  if metric.kind != 'mean':
    sums = np.square(effects[0]).sum() * np.square(effects[1]).sum()
    both = float((effects[0] * effects[1]).sum())
    correlation = both / sums**0.5 if sums > 0 else 0.0
    one, other = ((of.figure, *_limits(of, metric)) for of in (tuned, base))
    low, high = map(float, intervals.subtracted(one, other, correlation))
    least = _of_swaps(tuned_TxNxS, base_TxNxS, metric, (tuned, base), examples)
    return _percent(min(low, least[0]), max(high, least[1]))
  differences = tuned.figure - base.figure + effects[0] - effects[1]
  differences[np.abs(differences) < _EQUAL] = 0.0
  moved = np.square(effects[0] - effects[1]).mean()
  extra = tuned.spread + base.spread - sum(np.square(of).mean() for of in effects)
  if np.array_equal(cells[0].present, cells[1].present):
    extra = _spread(
      cells[0].influences - cells[1].influences,
      cells[0].values - cells[1].values,
      cells[0].present,
      coin=False,
    )[0] - float(moved)
  pair = intervals.Pair(
    gain=np.maximum(differences, 0.0).mean(),
    loss=np.maximum(-differences, 0.0).mean(),
    square=np.square(differences).mean() + extra,
    means=(tuned.figure, base.figure),
    variances=(tuned.spread, base.spread),
    covariance=(tuned.spread + base.spread - moved - extra) / 2,
  )
  limits = intervals.of_pair(
    pair,
    examples,
    templates=(len(tuned_TxNxS), len(base_TxNxS)),
    max_effects=(tuned.max_effect, base.max_effect),
    prior_effects=(tuned.prior_effect, base.prior_effect),
  )
  return _percent(*map(float, limits))


def _of_swaps(
  tuned_TxNxS: np.ndarray,
  base_TxNxS: np.ndarray,
  metric: Metric,
  estimates: tuple[_Estimate, _Estimate],
  examples: int,
) -> tuple[float, float]:
  """Computes Tango's interval of a corpus metric from single-example swaps.

  The effect of an example is the change of the metric when the other model's answer
  replaces it; equal answers have no effect. In units of a whole answer these are
  differences like those of right and wrong: two models with equal answers have the
  interval of N differences of 0.
  """
  forward_N = _swapped(tuned_TxNxS, base_TxNxS, metric)
  backward_N = _swapped(base_TxNxS, tuned_TxNxS, metric)
  changes_N = examples * (forward_N - backward_N) / 2
  changes_N[np.abs(changes_N) < _EQUAL] = 0.0
  if metric.kind == 'correlation':
    whole = max(float(np.abs(of.influences).max()) for of in estimates)
  else:
    whole = max(of.present.sum() / max(of.cases, 1e-12) for of in estimates)
    whole *= max(of.max_effect for of in estimates)
  whole = max(whole, float(np.abs(changes_N).max()), 1e-12)
  changes_N /= whole
  low, high = intervals.of_difference(
    np.maximum(changes_N, 0.0).sum() / examples,
    np.maximum(-changes_N, 0.0).sum() / examples,
    np.square(changes_N).sum() / examples,
    examples,
  )
  delta = float(estimates[0].figure - estimates[1].figure)
  middle = float(changes_N.sum()) / examples
  return delta + whole * (float(low) - middle), delta + whole * (float(high) - middle)


def _swapped(
  tuned_TxNxS: np.ndarray, base_TxNxS: np.ndarray, metric: Metric
) -> np.ndarray:
  """Change of base, mean over templates, with one example of tuned, float64 [N]."""
  count = max(len(tuned_TxNxS), len(base_TxNxS))
  pair = [of[np.arange(count) % len(of)] for of in (tuned_TxNxS, base_TxNxS)]
  present = [is_measured(of) for of in pair]
  measured_T = present[0].any(-1) & present[1].any(-1)
  tuned_TxN, base_TxN = (of[measured_T] for of in present)
  tuned, base = (
    np.where(here[..., None], of[measured_T], 0.0)
    for of, here in zip(pair, (tuned_TxN, base_TxN), strict=True)
  )
  totals_TxS, count_T = base.sum(1), base_TxN.sum(1)
  counts_TxN = count_T[:, None] - base_TxN + tuned_TxN
  swapped_TxN = _combined(metric, totals_TxS[:, None] - base + tuned, counts_TxN)
  changes_TxN = swapped_TxN - metric.combine(totals_TxS, count_T)[:, None]
  return np.nan_to_num(changes_TxN).sum(0) / max(len(changes_TxN), 1) / 100


def _like(base_TxNxS: np.ndarray, tuned_TxNxS: np.ndarray) -> np.ndarray:
  """Returns the base model's scores; a single template is repeated to match tuned."""
  templates = tuned_TxNxS.shape[0]
  if base_TxNxS.shape[0] == 1 < templates:
    return np.repeat(base_TxNxS, templates, axis=0)
  if base_TxNxS.shape[:2] != tuned_TxNxS.shape[:2]:
    raise ValueError(
      f'paired test: templates and examples {tuned_TxNxS.shape[:2]} against '
      f'{base_TxNxS.shape[:2]}; both models must be evaluated on the same'
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
  """Computes a two-sided p-value by approximate randomization (Noreen 1989).

  If the models do not differ, each example's answers could come from either: a resample
  swaps the models on half of the examples, all templates of an example together. The
  p-value is the share of resamples with a difference at least as large as observed. It
  works for corpus metrics too, and is at least 1 / (resamples + 1).
  """
  base_TxNxS = _like(base_TxNxS, tuned_TxNxS)
  templates, examples, kinds = tuned_TxNxS.shape

  def flat(scores_TxNxS):
    present_TxN = is_measured(scores_TxNxS)
    filled = np.where(present_TxN[..., None], scores_TxNxS, 0.0)
    counted = np.concatenate([filled, present_TxN[..., None]], axis=-1)
    return counted.transpose(1, 0, 2).reshape(examples, templates * (kinds + 1))

  def means(sums):
    sums_RxTxS = sums.reshape(-1, templates, kinds + 1)
    figures_RxT = _combined(metric, sums_RxTxS[..., :-1], sums_RxTxS[..., -1])
    measured_R = np.maximum((~np.isnan(figures_RxT)).sum(-1), 1)
    return np.nansum(figures_RxT, axis=-1) / measured_R

  one, other = flat(tuned_TxNxS), flat(base_TxNxS)
  totals = one.sum(0)[None], other.sum(0)[None]
  observed = abs(float((means(totals[0]) - means(totals[1]))[0]))
  generator = np.random.default_rng(seed)
  block = max(1, _BLOCK // examples)
  as_large = 0
  for start in range(0, resamples, block):
    size = min(block, resamples - start)
    swapped_RxN = generator.integers(0, 2, (size, examples)).astype(np.float64)
    moved = swapped_RxN @ (other - one)
    found = means(totals[0] + moved) - means(totals[1] - moved)
    as_large += int((np.abs(found) >= observed - 1e-9).sum())
  return (as_large + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
  """Corrects p-values for multiple tests (Holm 1979), in their own order.

  The probability of any false positive stays below the level, whatever the dependence
  between the tests.
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
_DETECTED = _NORMAL.inv_cdf(0.975) + _NORMAL.inv_cdf(0.8)


def detectable(interval: Interval) -> float | None:
  """Returns the smallest true difference that would be detected, in points.

  Detected means a 95 % interval without zero in 80 of 100 evaluations of this size. A
  difference with standard error s must be 2.8 s (Card et al. 2020); s comes from the
  width of the interval.

  Args:
    interval: interval of the difference.

  Returns:
    None if not even 100 points would be detected.
  """
  found = (interval.high - interval.low) / 2 * _DETECTED / _NORMAL.inv_cdf(0.975)
  return found if found <= 100 else None


def average_interval(means: Sequence[float], parts: Sequence[Interval]) -> Interval:
  """Computes the 95 % interval of the average of independent figures.

  The recovered variances of each side are added (MOVER; Zou and Donner 2008), so an
  average over datasets needs each dataset's reported interval only.
  """
  means_ = np.asarray(means)
  low, high = np.asarray(parts, np.float64).T
  below = np.sqrt(np.square(means_ - low).sum()) / len(means_)
  above = np.sqrt(np.square(high - means_).sum()) / len(means_)
  center = means_.mean()
  return Interval(float(center - below), float(center + above))


def chance(answers: Sequence[Answer], *, metric: Metric) -> float | None:
  """Computes the expected score of a random option; None for free text.

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
  """Computes the score of the best constant answer; None for free text.

  The constant is a label word if every example has the same options, otherwise a
  position among the options.
  """
  if not answers or not all(answer.options for answer in answers):
    return None
  right = [answer.right for answer in answers]
  words = set(answers[0].options)
  if all(set(answer.options) == words for answer in answers):
    constants = [[word] * len(answers) for word in sorted(words)]
  else:
    num_options = max(len(answer.options) for answer in answers)
    constants = [
      [a.options[place] if place < len(a.options) else '' for a in answers]
      for place in range(num_options)
    ]
  return max(metric.aggregate(metric.scores(same, right)) for same in constants)

"""Intervals over seeds cover the truth of a simulation, and nest the examples'."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flan_jax.evaluate import intervals, metrics, seeds, statistics
from flan_jax.evaluate.seeds import Figure
from flan_jax.evaluate.statistics import Interval

ACCURACY = metrics.METRICS['accuracy']
EXAMPLES, EVALUATIONS, RESAMPLES = 60, 600, 60


def simulated(number, *, of_seeds, of_examples):
  """Draws right and wrong answers [B, S, N] with a true mean of exactly a half.

  The probability of a right answer is a half plus an effect of the seed and one of the
  example, each uniform in plus or minus the given half-width.
  """
  rng = np.random.default_rng(number)
  effect = of_seeds * rng.uniform(-1, 1, (EVALUATIONS, number, 1))
  difficulty = of_examples * rng.uniform(-1, 1, (EVALUATIONS, 1, EXAMPLES))
  chances = 0.5 + effect + difficulty
  return (rng.random((EVALUATIONS, number, EXAMPLES)) < chances).astype(np.float64)


def covered(right_BxSxN, *, nested):
  """Returns the share of the evaluations whose interval holds the truth."""
  mean_BxN = right_BxSxN.mean(1)
  spread_B = mean_BxN.var(1)
  ends = intervals.of_mean(mean_BxN.mean(1), spread_B, EXAMPLES)
  drawn_BxR = None
  if nested:
    rng = np.random.default_rng(0)
    share = np.full(EXAMPLES, 1 / EXAMPLES)
    counts_RxN = rng.multinomial(EXAMPLES, share, size=RESAMPLES)
    scale = np.sqrt(EXAMPLES / (EXAMPLES - 1)) / EXAMPLES
    drawn_BxR = scale * (mean_BxN - mean_BxN.mean(1, keepdims=True)) @ counts_RxN.T
  low, high = seeds.solve(right_BxSxN.mean(2), ends, drawn_BxR)
  return np.mean((low <= 0.5) & (high >= 0.5))


@pytest.mark.parametrize('nested', [True, False])
@pytest.mark.parametrize(
  ('number', 'of_seeds', 'of_examples', 'most'),
  [
    (3, 0.3, 0.1, 0.97),  # seeds matter most: the t interval
    (5, 0.3, 0.1, 0.97),
    (8, 0.1, 0.3, 0.985),  # examples matter most
    # What a seed and an example share is counted with either: too wide, not too narrow.
    (3, 0.1, 0.3, 0.995),
  ],
)
def test_the_truth_is_covered(number, of_seeds, of_examples, most, nested):
  right = simulated(number, of_seeds=of_seeds, of_examples=of_examples)
  assert 0.925 <= covered(right, nested=nested) <= most


def test_intervals_that_forget_the_seeds_or_the_examples_do_not_cover():
  right = simulated(3, of_seeds=0.3, of_examples=0.1)
  low, high = intervals.of_mean(right.mean((1, 2)), right.mean(1).var(1), EXAMPLES)
  assert np.mean((low <= 0.5) & (high >= 0.5)) < 0.7
  right = simulated(8, of_seeds=0.0, of_examples=0.5)
  half = stats.t.ppf(0.975, 7) * right.mean(2).std(1, ddof=1) / 8**0.5
  assert np.mean(np.abs(right.mean((1, 2)) - 0.5) <= half) < 0.85


@settings(max_examples=15, deadline=None)
@given(
  st.lists(st.floats(0, 100), min_size=2, max_size=6),
  st.lists(st.floats(-20, 20), min_size=2, max_size=30),
  st.floats(0, 30),
)
def test_it_nests_the_examples_and_widens_with_either(by_seed, drawn, half):
  by_seed, drawn = np.array(by_seed), np.array(drawn)
  drawn -= drawn.mean()
  mean = by_seed.mean()
  examples = Interval(mean - half, mean + half)
  low, high = seeds.interval(Figure(by_seed, examples, drawn))
  assert low <= examples.low
  assert high >= examples.high
  wider = mean + 2 * (by_seed - mean)
  more = seeds.interval(Figure(wider, examples, drawn))
  assert more.low <= low + 1e-6
  assert more.high >= high - 1e-6


def test_the_limits_are_students_without_examples_and_the_bootstraps_without_seeds():
  by_seed = np.array([40.0, 50.0, 45.0, 41.0])
  point = Interval(by_seed.mean(), by_seed.mean())
  expected = stats.t.interval(0.95, 3, by_seed.mean(), stats.sem(by_seed))
  for drawn in (np.zeros(50), None):
    found = seeds.interval(Figure(by_seed, point, drawn))
    assert found == pytest.approx(expected, abs=1e-4)
  unknown = seeds.reported(by_seed, [(np.nan, np.nan)] * 4)
  assert seeds.interval(unknown) == pytest.approx(expected, abs=1e-4)
  drawn = np.linspace(-10, 10, 1001)
  found = seeds.interval(Figure(np.full(3, 50.0), Interval(50, 50), drawn))
  assert found == pytest.approx((40.5, 59.5), abs=0.05)


def test_one_seed_has_the_interval_over_examples_and_limits_hold():
  one = Figure(np.array([99.0]), Interval(90, 100), None)
  assert seeds.interval(one) == (90, 100)
  two = Figure(np.array([99.0, 80.0]), Interval(85, 97), None)
  assert seeds.interval(two, limits=(0, 100)) == (0, 100)


def scores(rng, share, templates=3, examples=40):
  return (rng.random((templates, examples, 1)) < share).astype(np.float64)


def test_a_figure_is_the_mean_of_every_seed_and_a_difference_that_of_each():
  rng = np.random.default_rng(0)
  tuned = [scores(rng, share) for share in (0.6, 0.7, 0.8)]
  base = [scores(rng, 0.5)] * 3
  draws = {'metric': ACCURACY, 'seed': 0}
  found, gain = seeds.figure(tuned, **draws), seeds.figure(tuned, base, **draws)
  assert found.by_seed == pytest.approx([100 * each.mean() for each in tuned])
  assert gain.by_seed == pytest.approx(found.by_seed - 100 * base[0].mean())
  assert found.std == pytest.approx(np.std(found.by_seed, ddof=1))
  again = seeds.figure(tuned, **draws)
  assert np.array_equal(found.drawn, again.drawn)
  # The examples' bootstrap has the variance of the mean over seeds and templates.
  by_example = np.concatenate(tuned).mean(0)[:, 0]
  expected = 100 * by_example.std(ddof=1) / len(by_example) ** 0.5
  assert found.drawn.std() == pytest.approx(expected, rel=0.06)
  none = seeds.figure(tuned, tuned, **draws)
  assert none.mean == 0
  assert not none.drawn.any()


def test_answers_that_are_missing_under_a_template_are_left_out():
  rng = np.random.default_rng(1)
  tuned = [scores(rng, 0.5) for _ in range(2)]
  for one in tuned:
    one[1, :30] = np.nan
    one[2] = np.nan
  found = seeds.figure(tuned, metric=ACCURACY, seed=0)
  expected = [100 * np.mean([one[0].mean(), one[1, 30:].mean()]) for one in tuned]
  assert found.by_seed == pytest.approx(expected)
  assert np.isfinite(found.drawn).all()


def test_an_average_is_that_of_each_seed_over_independent_datasets():
  rng = np.random.default_rng(2)
  parts = [
    seeds.figure([scores(rng, 0.5) for _ in range(3)], metric=ACCURACY, seed=i)
    for i in range(3)
  ]
  found = seeds.average([[parts[0], parts[1]], [parts[2]]])
  by_seed = np.mean([part.by_seed for part in parts], axis=0)
  assert found.by_seed == pytest.approx(by_seed)
  low, high = seeds.interval(found)
  assert low < found.mean < high
  alone = [seeds.interval(part) for part in parts]
  assert high - low < np.mean([each.high - each.low for each in alone])
  without = seeds.average([[parts[0]], [parts[1]._replace(drawn=None)]])
  assert without.drawn is None
  same = seeds.average([[parts[0]]])
  assert seeds.interval(same) == pytest.approx(seeds.interval(parts[0]))


def test_all_right_is_no_point():
  right = [np.ones((1, 20, 1))] * 3
  low, high = seeds.interval(
    seeds.figure(right, metric=ACCURACY, seed=0), limits=(0, 100)
  )
  assert low < 96
  assert high == 100
  assert (low, high) == statistics.interval(np.ones((3, 20, 1)), metric=ACCURACY)

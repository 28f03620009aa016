"""Intervals of 95 % cover the truth in 92 to 98 of 100 evaluations, near 0 and 1 too.

Each population of populations.py is evaluated 4,000 times at every size. Above 98 % are
differences where few examples differ; the last tests say why no interval can pass
there, and which cells they are.
"""

import itertools

import numpy as np
import populations
import pytest
from scipy import stats

from flan_jax.evaluate import intervals, statistics
from flan_jax.evaluate.statistics import Interval

LEAST, MOST = 0.92, 0.98


def check(cells, *, differing=0.0, over=0):
  """Checks that every cell covers enough, and not too much if enough examples differ.

  `over` bounds the number of other cells above MOST; it should shrink over time.
  """
  for cell in cells:
    assert cell.covered >= LEAST, cell
    if cell.differing >= differing:
      assert cell.covered <= MOST, cell
  assert sum(cell.covered > MOST for cell in cells) <= over


def test_a_mean_under_one_template():
  """Wilson's interval; exact, every outcome weighted by its chance."""
  cells = populations.one_template()
  assert len(cells) == 9 * 5
  check(cells)


def test_a_mean_over_ten_templates():
  """Independent, or alike by a beta or a normal effect, with rates of their own."""
  cells = populations.drawn(populations.ten_templates())
  assert len(cells) == 9 * 9 * 5
  check(cells)


def test_a_difference_under_one_template():
  """Tango's interval: above 98 only where fewer than five examples differ."""
  cells = populations.drawn(populations.pairs_of_one())
  check(cells, differing=5, over=37)


@pytest.mark.parametrize(
  ('made', 'differing', 'over'),
  [
    ({'togethers': (0.6,)}, 100, 40),
    pytest.param(
      {'togethers': (0.6,), 'correlations': populations.UNLIKE},
      100,
      34,
      marks=pytest.mark.slow,
    ),
    ({'togethers': (0.6,), 'templates': (10, 1)}, 20, 32),
  ],
)
def test_a_difference_under_ten_templates(made, differing, over):
  """Also of two models of which one agrees more with itself, and of ten against one."""
  cells = populations.drawn(
    populations.pairs_of_ten(pairs=populations.SOME_PAIRS, **made)
  )
  check(cells, differing=differing, over=over)


def test_a_difference_of_models_that_say_nearly_the_same():
  check(populations.drawn(populations.pairs_nearly_the_same()), differing=20, over=57)


def test_a_difference_of_f1a_of_models_that_say_nearly_the_same():
  """The two estimates are all but one, yet what differs is only seen now and then.

  An interval that covers 97 % fails by chance once in 600 cells.
  """
  covered = [cell.covered for cell in populations.f1a_nearly_the_same(draws=150)]
  assert min(covered) >= LEAST


@pytest.mark.parametrize(
  'name', ['bleu', pytest.param('pearson', marks=pytest.mark.slow)]
)
def test_a_difference_of_other_corpus_metrics_of_nearly_the_same(name):
  cells = populations.sentences_nearly_the_same(name, draws=150)
  assert min(cell.covered for cell in cells) >= LEAST


@pytest.mark.parametrize(
  'made',
  [
    pytest.param({'rates': (0.5, 0.97)}, id='mean'),
    pytest.param(
      {'rates': (0.6,), 'mended': 0.1, 'agreements': (0.8,)},
      id='difference',
      marks=pytest.mark.slow,
    ),
  ],
)
def test_templates_that_fit_few_of_the_examples(made):
  """Two examples under a template vary by nothing as often as not; wide, then."""
  for cell in populations.few_fit(draws=200, **made):
    assert cell.covered >= 0.90, cell  # 92 less a standard error of 200 draws


@pytest.mark.slow
def test_every_world():
  over = {
    'difference, one template': (5, 37),
    'difference, ten templates': (100, 115),
    'difference, ten templates, unlike': (150, 88),
    'difference, nearly the same': (20, 57),
    'difference, ten against one': (20, 92),
  }
  for name, cells in populations.whole().items():
    # Wide by intent; the lowest, 88.9, are at .97 where 2 examples of 100 fit.
    if 'fit few' in name or name.endswith(' nearly the same') and ' of ' in name:
      assert min(cell.covered for cell in cells) >= (
        0.87 if 'of their own' in name else 0.90
      ), name
      continue
    differing, most = over.get(name, (0, 0))
    check(cells, differing=differing, over=most)


@pytest.mark.parametrize('n', populations.SIZES)
def test_no_interval_of_a_difference_covers_98_where_few_examples_differ(n):
  """Two equally good models: k examples differ, all one way, one time in 2^(k - 1).

  An interval that leaves 0 out as soon as three of three differ one way covers less
  than 92 % at some rate; one that waits for the fourth covers more than 98 % wherever
  two examples are expected to differ, or fewer. So no third one passes everywhere.
  """

  def covered(rate, least):
    some = np.arange(least, n + 1)
    one_way = stats.binom.pmf(some, n, rate) * 0.5 ** (some - 1.0)
    return 1 - one_way.sum()

  assert min(covered(expected / n, 3) for expected in (2.5, 3.0, 3.5)) < LEAST
  assert covered(2 / n, 4) > MOST
  low, _ = intervals.of_difference(np.array([3, 4]) / n, 0, np.array([3, 4]) / n, n)
  assert low[0] < 0 < low[1]  # this one waits for the fourth


def test_one_answer_of_data_can_need_two_intervals():
  """Why ten templates may be above 98 % where more examples differ.

  A base model right everywhere, a tuned one wrong under one template here and there:
  likely both where neither agrees with itself and where the base does, and fails on an
  example under all ten. One of the two needs the wider interval.
  """
  pair = {'tuned': 0.97, 'base': 0.97, 'together': 0.0}
  alike = populations.pair(**pair, correlations=(0.1, 0.1))
  unlike = populations.pair(**pair, correlations=(0.1, 0.9))
  n = 20
  for population, narrow_is_enough in ((alike, True), (unlike, False)):
    moments = population.draw(n, np.random.default_rng(0), populations.DRAWS)
    low, high = intervals.of_difference(*moments[:3], n)
    enough = ((low <= population.truth) & (population.truth <= high)).mean() >= LEAST
    assert enough == narrow_is_enough


@pytest.mark.parametrize('templates', [1, 10])
@pytest.mark.parametrize(
  'rates', [(0.97, 0.97, 0.97, 0.97), (0.97, 0.95, 0.75, 0.5), (0.03, 0.05, 0.1, 0.97)]
)
@pytest.mark.parametrize('n', [20, 100])
def test_the_average_of_four_datasets(rates, templates, n):
  generator = np.random.default_rng(0)
  draws = 2_000
  parts = []
  for rate in rates:
    population = populations.beta(rate, 0.3, templates)
    mean, variance = population.draw(n, generator, draws)
    parts.append((mean, *intervals.of_mean(mean, variance, n)))
  covered = 0
  for one in np.moveaxis(np.array(parts), -1, 0):  # [dataset, (mean, low, high)]
    low, high = statistics.average_interval(
      one[:, 0], [Interval(*of[1:]) for of in one]
    )
    covered += low <= np.mean(rates) <= high
  # From the limits of 20 examples each, near 0 and 1, the average's are recovered a
  # little too narrow or too wide: 90.7 to 98.8 % (docs/explanation/statistics.md).
  least, most = (0.90, 0.99) if n == 20 else (LEAST, MOST)
  assert least <= covered / draws <= most


def test_the_interval_and_mcnemars_test_say_the_same():
  """An interval without zero never has a p-value above 1/8 of the exact test."""
  for gained, lost in itertools.product(range(30), repeat=2):
    if gained <= lost:
      continue
    low, _ = intervals.of_difference(gained / 80, lost / 80, (gained + lost) / 80, 80)
    p = stats.binomtest(gained, gained + lost).pvalue
    if low > 0:
      assert p <= 0.125
    else:
      assert p > 0.03

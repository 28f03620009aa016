"""Populations with known true scores, and the coverage of intervals over them.

  python tests/populations.py   # five minutes; docs/explanation/statistics.md

A population is the distribution of the number of right templates of an example.
Intervals depend only on the values of the examples, so an evaluation of n examples is
one multinomial draw, and 4,000 evaluations take milliseconds.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import scipy

from flan_jax.evaluate import intervals, metrics, statistics

RATES = (0.03, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.97)
SIZES = (20, 56, 100, 250, 500)
CORRELATIONS = (0.1, 0.3, 0.6, 0.9)
DRAWS = 4_000
TEMPLATES = 10

PAIRS = (
  (0.97, 0.97), (0.97, 0.95), (0.99, 0.97), (0.999, 0.97), (0.999, 0.95), (0.9, 0.9),
  (0.75, 0.5), (0.5, 0.5), (0.25, 0.25), (0.05, 0.03), (0.03, 0.03),
)  # fmt: skip
"""Rates of the two models."""

SOME_PAIRS = ((0.97, 0.97), (0.97, 0.95), (0.999, 0.97), (0.75, 0.5), (0.05, 0.03))
"""Pairs that the tests evaluate under ten templates."""


@dataclasses.dataclass(frozen=True)
class Population:
  """Possible values of one example with their probabilities, for one or two models.

  Attributes:
    name: family and parameters.
    values: float64 [K], values under the (tuned) model.
    chances: float64 [K], probabilities of the values.
    base: float64 [K], values under the base model; None for one model.
    templates: number of templates of each model.
  """

  name: str
  values: np.ndarray
  chances: np.ndarray
  base: np.ndarray | None = None
  templates: tuple[int, int] = (TEMPLATES, TEMPLATES)

  @property
  def differences(self) -> np.ndarray:
    return self.values if self.base is None else self.values - self.base

  @property
  def truth(self) -> float:
    return float(self.chances @ self.differences)

  @property
  def differing(self) -> float:
    """Share of examples that differ, weighted by how much; at most 1."""
    size = self.chances @ np.abs(self.differences)
    return float(size**2 / (self.chances @ np.square(self.differences)))

  def draw(self, n: int, generator: np.random.Generator, draws: int):
    """Draws evaluations of n examples; returns the moments of each."""
    some = self.chances > 0  # a difference can have few of the many possible values
    counts = generator.multinomial(n, self.chances[some], size=draws)

    def means(*values):
      return np.einsum('dk,vk->vd', counts, np.stack(values)[:, some]) / n

    if self.base is None:
      mean, square = means(self.values, self.values**2)
      return mean, np.maximum(square - mean**2, 0)
    up = np.maximum(self.differences, 0)
    down = np.maximum(-self.differences, 0)
    gain, loss, square, own, other, own_square, other_square, product = means(
      up, down, self.differences**2, self.values, self.base, self.values**2,
      self.base**2, self.values * self.base,
    )  # fmt: skip
    return intervals.Pair(
      gain=gain,
      loss=loss,
      square=square,
      means=(own, other),
      variances=(
        np.maximum(own_square - own**2, 0),
        np.maximum(other_square - other**2, 0),
      ),
      covariance=product - own * other,
    )


def beta(rate: float, correlation: float, templates: int = TEMPLATES) -> Population:
  """Templates whose agreement about an example follows a beta distribution."""
  strength = 1 / correlation - 1
  count = np.arange(templates + 1)
  law = scipy.stats.betabinom(templates, rate * strength, (1 - rate) * strength)
  return _population(f'beta {rate} {correlation}', count / templates, law.pmf(count))


def normal(rate: float, correlation: float, *, spread: float = 0.8) -> Population:
  """Templates with rates of their own and a common normal effect of the example."""
  chances = _given(rate, correlation, _GRID, spread=spread)
  values = np.arange(TEMPLATES + 1) / TEMPLATES
  return _population(f'normal {rate} {correlation}', values, _WEIGHTS @ chances)


def independent(rate: float) -> Population:
  """Independent templates."""
  count = np.arange(TEMPLATES + 1)
  chances = scipy.stats.binom.pmf(count, TEMPLATES, rate)
  return _population(f'independent {rate}', count / TEMPLATES, chances)


def pair(
  tuned: float,
  base: float,
  *,
  together: float,
  correlations: tuple[float, float] = (0.0, 0.0),
  templates: tuple[int, int] = (TEMPLATES, TEMPLATES),
) -> Population:
  """Two models with correlated effects of an example.

  Args:
    tuned, base: rates of the models.
    together: correlation of the effects of an example on the two models.
    correlations: correlation of two templates of an example, under each model.
    templates: number of templates of each model.
  """
  chances = []
  for rate, correlation, count in zip(
    (tuned, base), correlations, templates, strict=True
  ):
    if count == 1:
      chances.append(_given(rate, together, _GRID, templates=1))
      continue
    effect = np.sqrt(together) * _GRID[:, None] + np.sqrt(1 - together) * _GRID
    given = _given(rate, correlation, effect, templates=count)
    chances.append(np.einsum('e,sek->sk', _WEIGHTS, given))
  joint = np.einsum('s,sa,sb->ab', _WEIGHTS, *chances)
  name = f'{templates[0]}:{templates[1]} {tuned}-{base} {correlations} {together}'
  return _pair(name, joint, templates)


def nearly_the_same(rate: float, correlation: float, changed: float) -> Population:
  """A tuned model equal to the base model, except for a few fully right examples."""
  count = np.arange(TEMPLATES + 1)
  strength = 1 / correlation - 1
  base = scipy.stats.betabinom(TEMPLATES, rate * strength, (1 - rate) * strength).pmf(
    count
  )
  joint = (1 - changed) * np.diag(base)
  joint[TEMPLATES] += changed * base
  return _pair(f'nearly {rate} {correlation} {changed}', joint, (TEMPLATES, TEMPLATES))


def _pair(name: str, joint: np.ndarray, templates: tuple[int, int]) -> Population:
  tuned, base = (np.arange(count + 1) / count for count in templates)
  values, base = (grid.ravel() for grid in np.meshgrid(tuned, base, indexing='ij'))
  population = _population(name, values, joint.ravel())
  return dataclasses.replace(population, base=base, templates=templates)


_GRID = np.linspace(-5, 5, 61)
_WEIGHTS = np.exp(-(_GRID**2) / 2) / np.exp(-(_GRID**2) / 2).sum()


def _given(rate, correlation, effect, *, templates=TEMPLATES, spread=0.0) -> np.ndarray:
  """Probabilities of 0 to T right templates, [..., T + 1], given the effect."""
  rates = rate + spread * min(rate, 1 - rate) * np.linspace(-1, 1, templates)
  if templates == 1:
    rates = np.array([rate])
  right = scipy.stats.norm.cdf(
    (scipy.stats.norm.ppf(rates) + np.sqrt(correlation) * effect[..., None])
    / np.sqrt(1 - correlation)
  )
  found = np.zeros((*effect.shape, templates + 1))
  found[..., 0] = 1
  for one in np.moveaxis(right, -1, 0):
    one = one[..., None]
    gained = found[..., :-1] * one
    found = found * (1 - one)
    found[..., 1:] += gained
  return found


def _population(name: str, values: np.ndarray, chances: np.ndarray) -> Population:
  return Population(name, values, chances / chances.sum())


def ten_templates() -> Iterator[Population]:
  for rate in RATES:
    yield independent(rate)
    for correlation in CORRELATIONS:
      yield beta(rate, correlation)
      yield normal(rate, correlation)


def pairs_of_one(pairs=PAIRS, togethers=(0.0, 0.6, 0.9)) -> Iterator[Population]:
  for rates, together in itertools.product(pairs, togethers):
    yield pair(*rates, together=together, templates=(1, 1))


UNLIKE = ((0.1, 0.9), (0.9, 0.1), (0.3, 0.6))
"""Correlations within each model if one agrees with itself more than the other."""


def pairs_of_ten(
  pairs=PAIRS,
  togethers=(0.0, 0.6),
  correlations=tuple((c, c) for c in CORRELATIONS),
  templates=(TEMPLATES, TEMPLATES),
) -> Iterator[Population]:
  for rates, together, within in itertools.product(pairs, togethers, correlations):
    yield pair(*rates, together=together, correlations=within, templates=templates)


def pairs_nearly_the_same() -> Iterator[Population]:
  for rate, correlation, changed in itertools.product(
    (0.05, 0.5, 0.9), (0.1, 0.6), (0.01, 0.05, 0.2)
  ):
    yield nearly_the_same(rate, correlation, changed)


@dataclasses.dataclass(frozen=True)
class Cell:
  """Coverage of the intervals of one population at one size.

  Attributes:
    population: name of the population.
    n: number of examples of an evaluation.
    covered: share of the evaluations whose interval contains the true score.
    differing: expected number of examples that differ, weighted by how much.
  """

  population: str
  n: int
  covered: float
  differing: float


def one_template() -> list[Cell]:
  """Evaluates one template exactly: every outcome, weighted by its probability."""
  cells = []
  for rate, n in itertools.product(RATES, SIZES):
    right = np.arange(n + 1)
    mean = right / n
    limits = intervals.of_mean(mean, mean * (1 - mean), n)
    covered = scipy.stats.binom.pmf(right, n, rate) @ _covers(limits, rate)
    cells.append(Cell(f'one {rate}', n, float(covered), np.inf))
  return cells


def drawn(populations: Iterable[Population], *, draws: int = DRAWS) -> list[Cell]:
  """Evaluates every population at every size."""
  generator = np.random.default_rng(0)
  cells = []
  for population, n in itertools.product(populations, SIZES):
    moments = population.draw(n, generator, draws)
    if population.base is None:
      limits, differing = intervals.of_mean(*moments, n), np.inf
    else:
      limits = intervals.of_pair(moments, n, templates=population.templates)
      differing = n * population.differing
    covered = float(_covers(limits, population.truth).mean())
    cells.append(Cell(population.name, n, covered, differing))
  return cells


def _covers(limits, truth: float) -> np.ndarray:
  low, high = limits
  return (low <= truth + 1e-9) & (truth - 1e-9 <= high)


POSITIVE = 0.44
"""Share of examples whose right answer is the positive one (MultiRC)."""

NEARLY = ((100, 0.6, 0.01), (250, 0.6, 0.005), (20, 0.6, 0.03), (100, 0.75, 0.01),
          (100, 0.6, 0.05), (100, 0.9, 0.02), (500, 0.6, 0.004))  # fmt: skip
"""(examples, rate of the base model, share of examples that differ)."""


def f1a_nearly_the_same(*, draws: int) -> list[Cell]:
  """F1a of a base model, and of a tuned model that corrects a few of its answers."""
  generator = np.random.default_rng(0)

  def truth(rate):
    return 2 * POSITIVE * rate / (2 * POSITIVE * rate + 1 - rate)

  def counted(true, predicted):
    counts = [predicted & true, predicted & ~true, true & ~predicted]
    return np.stack(counts, -1).astype(float)[None]

  cells = []
  for n, rate, changed in NEARLY:
    covered = 0
    for _ in range(draws):
      true, right = generator.random(n) < POSITIVE, generator.random(n) < rate
      mended = right | (generator.random(n) < changed / (1 - rate))
      low, high = statistics.paired_interval(
        counted(true, true == mended),
        counted(true, true == right),
        metric=metrics.METRICS['f1a'],
      )
      covered += low <= 100 * (truth(rate + changed) - truth(rate)) <= high
    cells.append(Cell(f'F1a {rate} {changed}', n, covered / draws, n * changed))
  return cells


def sentences_nearly_the_same(name: str, *, draws: int) -> list[Cell]:
  """BLEU or Pearson's r of a base model, and of a tuned one that differs on a few.

  BLEU: one word in four is wrong, and one in twelve in the texts that differ. Pearson:
  scores have an error, except those that differ.

  Args:
    name: `bleu` or `pearson`.
    draws: number of evaluations of each cell.
  """
  generator = np.random.default_rng(0)
  metric, size = metrics.METRICS[name], 400
  if name == 'bleu':
    right = generator.integers(0, 30, (size, 12))
    wrong = np.argsort(generator.random((size, 12)), axis=1)
    texts = [right, *(np.where(wrong < k, 30 + wrong, right) for k in (3, 1))]
    texts = [
      [' '.join(f'w{word}' for word in example) for example in group] for group in texts
    ]
  else:
    right = generator.uniform(0, 5, size)
    noisy = np.clip(np.round(right + generator.normal(0, 1.2, size)), 0, 5)
    texts = [[str(one) for one in group] for group in (right, noisy, np.round(right))]
  wanted = [[text] for text in texts[0]]
  base, tuned = (metric.scores(group, wanted) for group in texts[1:])
  cells = []
  for n, changed in ((100, 0.01), (50, 0.03), (100, 0.05)):
    mixed = (1 - changed) * base + changed * tuned
    truth = float(metric.combine(mixed.sum(0), np.asarray(size))) - metric.aggregate(
      base
    )
    covered = 0
    for _ in range(draws):
      at = generator.integers(0, size, n)
      moved = generator.random(n) < changed
      drawn = np.where(moved[:, None], tuned[at], base[at])
      low, high = statistics.paired_interval(drawn[None], base[at][None], metric=metric)
      covered += low <= truth <= high
    cells.append(Cell(f'{name} {changed}', n, covered / draws, n * changed))
  return cells


FITS = (
  (20, (1, 0.25, 0.5)), (20, (1, 0.1, 0.1)), (56, (1, 0.1, 0.1)), (56, (0.5, 0.5, 0.3)),
  (100, (1, 0.02, 0.02)), (100, (1, 0.1, 0.1)), (100, (1, 1, 0.9, 0.8)),
)  # fmt: skip
"""(examples, share of them that fits under each template)."""


def few_fit(
  *,
  draws: int,
  rates=(0.5, 0.75, 0.9, 0.97),
  agreements=(0.0, 0.8),
  mended: float | None = None,
  scattered: bool = False,
) -> list[Cell]:
  """Templates that fit only a part of the examples.

  Args:
    draws: number of evaluations of each cell.
    rates: rates of the model.
    agreements: probability that a template's answer depends on the example only.
    mended: share of the examples that a tuned model corrects, with this one as its
      base; None to evaluate this model alone.
    scattered: whether each template fits examples of its own, and not the first ones.
  """
  generator = np.random.default_rng(0)
  accuracy = metrics.METRICS['accuracy']
  cells = []
  for (n, fits), rate, agreement in itertools.product(FITS, rates, agreements):
    missing = np.arange(n) >= np.maximum(1, np.array(fits)[:, None] * n)
    if scattered:
      missing = generator.permuted(missing, axis=1)
    truth, covered = rate if mended is None else mended * (1 - rate), 0
    for _ in range(draws):
      own = generator.random(missing.shape) < rate
      agree = generator.random(missing.shape) < agreement
      right = np.where(agree, generator.random(n) < rate, own).astype(float)
      right[missing] = np.nan
      if mended is None:
        low, high = statistics.interval(right[..., None], metric=accuracy)
      else:
        tuned = np.where((generator.random(n) < mended) & ~missing, 1.0, right)
        low, high = statistics.paired_interval(
          tuned[..., None], right[..., None], metric=accuracy
        )
      covered += low - 1e-9 <= 100 * truth <= high + 1e-9
    name = f'{fits} {rate} {agreement} {mended}'
    cells.append(Cell(name, n, covered / draws, np.inf))
  return cells


def whole() -> dict[str, list[Cell]]:
  """Evaluates every kind of population: name -> cells."""
  return {
    'mean, one template (exact)': one_template(),
    'mean, ten templates': drawn(ten_templates()),
    'difference, one template': drawn(pairs_of_one()),
    'difference, ten templates': drawn(pairs_of_ten()),
    'difference, ten templates, unlike': drawn(pairs_of_ten(correlations=UNLIKE)),
    'difference, nearly the same': drawn(pairs_nearly_the_same()),
    'difference, ten against one': drawn(pairs_of_ten(templates=(TEMPLATES, 1))),
    'difference of F1a, nearly the same': f1a_nearly_the_same(draws=1_000),
    'difference of BLEU, nearly the same': sentences_nearly_the_same('bleu', draws=500),
    'difference of r, nearly the same': sentences_nearly_the_same('pearson', draws=500),
    'mean, templates that fit few examples': few_fit(draws=1_000),
    'mean, templates that fit few examples of their own': few_fit(
      draws=1_000, scattered=True
    ),
    'difference, templates that fit few examples': few_fit(
      draws=500, rates=(0.6, 0.9), mended=0.1
    ),
  }


def main() -> None:
  for name, cells in whole().items():
    some = [cell.covered for cell in cells]
    line = f'{name}: {100 * min(some):.1f} to {100 * max(some):.1f}, {len(some)} cells'
    for least, most in ((0, 5), (5, 20), (20, np.inf)):
      part = [c.covered for c in cells if least <= c.differing <= most]
      over = sum(covered > 0.98 for covered in part)
      if over:
        line += f'; {least} to {most} differ: {over} of {len(part)} over 98'
    print(line)
    for cell in sorted(cells, key=lambda c: c.covered)[:: len(cells) - 1]:
      print('   ', cell)


if __name__ == '__main__':
  main()

"""Worlds whose truth is known, and how often the intervals of evaluations cover it.

  python tests/evaluate/worlds.py   # the table of docs/evaluation.md; two minutes

A world says how likely an example has k of T templates right. Intervals look at the
values of the examples alone, so that an evaluation of n examples is one draw of how
many have which value, and 4,000 evaluations cost milliseconds.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
from scipy import stats

from flan_jax.evaluate import intervals

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
"""Those that every run of the tests looks at under ten templates."""


@dataclasses.dataclass(frozen=True)
class World:
  """Values of one example with their probabilities, under one model or two.

  Attributes:
    name: how it was made.
    values: float64 [K], of the model (the tuned one).
    chances: float64 [K].
    base: float64 [K], of the base model; or None.
    templates: of each model.
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
    """The share of examples that differ, each counted by how much: 1 as a whole."""
    size = self.chances @ np.abs(self.differences)
    return float(size**2 / (self.chances @ np.square(self.differences)))

  def draw(self, n: int, generator: np.random.Generator, draws: int):
    """So many evaluations of n examples: the moments of each."""
    counts = generator.multinomial(n, self.chances, size=draws) / n

    def mean(values):
      return counts @ values

    means = mean(self.values)
    variances = np.maximum(mean(self.values**2) - means**2, 0)
    if self.base is None:
      return means, variances
    others = mean(self.base)
    return intervals.Pair(
      gain=mean(np.maximum(self.differences, 0)),
      loss=mean(np.maximum(-self.differences, 0)),
      square=mean(self.differences**2),
      means=(means, others),
      variances=(variances, np.maximum(mean(self.base**2) - others**2, 0)),
      covariance=mean(self.values * self.base) - means * others,
    )


def beta(rate: float, correlation: float, templates: int = TEMPLATES) -> World:
  """Templates that agree about an example as a beta distribution says."""
  strength = 1 / correlation - 1
  count = np.arange(templates + 1)
  law = stats.betabinom(templates, rate * strength, (1 - rate) * strength)
  return _world(f'beta {rate} {correlation}', count / templates, law.pmf(count))


def normal(rate: float, correlation: float, *, spread: float = 0.8) -> World:
  """Templates with rates of their own, that share a normal effect of the example."""
  chances = _given(rate, correlation, _GRID, spread=spread)
  values = np.arange(TEMPLATES + 1) / TEMPLATES
  return _world(f'normal {rate} {correlation}', values, _WEIGHTS @ chances)


def independent(rate: float) -> World:
  """Templates that have nothing to do with each other."""
  count = np.arange(TEMPLATES + 1)
  chances = stats.binom.pmf(count, TEMPLATES, rate)
  return _world(f'independent {rate}', count / TEMPLATES, chances)


def pair(
  tuned: float,
  base: float,
  *,
  together: float,
  correlations: tuple[float, float] = (0.0, 0.0),
  templates: tuple[int, int] = (TEMPLATES, TEMPLATES),
) -> World:
  """Two models, whose effects of an example have something in common.

  Args:
    tuned, base: their rates.
    together: correlation of the effects of an example on the two.
    correlations: of two templates of an example, under each model.
    templates: of each model.
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


def nearly_the_same(rate: float, correlation: float, changed: float) -> World:
  """A tuned model that says what the base says, but is wholly right here and there."""
  count = np.arange(TEMPLATES + 1)
  strength = 1 / correlation - 1
  base = stats.betabinom(TEMPLATES, rate * strength, (1 - rate) * strength).pmf(count)
  joint = (1 - changed) * np.diag(base)
  joint[TEMPLATES] += changed * base
  return _pair(f'nearly {rate} {correlation} {changed}', joint, (TEMPLATES, TEMPLATES))


def _pair(name: str, joint: np.ndarray, templates: tuple[int, int]) -> World:
  ours, theirs = (np.arange(count + 1) / count for count in templates)
  values, base = (of.ravel() for of in np.meshgrid(ours, theirs, indexing='ij'))
  world = _world(name, values, joint.ravel())
  return dataclasses.replace(world, base=base, templates=templates)


_GRID = np.linspace(-5, 5, 61)
_WEIGHTS = stats.norm.pdf(_GRID) / stats.norm.pdf(_GRID).sum()


def _given(rate, correlation, effect, *, templates=TEMPLATES, spread=0.0) -> np.ndarray:
  """Chances of 0 to T right templates, [..., T + 1], given an example's effect."""
  rates = rate + spread * min(rate, 1 - rate) * np.linspace(-1, 1, templates)
  if templates == 1:
    rates = np.array([rate])
  right = stats.norm.cdf(
    (stats.norm.ppf(rates) + np.sqrt(correlation) * effect[..., None])
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


def _world(name: str, values: np.ndarray, chances: np.ndarray) -> World:
  return World(name, values, chances / chances.sum())


def ten_templates() -> Iterator[World]:
  for rate in RATES:
    yield independent(rate)
    for correlation in CORRELATIONS:
      yield beta(rate, correlation)
      yield normal(rate, correlation)


def pairs_of_one(pairs=PAIRS, togethers=(0.0, 0.6, 0.9)) -> Iterator[World]:
  for rates, together in itertools.product(pairs, togethers):
    yield pair(*rates, together=together, templates=(1, 1))


UNLIKE = ((0.1, 0.9), (0.9, 0.1), (0.3, 0.6))
"""Correlations within each model where one agrees with itself more than the other."""


def pairs_of_ten(
  pairs=PAIRS,
  togethers=(0.0, 0.6),
  correlations=tuple((c, c) for c in CORRELATIONS),
  templates=(TEMPLATES, TEMPLATES),
) -> Iterator[World]:
  for rates, together, within in itertools.product(pairs, togethers, correlations):
    yield pair(*rates, together=together, correlations=within, templates=templates)


def pairs_nearly_the_same() -> Iterator[World]:
  for rate, correlation, changed in itertools.product(
    (0.05, 0.5, 0.9), (0.1, 0.6), (0.01, 0.05, 0.2)
  ):
    yield nearly_the_same(rate, correlation, changed)


@dataclasses.dataclass(frozen=True)
class Cell:
  """How often the interval of `n` examples of a world covered the truth.

  `differing` is how many examples are expected to differ, each counted by how much.
  """

  world: str
  n: int
  covered: float
  differing: float


def one_template() -> list[Cell]:
  """Every outcome weighted by its chance: exact, nothing drawn."""
  cells = []
  for rate, n in itertools.product(RATES, SIZES):
    right = np.arange(n + 1)
    mean = right / n
    limits = intervals.of_mean(mean, mean * (1 - mean), n)
    covered = stats.binom.pmf(right, n, rate) @ _covers(limits, rate)
    cells.append(Cell(f'one {rate}', n, float(covered), np.inf))
  return cells


def drawn(worlds: Iterable[World], *, draws: int = DRAWS) -> list[Cell]:
  """Every world at every size."""
  generator = np.random.default_rng(0)
  cells = []
  for world, n in itertools.product(worlds, SIZES):
    moments = world.draw(n, generator, draws)
    if world.base is None:
      limits, differing = intervals.of_mean(*moments, n), np.inf
    else:
      limits = intervals.of_pair(moments, n, templates=world.templates)
      differing = n * world.differing
    covered = float(_covers(limits, world.truth).mean())
    cells.append(Cell(world.name, n, covered, differing))
  return cells


def _covers(limits, truth: float) -> np.ndarray:
  low, high = limits
  return (low <= truth + 1e-9) & (truth - 1e-9 <= high)


def whole() -> dict[str, list[Cell]]:
  """Every family of worlds: name -> its cells."""
  return {
    'mean, one template (exact)': one_template(),
    'mean, ten templates': drawn(ten_templates()),
    'difference, one template': drawn(pairs_of_one()),
    'difference, ten templates': drawn(pairs_of_ten()),
    'difference, ten templates, unlike': drawn(pairs_of_ten(correlations=UNLIKE)),
    'difference, nearly the same': drawn(pairs_nearly_the_same()),
    'difference, ten against one': drawn(pairs_of_ten(templates=(TEMPLATES, 1))),
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

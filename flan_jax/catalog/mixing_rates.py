"""Rates: how often a mixture draws each of its datasets.

Examples-proportional mixing with a maximum rate (FLAN section 2.2). The maximum holds
per task, as in the reference, or once for all tasks that the paper counts as one
dataset (ANLI, MNLI, ARC, SQuAD).
"""

from collections.abc import Mapping, Sequence

from flan_jax.catalog import registry, splits
from flan_jax.catalog.registry import Mixture
from flan_jax.catalog.source import UNKNOWN_SIZE

CAP = 30_000
"""Maximum number of training examples of one dataset (FLAN section 2.2)."""

MAXIMUM_RATE = 3_000
"""Maximum mixing rate of a dataset (FLAN section 2.2, footnote 2)."""


def rates(
  mixture: Mixture, examples: Mapping[str, int] | None = None
) -> dict[str, int]:
  """Dataset -> mixing rate: that of its examples, or the mixture's own.

  Args:
    mixture: the training mixture.
    examples: dataset -> training examples present; None for the declared numbers.
      Datasets of the mixture that it lacks have no rate, and neither has one whose
      rate follows from a number that only reading the examples tells.

  >>> sum(rates(registry.mixture('flan_all')).values())
  188371
  >>> sum(rates(registry.mixture('flan_paper62')).values())
  169867
  """
  if examples is None:
    examples = {
      name: registry.get(name).num_examples('train') for name in mixture.datasets
    }
  if mixture.rate_function is not None:
    found = mixture.rate_function(examples)
    return _whole({name: rate * bool(examples[name]) for name, rate in found.items()})
  out: dict[str, float] = {}
  for group in groups(mixture):
    out |= shared_rates({name: examples[name] for name in group if name in examples})
  known = {name for name, count in examples.items() if count < UNKNOWN_SIZE}
  for name, part in mixture.parts.items():
    inside = {one: examples[one] for one in part.datasets if one in examples}
    found = rates(part, inside)
    total = sum(found.values())
    wanted = mixture.rates.get(name, total)
    if part.rate_function is not None and name not in mixture.rates:
      wanted = sum(out[one] for one in inside)  # its own rates have no scale
    known = known.difference(inside).union(found)
    if total:
      out |= {one: rate * wanted / total for one, rate in found.items()}
  own = {name: rate for name, rate in mixture.rates.items() if examples.get(name)}
  out = {name: rate for name, rate in out.items() if name in known} | own
  return _whole({name: out[name] for name in mixture.datasets if name in out})


def _whole(rates: Mapping[str, float]) -> dict[str, int]:
  """Returns rates as whole numbers, in the same proportion to 0.001 % of their sum.

  >>> _whole({'a': 0.25, 'b': 0.75})
  {'a': 25000, 'b': 75000}
  """
  scale = 1.0
  if any(rate != int(rate) for rate in rates.values()):
    scale = 100_000 / sum(rates.values())
  return {
    name: max(1, round(rate * scale)) if rate else 0 for name, rate in rates.items()
  }


def peers(name: str, mixture: Mixture) -> Sequence[str]:
  """The datasets of a mixture whose examples decide the rate of one of them."""
  fractions = any(rate != int(rate) for rate in mixture.rates.values())
  if mixture.parts or mixture.rate_function or fractions:
    return mixture.datasets
  return next(group for group in groups(mixture) if name in group)


def groups(mixture: Mixture) -> list[list[str]]:
  """Groups its datasets by the maximum rate that they share."""
  found: dict[str, list[str]] = {}
  for name in mixture.datasets:
    paper_name = registry.get(name).paper_name if mixture.shared_cap else ''
    found.setdefault(paper_name or name, []).append(name)
  return list(found.values())


def shared_rates(examples: Mapping[str, int]) -> dict[str, int]:
  """Rates of tasks with `examples` training examples that share one maximum rate.

  The maximum is split in proportion to `min(n, CAP)`, by largest remainders.

  >>> shared_rates({'anli_r1': 16_946, 'anli_r2': 45_460, 'anli_r3': 100_459})
  {'anli_r1': 661, 'anli_r2': 1170, 'anli_r3': 1169}
  >>> shared_rates({'arc_challenge': 919, 'arc_easy': 2_051})
  {'arc_challenge': 919, 'arc_easy': 2051}
  """
  counts = {name: min(n, CAP) for name, n in examples.items() if n}
  total = min(sum(counts.values()), MAXIMUM_RATE)
  parts = splits.shares(list(counts.values()), total) if counts else []
  return dict.fromkeys(examples, 0) | dict(zip(counts, parts, strict=True))

"""Clock: what a model computed in an evaluation, in what time; `timing` of a report."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flan_jax.inference.generate import Generated
from flan_jax.inference.rank_options import Scored


@dataclasses.dataclass
class Clock:
  """Counts of one model's work, and its time.

  Attributes:
    examples: prompts answered.
    seconds: time of the model, compilation included.
    tokens_scored: tokens computed to rank options, padding included.
    tokens_naive: tokens that one sequence per option would have taken.
    prefill_tokens: prompt tokens computed to generate, padding included.
    generated_tokens: tokens computed one at a time, idle slots included.
    unpadded_tokens: tokens computed, without padding and idle slots.
    written_tokens: tokens of the generated answers.
  """

  examples: int = 0
  seconds: float = 0.0
  tokens_scored: int = 0
  tokens_naive: int = 0
  prefill_tokens: int = 0
  generated_tokens: int = 0
  unpadded_tokens: int = 0
  written_tokens: int = 0

  def score(self, scored: Scored) -> None:
    """Counts scored options."""
    self.seconds += scored.seconds
    self.tokens_scored += scored.tokens_scored
    self.tokens_naive += scored.tokens_naive
    self.unpadded_tokens += scored.unpadded_tokens

  def generate(self, generated: Generated) -> None:
    """Counts generated answers."""
    self.seconds += generated.seconds
    self.prefill_tokens += generated.prefill_tokens
    self.generated_tokens += generated.generated_tokens
    self.unpadded_tokens += generated.unpadded_tokens
    self.written_tokens += sum(map(len, generated.tokens))

  def add(self, other: 'Clock') -> None:
    """Adds the counts of another clock."""
    for name, count in dataclasses.asdict(other).items():
      setattr(self, name, getattr(self, name) + count)

  def since(self, earlier: 'Clock') -> 'Clock':
    """Returns what was counted after an earlier state of this clock."""
    counts = dataclasses.asdict(earlier)
    return Clock(**{name: getattr(self, name) - n for name, n in counts.items()})

  def as_json(self) -> dict[str, Any]:
    """Returns the counts and what they are per second.

    `padding_share` is the share of the computed tokens that are padding or of an idle
    slot; None if nothing was computed.
    """
    computed = self.tokens_scored + self.prefill_tokens + self.generated_tokens
    known = computed and self.unpadded_tokens
    return {
      'examples_per_s': self._per_second(self.examples),
      'tokens_scored_per_s': self._per_second(self.tokens_scored),
      'written_tokens_per_s': self._per_second(self.written_tokens),
      'padding_share': 1 - self.unpadded_tokens / computed if known else None,
      **dataclasses.asdict(self),
    }

  def _per_second(self, count: int) -> float:
    return count / self.seconds if self.seconds else 0.0


class Clocks:
  """Clocks of the models, in all and by dataset."""

  def __init__(self, models: Mapping[str, Any]):
    self.total = {name: Clock() for name in models}
    self._last = {name: Clock() for name in models}
    self._datasets: dict[str, dict[str, dict[str, Any]]] = {n: {} for n in models}

  def split(self, dataset: str) -> None:
    """Counts the work since the last call for a dataset."""
    for name, clock in self.total.items():
      part = clock.since(self._last[name])
      if part.examples:
        self._datasets[name][dataset] = part.as_json()
      self._last[name] = dataclasses.replace(clock)

  def timing(self) -> dict[str, Any]:
    """Returns `timing` of a report: the tuned model's, with `base` in it."""
    each = {
      name: {**clock.as_json(), 'by_dataset': self._datasets[name]}
      for name, clock in self.total.items()
    }
    return each['tuned'] | ({'base': each['base']} if 'base' in each else {})


def plus(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
  """Adds two timings of the same models; the rates are those of both together."""
  clock = Clock()
  for timing in (one, other):
    clock.add(Clock(**{f.name: timing[f.name] for f in dataclasses.fields(Clock)}))
  found = {
    **clock.as_json(),
    'by_dataset': {**one['by_dataset'], **other['by_dataset']},
  }
  return found | ({'base': plus(one['base'], other['base'])} if 'base' in one else {})

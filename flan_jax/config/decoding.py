"""Decoding settings: normalization of option scores, and generation of free text."""

import dataclasses
import math

from flan_jax.config.checks import (
  between,
  fraction,
  one_of,
  or_none,
  uint32,
  whole,
)
from flan_jax.config.setting import check_fields, refusal, setting

NORMALIZATIONS = ('none', 'token', 'byte', 'unconditional')
"""Normalizations of the score of an option: see inference.rank_options.Scorer."""


def _temperature(value: float) -> str:
  legal = 0 <= value < math.inf
  return '' if legal else 'must be 0 (greedy) or more; the nearest is 0'


MAX_BEAMS = 256
"""Maximum number of beams: each of them has a cache of its own."""

MAX_PENALTY = 100


def _beams(value: int) -> str:
  return whole(value) or between(1, MAX_BEAMS)(value)


def _penalty(value: float) -> str:
  if value < 0:
    return 'must be 0 or more; the nearest is 0'
  return '' if value <= MAX_PENALTY else f'must be {MAX_PENALTY} or less'


def _stop(value: tuple[str, ...]) -> str:
  legal = not isinstance(value, str) and all(value)
  return '' if legal else 'must be a tuple of strings, none of them empty'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
  """Generation settings.

  Attributes:
    temperature: 0 takes the most probable token every time (greedy); above it tokens
      are sampled from the softmax of logits / temperature.
    top_k: sample from the k most probable tokens; None: from all.
    top_p: then from the smallest set of most probable tokens with this much of the
      probability (Holtzman et al. 2020, arXiv 1904.09751); None: from all.
    seed: seed for sampling; a prompt's sample depends on its place among the prompts
      and on nothing else.
    beams: beams of beam search; 1 for none.
    length_penalty: alpha of ((5 + tokens) / 6) ** alpha, which divides the
      log-probability of a beam (Wu et al. 2016, arXiv 1609.08144, 7); 0 for none.
    stop: an answer ends before the first of these strings.
    weight_dtype: stored dtype of the matrices that generate, 'bfloat16' or 'int8' (one
      scale per output): fewer bytes at some cost in accuracy; None for the model's own.
      Ranking keeps the model's own.

  Raises:
    InputError: a value is out of range, or has no effect beside another.
  """

  temperature: float = setting(0.0, rule=_temperature)
  top_k: int | None = setting(None, rule=or_none(whole))
  top_p: float | None = setting(None, rule=or_none(fraction))
  seed: int = setting(0, rule=uint32)
  beams: int = setting(1, rule=_beams)
  length_penalty: float = setting(0.0, rule=_penalty)
  stop: tuple[str, ...] = setting((), rule=_stop)
  weight_dtype: str | None = setting(None, rule=or_none(one_of('bfloat16', 'int8')))

  def __post_init__(self):
    check_fields(self)
    for name in ('top_k', 'top_p'):
      value = getattr(self, name)
      if value is not None and not self.temperature:
        raise refusal(
          self,
          name,
          'must be None, or temperature above 0',
          got=f'{value} with temperature 0, which samples nothing',
        )
    if self.beams > 1 and self.temperature:
      raise refusal(
        self,
        'temperature',
        'must be 0',
        got=f'{self.temperature} with {self.beams} beams, which sample nothing',
      )
    if self.length_penalty < 0 or (self.length_penalty and self.beams == 1):
      raise refusal(
        self,
        'length_penalty',
        'must be 0 or more, and 0 with one beam; the nearest is 0',
        got=f'{self.length_penalty} with {self.beams} beams',
      )

  def trimmed(self, text: str) -> str:
    """`text` up to the first stop string; all of it if it has no stop string."""
    found = [at for at in map(text.find, self.stop) if at >= 0]
    return text[: min(found)] if found else text


GREEDY = Decoding()

"""How answers are found: what ranks an option, and how free text is written."""

import dataclasses
import math

from flan_jax.errors import InputError

NORMALIZATIONS = ('none', 'token', 'byte', 'unconditional')
"""What the score of an option is divided by, or compared with: see Scorer."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decoding:
  """How answers are written.

  Attributes:
    temperature: 0 takes the most probable token every time (greedy);
      above it tokens are drawn, from the softmax of logits / temperature.
    top_k: drawn from the so many most probable tokens; None: from all.
    top_p: then from the fewest most probable ones that hold so much of the probability
      (Holtzman et al. 2020, arXiv 1904.09751); None: from all.
    seed: of the draws; what a prompt gets depends on its place among the prompts and
      on nothing else.
    beams: above 1, beam search: so many answers grow side by side.
    length_penalty: alpha of ((5 + tokens) / 6) ** alpha, which the log-probability of
      a beam is divided by (Wu et al. 2016, arXiv 1609.08144, 7); 0: by nothing.
    stop: an answer ends before the first of these strings.

  Raises:
    InputError: a value is out of range, or has no effect beside another.
  """

  temperature: float = 0.0
  top_k: int | None = None
  top_p: float | None = None
  seed: int = 0
  beams: int = 1
  length_penalty: float = 0.0
  stop: tuple[str, ...] = ()

  def __post_init__(self):
    if not 0 <= self.temperature < math.inf:
      raise InputError(
        f'temperature: got {self.temperature}; must be 0 (greedy) or more; the nearest '
        'is 0',
        field='temperature',
      )
    for name in ('top_k', 'beams'):
      value = getattr(self, name)
      if value is not None and (not isinstance(value, int) or value < 1):
        raise InputError(
          f'{name}: got {value}; must be a whole number, 1 or more; the nearest is 1',
          field=name,
        )
    if self.top_p is not None and not 0 < self.top_p <= 1:
      raise InputError(
        f'top_p: got {self.top_p}; must be above 0 and at most 1; the nearest is 1',
        field='top_p',
      )
    for name in ('top_k', 'top_p'):
      if getattr(self, name) is not None and not self.temperature:
        raise InputError(
          f'{name}: got {getattr(self, name)} with temperature 0, which draws nothing; '
          'must be None, or temperature above 0',
          field=name,
        )
    if self.beams > 1 and self.temperature:
      raise InputError(
        f'temperature: got {self.temperature} with {self.beams} beams, which draw '
        'nothing; must be 0',
        field='temperature',
      )
    if self.length_penalty < 0 or (self.length_penalty and self.beams == 1):
      raise InputError(
        f'length_penalty: got {self.length_penalty} with {self.beams} beams; must be 0 '
        'or more, and 0 where there is one beam; the nearest is 0',
        field='length_penalty',
      )
    if isinstance(self.stop, str) or not all(self.stop):
      raise InputError(
        f'stop: got {self.stop!r}; must be a tuple of strings, none of them empty',
        field='stop',
      )

  def trimmed(self, text: str) -> str:
    """`text` up to the first stop string; the whole of it if there is none."""
    found = [at for at in map(text.find, self.stop) if at >= 0]
    return text[: min(found)] if found else text


GREEDY = Decoding()

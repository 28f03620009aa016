"""Rules of values: each returns '' or what is wrong, with the nearest legal value."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flan_jax.errors import InputError, did_you_mean

Rule = Callable[[Any], str]
"""Takes a value; returns '' if it is legal, else `must be ...`."""


def check(name: str, value: Any, rule: Rule, *, field: str | None = None) -> None:
  """Holds one value against a rule.

  Args:
    name: name in the message, as '--steps'.
    value: the value got.
    rule: rule that it must obey.
    field: field of a settings class that the value comes from, as 'Run.train_steps'.

  Raises:
    InputError: if the value breaks the rule.
  """
  wrong = rule(value)
  if wrong:
    raise InputError(f'{name}: got {shown(value)}; {wrong}', field=field)


def shown(value: Any) -> str:
  """A value as messages show it: numbers with separators, long values shortened."""
  if isinstance(value, int) and not isinstance(value, bool):
    if abs(value) >= 10**_DIGITS:
      digits = int(math.log10(abs(value)))  # at the most one too few
      digits += abs(value) >= 10**digits
      return f'a number of {digits:,} digits'
    return f'{value:,}'
  if isinstance(value, float):
    return f'{value:,}' if abs(value) < 10**_DIGITS else str(value)
  text = repr(value)
  return text if len(text) <= _WIDTH else f'{text[: _WIDTH - 3]}...'


_WIDTH = 120
_DIGITS = 24
"""A number with more digits is not written out."""


def sound(value: Any) -> str:
  """Any value: its numbers are finite and of 64 bits, its texts can be written."""
  if isinstance(value, float):
    return '' if math.isfinite(value) else 'must be a finite number'
  if isinstance(value, int):
    return '' if -(2**63) <= value < 2**63 else 'must be a number of 64 bits'
  if isinstance(value, str):
    return _writable(value)
  if isinstance(value, (list, tuple)):
    return next(filter(None, map(sound, value)), '')
  if isinstance(value, dict):
    return sound(list(value)) or sound(list(value.values()))
  return ''


def _writable(text: str) -> str:
  if '\0' in text:
    return 'must be a text without NUL'
  try:
    text.encode('utf-8')
  except UnicodeEncodeError:
    return 'must be a text that UTF-8 has, without surrogates'
  return ''


INT32 = 2**31 - 1
"""Maximum size or count: devices compute with integers of 32 bits."""

MAX_LENGTH = 2**24
"""Maximum tokens of a sequence."""

YEAR_S = 365 * 24 * 3600
"""Maximum time to wait for something, in seconds."""


def one_of(*legal: str) -> Rule:
  """One of these strings."""

  def rule(value: Any) -> str:
    if value in legal:
      return ''
    near = did_you_mean(str(value), legal)
    return f'must be one of {", ".join(map(repr, legal))}{near}'

  return rule


def at_least(least: float, *, finite: bool = False) -> Rule:
  """A number of `least` or more; `finite` refuses infinity."""

  def rule(value: float) -> str:
    if value >= least and not (finite and value == math.inf):
      return ''
    return f'must be {least:,} or more; the nearest is {least:,}'

  return rule


def count(least: int, most: int = INT32) -> Rule:
  """A number from `least` to `most`."""

  def rule(value: int) -> str:
    if value > most:
      return f'must be {most:,} or less; the nearest is {most:,}'
    return at_least(least)(value)

  return rule


def above(bound: float, *, example: str) -> Rule:
  """A finite number above `bound`; there is no nearest one, so give an example."""
  return lambda value: (
    '' if bound < value < math.inf else f'must be above {bound:,}, as {example}'
  )


def between(low: int, high: int) -> Rule:
  """A number from `low` to `high`."""

  def rule(value: int) -> str:
    if low <= value <= high:
      return ''
    nearest = min(max(value, low), high)
    return f'must be {low} to {high}; the nearest is {nearest}'

  return rule


uint32 = between(0, 2**32 - 1)
"""A seed: an integer of 32 bits."""


def _whole(least: int) -> Rule:
  def rule(value: Any) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
      return f'must be a whole number, {least} or more'
    return at_least(least)(value)

  return rule


whole = _whole(1)
"""A whole number, 1 or more; checks the type too."""

whole_or_zero = _whole(0)
"""A whole number, 0 or more; checks the type too."""


def within(low: float, high: float) -> Rule:
  """A number from `low` to below `high`."""

  def rule(value: float) -> str:
    if low <= value < high:
      return ''
    near = f'; the nearest is {low:g}' if value < low else ''
    return f'must be {low:g} or more and below {high:g}{near}'

  return rule


def positive(value: Any) -> str:
  """A finite number above 0; checks the type too."""
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  legal = number and 0 < value < math.inf
  return '' if legal else 'must be a finite number above 0'


def fraction(value: Any) -> str:
  """A number above 0 and at most 1; checks the type too."""
  wrong = positive(value)
  if wrong:
    return wrong
  return '' if value <= 1 else 'must be above 0 and at most 1; the nearest is 1'


share = within(0, 1)
"""A number from 0 to below 1."""


FEATURES = ('inputs', 'targets')
"""Features of a task, whose lengths may be limited."""


def feature_lengths(value: Any) -> str:
  """A dict of features to their maximum tokens, or None."""
  if value is None:
    return ''
  for name, length in value.items():
    if name not in FEATURES:
      near = did_you_mean(str(name), FEATURES)
      return f'no feature {name!r}; must be {" and ".join(map(repr, FEATURES))}{near}'
    if wrong := _whole(2)(length) or count(2, MAX_LENGTH)(length):
      return f'{name!r} {wrong}'
  return ''


def lengths_above(lengths: Mapping[str, int] | None, longest: int | None) -> str:
  """Names the lengths of features that no example can have; '' for none.

  Args:
    lengths: feature -> its maximum tokens.
    longest: maximum tokens of an example; None for no maximum.
  """
  above = {n: at for n, at in (lengths or {}).items() if longest and at > longest}
  if not above:
    return ''
  names = ' and '.join(f'{name} {length:,}' for name, length in above.items())
  return f'{names}: above the {longest:,} tokens of a sequence, which are the limit'


def count_or_indices(value: int | tuple[int, ...] | list[int]) -> str:
  """A count of 1 or more, or different indices of 0 or more."""
  if isinstance(value, int):
    return count(1)(value)
  nearest = tuple(dict.fromkeys(index for index in value if index >= 0)) or (0,)
  if tuple(value) == nearest:
    return ''
  return (
    'must be a count, as 2, or a tuple of different indices from 0; the nearest is '
    f'{nearest}'
  )


def switch(value: Any) -> str:
  """True or False."""
  return '' if isinstance(value, bool) else 'must be True or False'


def folder(value: str) -> str:
  """The name of a folder."""
  return '' if value else 'must be a folder, as runs/mine'


def or_none(rule: Rule) -> Rule:
  """None, or a value that obeys `rule`."""
  return lambda value: '' if value is None else rule(value)


def each(rule: Rule) -> Rule:
  """None, or a tuple whose items all obey `rule`; names the first that does not."""

  def checked(values: Iterable[Any] | None) -> str:
    for value in values or ():
      wrong = rule(value)
      if wrong:
        return f'{shown(value)} {wrong}'
    return ''

  return checked


def nearest_divisor(number: int, to: int) -> int:
  """The divisor of `number` that is nearest to `to`."""
  divisors = (n for n in range(1, number + 1) if number % n == 0)
  return min(divisors, key=lambda n: abs(n - to))

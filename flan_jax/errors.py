"""InputError, the one exception for a user's mistake, and nearest legal values."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
  """Bad input from the user: one line, printed as it is, exit code 2.

  The message has the name, the value got, the rule, and the nearest legal value.

  Attributes:
    field: setting at fault, or None: its gin selector and field, as 'Run.keep', or a
      macro that several classes share, as 'STORE'. gin.Config.located finds by it where
      the value was given.
  """

  def __init__(self, message: str, *, field: str | None = None):
    super().__init__(message)
    self.field = field


_SPREAD = 0.3
"""A name that is less alike than the nearest by this much is no suggestion."""


def did_you_mean(got: str, legal: Iterable[str], *, max_names: int = 3) -> str:
  """Returns `; did you mean 'x' or 'y'?`, or '' if no legal name is similar."""
  near = difflib.get_close_matches(got, list(legal), n=max_names, cutoff=0.55)
  likeness = [difflib.SequenceMatcher(None, name, got).ratio() for name in near]
  near = [
    name for name, x in zip(near, likeness, strict=True) if x > likeness[0] - _SPREAD
  ]
  return f'; did you mean {" or ".join(map(repr, near))}?' if near else ''

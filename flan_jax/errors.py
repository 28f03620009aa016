"""The one exception a user's mistake raises, and the nearest legal value for it."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
  """Bad input from the user: one line, shown as it is, exit code 2.

  The message says the name, the value got, the rule, and the nearest legal value.

  Attributes:
    field: the field of a settings class that is at fault, or None. Of another class
      than the one that refuses it: with its name, as 'Lora.rank'. Who has read the
      value from somewhere says where by it.
  """

  def __init__(self, message: str, *, field: str | None = None):
    super().__init__(message)
    self.field = field


def did_you_mean(got: str, legal: Iterable[str], *, most: int = 3) -> str:
  """Returns `; did you mean 'x' or 'y'?`, or '' where nothing is near."""
  near = difflib.get_close_matches(got, list(legal), n=most, cutoff=0.55)
  return f'; did you mean {" or ".join(map(repr, near))}?' if near else ''

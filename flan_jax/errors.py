"""InputError, the one exception for a user's mistake, and nearest legal values."""

import difflib
import os
import sysconfig
import traceback
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


MAX_LINE = 1_500
"""Maximum number of characters of an error on the terminal."""


def one_line(text: str) -> str:
  """The text of an error as one line; the middle of a very long one is left out.

  The name of the setting stands at its beginning, and the rule at its end.
  """
  line = ' '.join(text.split())
  if len(line) <= MAX_LINE:
    return line
  half = (MAX_LINE - 5) // 2
  return f'{line[:half]} ... {line[-half:]}'


def raised_at(error: BaseException) -> str:
  """Returns file:line of the user's code that an error came out of.

  That is the last file of its traceback that is neither of this package nor installed,
  or the last of all.
  """
  frames = traceback.extract_tb(error.__traceback__)
  own = [frame for frame in frames if not _is_installed(frame.filename)]
  last = (own or frames)[-1]
  return f'{last.filename}:{last.lineno}'


def said(error: BaseException) -> str:
  """Describes an error of a user's function in one line."""
  text = str(error).splitlines() or ['']
  return f'{type(error).__name__}: {text[0]}'.rstrip(': ')


def said_where(error: BaseException) -> str:
  """Describes an error of a user's function, and its place, in one line."""
  return f'{said(error)} ({raised_at(error)})'


def failure(what: str, error: BaseException) -> InputError:
  """The refusal that states an error of a user's function, and its place, in one line.

  Args:
    what: name of what failed.
    error: its error.
  """
  return InputError(f'{what}: {said_where(error)}')


def _is_installed(file: str) -> bool:
  """True for a file of this package, of another one, or of Python itself."""
  folders = (os.path.dirname(__file__), sysconfig.get_path('stdlib'))
  return (
    file.startswith(('<', *(folder + os.sep for folder in folders)))
    or 'site-packages' in file
  )

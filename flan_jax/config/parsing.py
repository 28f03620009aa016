"""gin text, parsed by gin-config's own parser: macros, references, their scopes."""

import contextlib
import dataclasses
import io
import tokenize
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flan_jax.config import functions
from flan_jax.errors import InputError

MACRO = ('macro', 'gin.macro')
"""Names of the function that macros stand for, which are written out in old files."""


@dataclasses.dataclass(frozen=True)
class Macro:
  name: str


@dataclasses.dataclass(frozen=True)
class Reference:
  name: str
  scope: str
  evaluate: bool

  def __str__(self) -> str:
    called = '()' if self.evaluate else ''
    return f'@{functions.scoped(self.scope, self.name)}{called}'


class Bound(NamedTuple):
  """A value and its origin: `file:line` or `--gin.NAME`."""

  value: Any
  origin: str


def followed(bound: Bound | None, macros: Mapping[str, Bound]) -> Bound | None:
  """The end of a chain of macros: a value, None, or a macro that refers to itself."""
  seen = set[str]()
  while bound is not None and isinstance(bound.value, Macro):
    if bound.value.name in seen:
      break
    seen.add(bound.value.name)
    bound = macros.get(bound.value.name)
  return bound


@contextlib.contextmanager
def placed(origin: str) -> Iterator[None]:
  """Prefixes an error with the place of what it is about."""
  try:
    yield
  except InputError as error:
    raise InputError(f'{origin}: {error}', field=error.field) from None


def macros_in(value: Any) -> Iterator[str]:
  """Names of the macros that a parsed value refers to."""
  if isinstance(value, Macro):
    yield value.name
  elif isinstance(value, (list, tuple)):
    for item in value:
      yield from macros_in(item)
  elif isinstance(value, dict):
    for pair in value.items():
      yield from macros_in(pair)


MAX_DEPTH = 100
"""Maximum number of macros and functions in one another."""

MAX_VALUES = 100_000
"""Maximum number of values in a setting, its macros and functions written out."""


class Inside(NamedTuple):
  """Functions and macros around a value.

  Attributes:
    function: the function, in its scope; '' for none.
    scope: scope of the references among its arguments that have none of their own.
    seen: the macros and functions around it, the outermost first.
  """

  function: str = ''
  scope: str = ''
  seen: tuple[str, ...] = ()

  def enter(self, name: str, origin: str) -> 'Inside':
    """One level down.

    Raises:
      InputError: if it is around itself.
    """
    if len(self.seen) >= MAX_DEPTH:
      raise InputError(
        f'{origin}: {self.seen[0]} -> ... -> {name}: more than {MAX_DEPTH} macros and '
        'functions in one another'
      )
    if name in self.seen:
      chain = ' -> '.join((*self.seen, name))
      what = 'macro' if name.startswith('%') else 'function'
      raise InputError(f'{origin}: {chain}: a {what} must not refer to itself')
    return self._replace(seen=(*self.seen, name))


TOP = Inside()


def keys(key: str) -> list[str]:
  """`a/b/f` as it may be bound, the innermost scope first: also `a/f` and `f`."""
  scope, _, name = key.rpartition('/')
  parts = scope.split('/') if scope else []
  return [
    functions.scoped('/'.join(parts[:n]), name) for n in range(len(parts), -1, -1)
  ]


def statements(text: str, source: str, *, named: dict[str, str]) -> list[Any]:
  """Parses gin text into statements of gin-config, with our macros and references.

  Args:
    text: the text.
    source: file that it is from, or `--gin.NAME`.
    named: takes the names of the macros that the text refers to, with their source.

  Raises:
    InputError: if it is not gin; with its line.
    SyntaxError: if the text of a flag is not gin.
  """
  from gin import config_parser

  class Delegate(config_parser.ParserDelegate):
    def configurable_reference(self, scoped_configurable_name, evaluate):
      scope, _, name = scoped_configurable_name.rpartition('/')
      if scope and evaluate and name in MACRO:  # @NAME/macro(), as %NAME
        return self.macro(scope)
      return Reference(name, scope, evaluate)

    def macro(self, macro_name):
      named.setdefault(macro_name, source)
      return Macro(macro_name)

  is_flag = source.startswith('--gin.')
  try:
    found = list(config_parser.ConfigParser(text, Delegate()))
  except SyntaxError as error:
    if is_flag:
      raise
    raise InputError(f'{source}:{error.lineno}: {_reason(error)}') from None
  except tokenize.TokenError:
    raise _unclosed(text, source) from None
  except _NO_LITERAL as error:
    raise InputError(f'{source}: not gin: {_reason(error)}') from None
  if is_flag and len(found) != 1:
    raise SyntaxError('several statements')
  return found


_NO_LITERAL = (TypeError, ValueError, RecursionError, MemoryError, OverflowError)
"""Errors of Python's own parser at text that is none of its literals."""


def _reason(error: Exception) -> str:
  """Says why a text is no gin, in words of gin rather than of Python's parser."""
  text = str(getattr(error, 'msg', error)).partition('\n')[0]
  if isinstance(error, (RecursionError, MemoryError)):
    return 'too many levels of brackets'
  if text.startswith('malformed node'):
    return "no literal, macro or reference; a text needs quotes, as in 'text'"
  return text or 'not gin'


def _unclosed(text: str, source: str) -> Exception:
  """The refusal of text that ends inside brackets or quotes; names what opened them.

  A flag's text that does not begin with them may be meant as it is.
  """
  line, opened, error = 1, list[tuple[int, str]](), ''
  try:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
      line = token.end[0]
      if token.string in ('(', '[', '{'):
        opened.append((line, repr(token.string)))
      elif token.string in (')', ']', '}') and opened:
        opened.pop()
  except (tokenize.TokenError, SyntaxError) as found:
    error = str(found.args[0])
    line = found.args[1][0] if 'string' in error else line
  wrong = 'a quote is never closed' if 'string' in error else error
  if opened and 'EOF in multi-line statement' in error:
    line, what = opened[0]
    wrong = f'{what} is never closed'
  if not source.startswith('--gin.'):
    return InputError(f'{source}:{line}: {wrong}')
  value = text.partition('=')[2].strip()
  if value.startswith(('(', '[', '{', '@', "'''", '"""')):
    return InputError(f'{source}: got {value!r}; {wrong}')
  return SyntaxError(wrong)

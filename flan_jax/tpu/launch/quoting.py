"""Quoting of values in scripts and manifests: no value can leave its place.

A command becomes one line of plain ASCII, whatever its words hold, so that it stands in
a shell script, in YAML and in a template of another program alike. Standard library
only.
"""

import re
import shlex
from collections.abc import Iterable, Sequence

from flan_jax.errors import InputError

MAX_LENGTH = 100_000
"""Limit on the length of a quoted command; Linux passes 131,071 bytes at most."""

_PLAIN = re.compile(r'[A-Za-z0-9%+,./:=@_-]+')
_KEPT = frozenset(
  'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'
  ' %+,-./:=@_()[]<>;&|*?~#^'
)
"""Characters that mean themselves inside $'...', in YAML and in Kubernetes."""


def command_line(words: Sequence[str]) -> str:
  """Quotes a command for bash, as one line of printable ASCII."""
  return ' '.join(map(_word, words))


def _word(text: str) -> str:
  if _PLAIN.fullmatch(text):
    return text
  pieces = (
    character if character in _KEPT else _escaped(character) for character in text
  )
  return f"$'{''.join(pieces)}'"


def _escaped(character: str) -> str:
  """A character by its UTF-8 bytes, each of three octal digits: valid in any locale."""
  if character in "'\\":
    return f'\\{character}'
  return ''.join(f'\\{byte:03o}' for byte in character.encode())


def check(words: Iterable[str]) -> None:
  """Refuses words that cannot be passed to a program on another machine.

  Raises:
    InputError: if one has a zero byte or is not Unicode, or all are too long.
  """
  words = list(words)
  for word in words:
    if '\0' in word or not is_unicode(word):
      raise InputError(
        f'launch: the word {word[:80]!a} of the command has '
        f'{"a zero byte" if chr(0) in word else "bytes that are not UTF-8"}; must be '
        'Unicode text'
      )
  length = len(shlex.quote(command_line(words)))
  if length > MAX_LENGTH:
    raise InputError(
      f'launch: the command has {length:,} characters when quoted; at most '
      f'{MAX_LENGTH:,} can be passed: put settings into a gin file'
    )


def is_unicode(text: str) -> bool:
  """Returns False for text with lone surrogates, as arguments of other bytes have."""
  try:
    text.encode()
  except UnicodeEncodeError:
    return False
  return True


def comment(text: str) -> str:
  """A comment of a shell script or of YAML: one line, whatever the text is."""
  return f'# {"".join(c if c.isprintable() else "?" for c in text)}'


def echoed(lines: Iterable[str]) -> str:
  """Words of a shell that write the lines: `printf '%s\\n' LINE ...`."""
  return ' '.join(["printf '%s\\n'", *map(shlex.quote, lines)])

"""Input files from elsewhere: opened as plain files, read within bounds.

A FIFO or a device is refused, and never waited for. JSON has bounds on its depth and on
the digits of a number, so that no later step meets a value that Python, JAX or JSON
itself cannot take. A file that has checksums beside it (`checksums`) is checked against
them. Standard library only.
"""

import json
import math
import os
import pathlib
import re
import stat
from collections.abc import Iterable, Mapping
from typing import IO, Any

from flan_jax.errors import InputError
from flan_jax.runtime import checksums

MAX_BYTES = 1 << 29
"""Maximum size of a file that is read as a whole; a large tokenizer.json has 2^25."""

MAX_DEPTH = 100
"""Maximum depth of lists and objects in JSON."""

MAX_DIGITS = 300
"""Maximum digits of an integer in JSON: more are no float."""

_TOO_DEEP = f'deeper than {MAX_DEPTH} lists and objects'
_LONG = re.compile(rf'[0-9]{{{MAX_DIGITS + 1}}}')


class NotJson(ValueError):
  """Says in a line why a text is not JSON, or not within the bounds."""


def opened(path: str | os.PathLike) -> IO[bytes]:
  """Opens a plain file, or a link to one, to read its bytes.

  Raises:
    InputError: if it is a FIFO, a device or a socket.
    OSError: if it cannot be opened.
  """
  check_plain(path)
  descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
  try:
    _check_mode(path, os.fstat(descriptor).st_mode)
  except InputError:
    os.close(descriptor)
    raise
  return open(path, 'rb', opener=lambda *_: descriptor)  # a folder: OSError


def check_plain(path: str | os.PathLike) -> None:
  """Checks that a path, if it exists, is a file or a folder, or a link to one.

  Raises:
    InputError: if it is a FIFO, a device or a socket.
  """
  try:
    mode = os.stat(path).st_mode
  except OSError:
    return
  _check_mode(path, mode)


def _check_mode(path: str | os.PathLike, mode: int) -> None:
  if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
    kind = {stat.S_IFIFO: 'a FIFO', stat.S_IFSOCK: 'a socket'}
    found = kind.get(stat.S_IFMT(mode), 'a device')
    raise InputError(f'{os.fspath(path)}: is {found}; must be a file')


def read_bytes(path: str | os.PathLike, *, max_bytes: int = MAX_BYTES) -> bytes:
  """Reads a whole file.

  Raises:
    InputError: if it is no plain file, has more than `max_bytes`, or is damaged.
  """
  with opened(path) as file:
    size = os.fstat(file.fileno()).st_size
    found = b'' if size > max_bytes else file.read()
  if max(size, len(found)) > max_bytes:
    raise InputError(
      f'{os.fspath(path)}: has {size:,} bytes; must be {max_bytes:,} at most'
    )
  path = pathlib.Path(path)
  if (known := checksums.of(path.parent)) is not None:
    known.check(path.name, found)
  return found


def read_text(path: str | os.PathLike, *, max_bytes: int = MAX_BYTES) -> str:
  """Reads a whole text.

  Raises:
    InputError: if it is not UTF-8; or as `read_bytes`.
  """
  try:
    return read_bytes(path, max_bytes=max_bytes).decode('utf-8')
  except UnicodeDecodeError as error:
    raise InputError(f'{os.fspath(path)}: not text in UTF-8 ({error})') from None


def read_object(path: str | os.PathLike, *, finite: bool = False) -> dict[str, Any]:
  """Reads a JSON object.

  Args:
    path: the file.
    finite: whether to refuse NaN and Infinity.

  Raises:
    InputError: if the file holds anything else, or more than the bounds.
  """
  path = pathlib.Path(path)
  text = read_text(path)
  try:
    value = parse(text, finite=finite)
    if '\\u' in text:
      _check_unicode(value)
  except NotJson as error:
    raise InputError(f'{path}: not readable as JSON ({error})') from None
  if not isinstance(value, dict):
    raise InputError(f'{path}: got {value!r:.40}; must be a JSON object')
  return value


def parse(text: str | bytes, *, finite: bool = False) -> Any:
  """Parses JSON within the bounds.

  Args:
    text: the text.
    finite: whether to refuse NaN and Infinity.

  Raises:
    NotJson: if it is no JSON, or exceeds the bounds.
  """
  try:
    text = text.decode('utf-8') if isinstance(text, bytes) else text
  except UnicodeDecodeError as error:
    raise NotJson(f'not text in UTF-8: {error}') from None
  try:
    value, end = parse_next(text, len(text) - len(text.lstrip()))
    if rest := text[end:].strip():
      raise NotJson(f'{rest[:20]!r} after its end')
  except json.JSONDecodeError as error:
    raise NotJson(str(error)) from None
  if finite and not _is_finite(value):
    raise NotJson('NaN or Infinity; numbers must be finite')
  return value


def parse_next(
  text: str, position: int, decoder: json.JSONDecoder | None = None
) -> tuple[Any, int]:
  """Parses the JSON value that begins at `position`: (value, its end).

  Args:
    text: the text.
    position: first character of the value.
    decoder: decoder to use; None for that of `json.loads`.

  Raises:
    json.JSONDecodeError: if the text is not JSON there.
    NotJson: if it exceeds the bounds.
  """
  try:
    value, end = (decoder or _DECODER).raw_decode(text, position)
  except (json.JSONDecodeError, NotJson):
    raise
  except RecursionError:
    raise NotJson(_TOO_DEEP) from None
  except ValueError:  # an integer that Python refuses to convert
    raise NotJson(_too_long(text)) from None
  whole = position == 0 and end == len(text)
  _check_bounds(text if whole else text[position:end], value)
  return value, end


_DECODER = json.JSONDecoder()


def _too_long(text: str) -> str:
  longest = max(map(len, re.findall('[0-9]+', text)))
  return f'a number of {longest:,} digits; must have {MAX_DIGITS} at most'


def _check_bounds(text: str, value: Any) -> None:
  """Checks the depth and the integers of parsed JSON; quick if the text shows none."""
  if _LONG.search(text):
    _STRICT.raw_decode(text)
  if text.count('[') + text.count('{') <= MAX_DEPTH:
    return
  level, depth = [value], 0
  while level:
    depth += 1
    if depth > MAX_DEPTH + 1:
      raise NotJson(_TOO_DEEP)
    found = (child for parent in level for child in _children(parent))
    level = [child for child in found if isinstance(child, (dict, list))]


def _integer(digits: str) -> int:
  if len(digits.lstrip('-')) > MAX_DIGITS:
    raise NotJson(_too_long(digits))
  return int(digits)


_STRICT = json.JSONDecoder(parse_int=_integer)


def _children(value: Any) -> Iterable[Any]:
  if isinstance(value, dict):
    return value.values()
  return value if isinstance(value, (list, tuple)) else ()


def _is_finite(value: Any) -> bool:
  left = [value]
  while left:
    value = left.pop()
    if isinstance(value, float) and not math.isfinite(value):
      return False
    left += _children(value)
  return True


def _check_unicode(value: Mapping[str, Any] | Any) -> None:
  try:
    json.dumps(value, ensure_ascii=False).encode('utf-8')
  except UnicodeEncodeError as error:
    raise NotJson(f'half of a surrogate pair, {error.object[error.start]!r}') from None

"""Bookkeeping as JSON Lines: a damaged line is skipped with a warning.

It stops nothing. A line without an end was torn by a kill, and is skipped without a
word. Standard library only.
"""

import os
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from flan_jax.runtime import input_file

_T = TypeVar('_T')
_warned: set[str] = set()


def read(
  path: str | os.PathLike, take: Callable[[dict[str, Any]], _T] = dict
) -> list[_T]:
  """Reads the lines of a file, each a JSON object; [] if there is no file.

  Args:
    path: the file.
    take: object -> what is returned of it. If it raises KeyError, TypeError, ValueError
      or AttributeError, the line is damaged.
  """
  return [taken for _, taken in lines(path, take)]


def lines(
  path: str | os.PathLike, take: Callable[[dict[str, Any]], _T] = dict
) -> list[tuple[str, _T]]:
  """Like `read`, with the text of each line, without its end."""
  path = pathlib.Path(path)
  if not path.is_file():
    return []
  *whole, torn = path.read_bytes().split(b'\n')
  out, damaged = [], 0
  for number, line in enumerate([*whole, torn]):
    try:
      entry = input_file.parse(line)
      if not isinstance(entry, dict):
        raise TypeError(entry)
      out.append((line.decode('utf-8'), take(entry)))
    except (KeyError, TypeError, ValueError, AttributeError):
      damaged += number < len(whole)
  if damaged:
    warn(path, f'{damaged:,} damaged lines are skipped')
  return out


def read_object(path: pathlib.Path) -> dict[str, Any]:
  """Reads a file with one JSON object; {} and a warning if it is damaged."""
  try:
    return input_file.read_object(path)
  except (OSError, ValueError):
    warn(path, 'is damaged and not read')
    return {}


def number(value: Any) -> float:
  """The value itself, if it is a number.

  Raises:
    TypeError: if it is not.
  """
  if isinstance(value, bool) or not isinstance(value, (int, float)):
    raise TypeError(value)
  return value


def step(entry: Mapping[str, Any]) -> int:
  """The `step` of a line.

  Raises:
    KeyError, TypeError: if it has none.
  """
  if type(entry['step']) is not int:
    raise TypeError(entry['step'])
  return entry['step']


def warn(path: pathlib.Path, what: str) -> None:
  """Prints a line about a file, once in a process."""
  text = f'{path}: {what}'
  if text not in _warned:
    _warned.add(text)
    print(f'            {text}', file=sys.stderr, flush=True)

"""Files of prompts: JSON Lines, CSV, Parquet or plain text, and standard input."""

import io
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from flan_jax.catalog.fields import not_unicode
from flan_jax.data.sources import file_task
from flan_jax.data.sources.files import Files, Json, Lines
from flan_jax.errors import InputError

STANDARD_INPUT = '-'

COLUMNS = ('prompt', 'inputs')
"""Columns that hold the prompt; the first that a row has."""

FORMATS: dict[str, type[Files]] = {**file_task.FORMATS, '.txt': Lines}


class Asked(NamedTuple):
  """One prompt of a file.

  Attributes:
    prompt: its text.
    options: its options; () to generate the answer.
    row: all columns of the row.
    place: place in the file, for `Prompts.where`.
    example_id: its `example_id`, or its number, from 0.
  """

  prompt: str
  options: tuple[str, ...]
  row: Mapping[str, Any]
  place: str
  example_id: str


class Prompts:
  """The prompts of a file, or of several by a pattern.

  Attributes:
    size: number of prompts.
    where: names the line of a prompt, as `prompts.jsonl:3`, by its place.
  """

  def __init__(
    self,
    size: int,
    records: Callable[[], Iterable[tuple[str, Mapping[str, Any]]]],
    where: Callable[[str], str],
  ):
    self.size = size
    self.where = where
    self._records = records

  def __iter__(self) -> Iterator[Asked]:
    """Yields each prompt.

    Raises:
      InputError: at a row without a prompt, or with options that are no texts.
    """
    for number, (place, row) in enumerate(self._records()):
      column = next((name for name in COLUMNS if name in row), None)
      if column is None:
        raise InputError(
          f'{self.where(place)}: no column {" or ".join(map(repr, COLUMNS))}; has '
          f'{", ".join(map(str, row))}',
          field='PROMPTS',
        )
      prompt, options = row[column], row.get('options')
      options = [] if options is None else options
      if not isinstance(prompt, str):
        raise self._refused(place, column, prompt, 'a text')
      if not isinstance(options, list) or not all(map(_is_text, options)):
        raise self._refused(place, 'options', options, 'a list of texts, none empty')
      if wrong := not_unicode(json.dumps(row, ensure_ascii=False, default=str)):
        raise InputError(f'{self.where(place)}: {wrong}', field='PROMPTS')
      example_id = str(row.get('example_id', number))
      yield Asked(prompt, tuple(options), row, place, example_id)

  def _refused(self, place: str, column: str, got: Any, rule: str) -> InputError:
    return InputError(
      f'{self.where(place)}: {column}: got {got!r:.40}; must be {rule}',
      field='PROMPTS',
    )


def _is_text(value: Any) -> bool:
  return isinstance(value, str) and bool(value)


def read(path: str) -> Prompts:
  """Opens a file of prompts.

  Raises:
    InputError: if it is absent or has no prompt, or its format is unknown.
  """
  suffixes = [s for s in pathlib.PurePath(path).suffixes if s != '.gz']
  kind = FORMATS.get(suffixes[-1]) if suffixes else None
  if kind is None:
    raise InputError(
      f'PROMPTS {path!r}: must end in {", ".join(FORMATS)}, or be - for standard input',
      field='PROMPTS',
    )
  source = kind({'prompts': path}, folder=os.getcwd())
  size = source.sizes()['prompts']
  if not size:
    raise InputError(f'PROMPTS {path!r}: has no prompt', field='PROMPTS')
  return Prompts(size, lambda: source.records('prompts'), source.where)


def read_text(text: str) -> Prompts:
  """Takes prompts from a text: JSON Lines if it begins with an object, else one a line.

  Raises:
    InputError: if it has no prompt.
  """
  kind = Json if text.lstrip().startswith('{') else Lines
  rows = [
    (f'standard input:{number}', row)
    for number, row in kind.parsed(io.StringIO(text), 'standard input')
  ]
  if not rows:
    raise InputError("PROMPTS '-': standard input has no prompt", field='PROMPTS')
  return Prompts(len(rows), lambda: rows, lambda place: place)

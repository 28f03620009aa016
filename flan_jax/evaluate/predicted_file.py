"""Files of predictions in JSON Lines or Parquet, each written whole or not at all."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, multihost

Write = Callable[[Mapping[str, Any]], None]


def path(out: pathlib.Path, kind: str) -> pathlib.Path:
  """The file of a format, 'jsonl' or 'parquet', in a folder."""
  return out / f'predictions.{kind}'


@contextlib.contextmanager
def writing(out: pathlib.Path, kind: str) -> Iterator[Write]:
  """Yields a function that writes one prediction; only the main process writes.

  Raises:
    InputError: if Parquet is asked for and not installed, or a column has values of
      several types.
  """
  if not multihost.is_main_process():
    yield lambda record: None
  elif kind == 'jsonl':
    with atomic_file.writing(path(out, kind)) as file:
      yield lambda record: _line(file, record)
  else:
    parquet = _parquet()
    rows: list[Mapping[str, Any]] = []
    yield rows.append
    _write_parquet(parquet, [_columns(row) for row in rows], path(out, kind))


def _line(file, record: Mapping[str, Any]) -> None:
  file.write(json.dumps(record, ensure_ascii=False) + '\n')


def _columns(record: Mapping[str, Any]) -> dict[str, Any]:
  """A prediction whose columns have one type: options are given by their texts."""
  if not record.get('options'):
    return dict(record)
  options = record['options']
  texts = {
    name: [options[i] for i in record[name]]
    for name in ('gold', 'tied')
    if record.get(name) and not isinstance(record[name][0], str)
  }
  best = record['predicted']
  return {**record, **texts, 'predicted': None if best is None else options[best]}


def _write_parquet(library, rows: list[dict[str, Any]], path: pathlib.Path) -> None:
  import pyarrow

  names = dict.fromkeys(name for row in rows for name in row)
  columns = {}
  for name in names:
    try:
      columns[name] = pyarrow.array([row.get(name) for row in rows])
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
      raise InputError(
        f"FORMAT 'parquet': column {name!r} has values of several types; 'jsonl' keeps "
        'them',
        field='FORMAT',
      ) from None
  with atomic_file.replacing(path) as draft:
    library.write_table(pyarrow.table(columns), draft)


def _parquet():
  try:
    from pyarrow import parquet
  except ModuleNotFoundError as error:
    raise InputError(
      f"FORMAT 'parquet': module {error.name!r} is not installed; pip install "
      "'flan_jax[parquet]', or FORMAT='jsonl'",
      field='FORMAT',
    ) from None
  return parquet

"""Files of an export: JSON Lines, Parquet, or a dataset saved by `datasets`.

A format writes one file of blocks of columns; the same blocks give the same bytes.
"""

import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flan_jax.data.exported import COLUMNS, MESSAGES, Block
from flan_jax.errors import InputError

Write = Callable[[pathlib.Path, Iterable[Block], bool], int]
"""write(path, blocks, chat) writes a file; returns the number of its examples."""


def json_lines(path: pathlib.Path, blocks: Iterable[Block], chat: bool) -> int:
  """Writes one JSON object an example."""
  count = 0
  encode = json.JSONEncoder(ensure_ascii=False).encode
  with path.open('w', encoding='utf-8', newline='\n') as file:
    for block in blocks:
      names = tuple(block)
      records = zip(*block.values(), strict=True)
      lines = [encode(dict(zip(names, values, strict=True))) for values in records]
      file.write('\n'.join(lines) + '\n')
      count += len(lines)
  return count


def _pyarrow() -> Any:
  try:
    import pyarrow
  except ModuleNotFoundError:
    raise InputError(
      "module 'pyarrow': not installed; Parquet needs it: pip install "
      "'flan_jax[parquet]'"
    ) from None
  return pyarrow


def _schema(chat: bool) -> Any:
  pyarrow = _pyarrow()
  text = pyarrow.string()
  types = {'string': text, 'int32': pyarrow.int32(), 'list': pyarrow.list_(text)}
  fields = {name: types[kind] for name, kind in COLUMNS.items()}
  if chat:
    fields[MESSAGES] = pyarrow.list_(pyarrow.struct({'role': text, 'content': text}))
  return pyarrow.schema(list(fields.items()))


def parquet(path: pathlib.Path, blocks: Iterable[Block], chat: bool) -> int:
  """Writes Parquet, compressed with zstd; a block is a row group."""
  pyarrow = _pyarrow()
  from pyarrow import parquet as parquet_lib

  count = 0
  schema = _schema(chat)
  with parquet_lib.ParquetWriter(path, schema, compression='zstd') as writer:
    for block in blocks:
      writer.write_table(pyarrow.table(block, schema=schema))
      count += len(block['inputs'])
  return count


FORMATS: dict[str, tuple[str, Write]] = {
  'jsonl': ('.jsonl', json_lines),
  'parquet': ('.parquet', parquet),
}
"""Format -> (suffix of its files, what writes one)."""


def shard_name(split: str, number: int, total: int, suffix: str) -> str:
  """Name of a file as on the hub: `train-00000-of-00004.jsonl`."""
  return f'{split}-{number:05d}-of-{total:05d}{suffix}'


def splits_of(shards: Sequence[pathlib.Path]) -> list[str]:
  """Splits that the files are of, in order."""
  return list(dict.fromkeys(path.name.partition('-')[0] for path in shards))

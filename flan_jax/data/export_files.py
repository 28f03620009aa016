"""Files of an export: JSON Lines, Parquet, or a dataset saved by `datasets`.

A format writes one file of blocks of columns; the same blocks give the same bytes.
"""

import itertools
import json
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from flan_jax.data.exported import COLUMNS, MESSAGES, Block
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file

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
  types = {'string': text, 'int64': pyarrow.int64(), 'list': pyarrow.list_(text)}
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


def arrow(path: pathlib.Path, blocks: Iterable[Block], chat: bool) -> int:
  """Writes an Arrow stream, which `saved` turns into a dataset."""
  pyarrow = _pyarrow()
  count = 0
  schema = _schema(chat)
  with (
    pyarrow.OSFile(str(path), 'wb') as file,
    pyarrow.ipc.new_stream(file, schema) as writer,
  ):
    for block in blocks:
      writer.write_table(pyarrow.table(block, schema=schema))
      count += len(block['inputs'])
  return count


def _datasets() -> Any:
  try:
    import datasets
  except ModuleNotFoundError:
    raise InputError(
      "--format 'hf': module 'datasets': not installed; pip install "
      "'flan_jax[datasets]', or give --format parquet, which it reads too"
    ) from None
  return datasets


def save_with_datasets(folder: pathlib.Path, name: str, fingerprint: str) -> None:
  """Turns the Arrow streams of FOLDER/data into a dataset in FOLDER.

  Args:
    folder: folder of the export.
    name: name of the dataset.
    fingerprint: identifies the content, so that it does not depend on paths and times.
  """
  library = _datasets()
  info = library.DatasetInfo(description=name)
  library.disable_progress_bars()
  whole, shards = library.DatasetDict(), {}
  source = folder / 'data'
  for split, paths in by_split(source).items():
    parts = [library.Dataset.from_file(str(path)) for path in paths]
    joined = library.concatenate_datasets(parts)
    whole[split] = library.Dataset(
      joined.data, info=info, split=library.NamedSplit(split),
      fingerprint=f'{fingerprint[:16]}-{split}',
    )  # fmt: skip
    shards[split] = len(paths)
  whole.save_to_disk(str(folder), num_shards=shards)
  del whole
  shutil.rmtree(source)


class Format(NamedTuple):
  """A format of exports.

  Attributes:
    suffix: suffix of its files.
    write: writes one file.
    check: raises InputError if a library is not installed.
    finish: called at the end with (folder of the export, name, fingerprint).
  """

  suffix: str
  write: Write
  check: Callable[[], Any] = lambda: None
  finish: Callable[[pathlib.Path, str, str], None] = lambda *_: None


FORMATS: dict[str, Format] = {
  'jsonl': Format('.jsonl', json_lines),
  'parquet': Format('.parquet', parquet, _pyarrow),
  'hf': Format('.arrow', arrow, _datasets, save_with_datasets),
}

HUB_SPLITS = {'train': 'train', 'dev': 'validation', 'test': 'test'}
"""Our split -> its name on the hub, which names the files."""


def file_name(split: str, number: int, total: int, suffix: str) -> str:
  """Name of a file as on the hub: `train-00000-of-00004.jsonl`."""
  return f'{HUB_SPLITS[split]}-{number:05d}-of-{total:05d}{suffix}'


def by_split(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Hub's name of a split -> its files in a folder, in order."""
  found: dict[str, list[pathlib.Path]] = {name: [] for name in HUB_SPLITS.values()}
  for path in sorted(folder.iterdir()):
    found[path.name.partition('-')[0]].append(path)
  return {name: paths for name, paths in found.items() if paths}


def write_shards(
  folder: pathlib.Path,
  split: str,
  blocks: Iterable[Block],
  *,
  format: Format,
  chat: bool,
  size: int,
) -> None:
  """Writes the files of a split whose number of examples is not known before.

  Args:
    folder: folder of the files.
    split: `train`, `dev` or `test`.
    blocks: the examples.
    format: the format.
    chat: whether the blocks have chats.
    size: maximum number of examples of a file.
  """
  made = []
  for number, part in itertools.groupby(_numbered(blocks, size), lambda one: one[0]):
    path = folder / f'{split}.{number}'
    format.write(path, (block for _, block in part), chat)
    made.append(path)
  for number, path in enumerate(made):
    name = file_name(split, number, len(made), format.suffix)
    atomic_file.move(path, folder / name)


def _numbered(blocks: Iterable[Block], size: int) -> Iterator[tuple[int, Block]]:
  """Yields (number of the file, block), with blocks cut at the ends of files."""
  done = 0
  for block in blocks:
    start, count = 0, len(block['inputs'])
    while start < count:
      stop = min(count, start + size - done % size)
      cut = {name: values[start:stop] for name, values in block.items()}
      yield done // size, cut
      done += stop - start
      start = stop

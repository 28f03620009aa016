"""Shard: one epoch of one dataset, rendered and tokenized. Two files:

  DATASET.EPOCH.array_record   one record per row
  DATASET.EPOCH.index.npy      int32 [examples, 2], tokens of inputs and of targets

The record file has a hash for every record, so damage is found at the examples it hit.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import msgpack
import numpy as np
from array_record.python import array_record_module

from flan_jax.data.batch import TokenizedExample
from flan_jax.runtime import atomic_file

_WRITER = 'group_size:1'
"""One record a group: any of them is read without its neighbors."""
_READER = 'readahead_buffer_size:0,max_parallelism:0'

DAMAGE = (RuntimeError, OSError, EOFError, IndexError, ValueError, TypeError)
"""What reading a damaged shard raises: array_record and msgpack have no one class."""


class Record(NamedTuple):
  """One rendered example.

  Attributes:
    example: its token ids.
    template: index of the template that put it into words.
    example_id: names the row of the raw data.
    epoch: which epoch it was rendered for.
    options: what a classification chooses from; empty for free text.
    exemplars: row ids of what is shown before it; empty for zero-shot.
  """

  example: TokenizedExample
  template: int
  example_id: str
  epoch: int
  options: tuple[str, ...]
  exemplars: tuple[str, ...] = ()


def pack_record(record: Record) -> bytes:
  """A record as it stands in the shard: msgpack, token ids as little-endian int32."""
  inputs, targets = (np.asarray(ids, '<i4').tobytes() for ids in record.example)
  fields = (inputs, targets, record.template, record.example_id, record.epoch)
  shown = (record.exemplars,) if record.exemplars else ()
  return msgpack.packb((*fields, record.options, *shown))


def unpack_record(data: bytes) -> Record:
  inputs, targets, *fields = msgpack.unpackb(data)
  template, example_id, epoch, options, *shown = fields
  example = TokenizedExample(
    np.frombuffer(inputs, '<i4'), np.frombuffer(targets, '<i4')
  )
  return Record(example, template, example_id, epoch, tuple(options), tuple(*shown))


def records_file(dataset: str, epoch: int) -> str:
  return f'{dataset}.{epoch:02d}.array_record'


def index_file(dataset: str, epoch: int) -> str:
  return f'{dataset}.{epoch:02d}.index.npy'


class ShardWriter:
  """Writes one shard; deterministic to the byte.

  Both files appear under their names when the shard is closed, not before.

  Attributes:
    index: (input tokens, target tokens) of each record so far.
  """

  def __init__(self, folder: pathlib.Path, dataset: str, epoch: int):
    names = records_file(dataset, epoch), index_file(dataset, epoch)
    self._drafts = [atomic_file.Draft(folder / name) for name in names]
    self._writer = array_record_module.ArrayRecordWriter(
      str(self._drafts[0].path), _WRITER
    )
    self._digest = hashlib.sha256()
    self.index: list[tuple[int, int]] = []

  def write(self, record: Record) -> None:
    data = pack_record(record)
    self._writer.write(data)
    self._digest.update(data)
    self.index.append(tuple(map(len, record.example)))

  def close(self) -> str:
    """Finishes both files; returns the digest (hex) of what they hold.

    Raises:
      OSError: if they cannot be written to the end; then neither is there.
    """
    try:
      self._writer.close()
    except RuntimeError as error:
      raise OSError(str(error).splitlines()[0]) from None
    with self._drafts[1].path.open('wb') as file:
      np.save(file, np.array(self.index, np.int32).reshape(-1, 2))
    for draft in self._drafts:
      draft.keep()
    return self._digest.hexdigest()

  def abandon(self) -> None:
    """Lets go of the files after a failure; after `close` there is nothing to do."""
    try:
      if self._writer.is_open():
        self._writer.close()
    except RuntimeError:
      pass  # the failure that it is abandoned for is on its way up
    finally:
      for draft in self._drafts:
        draft.discard()


class ShardReader:
  """Random access to the records of one shard, from several threads."""

  def __init__(self, folder: pathlib.Path, dataset: str, epoch: int):
    path = folder / records_file(dataset, epoch)
    self._reader = array_record_module.ArrayRecordReader(str(path), _READER)

  def __len__(self) -> int:
    return self._reader.num_records()

  def data(self, examples: Sequence[int]) -> list[bytes]:
    """The packed records of `examples`. Raises one of DAMAGE if they cannot be read."""
    return self._reader.read([int(row) for row in examples])

  def records(self, examples: Sequence[int]) -> list[Record]:
    """The records of `examples`. Raises one of DAMAGE if they cannot be read."""
    return [unpack_record(data) for data in self.data(examples)]


def read_index(folder: pathlib.Path, dataset: str, epoch: int) -> np.ndarray:
  """int32 [examples, 2]: tokens of inputs and of targets."""
  return np.load(folder / index_file(dataset, epoch))


def lost(folder: pathlib.Path, dataset: str, epoch: int, examples: int) -> list[int]:
  """The examples of a shard of `examples` examples that cannot be read any more."""
  try:
    reader = ShardReader(folder, dataset, epoch)
    if len(reader) != examples:
      return list(range(examples))
  except DAMAGE:
    return list(range(examples))
  out = []
  for row in range(examples):
    try:
      reader.records([row])
    except DAMAGE:
      out.append(row)
  return out


def digest(folder: pathlib.Path, dataset: str, epoch: int) -> str | None:
  """The digest of a shard as `ShardWriter.close` gave it; None where it is damaged.

  The index is part of it: one that does not fit its records is damage too.
  """
  try:
    reader = ShardReader(folder, dataset, epoch)
    index = read_index(folder, dataset, epoch)
    found = hashlib.sha256()
    sizes = []
    for row in range(len(reader)):
      (data,) = reader.data([row])
      found.update(data)
      sizes.append(tuple(map(len, unpack_record(data).example)))
  except DAMAGE:
    return None
  whole = np.array_equal(np.array(sizes, np.int32).reshape(-1, 2), index)
  return found.hexdigest() if whole else None


def spans(examples: Sequence[int], *, most: int = 6) -> str:
  """Example numbers for a reader: `3, 7-9`; the first `most` spans of them."""
  # Neighbors have the same distance from their place in the list.
  runs = [
    [row for _, row in run]
    for _, run in itertools.groupby(enumerate(examples), lambda one: one[1] - one[0])
  ]
  text = [f'{run[0]}-{run[-1]}' if len(run) > 1 else f'{run[0]}' for run in runs[:most]]
  return ', '.join(text + ['...'] * (len(runs) > most))

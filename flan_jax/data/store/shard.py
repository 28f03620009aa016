"""Shard: one epoch of one dataset, rendered and tokenized. Two files:

  DATASET.EPOCH.array_record   one record per example
  DATASET.EPOCH.index.npy      int32 [n, 2], number of input and of target tokens; of
                               conversations [n, 3] (`Conversation.counts`)

The record file has a hash for every record, so damage is traced to single examples.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Sequence
from typing import NamedTuple, cast

import array_record.python.array_record_module as array_record_module
import msgpack
import numpy as np

from flan_jax.data.batch import Conversation, Packable, TokenizedExample
from flan_jax.runtime import atomic_file

_WRITER = 'group_size:1'
"""One record per group: each is read without its neighbors."""
_READER = 'readahead_buffer_size:0,max_parallelism:0'

DAMAGE = (RuntimeError, OSError, EOFError, IndexError, ValueError, TypeError)
"""Errors of reading a damaged shard: array_record and msgpack have no common class."""


class StoredExample(NamedTuple):
  """One rendered example, as a shard stores it.

  Attributes:
    tokens: token ids of inputs and targets, or of a conversation.
    template: index of the template that it was rendered with.
    example_id: id of the example in the raw data.
    epoch: epoch that it was rendered for.
    options: answer options of a classification; empty for free text.
    exemplars: ids of the few-shot exemplars before it; empty for zero-shot.
  """

  tokens: Packable
  template: int
  example_id: str
  epoch: int
  options: tuple[str, ...]
  exemplars: tuple[str, ...] = ()


def encode(example: StoredExample) -> bytes:
  """Encodes a record of the shard: msgpack, token ids as little-endian int32.

  A conversation has a list of its spans with a loss in place of the targets.
  """
  tokens = example.tokens
  first = np.asarray(tokens[0], '<i4').tobytes()
  if isinstance(tokens, Conversation):
    second = tokens.spans()
  else:
    second = np.asarray(tokens.targets, '<i4').tobytes()
  fields = (first, second, example.template, example.example_id, example.epoch)
  shown = (example.exemplars,) if example.exemplars else ()
  return cast(bytes, msgpack.packb((*fields, example.options, *shown)))


def decode(data: bytes) -> StoredExample:
  """Decodes a record; the inverse of `encode`."""
  first, second, *fields = msgpack.unpackb(data)
  template, example_id, epoch, options, *shown = fields
  ids = np.frombuffer(first, '<i4')
  if isinstance(second, list):
    loss = np.zeros(len(ids), bool)
    for start, stop in second:
      loss[start:stop] = True
    tokens = Conversation(ids, loss)
  else:
    tokens = TokenizedExample(ids, np.frombuffer(second, '<i4'))
  return StoredExample(
    tokens, template, example_id, epoch, tuple(options), tuple(*shown)
  )


def records_file(dataset: str, epoch: int) -> str:
  return f'{dataset}.{epoch:02d}.array_record'


def index_file(dataset: str, epoch: int) -> str:
  return f'{dataset}.{epoch:02d}.index.npy'


def files(dataset: str, epoch: int) -> tuple[str, str]:
  """Names of the two files of a shard."""
  return records_file(dataset, epoch), index_file(dataset, epoch)


class ShardWriter:
  """Writes one shard; deterministic to the byte.

  Both files appear under their names only when the shard is closed.

  Attributes:
    index: the `counts` of each example so far.
  """

  def __init__(self, folder: pathlib.Path, dataset: str, epoch: int):
    self._drafts = [atomic_file.Draft(folder / name) for name in files(dataset, epoch)]
    self._writer = array_record_module.ArrayRecordWriter(
      str(self._drafts[0].path), _WRITER
    )
    self._digest = hashlib.sha256()
    self.index: list[tuple[int, ...]] = []

  def write(self, example: StoredExample) -> None:
    data = encode(example)
    self._writer.write(data)
    self._digest.update(data)
    self.index.append(example.tokens.counts)

  def close(self) -> str:
    """Finishes both files; returns the digest (hex) of their content.

    Raises:
      OSError: if a file cannot be written; then neither appears.
    """
    try:
      self._writer.close()
    except RuntimeError as error:
      raise OSError(str(error).splitlines()[0]) from None
    with self._drafts[1].path.open('wb') as file:
      np.save(file, _array(self.index))
    for draft in self._drafts:
      draft.keep()
    return self._digest.hexdigest()

  def abandon(self) -> None:
    """Discards the files after a failure; does nothing after `close`."""
    try:
      if self._writer.is_open():
        self._writer.close()
    except RuntimeError:
      pass  # the caller is already handling the first failure
    finally:
      for draft in self._drafts:
        draft.discard()


class ShardReader:
  """Random access to the examples of one shard, from several threads."""

  def __init__(self, folder: pathlib.Path, dataset: str, epoch: int):
    path = folder / records_file(dataset, epoch)
    self._reader = array_record_module.ArrayRecordReader(str(path), _READER)

  def __len__(self) -> int:
    return self._reader.num_records()

  def data(self, numbers: Sequence[int]) -> list[bytes]:
    """Reads the encoded examples of `numbers`; raises one of DAMAGE if it cannot."""
    return self._reader.read([int(number) for number in numbers])

  def examples(self, numbers: Sequence[int]) -> list[StoredExample]:
    """Reads the examples of `numbers`; raises one of DAMAGE if it cannot."""
    return [decode(data) for data in self.data(numbers)]


def read_index(folder: pathlib.Path, dataset: str, epoch: int) -> np.ndarray:
  """The `counts` of each example, int32 [n, 2], or [n, 3] of conversations."""
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
  for number in range(examples):
    try:
      reader.examples([number])
    except DAMAGE:
      out.append(number)
  return out


def digest(folder: pathlib.Path, dataset: str, epoch: int) -> str | None:
  """The digest of a shard as `ShardWriter.close` gave it; None if it is damaged.

  An index that does not match the records is damage too.
  """
  try:
    reader = ShardReader(folder, dataset, epoch)
    index = read_index(folder, dataset, epoch)
    found = hashlib.sha256()
    sizes = []
    for number in range(len(reader)):
      (data,) = reader.data([number])
      found.update(data)
      sizes.append(decode(data).tokens.counts)
  except DAMAGE:
    return None
  whole = np.array_equal(_array(sizes), index)
  return found.hexdigest() if whole else None


def _array(counts: Sequence[tuple[int, ...]]) -> np.ndarray:
  return np.array(counts, np.int32).reshape(len(counts), -1 if counts else 2)


def spans(numbers: Sequence[int], *, max_spans: int = 6) -> str:
  """Formats example numbers for a message: `3, 7-9`, at most `max_spans` of them."""
  # Neighbors have the same distance from their place in the list.
  runs = [
    [number for _, number in run]
    for _, run in itertools.groupby(enumerate(numbers), lambda one: one[1] - one[0])
  ]
  text = [f'{run[0]}-{run[-1]}' if len(run) > 1 else f'{run[0]}' for run in runs]
  return ', '.join(text[:max_spans] + ['...'] * (len(runs) > max_spans))

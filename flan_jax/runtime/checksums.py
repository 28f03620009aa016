"""Checksums of the files in a folder, in flan_checksums.json beside them.

Every file has its size and a CRC-32C of each block of 4 MiB; the list has a checksum of
itself. A block is checked when it is read, so a large file costs no second reading.
`input_file` checks whatever it reads from such a folder. Standard library only, and
google_crc32c if a folder has a list: zlib's CRC-32 takes three times as long.

A folder without the list is of an older version, or of another program: its files are
read unchecked.
"""

import contextlib
import functools
import json
import os
import pathlib
import stat
import weakref
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file

FILE = 'flan_checksums.json'
"""Name of the list; it is no file of its own list."""

BLOCK = 1 << 22
"""Bytes of a block."""

_CHUNK = 1 << 18
"""Bytes that are read at once: they are still in the cache when they are copied."""

CURE = f'restore it from a copy; if it was changed on purpose, delete {FILE} beside it'
"""Remedy for damage, unless the folder can be made again."""

_DIGITS = 8


class Damaged(InputError):
  """A file differs from what was written.

  Attributes:
    path: the file.
    why: fault of the file.
  """

  def __init__(self, path: str | os.PathLike, why: str, cure: str = CURE):
    super().__init__(f'{os.fspath(path)}: {why}; {cure}')
    self.path, self.why = pathlib.Path(path), why


class Listed(NamedTuple):
  """An entry of the list.

  Attributes:
    size: bytes.
    crc32c: checksums of the blocks.
  """

  size: int
  crc32c: tuple[int, ...]


class Checksums:
  """The list of a folder.

  Attributes:
    folder: the folder.
    files: name, relative to the folder -> entry of the list.
    notes: texts of the writer.
  """

  def __init__(
    self, folder: pathlib.Path, files: Mapping[str, Listed], notes: Mapping[str, str]
  ):
    self.folder, self.files, self.notes = folder, files, notes

  def check(self, name: str, data: bytes) -> None:
    """Checks the content of a whole file; does nothing if it is not listed.

    Raises:
      Damaged: if it differs.
    """
    listed = self.files.get(name)
    if listed is None:
      return
    _check_size(self.folder / name, len(data), listed)
    for block, want in enumerate(listed.crc32c):
      part = data[block * BLOCK : (block + 1) * BLOCK] if len(data) > BLOCK else data
      if _extend(0, part) != want:
        raise _damaged(self.folder / name, block, listed)

  def is_whole(self, name: str, path: pathlib.Path | None = None) -> bool:
    """Returns whether a file is as it was written; reads it all.

    Args:
      name: name of the file; True if it is not listed.
      path: place of the file; None for its own in the folder.
    """
    listed = self.files.get(name)
    if listed is None:
      return True
    try:
      Blocks(path or self.folder / name, listed, CURE).check()
    except (Damaged, OSError):
      return False
    return True

  def open(self, name: str, *, cure: str = CURE) -> 'Blocks':
    """Opens a listed file to check its blocks.

    Args:
      name: name of the file.
      cure: remedy if it is damaged, for messages.

    Raises:
      Damaged: if it is missing, or its size differs.
    """
    return Blocks(self.folder / name, self.files[name], cure)


class Blocks:
  """A file of which each block is checked once, when it is first read."""

  def __init__(self, path: pathlib.Path, listed: Listed | None, cure: str = CURE):
    """Opens the file.

    Args:
      path: the file.
      listed: its entry of the list; None to check nothing.
      cure: remedy if it is damaged, for messages.

    Raises:
      Damaged: if it is missing, or its size differs.
    """
    self._path, self._listed, self._cure = path, listed, cure
    try:
      self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
      raise Damaged(path, 'is missing', cure) from None
    weakref.finalize(self, os.close, self._file)
    self._left = bytearray()
    if listed is not None:
      _check_size(path, os.fstat(self._file).st_size, listed, cure)
      self._left = bytearray(b'\1') * len(listed.crc32c)

  def check(self, start: int = 0, stop: int | None = None) -> None:
    """Checks the blocks that hold bytes [start, stop) and were not checked before.

    Raises:
      Damaged: if one differs.
    """
    stop = len(self._left) * BLOCK if stop is None else stop
    first, last = start // BLOCK, -(-stop // BLOCK)
    while (first := self._left.find(1, first, last)) >= 0:
      self._read_block(first, memoryview(b''), 0)

  def read_into(self, view: memoryview, start: int) -> None:
    """Fills a buffer with the bytes from `start`, and checks their blocks.

    Raises:
      Damaged: if one differs, or the file ends before.
    """
    at, stop = start, start + len(view)
    while at < stop:
      block = at // BLOCK
      end = min(stop, (block + 1) * BLOCK)
      if self._left.find(1, block, block + 1) >= 0:
        self._read_block(block, view[at - start : end - start], at)
      else:
        self._fill(view[at - start : end - start], at)
      at = end

  def _read_block(self, block: int, view: memoryview, start: int) -> None:
    """Checks a block, and fills a buffer with those of its bytes from `start`."""
    assert self._listed is not None  # a block is left to check
    at, found = block * BLOCK, 0
    end, stop = min(at + BLOCK, self._listed.size), start + len(view)
    while at < end:
      data = self._some(min(_CHUNK, end - at), at)
      found = _extend(found, data)
      first, last = max(at, start), min(at + len(data), stop)
      if first < last:
        view[first - start : last - start] = data[first - at : last - at]
      at += len(data)
    if found != self._listed.crc32c[block]:
      raise _damaged(self._path, block, self._listed, self._cure)
    self._left[block] = 0

  def _fill(self, view: memoryview, start: int) -> None:
    while len(view):
      data = self._some(min(_CHUNK, len(view)), start)
      view[: len(data)] = data
      view, start = view[len(data) :], start + len(data)

  def _some(self, count: int, start: int) -> bytes:
    data = os.pread(self._file, count, start)
    if not data:
      raise Damaged(self._path, 'is truncated', self._cure)
    return data


def record(
  folder: str | os.PathLike,
  names: Iterable[str] | None = None,
  *,
  notes: Mapping[str, str] | None = None,
) -> None:
  """Writes the list of a folder.

  Args:
    folder: the folder.
    names: names of the files, relative to it; None for the files right in it.
    notes: texts to keep beside.
  """
  folder = pathlib.Path(folder)
  if names is None:
    names = [
      path.name
      for path in folder.iterdir()
      if path.is_file() and path.name != FILE and not path.name.startswith('.')
    ]
  files = {name: measured(folder / name) for name in sorted(names)}
  _write(folder, files, dict(notes or {}))


def update(folder: str | os.PathLike, name: str) -> None:
  """Lists a file again, if its folder has a list; the notes are dropped."""
  folder = pathlib.Path(folder)
  if (known := of(folder)) is not None:
    _write(folder, {**known.files, name: measured(folder / name)}, {})


def remove(folder: str | os.PathLike) -> None:
  """Removes the list of a folder whose files are about to be replaced."""
  (pathlib.Path(folder) / FILE).unlink(missing_ok=True)


def of(folder: str | os.PathLike) -> Checksums | None:
  """The list of a folder; None if it has none.

  Raises:
    Damaged: if the list is damaged.
  """
  path = os.path.join(os.fspath(folder), FILE)
  try:
    found = os.stat(path)
  except OSError:
    return None
  if not stat.S_ISREG(found.st_mode):
    raise Damaged(path, 'is no file')
  return _read(path, (found.st_ino, found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=64)
def _read(path: str, _: tuple[int, ...]) -> Checksums:
  """Reads a list; the second argument is another for another file."""
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
    text = pathlib.Path(path).read_text(encoding='utf-8')
    content = json.loads(text)
    files = {
      name: Listed(entry['bytes'], _numbers(entry['crc32c']))
      for name, entry in content['files'].items()
    }
    if text == _text(files, content['notes']):
      return Checksums(pathlib.Path(path).parent, files, content['notes'])
  cure = 'delete it: files are then read unchecked'
  raise Damaged(path, 'is damaged itself', cure)


def _write(
  folder: pathlib.Path, files: Mapping[str, Listed], notes: Mapping[str, str]
) -> None:
  atomic_file.write_text(folder / FILE, _text(files, notes))


def _text(files: Mapping[str, Listed], notes: Mapping[str, str]) -> str:
  """The one text of a list: any other text is damage."""
  content = {
    'block_bytes': BLOCK,
    'files': {
      name: {'bytes': size, 'crc32c': ''.join(f'{each:08x}' for each in sums)}
      for name, (size, sums) in files.items()
    },
    'notes': dict(notes),
  }
  own = _extend(0, json.dumps(content).encode('utf-8'))
  return json.dumps({**content, 'crc32c': f'{own:08x}'}, indent=2) + '\n'


def _numbers(text: str) -> tuple[int, ...]:
  starts = range(0, len(text), _DIGITS)
  return tuple(int(text[start : start + _DIGITS], 16) for start in starts)


def measured(path: pathlib.Path) -> Listed:
  """Reads a file: its size and checksums."""
  found, size = [], 0
  with path.open('rb', buffering=0) as file:
    while data := file.read(min(_CHUNK, BLOCK - size % BLOCK)):
      if size % BLOCK == 0:
        found.append(0)
      found[-1] = _extend(found[-1], data)
      size += len(data)
  return Listed(size, tuple(found))


def of_json(content: Mapping[str, Any]) -> int:
  """The CRC-32 of an object, as it comes back from JSON; its keys in any order."""
  plain = json.loads(json.dumps(content))
  return zlib.crc32(json.dumps(plain, sort_keys=True).encode('utf-8'))


def _extend(checksum: int, data: bytes) -> int:
  """The CRC-32C of the bytes so far and of further ones."""
  import google_crc32c

  return google_crc32c.extend(checksum, data)


def _check_size(path: pathlib.Path, got: int, listed: Listed, cure: str = CURE) -> None:
  if got != listed.size:
    why = f'is damaged: has {got:,} bytes, {listed.size:,} were written'
    raise Damaged(path, why, cure)


def _damaged(
  path: pathlib.Path, block: int, listed: Listed, cure: str = CURE
) -> Damaged:
  start, stop = block * BLOCK, min((block + 1) * BLOCK, listed.size)
  why = f'is damaged: bytes {start:,} to {stop - 1:,} are not those that were written'
  return Damaged(path, why, cure)

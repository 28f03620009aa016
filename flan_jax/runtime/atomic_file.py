"""Atomic files: a reader sees the old content or the new one, whole, never half.

New content is written as a draft, under a temporary name in the same folder, and then
renamed to its path. A full disk, an error or a kill leaves what was there before.

The draft of `NAME` is called `.NAME.PID.tmp`, and its process keeps it locked. The next
process that writes `NAME` removes the drafts that killed processes left. Where a file
system has no locks, such drafts stay.

A draft is created exclusively and no link is followed. A device, a FIFO, a socket or a
link at the path is refused, never replaced.

Nothing is flushed to the device (no fsync): this holds for killed processes, not for
machines that lose power. Standard library only.
"""

import contextlib
import fcntl
import itertools
import json
import os
import pathlib
import re
import shutil
import stat
from collections.abc import Iterator
from typing import IO, Any

from flan_jax.errors import InputError
from flan_jax.runtime import disk

SUFFIX = '.tmp'
"""Ends every temporary name."""


def is_temporary(name: str | os.PathLike) -> bool:
  """Returns whether this is the name of a draft, of a live or a killed process.

  Drafts of earlier versions, `NAME.tmp`, count too.
  """
  return os.fspath(name).endswith(SUFFIX)


_KINDS = {
  stat.S_IFLNK: 'a link',
  stat.S_IFIFO: 'a FIFO',
  stat.S_IFSOCK: 'a socket',
  stat.S_IFCHR: 'a device',
  stat.S_IFBLK: 'a device',
}
"""File types that no output replaces."""


def check_output(path: str | os.PathLike) -> None:
  """Checks that an output replaces a file, a folder, or nothing.

  Raises:
    InputError: if `path` is a device, a FIFO, a socket or a link.
  """
  try:
    kind = _KINDS.get(stat.S_IFMT(os.lstat(path).st_mode))
  except OSError:  # absent, or under a file: creating it says so
    return
  if kind is not None:
    to = f' to {os.readlink(path)!r}' if kind == 'a link' else ''
    raise InputError(
      f'output {os.fspath(path)!r}: is {kind}{to}, which is never replaced; must be a '
      'file or a new path' + (', as that which the link names' if to else '')
    )


class Draft:
  """New content of a path, under a temporary name beside it, until `keep`.

  A context manager: what is not kept by the end of the block is removed.

  Attributes:
    path: the empty file or folder to write to.
    target: the path that it replaces.
  """

  def __init__(self, target: str | os.PathLike, *, folder: bool = False):
    """Creates the draft, and the folders above it.

    Args:
      target: path to replace.
      folder: whether the draft is a folder rather than a file.

    Raises:
      InputError: if `target` is a device, a FIFO, a socket or a link.
    """
    self.target = pathlib.Path(target).absolute()
    check_output(self.target)
    _clear(self.target)
    self.path, self._lock = _create(self.target, folder)

  def __enter__(self) -> 'Draft':
    return self

  def __exit__(self, kind, error, traceback) -> None:
    disk.name(error, self.target)
    self.discard()

  def keep(self) -> None:
    """Renames the draft to its target.

    A file replaces the file there. A folder replaces an empty folder at most.

    Raises:
      OSError: if the target cannot be replaced; the draft is still there then.
    """
    move(self.path, self.target)
    self._release()

  def discard(self) -> None:
    """Removes the draft; does nothing once it is kept or discarded."""
    if self._lock is None:
      return
    try:
      _remove(self.path)
    finally:
      self._release()

  def _release(self) -> None:
    lock, self._lock = self._lock, None
    if lock is not None:
      os.close(lock)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
  """Yields a draft that replaces the file `path` when the block ends without an error.

  After an error the draft is removed, and `path` is as it was.
  """
  with Draft(path) as draft:
    yield draft.path
    draft.keep()


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[IO[str]]:
  """Opens a UTF-8 text file that replaces `path` as `replacing` does."""
  with Draft(path) as draft:
    with _opened(draft.path, os.O_WRONLY) as file:
      yield file
    draft.keep()


@contextlib.contextmanager
def appending(path: str | os.PathLike) -> Iterator[IO[str]]:
  """Opens a UTF-8 text file to append to; creates it if absent.

  Raises:
    InputError: if it is a device, a FIFO, a socket or a link.
  """
  check_output(path)
  flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
  with disk.naming(path), _opened(path, flags) as file:
    yield file


def _opened(path: str | os.PathLike, flags: int) -> IO[str]:
  """Opens a text file, and follows no link that was put in its place."""

  def opener(name: str, _: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

  mode = 'a' if flags & os.O_APPEND else 'w'
  return open(path, mode, encoding='utf-8', newline='\n', opener=opener)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text file in UTF-8, whole or not at all."""
  with writing(path) as file:
    file.write(text)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
  """Writes a file, whole or not at all."""
  with replacing(path) as draft:
    draft.write_bytes(data)


def write_json(path: str | os.PathLike, value: Any, **options: Any) -> None:
  """Writes a value as indented JSON, whole or not at all.

  Args:
    path: file to replace.
    value: JSON value.
    **options: arguments of `json.dumps`, as `sort_keys`.
  """
  write_text(path, json.dumps(value, indent=2, **options) + '\n')


def move(finished: str | os.PathLike, target: str | os.PathLike) -> None:
  """Renames a finished file or folder, which lies on the same file system.

  Raises:
    InputError: if `target` is a device, a FIFO, a socket or a link.
  """
  check_output(target)
  os.replace(finished, target)


def _create(target: pathlib.Path, folder: bool) -> tuple[pathlib.Path, int]:
  """(a new empty draft, descriptor that holds its lock)."""
  with contextlib.suppress(FileExistsError):  # a file: the draft's own error says so
    target.parent.mkdir(parents=True, exist_ok=True)
  for number in itertools.count():
    # A thread, or a process of another container, may have the same PID.
    again = f'-{number}' if number else ''
    path = target.with_name(f'.{target.name}.{os.getpid()}{again}{SUFFIX}')
    lock = _new(path, folder)
    if lock is None:
      continue
    # Before it is locked, another process may take it for a leftover.
    if _locked(lock) is not False and _is_at(lock, path):
      return path, lock
    os.close(lock)
  raise AssertionError('unreachable')


def _new(path: pathlib.Path, folder: bool) -> int | None:
  """Creates a draft and opens it; None if another process has or takes the name."""
  try:
    if not folder:
      return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    path.mkdir()
  except FileExistsError:
    return None
  with contextlib.suppress(FileNotFoundError):
    return _descriptor(path)
  return None


def _locked(descriptor: int) -> bool | None:
  """Locks a draft: False if another process has it, None on a system without locks."""
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except OSError:
    return None
  return True


def _descriptor(path: pathlib.Path) -> int:
  """Opens a draft to lock it; an OSError if it is a link."""
  flags = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
  return os.open(path, flags | (os.O_RDONLY if path.is_dir() else os.O_RDWR))


def _clear(target: pathlib.Path) -> None:
  """Removes the drafts of `target` that no process has locked."""
  draft = re.compile(rf'\.{re.escape(target.name)}\.\d+(-\d+)?{re.escape(SUFFIX)}')
  names = []
  with contextlib.suppress(OSError):  # no folder yet
    names = os.listdir(target.parent)
  for path in map(target.with_name, filter(draft.fullmatch, names)):
    with contextlib.suppress(OSError):  # gone already, or not ours to remove
      lock = _descriptor(path)
      try:
        if _locked(lock) and _is_at(lock, path):
          _remove(path)
      finally:
        os.close(lock)


def _is_at(descriptor: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(descriptor), os.lstat(path))
  except FileNotFoundError:
    return False


def _remove(path: pathlib.Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)

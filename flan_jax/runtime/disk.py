"""Full disks: the errors by which libraries report them. Standard library only."""

import contextlib
import errno
import os
from collections.abc import Iterator

_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_WORDS = (
  'No space left',
  'Disk quota exceeded',
  'File too large',
  'Not enough disk space',
)


def is_full(error: BaseException) -> bool:
  """Returns whether an error of Python or of a library means a full disk."""
  if isinstance(error, OSError) and error.errno in _NUMBERS:
    return True
  return isinstance(error, Exception) and any(words in str(error) for words in _WORDS)


def described(error: BaseException) -> str:
  """Describes a full disk as `'PATH': No space left on device`, in one line."""
  if isinstance(error, OSError) and error.strerror:
    where = '' if error.filename is None else f'{str(error.filename)!r}: '
    return f'{where}{error.strerror}'
  return ' '.join(str(error).split())[:300]


def name(error: BaseException | None, path: str | os.PathLike) -> None:
  """Adds the path to an error of writing, to which Python gives none."""
  numbers = (*_NUMBERS, errno.EIO, errno.EROFS)
  if isinstance(error, OSError) and error.filename is None and error.errno in numbers:
    error.filename = os.fspath(path)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
  """Adds the path to an error of writing in the block."""
  try:
    yield
  except OSError as error:
    name(error, path)
    raise

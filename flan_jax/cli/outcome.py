"""Outcome of a verb that ends in an error: one line for the user, and an exit code."""

import errno
import sys

from flan_jax.errors import InputError, one_line
from flan_jax.runtime import disk, signals

_BAD_PATHS = (
  FileExistsError,
  FileNotFoundError,
  IsADirectoryError,
  NotADirectoryError,
  PermissionError,
)
"""Errors of a path that the user gave: bad input, exit code 2; others are failures."""

_BAD_NAMES = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EROFS)
"""Further errors of a path that the user gave."""


def of(error: BaseException) -> int:
  """Prints the line of an error; returns the exit code: 1 failed, 2 bad input.

  Raises:
    BaseException: the error itself, if it is a fault of this program.
  """
  if isinstance(error, SystemExit):
    raise error
  number = signals.received()
  if number is not None or isinstance(error, KeyboardInterrupt):
    name = 'SIGINT' if number is None else number.name
    print(f'flan: stopped by {name}; rerun the same command to go on', file=sys.stderr)
    return signals.exit_code() or 130
  if isinstance(error, InputError):
    return failed(str(error), code=2)
  if isinstance(error, BrokenPipeError):
    sys.stderr.close()
    return 1
  if disk.is_full(error):
    return failed(f'{disk.described(error)}; free some space and rerun', code=1)
  if isinstance(error, OSError):
    return _of_os_error(error)
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in str(error):
    return failed(
      f'out of memory ({error}); try a smaller BATCH_TOKENS, Run.accumulation, '
      "Run.logits_chunk, REMAT='full' or LORA_RANK; in evaluation, a smaller "
      'Evaluate.batch_size',
      code=1,
    )
  raise error


def _of_os_error(error: OSError) -> int:
  if error.filename is None:
    raise error
  bad = isinstance(error, _BAD_PATHS) or error.errno in _BAD_NAMES
  return failed(f'{str(error.filename)!r}: {error.strerror}', code=2 if bad else 1)


def failed(why: str, *, code: int) -> int:
  print(f'flan: error: {one_line(why)}', file=sys.stderr)
  return code

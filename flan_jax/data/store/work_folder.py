"""Work folder: a store that is being built, locked, with the parts already finished.

It stands beside the store, as `.NAME.partial`, with the lock `.NAME.lock`. A killed run
leaves it, and the next run of the same recipe resumes from its finished parts.
"""

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

from flan_jax.data.store import finished_parts, parts
from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, lock

_RECIPE = 'recipe'
"""File of the digest of the recipe that the parts were built by."""


@contextlib.contextmanager
def opened(out: pathlib.Path, recipe: str) -> Iterator[pathlib.Path]:
  """Opens the work folder beside `out`, with the finished parts of an interrupted run.

  The process holds a lock on it. On exit the folder is removed unless it was renamed or
  a part in it is finished; half-written files are removed.

  Raises:
    InputError: if another process holds the lock, a file cannot be written, or a link
      is in the way.
  """
  atomic_file.check_output(out)
  # A work folder rather than a draft: a killed run resumes from it, so its name is
  # fixed, and only a finished run or another recipe clears it.
  folder = out.parent / f'.{out.name}.partial'
  atomic_file.check_output(folder)
  with lock.held('store', out, beside=True):
    try:
      folder.mkdir(exist_ok=True)
      _prepare(folder, recipe)
      yield folder
    except OSError as error:
      raise InputError(
        f'store {str(out)!r}: {error}; finished parts are kept: fix that, then rerun '
        'the same command to resume'
      ) from None
    finally:
      if folder.is_dir():  # else it was renamed: the store is finished
        _tidy(folder)
        if not any((folder / parts.WORK).glob('*.json')):
          shutil.rmtree(folder)


def _prepare(folder: pathlib.Path, recipe: str) -> None:
  """Keeps whole finished parts of this recipe; clears anything else."""
  kept = folder / parts.WORK / _RECIPE
  if not (kept.is_file() and kept.read_text(encoding='utf-8') == recipe):
    for left in folder.iterdir():
      if left.is_dir():
        shutil.rmtree(left)
      else:
        left.unlink()
    for name in ('train', 'evaluation', parts.WORK):
      (folder / name).mkdir()
    kept.write_text(recipe, encoding='utf-8')
  _tidy(folder)
  finished_parts.drop_damaged(folder)


def _tidy(folder: pathlib.Path) -> None:
  """Removes half-written files."""
  for path in folder.rglob('.*'):
    path.unlink()

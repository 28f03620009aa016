"""Search for gin files: as given, beside the including one, search paths, shipped."""

import pathlib
from collections.abc import Iterable, Sequence

from flan_jax.errors import InputError, did_you_mean


def shipped() -> pathlib.Path:
  """Folder of the shipped gin files: `gin/` of a checkout, `configs/` if installed."""
  here = pathlib.Path(__file__).parents[1]
  return here / 'configs' if (here / 'configs').is_dir() else here.parent / 'gin'


def is_shipped(origin: str) -> bool:
  """Returns whether a value was given in a gin file that ships with the package."""
  path = pathlib.Path(origin.rpartition(':')[0]).resolve()
  return path.is_relative_to(shipped().resolve())


def split_paths(given: Iterable[str]) -> list[str]:
  """Folders of --gin_search_paths, each of which may hold several with commas.

  Raises:
    InputError: if one is not a folder; names the nearest beside it.
  """
  paths = [path.strip() for text in given for path in text.split(',') if path.strip()]
  for path in paths:
    folder = pathlib.Path(path)
    if not folder.is_dir():
      beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
      near = [str(other) for other in beside if other.is_dir()]
      raise InputError(
        f'--gin_search_paths: {path!r}: no such folder{did_you_mean(path, near)}'
      )
  return paths


def find(
  path: str, beside: str | None = None, *, search_paths: Sequence[str] = ()
) -> pathlib.Path:
  """Finds a gin file: the first there is, in the order of the module's headline.

  Args:
    path: name of the file.
    beside: the file that includes it, or None.
    search_paths: folders to look in before those of the package.

  Raises:
    InputError: if no such file exists; names the nearest that does.
  """
  tried = [pathlib.Path(path)]
  if beside is not None:
    tried.append(pathlib.Path(beside).parent / path)
  tried += [pathlib.Path(folder) / path for folder in search_paths]
  tried.append(shipped() / path.removeprefix('gin/'))
  for candidate in tried:
    if candidate.is_file():
      return candidate
  names = [f'gin/{name}' for name in _files(shipped())]
  names += [name for folder in search_paths for name in _files(pathlib.Path(folder))]
  raise InputError(f'gin file {path!r}: no such file{did_you_mean(path, names)}')


def _files(folder: pathlib.Path) -> list[str]:
  return [file.relative_to(folder).as_posix() for file in folder.rglob('*.gin')]

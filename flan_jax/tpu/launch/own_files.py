"""Files that a command names and the hosts lack: gin files, with what they include.

They keep their places relative to each other, under the working directory of the job.
"""

import glob
import hashlib
import io
import os
import pathlib
import re
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from flan_jax.errors import InputError
from flan_jax.tpu.launch import own_code, quoting, wheels
from flan_jax.tpu.launch.own_code import listed

_INCLUDE = re.compile(r'^include\s+([\'"])(.+?)\1', re.MULTILINE)
_FLAG = '--gin_file'
_SEARCH = '--gin_search_paths'

LAUNCHER = frozenset({'command', 'exit', 'exit.tmp', 'files', 'id', 'log', 'pid'})
"""Names that the launcher writes in the working directory of the job."""


class Files(NamedTuple):
  """Files of a command.

  Attributes:
    words: the command, with the places that the files have on the hosts.
    places: place under the working directory of the job -> local file.
  """

  words: tuple[str, ...]
  places: Mapping[str, pathlib.Path]

  @property
  def digest(self) -> str:
    """Digest (hex) of the places and contents; '' without files."""
    found = hashlib.sha256()
    for place, path in sorted(self.places.items()):
      found.update(
        f'{place}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n'.encode()
      )
    return found.hexdigest() if self.places else ''

  @property
  def archive(self) -> str:
    """Name of the archive of the files."""
    return f'files-{self.digest[:12]}.tar'

  def write(self, folder: pathlib.Path) -> str:
    """Writes an archive of the files; returns its path."""
    path = folder / self.archive
    with tarfile.open(path, 'w') as archive:
      for place, local in sorted(self.places.items()):
        content = local.read_bytes()
        entry = tarfile.TarInfo(place)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return str(path)


class _Include(NamedTuple):
  spelled: str
  includer: pathlib.Path
  found: pathlib.Path


def find(
  words: Sequence[str],
  *,
  ships: Callable[[str], bool],
  data: Iterable[tuple[str, pathlib.Path]] = (),
) -> Files:
  """The gin files of a command that do not ship with flan_jax, and their includes.

  The command that the hosts run names each file where it is, and no search paths.

  Args:
    words: the command.
    ships: whether a file of `gin/` is among those that the hosts install.
    data: (place, local file) of files beside them.

  Raises:
    InputError: if a file does not exist, or cannot be found in the same way there.
  """
  from flan_jax.config import gin as gin_lib
  from flan_jax.config import search

  named = dict(_given(words, _FLAG))
  searched = dict(_given(words, _SEARCH))
  paths = search.split_paths(searched.values())
  own: dict[pathlib.Path, None] = {}
  includes: list[_Include] = []
  spelled: dict[int, pathlib.Path | str] = {}

  def shipped(path: pathlib.Path) -> str:
    """Name of a file that the hosts have; '' for another."""
    root = gin_lib.shipped().resolve()
    if not path.resolve().is_relative_to(root):
      return ''
    name = f'gin/{path.resolve().relative_to(root).as_posix()}'
    return name if ships(name) else ''

  def add(path: pathlib.Path) -> None:
    path = _absolute(path)
    if path in own:
      return
    own[path] = None
    for match in _INCLUDE.finditer(path.read_text(encoding='utf-8', errors='replace')):
      found = gin_lib.find(match[2], str(path), search_paths=paths)
      if not shipped(found):
        includes.append(_Include(match[2], path, _absolute(found)))
        add(found)

  for index, text in named.items():
    path = gin_lib.find(text, search_paths=paths)
    spelled[index] = shipped(path) or _absolute(path)
    if not shipped(path):
      add(path)
  places = _places(own)
  for include in includes:
    _check_include(include, places)
  new = list(words)
  for index, where in spelled.items():
    place = where if isinstance(where, str) else places[where]
    flag = f'{_FLAG}=' if words[index].startswith(f'{_FLAG}=') else ''
    new[index] = f'{flag}{place}'
  dropped = set(searched) | {i - 1 for i in searched if words[i - 1] == _SEARCH}
  new = [word for index, word in enumerate(new) if index not in dropped]
  local = _joined([*((place, path) for path, place in places.items()), *data])
  own_code.check_size('files of the command', local.values())
  return Files(tuple(new), local)


def _given(words: Sequence[str], flag: str) -> Iterable[tuple[int, str]]:
  """(index of the word, value) of every value of a flag in a command."""
  for index, word in enumerate(words):
    if word.startswith(f'{flag}='):
      yield index, word.partition('=')[2]
    elif index and words[index - 1] == flag:
      yield index, word


def _absolute(path: pathlib.Path) -> pathlib.Path:
  return pathlib.Path(os.path.abspath(path))


def _places(paths: Iterable[pathlib.Path]) -> dict[pathlib.Path, str]:
  """File -> its place: as in the current folder, or as in the one they all are in."""
  here = pathlib.Path.cwd()
  inside = [path for path in paths if path.is_relative_to(here)]
  outside = [path for path in paths if not path.is_relative_to(here)]
  places = {path: path.relative_to(here).as_posix() for path in inside}
  if outside:
    root = os.path.commonpath([path.parent for path in outside])
    others = {path: path.relative_to(root).as_posix() for path in outside}
    taken = list(places.values())
    while any(_clash(place, own) for place in others.values() for own in taken):
      others = {path: f'outside/{place}' for path, place in others.items()}
    places |= others
  return places


def _clash(one: str, two: str) -> bool:
  """Returns True for the same place, or a file where the other needs a folder."""
  return one == two or one.startswith(f'{two}/') or two.startswith(f'{one}/')


def _joined(
  files: Iterable[tuple[str, pathlib.Path]],
) -> dict[str, pathlib.Path]:
  """Place -> file.

  Raises:
    InputError: if two files would have one place, a place is a file of the launcher,
      or a name has characters that no listing shows.
  """
  joined: dict[str, pathlib.Path] = {}
  for place, path in files:
    if not place.isprintable() or not quoting.is_unicode(place):
      raise InputError(
        f'launch: the file {place!a} has a name with characters that cannot '
        'be printed; rename it'
      )
    if place.partition('/')[0] in LAUNCHER:
      raise InputError(
        f'launch: {place!r} would be in the place of a file of the launcher '
        f'({", ".join(sorted(LAUNCHER))}); rename it, or put it into a folder'
      )
    for other in joined:
      same = place == other and os.path.samefile(path, joined[other])
      if _clash(place, other) and not same:
        raise InputError(
          f'launch: {str(path)!r} and {str(joined[other])!r} would have one place on '
          f'the hosts, {place!r}; rename one'
        )
    joined.setdefault(place, path)
  return joined


def _check_include(include: _Include, places: Mapping[pathlib.Path, str]) -> None:
  """Refuses an include that the hosts would not find."""
  beside = os.path.dirname(places[include.includer])
  tried = [include.spelled, os.path.join(beside, include.spelled)]
  by_place = {place: path for path, place in places.items()}
  found = (by_place.get(os.path.normpath(path)) for path in tried)
  if next(filter(None, found), None) != include.found:
    raise InputError(
      f'{include.includer}: include of {include.spelled!r}, which the hosts would not '
      'find: must be relative, to a file beside it or in the current folder'
    )


def declared(
  shipped: Iterable[wheels.Wheel],
) -> tuple[list[tuple[str, pathlib.Path]], list[str]]:
  """Local files that registered datasets read: ((place, file) to ship, warnings).

  What lies in a shipped package travels with it.

  Args:
    shipped: wheels of the user's packages.
  """
  from flan_jax.catalog import registry
  from flan_jax.data.sources import files as source_files

  contents = [content for wheel in shipped for content in wheel.files.values()]
  travels = {os.path.realpath(c) for c in contents if isinstance(c, pathlib.Path)}
  ship, warnings = [], []
  for name, dataset in registry.datasets().items():
    source = dataset.source
    if not isinstance(source, source_files.Files):
      continue
    paths = source.path.values() if isinstance(source.path, Mapping) else [source.path]
    local = [os.fspath(path) for path in paths if '://' not in os.fspath(path)]
    if not local:
      continue
    what = f'warning: dataset {name!r}: {listed(local)}'
    if any(map(os.path.isabs, local)):
      warnings.append(f'{what} does not travel: every host must have it at this path')
      continue
    try:
      found = [file.path for files in source.files().values() for file in files]
    except InputError:
      warnings.append(f'{what}: no such file here, so none travels')
      continue
    for path in (path for path in found if '://' not in path):
      if os.path.realpath(path) in travels:
        continue
      start = source.folder if os.path.isabs(path) else '.'
      place = os.path.normpath(os.path.relpath(path, start))
      if place.startswith('..'):
        warnings.append(f'{what} does not travel: must be beside the module, or gs://')
        break
      ship.append((place, pathlib.Path(path)))
  return ship, warnings


def data_files(
  values: Iterable[tuple[str, str]],
) -> tuple[list[tuple[str, pathlib.Path]], list[str]]:
  """Local files among the values of settings: ((place, file) to ship, warnings).

  Args:
    values: (setting, value).

  Raises:
    InputError: if one is relative and lies outside of the current folder.
  """
  ship, warnings = [], []
  for setting, value in values:
    if '://' in value or not ('/' in value or '.' in value):
      continue
    found = sorted(glob.glob(value, recursive=True))
    if not found:
      continue
    if os.path.isabs(value):
      warnings.append(
        f'warning: {setting}: {value!r} does not travel: every host must have it at '
        'this path, or give a relative path or gs://'
      )
    elif os.path.normpath(value).startswith('..'):
      raise InputError(
        f'{setting}: {value!r} is not in the current folder, which is what travels; '
        'must be in it, or gs://'
      )
    elif all(map(os.path.isdir, found)):
      warnings.append(
        f'warning: {setting}: {value!r} is a folder of this machine, which does not '
        'travel: on the hosts it begins empty; gs:// is the same everywhere'
      )
    else:
      files = filter(os.path.isfile, found)
      ship += [(os.path.normpath(path), pathlib.Path(path)) for path in files]
  return ship, warnings

"""The user's modules of a command, as wheels for the hosts.

An installed distribution is repacked; an editable one, a package of the current folder
or of PYTHONPATH is packed from its folder, data files included, and so is whatever it
imports that lies in such a place. Standard library only.
"""

import ast
import functools
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import sys
import sysconfig
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from flan_jax.errors import InputError
from flan_jax.tpu.launch import wheels

MAX_BYTES = 100_000_000
"""Limit on the files of one package, and on the other files of a command."""

_Distribution = importlib.metadata.Distribution


class Package(NamedTuple):
  """A package of the user's.

  Attributes:
    wheel: its files.
    origin: their folder; '' for an installed distribution.
    declares: whether it has metadata, which names its requirements.
    missing: distributions that it imports and nothing declares.
    extra: extra of flan_jax that has all of them; '' if none has.
  """

  wheel: wheels.Wheel
  origin: str
  declares: bool
  missing: tuple[str, ...] = ()
  extra: str = ''

  @property
  def data(self) -> list[str]:
    """Files that are no code."""
    names = sorted(self.wheel.files)
    return [n for n in names if not n.endswith('.py') and '.dist-info/' not in n]

  def describe(self) -> list[str]:
    """Lines that say what is shipped, and what is not."""
    wheel, data = self.wheel, self.data
    what = f'{wheel.name} {wheel.version}'
    where = f'of {self.origin}' if self.origin else 'as installed'
    line = f'Ships {what} {where}: {len(wheel.files)} files, {size_text(wheel.size)}'
    lines = [line + (f'; data: {listed(data)}' if data and self.origin else '')]
    if not self.declares:
      lines.append(
        f'{wheel.name} has no metadata: the package itself is installed, and no '
        'requirement of it'
      )
    if self.missing:
      extra = f'give --extra {self.extra}, or ' if self.extra else ''
      lines.append(
        f'warning: {wheel.name} imports {", ".join(self.missing)}, which the hosts do '
        f'not get: {extra}name it in the dependencies of its pyproject.toml, and `pip '
        'install -e` it'
      )
    return lines


def find(names: Iterable[str], *, extras: Sequence[str] = ('tpu',)) -> list[Package]:
  """Packages of the imported modules, each distribution once.

  Args:
    names: the modules.
    extras: extras of flan_jax that the hosts install.

  Raises:
    InputError: if one cannot be shipped.
  """
  found: dict[str, Package] = {}
  local: dict[str, dict[str, _Top]] = {}  # distribution or top-level name -> its own
  todo, seen = list(names), set()
  while todo:
    name = todo.pop(0)
    top = name.partition('.')[0]
    if top in seen or top in ('flan_jax', '__main__') or top in sys.stdlib_module_names:
      continue
    seen.add(top)
    place = _top(name)
    distribution = _distribution(place)
    if distribution and owns(distribution, place.file):
      if wheels.stem(distribution.name) not in _required('flan_jax', extras):
        wheel = wheels.repack(distribution)
        found[wheel.name] = Package(wheel, '', True)
      continue
    key = distribution.name if distribution else top
    local.setdefault(key, {})[top] = place
    todo += [other for other in _imports(place) if _is_local(other)]
  for key, tops in local.items():
    found[key] = _pack(key, list(tops.values()), extras)
  return [found[key] for key in sorted(found)]


class _Top(NamedTuple):
  """A top-level package or module.

  Attributes:
    name: its name.
    file: one Python file of it.
    folder: its folder; None for a module of one file.
  """

  name: str
  file: pathlib.Path
  folder: pathlib.Path | None


def _top(name: str) -> _Top:
  """The top-level package or module of a module.

  Raises:
    InputError: if it is no Python source in one place.
  """
  top = name.partition('.')[0]
  spec = _spec(top)
  if spec is None:
    raise InputError(f'--module {name!r}: no module {top!r}; it cannot be shipped')
  folders = [pathlib.Path(path) for path in spec.submodule_search_locations or ()]
  if len(folders) > 1:
    raise InputError(
      f'--module {name!r}: {top} is a namespace package in {len(folders)} folders, '
      f'{listed(list(map(str, folders)))}; must be a package of one folder'
    )
  first = next((path for folder in folders for path in folder.rglob('*.py')), None)
  origin = spec.origin or getattr(sys.modules.get(name), '__file__', None) or first
  if not origin or pathlib.Path(origin).suffix != '.py':
    at = f' ({origin})' if origin else ''
    raise InputError(f'--module {name!r}: {top}{at} is no Python source to ship')
  return _Top(top, pathlib.Path(origin), folders[0] if folders else None)


def _spec(top: str):
  module = sys.modules.get(top)
  if module is not None and getattr(module, '__spec__', None) is not None:
    return module.__spec__
  try:
    return importlib.util.find_spec(top)
  except (ImportError, ValueError):
    return None


def _distribution(place: _Top) -> _Distribution | None:
  """The distribution that a package belongs to, installed or editable."""
  for name in dict.fromkeys(_owners(place.name)):
    found = importlib.metadata.distribution(name)
    if owns(found, place.file):
      return found
  editable = []
  for found in importlib.metadata.distributions():
    root = _editable_root(found)
    if root and place.file.resolve().is_relative_to(root):
      tops = (found.read_text('top_level.txt') or '').split()
      if place.name in tops or (not tops and found.name != 'flan_jax'):
        editable.append((len(root.parts), found))
  return max(editable, key=lambda pair: pair[0])[1] if editable else None


def _owners(top: str) -> list[str]:
  """Names of the distributions that have a top-level name."""
  return list(_distributions(tuple(sys.path)).get(top, ()))


@functools.lru_cache(maxsize=1)
def _distributions(path: tuple[str, ...]) -> Mapping[str, list[str]]:
  del path  # what is found depends on it
  return importlib.metadata.packages_distributions()


def owns(distribution: _Distribution, file: pathlib.Path) -> bool:
  """Returns True if a distribution installed this file."""
  real = os.path.realpath(file)
  return any(
    os.path.realpath(str(path.locate())) == real
    for path in distribution.files or ()
    if path.name == file.name
  )


def _editable_root(distribution: _Distribution) -> pathlib.Path | None:
  """Folder of the sources of an editable installation."""
  text = distribution.read_text('direct_url.json')
  about = json.loads(text) if text else {}
  if not about.get('dir_info', {}).get('editable'):
    return None
  path = urllib.parse.urlsplit(about['url']).path
  return pathlib.Path(urllib.request.url2pathname(path)).resolve()


def _imports(place: _Top) -> list[str]:
  """Top-level names that the imported modules of a package import, in order."""
  files = {place.file}
  for name, module in list(sys.modules.items()):
    file = getattr(module, '__file__', None)
    if name.partition('.')[0] == place.name and file and file.endswith('.py'):
      files.add(pathlib.Path(file))
  names: dict[str, None] = {}
  for file in sorted(files):
    try:
      tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError):
      continue
    for node in ast.walk(tree):
      if isinstance(node, ast.Import):
        names |= dict.fromkeys(alias.name.partition('.')[0] for alias in node.names)
      elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names[node.module.partition('.')[0]] = None
  own = {'flan_jax', place.name, *sys.stdlib_module_names}
  return [name for name in names if name not in own]


def _is_local(top: str) -> bool:
  """Returns True for Python source that no installation copied."""
  spec = _spec(top)
  if spec is None:
    return False
  places = list(spec.submodule_search_locations or [spec.origin or ''])
  if spec.origin is None and not any(map(_has_python, places)):
    return False  # a folder of another kind that has the name of what is imported
  standard = [sysconfig.get_path(name) for name in ('stdlib', 'platstdlib')]
  real = [pathlib.Path(os.path.realpath(place)) for place in places if place]
  return bool(real) and not any(
    path.is_relative_to(os.path.realpath(folder))
    or {'site-packages', 'dist-packages'} & set(path.parts)
    for path in real
    for folder in standard
  )


def _has_python(folder: str) -> bool:
  return any(pathlib.Path(folder).rglob('*.py'))


def _pack(key: str, tops: list[_Top], extras: Sequence[str]) -> Package:
  """The package of the folders of one distribution, or of one folder without one."""
  files: dict[str, wheels.Content] = {}
  for top in tops:
    if top.folder is None:
      files[top.file.name] = top.file
    else:
      folder = top.folder
      files |= {f'{top.name}/{name}': path for name, path in _walk(folder)}
  check_size(
    f'package {key!r}', [p for p in files.values() if not isinstance(p, bytes)]
  )
  about = _distribution(tops[0])
  version = about.version.partition('+')[0] if about else '0'
  wheel = wheels.pack(
    key.strip('_') or 'own',  # a name begins and ends with a letter or digit
    f'{version}+sha{wheels.digest(files)[:12]}',
    files,
    metadata=about.read_text('METADATA') or '' if about else '',
    entry_points=about.read_text('entry_points.txt') or '' if about else '',
  )
  missing = set() if about else _missing(tops, extras)
  return Package(
    wheel,
    str(tops[0].folder or tops[0].file),
    about is not None,
    tuple(sorted(missing)),
    _extra(missing),
  )


def _walk(folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
  """Yields (path in the folder, file), without caches and hidden files."""
  seen = set()
  for root, folders, files in os.walk(folder, followlinks=True):
    real = os.path.realpath(root)
    folders[:] = sorted(
      name
      for name in folders
      if real not in seen
      and not name.startswith('.')
      and name != '__pycache__'
      and not name.endswith('.egg-info')
    )
    if real in seen:
      continue
    seen.add(real)
    for name in sorted(files):
      path = pathlib.Path(root, name)
      if not name.startswith('.') and path.suffix != '.pyc' and path.is_file():
        yield path.relative_to(folder).as_posix(), path


def _missing(tops: list[_Top], extras: Sequence[str]) -> set[str]:
  """Distributions that a package without metadata imports, and the hosts lack."""
  known = _required('flan_jax', extras)
  missing = set()
  if not known_extras():
    return missing
  for top in tops:
    for name in _imports(top):
      owners = {wheels.stem(owner) for owner in _owners(name)}
      if owners and not owners & known and not _is_local(name):
        missing.add(min(owners))
  return missing


def known_extras() -> list[str]:
  """Extras of flan_jax; none if it is not installed, as in a bare checkout."""
  try:
    about = importlib.metadata.metadata('flan_jax')
  except importlib.metadata.PackageNotFoundError:
    return []
  return about.get_all('Provides-Extra') or []


def _extra(missing: set[str]) -> str:
  """The smallest extra of flan_jax that has all of these; '' if none has."""
  each = {e: _required('flan_jax', (e,)) for e in known_extras()} if missing else {}
  fit = [extra for extra, known in each.items() if missing <= known]
  return min(fit, key=lambda extra: len(each[extra]), default='')


def _required(name: str, extras: Sequence[str]) -> set[str]:
  """Distributions that one requires, with those that they require."""
  known: set[str] = set()
  todo = [(name, extras)]
  while todo:
    name, extras = todo.pop()
    if wheels.stem(name) in known:
      continue
    known.add(wheels.stem(name))
    try:
      requirements = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
      continue
    for line in requirements:
      wanted = re.search(r'extra\s*==\s*[\'"]([^\'"]+)', line)
      if wanted is None or wanted[1] in extras:
        head = re.match(r'[\w.-]+', line)
        todo += [(head[0], ())] if head else []
  return known


def check_size(what: str, paths: Iterable[pathlib.Path]) -> None:
  """Refuses files that are too large together to be copied to every host.

  Raises:
    InputError: if they are; names the largest.
  """
  sizes = {path: path.stat().st_size for path in paths}
  total = sum(sizes.values())
  if total > MAX_BYTES:
    largest = max(sizes, key=lambda path: sizes[path])
    raise InputError(
      f'launch: {what}: {len(sizes)} files of {size_text(total)}; at most '
      f'{size_text(MAX_BYTES)} are shipped; the largest is {str(largest)!r}, with '
      f'{size_text(sizes[largest])}: put data into gs://'
    )


def size_text(count: int) -> str:
  """A number of bytes in a readable unit."""
  for power, unit in enumerate(('B', 'kB', 'MB')):
    if count < 1000 ** (power + 1):
      return f'{count / 1000**power:.0f} {unit}'
  return f'{count / 1000**3:.1f} GB'


def listed(names: list[str], limit: int = 8) -> str:
  """Names, separated by commas; only the first of many."""
  more = f' and {len(names) - limit} more' if len(names) > limit else ''
  return ', '.join(names[:limit]) + more

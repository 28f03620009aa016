"""Modules that the user named, which register tasks, metrics and other things.

`flan ... --module PKG.MODULE` admits a module, and so does an entry point of the group
`flan_jax` in an installed package. They are imported in every process: a name travels
to worker processes in the environment.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
import traceback
import types
from collections.abc import Iterable
from typing import Any

from flan_jax.errors import InputError, did_you_mean

MACRO = 'MIXTURE_OR_TASK_MODULE'
"""Macro that names a module, as in t5x."""

GROUP = 'flan_jax'
"""Group of the entry points that name a module to import."""

_VARIABLE = 'FLAN_JAX_MODULES'

_registrations: list[str] = []
"""Module of each registration by one that is not of this package."""

_expected: dict[str, str] = {}
"""Module -> what was made with it."""


def installed() -> tuple[str, ...]:
  """Names of the modules that entry points admit."""
  return _entry_points(tuple(sys.path))


@functools.lru_cache(8)
def _entry_points(path: tuple[str, ...]) -> tuple[str, ...]:
  """Reads them from the distributions in the folders of `path`, which is sys.path."""
  points = importlib.metadata.entry_points(group=GROUP)
  return tuple(dict.fromkeys(point.module for point in points))


def named() -> tuple[str, ...]:
  """Names of the admitted modules: those of entry points, then those of the user."""
  given = filter(None, os.environ.get(_VARIABLE, '').split(os.pathsep))
  return tuple(dict.fromkeys([*installed(), *given]))


def admit(names: Iterable[str], *, setting: str = '--module') -> None:
  """Admits modules and imports them, found in the current folder too.

  Args:
    names: dotted names of modules.
    setting: name of the setting that holds them; for errors.

  Raises:
    InputError: if one cannot be imported: its own error, in one line; or if another
      module has the name of one in the current folder.
  """
  names = list(names)
  if not names:
    return
  here = os.getcwd()
  if here not in sys.path:
    sys.path.append(here)
  paths = os.environ.get('PYTHONPATH', '').split(os.pathsep)
  if here not in paths:  # for processes that this one starts
    os.environ['PYTHONPATH'] = os.pathsep.join([*filter(None, paths), here])
  for name in names:
    _refuse_another(name, setting)
    before, known = _count(), set(sys.modules)
    _import(name, setting)
    # One that another of the user's modules has imported registered then.
    if (name not in known or _is_standard(name)) and _count() == before:
      print(
        f'warning: {setting} {name}: registered nothing that flan_jax knows of',
        file=sys.stderr,
      )
  every = dict.fromkeys([*os.environ.get(_VARIABLE, '').split(os.pathsep), *names])
  os.environ[_VARIABLE] = os.pathsep.join(filter(None, every))


def note(module: str) -> None:
  """Notes that a module registers something, for the warning of one that does not."""
  if module.partition('.')[0] != __name__.partition('.')[0]:
    _registrations.append(module)


def _count() -> int:
  """Counts what has been registered: here, with gin-config and with seqio."""
  count = len(_registrations)
  if gin_config := sys.modules.get('gin.config'):
    count += sum(
      not name.startswith('gin.') for name, _ in gin_config._REGISTRY.items()
    )
  if seqio := sys.modules.get('seqio'):
    count += len(seqio.TaskRegistry.names()) + len(seqio.MixtureRegistry.names())
  return count


def _is_standard(name: str) -> bool:
  return name.partition('.')[0] in sys.stdlib_module_names


def require(names: Iterable[str], *, setting: str) -> None:
  """Imports modules that a gin file names; a file admits none by itself.

  Raises:
    InputError: if one is not admitted.
  """
  for name in names:
    if name not in named():
      raise InputError(
        f'{setting} {name!r}: not admitted; a file runs no code that the command line '
        f'has not named: give --module {name}'
      )
    _import(name, setting)


def load() -> list[types.ModuleType]:
  """Imports every admitted module; returns them in order.

  Raises:
    InputError: if one cannot be imported: its own error, in one line.
  """
  return [_import(name, 'module') for name in named()]


def expect(names: Iterable[str], *, of: str) -> None:
  """Notes the modules that a run or a model was made with, for `hint`.

  Args:
    names: dotted names of the modules.
    of: the run or model, for messages.
  """
  _expected.update(dict.fromkeys(names, of))


def forget_expected() -> None:
  """Forgets what `expect` noted: a command says nothing of those before it."""
  _expected.clear()


def hint() -> str:
  """Says what to do about a name that is not registered; '' for nothing."""
  absent = {name: of for name, of in _expected.items() if name not in named()}
  if absent:
    options = ' '.join(f'--module {name}' for name in absent)
    *_, of = absent.values()
    return f'; {of} was made with {", ".join(absent)}, which is absent: give {options}'
  return '' if named() else '; one of your own needs --module PKG.MODULE'


def _import(name: str, setting: str) -> types.ModuleType:
  if name.endswith('.py') or not all(map(str.isidentifier, name.split('.'))):
    near = name.removesuffix('.py').strip('./').replace('/', '.').replace('-', '_')
    raise InputError(
      f'{setting} {name!r}: must be the dotted name of a module, as my_package.tasks'
      + (f'; the nearest is {near}' if near != name else '')
    )
  try:
    return importlib.import_module(name)
  except InputError as error:
    raise InputError(f'{setting} {name!r}: {error}', field=error.field) from None
  except ModuleNotFoundError as error:
    if error.name and (name == error.name or name.startswith(f'{error.name}.')):
      raise InputError(
        f'{setting} {name!r}: no module {error.name!r}; must be in the current folder, '
        f'on PYTHONPATH, or installed{did_you_mean(name, _beside())}'
      ) from None
    raise _failed(name, setting, error) from error
  except (Exception, SystemExit) as error:
    raise _failed(name, setting, error) from error


def _refuse_another(name: str, setting: str) -> None:
  """Refuses the name of a module here that the import would find elsewhere."""
  here, top = pathlib.Path.cwd(), name.partition('.')[0]
  path = here.joinpath(*name.split('.'))
  inside = [path.with_suffix('.py'), path / '__init__.py']
  beside = next(filter(pathlib.Path.is_file, inside), None)
  if beside is None:
    return
  try:
    spec = importlib.util.find_spec(top)
  except (ImportError, ValueError):
    return  # the import says what is wrong
  if spec is None:
    return
  places = list(spec.submodule_search_locations or [])  # of a namespace
  if spec.origin:
    places = [spec.origin]
  own = here / beside.relative_to(here).parts[0]
  if any(pathlib.Path(place).resolve() in _files(own) for place in places):
    return
  raise InputError(
    f'{setting} {name!r}: {top!r} is {", ".join(places)}, and not {beside} of the '
    f'current folder; must have a name of its own: rename {own.name}'
  )


def _files(own: pathlib.Path) -> list[pathlib.Path]:
  """The places that a module or package can have that is imported from a path."""
  return [place.resolve() for place in (own, own / '__init__.py')]


def _beside() -> list[str]:
  """Names of the modules and packages in the current folder."""
  here = pathlib.Path.cwd()
  found = [path.stem for path in here.glob('*.py')]
  for path in here.glob('*/*.py'):
    inside = path.parent.name
    found.append(inside if path.stem == '__init__' else f'{inside}.{path.stem}')
  return found


def _failed(name: str, setting: str, error: BaseException) -> InputError:
  """The refusal of a module that raised: where, and the last line of its traceback."""
  last = traceback.extract_tb(error.__traceback__)[-1]
  if isinstance(error, SyntaxError) and error.filename:
    where = f'{error.filename}:{error.lineno}'
  else:
    where = f'{last.filename}:{last.lineno}'
  text = str(getattr(error, 'msg', error)) or type(error).__name__
  what = f'{type(error).__name__}: {text.splitlines()[0]}'
  return InputError(f'{setting} {name!r}: cannot be imported: {what} ({where})')


def provenance() -> list[dict[str, Any]]:
  """Describes the imported admitted modules: name, version, digest of the file."""
  found = []
  for name in named():
    module = sys.modules.get(name)
    file = getattr(module, '__file__', None)
    entry = {'module': name, 'version': _version(name)}
    if file and pathlib.Path(file).is_file():
      entry['sha256'] = hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()
    found.append(entry)
  return found


def _version(name: str) -> str:
  """Version of the distribution that a module belongs to; '' for none."""
  top = name.partition('.')[0]
  for distribution in importlib.metadata.distributions():
    if _installs(distribution, top):
      return distribution.version
  return str(getattr(sys.modules.get(top), '__version__', ''))


def _installs(distribution: importlib.metadata.Distribution, top: str) -> bool:
  """True if a distribution has a package or module of this name.

  `importlib.metadata.packages_distributions` makes a path of every installed file,
  which takes half a second; here their list is searched as a text.
  """
  declared = (distribution.read_text('top_level.txt') or '').split()
  if declared:
    return top in declared
  files = '\n' + (distribution.read_text('RECORD') or '')
  return f'\n{top}/' in files or f'\n{top}.py,' in files

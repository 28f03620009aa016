"""Turns on JAX's persistent compilation cache, unless the user turned it off.

The key of a program is a digest of the program, the versions, the flags and the
devices; a hit returns the machine code compiled before. All settings are environment
variables, set before jax is imported.
"""

import hashlib
import logging
import os
import pathlib
import platform
import stat
from collections.abc import Mapping
from typing import Any

LARGEST = 2 * 2**30
"""Size limit in bytes; the least recently used programs are deleted first."""

_ENABLED, _FOLDER = 'JAX_ENABLE_COMPILATION_CACHE', 'JAX_COMPILATION_CACHE_DIR'


def environment(given: Mapping[str, str]) -> dict[str, str]:
  """Returns the variables that turn the cache on; none if the user has set any.

  The folder is $XDG_CACHE_HOME/flan_jax/xla/MACHINE (~/.cache without XDG_CACHE_HOME),
  MACHINE being a digest of the processor's features: in a shared home folder, machine
  code of another processor might not run here. The folder is created if absent, for
  the user alone (mode 0700); if that fails, there is no cache. If somebody else could
  put machine code there, it is not used, and one warning says so.

  Args:
    given: environment of the process.
  """
  off = given.get(_ENABLED, '').lower() in ('0', 'false', 'off', 'no', 'n', 'f')
  if off or _FOLDER in given:
    return {}
  folder = own_folder(given, 'xla')
  if folder is None:
    return {}
  _own.append(folder)
  return {
    _FOLDER: str(folder),
    'JAX_COMPILATION_CACHE_MAX_SIZE': str(LARGEST),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.05',
  }


def own_folder(given: Mapping[str, str], kind: str) -> pathlib.Path | None:
  """The user's folder of machine code of one kind, as `environment` describes it.

  None if it cannot be made or written to, or if somebody else could write to it.
  """
  root = pathlib.Path(given.get('XDG_CACHE_HOME') or '~/.cache')
  try:
    folder = root.expanduser() / 'flan_jax' / kind / _machine()
    _create(folder)
    if not os.access(folder, os.W_OK):
      return None
    if why := _not_ours(folder.resolve()):
      logging.getLogger(__name__).warning(
        'compiled programs are not cached: %s; must be a folder that only you can '
        'write to, as that of another XDG_CACHE_HOME',
        why,
      )
      return None
    folder.chmod(0o700)
  except (OSError, RuntimeError):  # RuntimeError: no home folder
    return None
  return folder


_own: list[pathlib.Path] = []
"""Folders that `environment` has given to JAX."""


def seal() -> None:
  """Lets JAX load no entry that was written under another name, version or folder.

  JAX loads any entry that has the name of a program. Here each begins with a digest of
  the name, JAX's version and the content; one that does not is removed, and the program
  is compiled again. A folder that the user has set is left to JAX.
  """
  if not _own:
    return
  from jax._src import compilation_cache

  opened = getattr(compilation_cache, 'get_file_cache', None)
  if opened is None:  # not public: another version of JAX may have none
    return

  def sealed(path: str):
    found = opened(path)
    return None if found is None else (_Sealed(found[0]), found[1])

  compilation_cache.get_file_cache = sealed
  _own.clear()


class _Sealed:
  """JAX's cache of compiled programs, with a seal before each."""

  def __init__(self, cache: Any):
    self._cache = cache

  def __getattr__(self, name: str) -> Any:
    return getattr(self._cache, name)

  def get(self, key: str) -> bytes | None:
    found = self._cache.get(key)
    if found is None:
      return None
    value = found[_SEAL_BYTES:]
    if found[:_SEAL_BYTES] == _sealed(key, value):
      return value
    for suffix in ('cache', 'atime'):
      pathlib.Path(self._cache.path, f'{key}-{suffix}').unlink(missing_ok=True)
    return None

  def put(self, key: str, value: bytes) -> None:
    self._cache.put(key, _sealed(key, value) + value)


_SEAL_BYTES = 32


def _sealed(key: str, value: bytes) -> bytes:
  """Digest of an entry of this version of JAX."""
  import jax

  return hashlib.sha256(f'{jax.__version__}\0{key}\0'.encode() + value).digest()


def _create(folder: pathlib.Path) -> None:
  """Creates a folder and those above it, each for the user alone."""
  for path in (*reversed(folder.parents), folder):
    if not path.is_dir():
      path.mkdir(mode=0o700, exist_ok=True)


def _not_ours(folder: pathlib.Path) -> str:
  """Says why others could replace a folder or its files; '' if only root could."""
  for path in (folder, *folder.parents):
    status = path.stat()
    shown = f'{str(path)!r}'
    if status.st_uid != os.geteuid() and (status.st_uid or path == folder):
      return f'{shown} belongs to user {status.st_uid}'
    # In a sticky folder, as /tmp, only the owner of a name may replace it.
    sticky = status.st_mode & stat.S_ISVTX and path != folder
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky:
      return f'{shown} has mode {stat.S_IMODE(status.st_mode):04o}'
  return ''


def _machine() -> str:
  """A short digest of the processor's kind and features."""
  parts = [platform.machine(), platform.processor()]
  names = ('model name', 'flags', 'Features', 'CPU implementer', 'CPU part')
  try:
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as lines:
      parts += sorted({line for line in lines if line.startswith(names)})
  except OSError:
    pass
  return hashlib.sha256('\n'.join(parts).encode()).hexdigest()[:12]

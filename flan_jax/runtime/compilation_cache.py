"""Where compiled programs are kept: JAX's persistent cache, on unless it is turned off.

A program's name in it is a digest of the program, the versions, the flags and the
devices; what is found is the very machine code that was compiled before. Standard
library only: all this is environment, set before jax is imported.
"""

import hashlib
import os
import pathlib
import platform
from collections.abc import Mapping

LARGEST = 2 * 2**30
"""Bytes that are kept; what was read longest ago goes first."""

_ENABLED, _FOLDER = 'JAX_ENABLE_COMPILATION_CACHE', 'JAX_COMPILATION_CACHE_DIR'


def environment(given: Mapping[str, str]) -> dict[str, str]:
  """Variables that turn the cache on; none where the user has said where, or not to.

  The folder is $XDG_CACHE_HOME/flan_jax/xla/MACHINE (~/.cache without XDG_CACHE_HOME),
  MACHINE being a digest of what the processor can do: machine code from another one
  might not run here, where a home folder is shared. It is made if absent; where that
  fails there is no cache.

  Args:
    given: the environment.
  """
  off = given.get(_ENABLED, '').lower() in ('0', 'false', 'off', 'no', 'n', 'f')
  if off or _FOLDER in given:
    return {}
  root = pathlib.Path(given.get('XDG_CACHE_HOME') or '~/.cache')
  try:
    folder = root.expanduser() / 'flan_jax' / 'xla' / _machine()
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
      return {}
  except (OSError, RuntimeError):  # RuntimeError: nobody's home
    return {}
  return {
    _FOLDER: str(folder),
    'JAX_COMPILATION_CACHE_MAX_SIZE': str(LARGEST),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  }


def _machine() -> str:
  """A short digest of the processor's kind and features."""
  said = [platform.machine(), platform.processor()]
  names = ('model name', 'flags', 'Features', 'CPU implementer', 'CPU part')
  try:
    with open('/proc/cpuinfo', encoding='utf-8', errors='replace') as lines:
      said += sorted({line for line in lines if line.startswith(names)})
  except OSError:
    pass
  return hashlib.sha256('\n'.join(said).encode()).hexdigest()[:12]

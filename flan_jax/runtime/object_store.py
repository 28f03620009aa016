"""Bucket: a folder of an object store (gs://...) and its copy on this machine's disk.

An object cannot be appended to, and ArrayRecord and safetensors read files: a run
works on a copy under ~/.cache/flan_jax, brought in at its start and sent out whenever
it saves. Checkpoints do not pass through it: Orbax and TensorStore write them there.
"""

import os
import pathlib
from typing import NamedTuple

from etils import epath

from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file

SCHEME = 'gs://'

APART = ('checkpoints', 'checkpoints.broken', 'store')
"""What of a MODEL_DIR is not copied with it: TensorStore's, and the store."""


class Bucket:
  """A folder gs://BUCKET/PATH and its copy.

  Attributes:
    remote: the folder.
    local: the copy; made by the first `pull`.
  """

  def __init__(self, name: str, remote: str):
    """Names both; nothing is read.

    Args:
      name: of the setting, for errors.
      remote: gs://BUCKET/PATH.

    Raises:
      InputError: for another scheme, or without a bucket.
    """
    scheme, _, path = remote.partition('://')
    if f'{scheme}://' != SCHEME or not path.strip('/'):
      raise InputError(
        f'{name}: got {remote!r}; must be a folder or gs://BUCKET/PATH, as '
        f"'{SCHEME}{path.strip('/') or 'bucket/run'}' (docs/tpu.md)"
      )
    cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    self._name = name
    self.remote = epath.Path(remote.rstrip('/'))
    self.local = pathlib.Path(cache, 'flan_jax', 'gs', path.strip('/'))

  def pull(self) -> pathlib.Path:
    """Makes the copy like the folder, but for APART: what is gone there goes here.

    Returns:
      The copy; an empty folder where there is nothing yet.

    Raises:
      InputError: if the object store does not answer.
    """
    with _Answers(self._name, self.remote):
      there, here = _files(self.remote), _files(epath.Path(self.local))
      for path in here.keys() - there.keys():
        (self.local / path).unlink()
      self.local.mkdir(parents=True, exist_ok=True)
      for path, state in there.items():
        if here.get(path) != state or _grows(path):
          with atomic_file.replacing(self.local / path) as draft:
            draft.write_bytes((self.remote / path).read_bytes())
            os.utime(draft, (state.mtime, state.mtime))
    return self.local

  def push(self) -> None:
    """Sends out every file of the copy, but for APART, that is not there alike.

    Journals that are done with here go there too.

    Raises:
      InputError: if the object store does not answer.
    """
    with _Answers(self._name, self.remote):
      there = _files(self.remote)
      for path, state in _files(epath.Path(self.local)).items():
        if there.get(path) != state or _grows(path):
          # An object appears whole when its upload ends: it needs no draft.
          (self.remote / path).parent.mkdir(parents=True, exist_ok=True)
          (self.remote / path).write_bytes((self.local / path).read_bytes())
          sent = (self.remote / path).stat().mtime
          os.utime(self.local / path, (sent, sent))
      for path in there:
        if path.endswith('.journal.jsonl') and not (self.local / path).exists():
          (self.remote / path).unlink()


def here(name: str, path: str | None) -> str | None:
  """A path of this machine: a folder's own, or the copy of one of gs:// brought in.

  Raises:
    InputError: for another scheme, or if the object store does not answer.
  """
  if path is None or '://' not in path:
    return path
  return str(Bucket(name, path).pull())


def _grows(path: str) -> bool:
  """Whether a file may change within a second: small ones, copied every time."""
  return path.endswith(('.json', '.jsonl', '.gin', '.html'))


class _State(NamedTuple):
  """What tells one content of a file from another; a copy has both of the original.

  Attributes:
    size: bytes.
    mtime: of the last change, seconds since the epoch.
  """

  size: int
  mtime: int


def _files(root: epath.Path) -> dict[str, _State]:
  """Every file under a folder, by its path relative to it, but for APART."""
  found, folders = {}, ['']
  while folders:
    folder = folders.pop()
    place = root / folder if folder else root
    for path in place.iterdir() if place.is_dir() else ():
      name = f'{folder}/{path.name}' if folder else path.name
      if name in APART or atomic_file.is_temporary(name):
        continue
      if path.is_dir():
        folders.append(name)
      else:
        stat = path.stat()
        found[name] = _State(stat.length, stat.mtime)
  return found


class _Answers:
  """Turns an object store that does not answer into one clear line."""

  def __init__(self, name: str, remote: epath.Path):
    self._name, self._remote = name, remote

  def __enter__(self) -> None:
    pass

  def __exit__(self, kind, error, traceback) -> None:
    if not isinstance(error, Exception):
      return
    if isinstance(error, ImportError):
      why = "gcsfs is not installed; pip install 'flan_jax[gs]'"
    else:
      why = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
    raise InputError(f'{self._name} {str(self._remote)!r}: {why}') from None

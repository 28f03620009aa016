"""Bucket: a folder of an object store (gs://...) and its local copy.

An object cannot be appended to, and ArrayRecord and safetensors read files: a run
works on a copy under ~/.cache/flan_jax, downloaded at its start and uploaded whenever
it saves. Checkpoints do not pass through it: Orbax and TensorStore write them to gs://.
"""

import contextlib
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from etils import epath

from flan_jax.errors import InputError
from flan_jax.runtime import atomic_file, lock, network

SCHEME = 'gs://'

APART = ('checkpoints', 'checkpoints.broken', 'store', 'wandb', lock.FILE)
"""Parts of a MODEL_DIR that are not copied: TensorStore's, the store, W&B's links, the
lock."""


class Bucket:
  """A folder gs://BUCKET/PATH and its local copy.

  Attributes:
    remote: the folder.
    local: the copy; created by the first `pull`.
  """

  def __init__(self, name: str, remote: str):
    """Sets the two paths; reads nothing.

    Args:
      name: name of the setting, for errors.
      remote: gs://BUCKET/PATH.

    Raises:
      InputError: if the scheme is another, the bucket is missing, or the path has a
        part `.` or `..`.
    """
    scheme, _, path = remote.partition('://')
    if f'{scheme}://' != SCHEME or not path.strip('/'):
      raise InputError(
        f'{name}: got {remote!r}; must be a folder or gs://BUCKET/PATH, as '
        f"'{SCHEME}{path.strip('/') or 'bucket/run'}' (docs/howto/tpu.md)",
        field=name,
      )
    if outside := [part for part in path.split('/') if part in ('.', '..')]:
      raise InputError(
        f'{name}: got {remote!r}; must have no {outside[0]!r} in it, as '
        f'{SCHEME + os.path.normpath("/" + path).strip("/")!r}',
        field=name,
      )
    cache = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
    self._name = name
    self.remote = epath.Path(remote.rstrip('/'))
    self._cache = pathlib.Path(cache, 'flan_jax', 'gs')
    self.local = self._cache / path.strip('/')

  def pull(self) -> pathlib.Path:
    """Makes the copy equal to the folder, except for APART; deletes extra files.

    Returns:
      The copy; empty if the folder does not exist yet.

    Raises:
      InputError: if the object store does not answer, or a link or a name leads out
        of the copy.
    """
    with self._answers() as copying:
      there, here = _files(self.remote), _files(epath.Path(self.local))
      for path in here.keys() - there.keys():
        self._inside(path).unlink()
      self._inside('.').mkdir(parents=True, exist_ok=True)
      for path, state in there.items():
        if here.get(path) != state or _grows(path):
          copying(path)
          with atomic_file.replacing(self._inside(path)) as draft:
            draft.write_bytes((self.remote / path).read_bytes())
            os.utime(draft, (state.mtime, state.mtime))
    return self.local

  def push(self) -> None:
    """Uploads every file of the copy that differs in the folder, except for APART.

    Deletes journals from the folder that are finished here.

    Raises:
      InputError: if the object store does not answer.
    """
    with self._answers() as copying:
      there = _files(self.remote)
      for path, state in _files(epath.Path(self.local)).items():
        if there.get(path) != state or _grows(path):
          # An object appears whole when its upload ends: no draft needed.
          copying(path)
          (self.remote / path).parent.mkdir(parents=True, exist_ok=True)
          (self.remote / path).write_bytes((self.local / path).read_bytes())
          sent = (self.remote / path).stat().mtime
          os.utime(self.local / path, (sent, sent))
      for path in there:
        if path.endswith('.journal.jsonl') and not (self.local / path).exists():
          (self.remote / path).unlink()

  def _inside(self, path: str) -> pathlib.Path:
    """The local copy of a file, whose folder is inside the copy.

    Raises:
      InputError: if it is not, by a link or by its name.
    """
    found = self.local / path
    folder = self.local if path == '.' else found.parent
    top = self._cache if path == '.' else self.local
    if '..' in path.split('/') or not folder.resolve().is_relative_to(top.resolve()):
      raise InputError(
        f'{self._name} {str(self.remote)!r}: {path!r} leads out of the local copy '
        f'{str(self.local)!r}, to {str(folder.resolve())!r}; must stay inside it',
        field=self._name,
      )
    return found

  @contextlib.contextmanager
  def _answers(self) -> Iterator[Callable[[str], None]]:
    """Reaches the folder, and says what a slow block waits for.

    Yields:
      A function that takes the path of the file being copied.

    Raises:
      InputError: at any error of the object store, or if it does not answer.
    """
    now = [str(self.remote)]
    with network.answers(self._name, self.remote):
      network.within(f'{self._name} {str(self.remote)!r}', lambda: _reach(self.remote))
      with network.waiting(lambda: now[0]):
        yield lambda path: now.__setitem__(0, f'{self.remote}/{path}')


def _reach(folder: epath.Path) -> None:
  """Asks for a folder; raises if the object store cannot be reached."""
  if not folder.is_dir():  # TensorFlow's answer, too, if nothing answers
    with contextlib.suppress(FileNotFoundError):
      folder.stat()


def here(name: str, path: str | None) -> str | None:
  """Returns a local path: the path itself, or a downloaded copy of a gs:// folder.

  Raises:
    InputError: if the scheme is another, or the object store does not answer.
  """
  if path is None or '://' not in path:
    return path
  return str(Bucket(name, path).pull())


def _grows(path: str) -> bool:
  """Returns whether a file may change within a second; such files are always copied."""
  return path.endswith(('.json', '.jsonl', '.gin', '.html'))


class _State(NamedTuple):
  """Size and time of a file; a copy with both equal has equal content.

  Attributes:
    size: bytes.
    mtime: time of the last change, seconds since the epoch.
  """

  size: int
  mtime: int


def _files(root: epath.Path) -> dict[str, _State]:
  """Every file under a folder, by its relative path, except for APART."""
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

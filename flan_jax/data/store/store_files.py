"""Files of a store: sizes checked when it is opened, content when it is read.

The manifest has the size of every file and the digest of the evaluation examples;
flan_checksums.json has the checksums of every file but the shards, whose records have
their own.
"""

import hashlib
import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.data.store import shard as shard_lib
from flan_jax.errors import InputError
from flan_jax.runtime import checksums, input_file

MANIFEST = 'manifest.json'
_RECORDS = '.array_record'


def record(folder: pathlib.Path, files: Sequence[str]) -> None:
  """Writes the checksums of a store.

  Args:
    folder: folder of the store.
    files: names of its files, of which shards are left out.
  """
  checked = [name for name in files if not name.endswith(_RECORDS)]
  checksums.record(folder, [*checked, MANIFEST])


def drop_damaged_list(folder: pathlib.Path) -> None:
  """Removes the list of checksums if it is damaged itself, for a repair."""
  try:
    checksums.of(folder)
  except checksums.Damaged:
    checksums.remove(folder)


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
  """Reads manifest.json.

  Raises:
    Damaged: if it is damaged: it cannot be rebuilt.
    InputError: if it is no JSON object.
  """
  try:
    return input_file.read_object(folder / MANIFEST)
  except checksums.Damaged as error:
    cure = 'restore it from a copy, or materialize into a new directory'
    if error.path.name == checksums.FILE:
      cure = _rebuilt(folder)
    name = f'store {str(folder)!r}: {error.path.name}'
    raise checksums.Damaged(name, error.why, cure) from None


def _rebuilt(path: pathlib.Path) -> str:
  return f'`flan materialize --repair --out {path}` rebuilds just it'


class StoreFiles:
  """The files of a store.

  Attributes:
    path: folder of the store.
    cure: remedy for a damaged shard, for messages.
  """

  def __init__(self, path: pathlib.Path, manifest: Mapping[str, Any]):
    self.path = path
    self.cure = _rebuilt(path)
    self._manifest = manifest

  def check_size(self, name: str) -> None:
    """Checks the size of one file.

    Raises:
      InputError: if it differs from the manifest; names what is lost with the file.
    """
    file = self.path / name
    size = self._manifest['files'][name]
    got = file.stat().st_size if file.is_file() else 'no'
    if got == size:
      return
    dataset = file.name.partition('.')[0]
    examples = self._manifest['datasets'].get(dataset, {'examples': 0})['examples']
    lost = ''
    if file.parent.name == 'train':
      lost = f'; the {examples:,} examples of that shard are lost'
    raise self.error(name, f'{name} has {got} bytes, the manifest says {size}{lost}')

  def read(self, name: str, *, digest: str | None = None) -> bytes:
    """Reads a whole file.

    Args:
      name: name of the file in the store.
      digest: its SHA-256 (hex) in the manifest; None if that has none.

    Raises:
      InputError: if it is missing or damaged.
    """
    try:
      data = (self.path / name).read_bytes()
    except OSError as error:
      raise self.error(name, f'{name} cannot be read ({error.strerror})') from None
    if digest is not None:
      if hashlib.sha256(data).hexdigest() != digest:
        raise self.error(name, f'{name} is damaged: it is not that of the manifest')
      return data
    known = checksums.of(self.path)
    if known is not None:
      try:
        known.check(name, data)
      except checksums.Damaged as error:
        raise self.error(name, f'{name} {error.why}') from None
    return data

  def is_whole(self, name: str, folder: pathlib.Path | None = None) -> bool:
    """Returns whether a file has the size and the checksums of this store's.

    Args:
      name: name of the file in the store.
      folder: another folder to look in.
    """
    path = (folder or self.path) / name
    if not path.is_file() or path.stat().st_size != self._manifest['files'][name]:
      return False
    known = checksums.of(self.path)
    return known is None or known.is_whole(name, path)

  def index(self, dataset: str, epoch: int) -> np.ndarray:
    """Reads the index of a shard.

    Raises:
      InputError: if it is damaged.
    """
    name = f'train/{shard_lib.index_file(dataset, epoch)}'
    data = io.BytesIO(self.read(name))
    try:
      return np.load(data)
    except shard_lib.DAMAGE as error:
      why = str(error).splitlines() or [type(error).__name__]
      raise self.error(name, f'{name} is damaged ({why[0]})') from None

  def error(self, name: str, what: str) -> InputError:
    """The error for a damaged file, and what helps."""
    rebuilt = '/' in name  # not the tokenizer, nor the chat template
    cure = self.cure if rebuilt else 'restore it from a copy: it cannot be rebuilt'
    return InputError(f'store {str(self.path)!r}: {what}; {cure}')

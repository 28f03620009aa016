"""Hugging Face datasets as a source: a name on the hub, or a saved folder.

Records are read from Arrow files, memory-mapped and in batches, by the `datasets`
package, which runs no code from the hub. Features come as the files have them: a
ClassLabel is an int, a nested feature a dict or list, an image its bytes.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import multiprocessing
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from flan_jax.catalog.fields import Record
from flan_jax.data.sources import files
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import network

_BATCH = 256
_HUB_NAME = re.compile(r'[\w-][\w.-]*(/[\w-][\w.-]*)?')
_SPLIT = re.compile(r'\w+')
_THEIR_SPLIT = re.compile(r'\w+(\.\w+)*')
_SAVED = ('dataset_dict.json', 'state.json')
"""Files of a folder saved by `DatasetDict.save_to_disk`, `Dataset.save_to_disk`."""


@dataclasses.dataclass(frozen=True)
class HuggingFace:
  """A dataset of the Hugging Face hub, or a folder saved by `datasets`.

  Attributes:
    path: name on the hub, as `super_glue` or `user/name`; or the folder of a
      `save_to_disk`, relative to the declaring module's folder or the current one.
    config: configuration on the hub, as `rte`.
    revision: commit, tag or branch on the hub; None for the newest commit.
    split: the one split to read, then called `train`; or name -> split of the dataset;
      None for all under their own names.
    folder: start of a relative path; by default the folder of the declaring module.
  """

  path: str
  config: str | None = None
  revision: str | None = None
  split: str | Mapping[str, str] | None = None
  folder: str = dataclasses.field(default='', kw_only=True)

  def __post_init__(self):
    if not isinstance(self.path, (str, os.PathLike)) or not os.fspath(self.path):
      raise InputError(
        f'HuggingFace: path {self.path!r}; must be a name on the hub, as '
        "'user/name', or a folder saved by `datasets`"
      )
    object.__setattr__(self, 'path', os.fspath(self.path))
    for setting in ('config', 'revision'):
      value = getattr(self, setting)
      if value is not None and (not isinstance(value, str) or not value):
        raise InputError(
          f'HuggingFace {self.path!r}: {setting} {value!r}; must be a text, or None'
        )
    for name, split in self._named().items():
      if not (_SPLIT.fullmatch(str(name)) and _THEIR_SPLIT.fullmatch(str(split))):
        raise InputError(
          f'HuggingFace {self.path!r}: split {self.split!r}; must be the name of a '
          "split, or a mapping, as {'train': 'train_sft'}; a Dataset takes parts of "
          "one, as train='train[:-200]'"
        )
    if not self.folder:
      object.__setattr__(self, 'folder', files.declaring_folder())

  def __str__(self) -> str:
    if self._saved() is not None:
      return self.path
    commit = self.revision or getattr(_builders.get(self._key), 'hash', None)
    name = '/'.join(filter(None, (self.path, self.config)))
    return f'{name} of the Hugging Face hub' + (f', {commit}' if commit else '')

  def sizes(self) -> Mapping[str, int]:
    """Split -> number of its records; of the hub, before any is downloaded."""
    if self._saved() is None and self._key not in _downloaded:
      listed = self._builder().info.splits or {}
      counts = {name: info.num_examples for name, info in listed.items()}
      if counts and all(counts.values()):
        return {name: counts[theirs] for name, theirs in self._chosen(counts).items()}
    return {name: len(split) for name, split in self._splits().items()}

  def records(self, split: str) -> Iterator[tuple[str, Record]]:
    """Yields (id, record) of a split; the id is `split.position`."""
    position = 0
    for batch in self._splits()[split].with_format('arrow').iter(_BATCH):
      for record in batch.to_pylist():
        yield f'{split}.{position}', record
        position += 1

  def where(self, example_id: str) -> str:
    """Place of a record, as `datasets` would index it."""
    split, position = example_id.rsplit('.', 1)
    saved = self._saved()
    return f'{self.path if saved is None else saved}, {split}[{position}]'

  def stamp(self) -> str:
    """Digest (hex) of the names, sizes and times of the files, or of the commit."""
    saved = self._saved()
    return self.digest() if saved is None else _hash(_states(saved))

  def digest(self) -> str:
    """Digest (hex) of the contents of the files, or of the commit on the hub."""
    if self._saved() is None:
      return _hash([self.path, self.config, self._builder().hash, self._named()])
    contents = {
      name: [
        files.content_digest(files.state(part['filename'])) for part in data.cache_files
      ]
      for name, data in self._splits().items()
    }
    return _hash(contents)

  def _named(self) -> Mapping[str, str]:
    """Name of a split here -> its name in the dataset; empty for all of them."""
    if self.split is None:
      return {}
    return self.split if isinstance(self.split, Mapping) else {'train': self.split}

  def _chosen(self, there: Mapping[str, Any]) -> Mapping[str, str]:
    """Name of a split here -> its name in the dataset, which has those of `there`."""
    named = self._named() or {name: name for name in there}
    for theirs in named.values():
      if theirs not in there:
        raise InputError(
          f'{self}: no split {theirs!r}; must be one of {", ".join(there)}'
          + did_you_mean(theirs, there)
        )
    return named

  @property
  def _key(self) -> tuple[str, str | None, str | None]:
    return self.path, self.config, self.revision

  def _splits(self) -> dict[str, Any]:
    """Split -> its `datasets.Dataset`."""
    saved = self._saved()
    if saved is None:
      there = _download(self._key, self._builder())
    else:
      there = _load(saved, tuple(_states(saved)))
    return {name: there[theirs] for name, theirs in self._chosen(there).items()}

  def _builder(self) -> Any:
    return _look_up(self._key)

  def _saved(self) -> str | None:
    """The folder that `path` names; None for a name on the hub.

    Raises:
      InputError: if it is neither.
    """
    path = os.path.expanduser(self.path)
    for start in dict.fromkeys((self.folder, '')):
      folder = os.path.join(start, path)
      if not os.path.isdir(folder):
        continue
      if not any(os.path.isfile(os.path.join(folder, name)) for name in _SAVED):
        raise InputError(
          f'HuggingFace {self.path!r}: folder {folder!r} was not saved by `datasets`; '
          f'must have {" or ".join(_SAVED)} of a save_to_disk; Json, Csv and Parquet '
          'read files'
        )
      if self.config or self.revision:
        raise InputError(
          f'HuggingFace {self.path!r}: is the folder {folder!r}, which has no config '
          'and no revision; must be given without them'
        )
      return folder
    if not _HUB_NAME.fullmatch(self.path):
      raise InputError(
        f'HuggingFace {self.path!r}: no such folder, and no name on the hub, as '
        f"'user/name'; looked in {self.folder or '.'}"
      )
    return None


_builders: dict[tuple, Any] = {}
_downloaded: dict[tuple, Any] = {}


def _hash(value: Any) -> str:
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _states(folder: str) -> list[tuple[str, int, str]]:
  """(name, size, time) of every file below a folder, sorted."""
  paths = (
    os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names
  )
  return [
    (os.path.relpath(found.path, folder), found.size, found.changed)
    for found in map(files.state, sorted(paths))
  ]


def _package() -> Any:
  try:
    import datasets
  except ModuleNotFoundError as error:
    raise InputError(
      f'module {error.name!r}: not installed; Hugging Face datasets need it: pip '
      "install 'flan_jax[datasets]'"
    ) from None
  return datasets


@functools.lru_cache(maxsize=256)
def _load(folder: str, states: tuple) -> Mapping[str, Any]:
  """Split -> dataset of a saved folder, in the state that its files are in."""
  del states
  package = _package()
  try:
    found = package.load_from_disk(folder)
  except Exception as error:  # of Arrow, of a missing file, of unknown features
    raise InputError(
      f'{folder}: not a whole folder of a save_to_disk ({_one_line(error)})'
    ) from None
  if isinstance(found, package.DatasetDict):
    return found
  name = str(found.split)
  return {name if _SPLIT.fullmatch(name) and found.split else 'train': found}


def _look_up(key: tuple[str, str | None, str | None]) -> Any:
  """The builder of a dataset on the hub; says if no revision pins it."""
  if key in _builders:
    return _builders[key]
  path, config, revision = key
  with _refusals(key):
    package = _package()
    builder = network.within(
      f'{path} of the Hugging Face hub',
      lambda: package.load_dataset_builder(path, config, revision=revision),
    )
  if revision is None and multiprocessing.parent_process() is None:
    logging.getLogger(__name__).warning(
      '%s: no revision is given; reads the newest, revision=%r', path, builder.hash
    )
  return _builders.setdefault(key, builder)


def _download(key: tuple[str, str | None, str | None], builder: Any) -> Any:
  """Split -> dataset of a builder, from its cache or the hub."""
  if key not in _downloaded:
    with _refusals(key), network.waiting(lambda: f'{key[0]} of the Hugging Face hub'):
      builder.download_and_prepare()
      _downloaded[key] = builder.as_dataset()
  return _downloaded[key]


@contextlib.contextmanager
def _refusals(key: tuple[str, str | None, str | None]) -> Iterator[None]:
  """Turns what `datasets` raises into one line, without the lines of its retries."""
  path, config, _ = key
  logger = logging.getLogger('huggingface_hub')
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  except InputError:
    raise
  except Exception as error:  # a builder may raise anything
    name = '/'.join(filter(None, (path, config)))
    kinds = {kind.__name__ for kind in type(error).__mro__}
    remedy = ''
    if kinds & {'ConnectionError', 'OfflineModeIsEnabled', 'TimeoutError'}:
      remedy = (
        '; rerun when the hub can be reached, or give a folder that '
        '`datasets.load_dataset(...).save_to_disk(FOLDER)` wrote elsewhere'
      )
    raise InputError(f'HuggingFace {name!r}: {_one_line(error)}{remedy}') from None
  finally:
    logger.setLevel(level)


def _one_line(error: Exception) -> str:
  text = ' '.join(str(error).split())
  return text[:300].rstrip('.') or type(error).__name__

"""A file and nothing else: a dataset of two columns, without any declaration."""

import os
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from flan_jax.catalog import registry
from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.template import Template
from flan_jax.data.sources.files import SPLITS, Csv, Files, Json, Parquet
from flan_jax.errors import InputError, did_you_mean

_declared: dict[str, Dataset] = {}
_arguments: dict[str, dict[str, Any]] = {}


def carried() -> tuple[Dataset, ...]:
  """Datasets that a worker process must be given: no module declares them."""
  return tuple(_declared.values())


def recorded(names: Iterable[str]) -> dict[str, Any]:
  """The entry of a manifest that `restore` declares such datasets from; {} for none."""
  found = {name: _arguments[name] for name in names if name in _arguments}
  return {'file_tasks': found} if found else {}


def restore(manifest: Mapping[str, Any]) -> None:
  """Declares the datasets of files alone that a store was made of, unless declared.

  Raises:
    InputError: as `declare`.
  """
  for name, arguments in manifest.get('file_tasks', {}).items():
    if registry.find(name) is None:
      declare(**arguments)


FORMATS: dict[str, type[Files]] = {
  '.jsonl': Json,
  '.json': Json,
  '.csv': Csv,
  '.tsv': Csv,
  '.parquet': Parquet,
}
"""Suffix of a file -> its source; `.gz` may follow it."""


def is_file(name: str) -> bool:
  """Returns whether the name of a mixture or dataset is that of a file."""
  return _format(name) is not None


def declare(
  path: str,
  *,
  inputs: str = 'inputs',
  targets: str = 'targets',
  validation: str | float | None = None,
) -> Dataset:
  """Declares and registers a file, or several by a pattern, as a dataset.

  Its name is that of the file, or of its folder if the file is named after a split.

  Args:
    path: file or pattern, as `data/train.jsonl` or `data/own.{split}.csv`.
    inputs: column of the prompt.
    targets: column of the answer.
    validation: file or pattern of the examples that do not train; or the share of the
      examples of `path`, or their number, taken from its end; None for those that
      `{split}` finds.

  Raises:
    InputError: if there is no such file, a column is missing, or the share is none.
  """
  kind = _format(path)
  assert kind is not None, path
  here = os.getcwd()
  source = kind(path, folder=here)
  train = dev = None
  if isinstance(validation, str):
    if _format(validation) is not kind:
      raise InputError(
        f'VALIDATION {validation!r}: must be a file of the same format as {path!r}, '
        'or the share of its examples, as 0.05',
        field='VALIDATION',
      )
    source = kind({'train': path, 'validation': validation}, folder=here)
    if not source.sizes()['validation']:
      raise InputError(
        f'VALIDATION {validation!r}: no record; must have at least one',
        field='VALIDATION',
      )
  elif validation is not None:
    size = source.sizes().get('train', 0)
    count = validation if isinstance(validation, int) else round(size * validation)
    if not 0 < count < size:
      raise InputError(
        f'VALIDATION {validation!r}: {count:,} of the {size:,} examples of {path!r}; '
        'must leave some on both sides',
        field='VALIDATION',
      )
    train, dev = f'train[:-{count}]', f'train[-{count}:]'
  _check_columns(source, path, {'INPUTS': inputs, 'TARGETS': targets})
  name = _name(path)
  dataset = Dataset(
    name=name,
    cluster=name,
    source=source,
    fields={'inputs': inputs, 'targets': targets},
    answer=Text('{targets}'),
    metric='exact_match',
    templates=(Template('{inputs}', '{targets}'),),
    train=train,
    dev=dev,
  )
  registry.register(dataset, replace=True)
  _declared[name] = dataset
  others = validation if isinstance(validation, str) else None
  _arguments[name] = {
    'path': _absolute(path),
    'inputs': inputs,
    'targets': targets,
    'validation': validation if others is None else _absolute(others),
  }
  return dataset


def _format(name: str) -> type[Files] | None:
  suffixes = [suffix for suffix in pathlib.PurePath(name).suffixes if suffix != '.gz']
  return FORMATS.get(suffixes[-1]) if suffixes else None


def _absolute(path: str) -> str:
  return path if '://' in path else os.path.abspath(path)


def _name(path: str) -> str:
  """A dataset's name, of the letters of the file's."""
  pure = pathlib.PurePath(path.replace('{split}', ''))
  stem = pure.name.partition('.')[0]
  if stem in ('', '*', *SPLITS):
    stem = pathlib.Path(path).absolute().parent.name
  return re.sub(r'\W+', '_', stem).strip('_') or 'own'


def _check_columns(source: Files, path: str, columns: dict[str, str]) -> None:
  """Refuses columns that the first record lacks."""
  _, record = next(source.records('train'), ('', None))
  if record is None:
    raise InputError(f'{path}: no record; must have at least one')
  for macro, column in columns.items():
    if column not in record:
      chat = '; chats are not read yet' if 'messages' in record else ''
      raise InputError(
        f'{source.where("train.0.0")}: no column {column!r}; must be one of '
        f'{", ".join(map(str, record))}, named by {macro}'
        f'{did_you_mean(column, map(str, record))}{chat}',
        field=macro,
      )

"""Schema: the features that a prepared TFDS dataset has, and the paths read from them.

TFDS writes `features.json` beside the records. Reading it needs no TensorFlow, so a
path that no record has is found before any record is read.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from flan_jax.catalogue import Dataset
from flan_jax.errors import InputError, did_you_mean
from flan_jax.fields import Choice, Field, Label

_DEFAULT_DATA_DIR = '~/tensorflow_datasets'


def directory(data_dir: str | None = None) -> str:
  """Where TFDS reads: `data_dir`, or `TFDS_DATA_DIR`, or TFDS's own default."""
  found = data_dir or os.environ.get('TFDS_DATA_DIR') or _DEFAULT_DATA_DIR
  return found if '://' in found else os.path.abspath(os.path.expanduser(found))


def paths(dataset: Dataset) -> Iterator[tuple[str, str]]:
  """Yields (setting of the declaration, path that it reads in a record).

  The empty path, the whole record, is left out: what reads it names its own features.
  """
  for name, field in dataset.fields.items():
    path = field.path if isinstance(field, Field) else field
    if path:
      yield f'fields[{name!r}]', path
  if isinstance(dataset.answer, Label | Choice) and dataset.answer.path:
    yield 'answer', dataset.answer.path
  options = dataset.answer.options if isinstance(dataset.answer, Choice) else ''
  if isinstance(options, str) and options:
    yield 'answer.options', options


def check(dataset: Dataset, *, data_dir: str | None = None) -> None:
  """Checks every path of a declaration against the features of the prepared data.

  Does nothing where they are not known: a dataset that is generated or not prepared.

  Args:
    dataset: the declaration.
    data_dir: TFDS data directory; None for `TFDS_DATA_DIR` or TFDS's own default.

  Raises:
    InputError: if no record has one of the paths; names the nearest feature.
  """
  features = _features(dataset, data_dir)
  if features is None:
    return
  for setting, path in paths(dataset):
    found = _missing(path, features)
    if found is not None:
      key, legal = found
      raise InputError(
        f'dataset {dataset.name!r}: {setting} is {path!r}; the records of '
        f'{dataset.tfds} have no {key!r}, but {", ".join(legal)}'
        + did_you_mean(key, legal)
      )


def _features(dataset: Dataset, data_dir: str | None) -> Mapping[str, Any] | None:
  """The content of features.json; None where the dataset is not prepared."""
  if not dataset.tfds:
    return None
  name = dataset.tfds.replace(':', '/')
  path = pathlib.Path(directory(data_dir)) / name / 'features.json'
  if not path.is_file():
    return None
  return json.loads(path.read_text(encoding='utf-8'))


def _missing(path: str, feature: Mapping[str, Any]) -> tuple[str, list[str]] | None:
  """(first key of `path` that is not there, the keys that are); None if all are.

  What is inside a feature of another kind than a dictionary or a sequence is not known,
  and taken to be there.
  """
  for key in path.split('/'):
    if 'sequence' in feature:
      feature = feature['sequence']['feature']
      if key.lstrip('-').isdigit():
        continue
    if 'featuresDict' not in feature:
      return None
    legal = feature['featuresDict']['features']
    if key not in legal:
      return key, sorted(legal)
    feature = legal[key]
  return None

"""Features of a prepared TFDS dataset, and the paths that a declaration reads.

TFDS writes `features.json` beside the records. Reading it needs no TensorFlow, so an
unknown path is found before any record is read.
"""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flan_jax.catalog.answers import Choice, Label, Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.errors import InputError, did_you_mean

_DEFAULT_DATA_DIR = '~/tensorflow_datasets'


def directory(data_dir: str | None = None) -> str:
  """The data directory: `data_dir`, or `TFDS_DATA_DIR`, or TFDS's own default."""
  found = data_dir or os.environ.get('TFDS_DATA_DIR') or _DEFAULT_DATA_DIR
  return found if '://' in found else os.path.abspath(os.path.expanduser(found))


class Fault(NamedTuple):
  """A mistake in a declaration that the prepared records show.

  Attributes:
    rule: key of `flan_jax.catalog.lint.RULES`.
    message: one line, without the name of the dataset.
  """

  rule: str
  message: str


def paths(dataset: Dataset) -> Iterator[tuple[str, str]]:
  """Yields (setting of the declaration, path that it reads in a record).

  Covers the fields, their cleanings (`Clean.paths`, set by functions that read several
  places, as `extracts.cut`), the answer and the evidence. The empty path, the whole
  record, is left out.
  """
  for name in dataset.fields:
    field = dataset.field(name)
    for path in (field.path, *field.paths):
      if path:
        yield f'fields[{name!r}]', path
  answer, evidence = dataset.answer, dataset.evidence
  settings: dict[str, Any] = {}
  if isinstance(answer, Label | Choice):
    settings['answer'] = answer.path
  if isinstance(answer, Choice):
    settings['answer.options'] = answer.options
  if isinstance(answer, Text):
    settings['answer.references'] = answer.references
  if evidence is not None:
    settings['evidence.start'] = evidence.start
    settings['evidence.stop'] = evidence.stop
    settings['evidence.texts'] = evidence.texts
  for setting, path in settings.items():
    if isinstance(path, str) and path:
      yield setting, path


def faults(dataset: Dataset, *, data_dir: str | None = None) -> Iterator[Fault]:
  """Yields the settings that contradict the features of the prepared data.

  Yields nothing if the dataset is generated or not prepared.

  Args:
    dataset: the declaration.
    data_dir: TFDS data directory; None for `TFDS_DATA_DIR` or TFDS's own default.
  """
  features = _features(dataset, data_dir)
  if features is None:
    return
  for setting, path in paths(dataset):
    found, key, legal = _walk(path, features)
    if legal:
      yield Fault(
        'unknown-path',
        f'{setting} is {path!r}; the records of {dataset.tfds} have no {key!r}, but '
        f'{", ".join(legal)}' + did_you_mean(key, legal),
      )
    elif setting == 'answer' and isinstance(dataset.answer, Label):
      yield from _labels(dataset.answer, found, dataset.tfds)


def _labels(answer: Label, feature: Mapping[str, Any], tfds: str) -> Iterator[Fault]:
  """Label words that are not one a class; a custom `read` may merge classes."""
  classes = int(feature.get('classLabel', {}).get('numClasses', 0))
  if classes and answer.read is int and len(answer.words) != classes:
    yield Fault(
      'label-count',
      f'answer {answer.path!r} has {classes} classes in {tfds}, and '
      f'{len(answer.words)} label words ({", ".join(answer.words)}); must be {classes}',
    )


def check(dataset: Dataset, *, data_dir: str | None = None) -> None:
  """Checks a declaration against the features of the prepared data, if prepared.

  Args:
    dataset: the declaration.
    data_dir: TFDS data directory; None for `TFDS_DATA_DIR` or TFDS's own default.

  Raises:
    InputError: at the first fault; names the nearest feature.
  """
  for fault in faults(dataset, data_dir=data_dir):
    raise InputError(f'dataset {dataset.name!r}: {fault.message}')


def _features(dataset: Dataset, data_dir: str | None) -> Mapping[str, Any] | None:
  """The content of features.json; None if the dataset is not prepared."""
  if not dataset.tfds:
    return None
  name = dataset.tfds.replace(':', '/')
  path = pathlib.Path(directory(data_dir)) / name / 'features.json'
  if not path.is_file():
    return None
  return json.loads(path.read_text(encoding='utf-8'))


def _walk(
  path: str, feature: Mapping[str, Any]
) -> tuple[Mapping[str, Any], str, list[str]]:
  """Follows `path` from `feature`.

  Only dictionaries and sequences are followed; any path into another feature counts as
  known.

  Returns:
    (feature at the end of the path, {} if unknown; first unknown key, '' for none; the
    known keys in its place).
  """
  for key in path.split('/'):
    if 'sequence' in feature:
      feature = feature['sequence']['feature']
      if key.lstrip('-').isdigit():
        continue
    if 'featuresDict' not in feature:
      return {}, '', []
    legal = feature['featuresDict']['features']
    if key not in legal:
      return {}, key, sorted(legal)
    feature = legal[key]
  return feature, '', []

"""Raw records of a dataset, from TFDS (through the seqio source) or its own source.

Only reading a TFDS dataset imports TensorFlow.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

from flan_jax.catalog import splits as splits_lib
from flan_jax.catalog import tfds_features
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.fields import Record, Unlabeled
from flan_jax.catalog.source import SeqioTask, Source, Tfds
from flan_jax.errors import InputError, did_you_mean

BAD = (ValueError, TypeError, AttributeError, LookupError)
"""Errors of a declaration on a record that it does not describe."""


def _tfds():
  try:
    from flan_jax.data import tfds_source
  except ModuleNotFoundError as error:
    raise InputError(
      f'module {error.name!r}: not installed; raw TFDS data needs it: '
      "pip install 'flan_jax[data]'"
    ) from None
  return tfds_source


def records(
  dataset: Dataset, split: str, *, data_dir: str | None = None
) -> Iterator[tuple[str, Record]]:
  """Yields (example id, record) of a canonical split, in stored order.

  Args:
    dataset: the declaration.
    split: `train`, `dev` or `test`.
    data_dir: TFDS data directory; None for TFDS's own default.

  Raises:
    InputError: if the dataset is not prepared; names the command that prepares it.
  """
  if isinstance(dataset.source, Tfds):
    return _tfds().records(dataset, split, data_dir=data_dir)
  source = _source(dataset, data_dir)
  present = source.sizes()
  part = dataset.resolve_splits(present)[split]
  start, stop = part.bounds(present.get(part.split, 0))
  return itertools.islice(source.records(part.split), start, stop)


def _source(dataset: Dataset, data_dir: str | None) -> Source:
  if dataset.source is None or isinstance(dataset.source, Tfds):
    raise InputError(
      f'dataset {dataset.name!r}: no source; must have one, as '
      "source=Json('data/{split}.jsonl')"
    )
  if isinstance(dataset.source, SeqioTask):
    return dataclasses.replace(dataset.source, data_dir=data_dir)
  return dataset.source


def sizes(dataset: Dataset, *, data_dir: str | None = None) -> Mapping[str, int]:
  """Split of the source -> number of examples present.

  Raises:
    InputError: if the dataset is not prepared (names the command that prepares it), or
      its records lack a path that the declaration reads.
  """
  if not isinstance(dataset.source, Tfds):
    found = dict(_source(dataset, data_dir).sizes())
    _check_splits(dataset, found)
    _check_columns(dataset)
    return found
  found = _tfds().sizes(dataset, data_dir=data_dir)
  tfds_features.check(dataset, data_dir=data_dir)
  return found


def _check_splits(dataset: Dataset, found: Mapping[str, int]) -> None:
  """Refuses slices of splits that the source lacks; declared sizes may exceed it.

  Raises:
    InputError: names the setting and the nearest split.
  """
  for setting, text in dataset.slices.items():
    split = splits_lib.parse(text).split
    if split not in found and not dataset.sizes:
      raise InputError(
        f'dataset {dataset.name!r}: {setting} is {text!r}; {dataset.source} has no '
        f'split {split!r}, but {", ".join(found) or "none"}'
        + did_you_mean(split, found)
      )


def _check_columns(dataset: Dataset) -> None:
  """Refuses paths of a declaration that the first record of files lacks.

  Raises:
    InputError: names the setting, the place of the record, and the nearest column.
  """
  place = getattr(dataset.source, 'where', None)
  if place is None:
    return
  for split in dataset.slices:
    for example_id, record in itertools.islice(records(dataset, split), 1):
      for setting, path in tfds_features.paths(dataset):
        value, keys = record, path.split('/')
        while keys and isinstance(value, Mapping) and keys[0] in value:
          value = value[keys.pop(0)]
        if keys and isinstance(value, Mapping):
          raise InputError(
            f'dataset {dataset.name!r}: {setting} is {path!r}; {place(example_id)} has '
            f'no {keys[0]!r}, but {", ".join(map(str, value))}'
            + did_you_mean(keys[0], map(str, value))
          )


def stamp(dataset: Dataset, *, data_dir: str | None = None) -> str:
  """Stamp of the raw data files on this machine; changes when the data changes.

  It decides whether interrupted work can resume; a store never depends on it.
  """
  if not isinstance(dataset.source, Tfds):
    return _source(dataset, data_dir).stamp()
  return _tfds().stamp(dataset, data_dir=data_dir)


def bad_example(dataset: Dataset, example_id: str, error: Exception) -> InputError:
  """The refusal of an example that cannot be read: which one, where, and why."""
  place = getattr(dataset.source, 'where', None)
  where = f' ({place(example_id)})' if place else ''
  return InputError(f'dataset {dataset.name!r}, example {example_id!r}{where}: {error}')


def first_examples(
  dataset: Dataset, split: str, count: int, *, data_dir: str | None
) -> list[Example]:
  """The first `count` labeled examples of a split."""
  if split not in dataset.slices:
    raise InputError(f'split {split!r}: {dataset.name} has {", ".join(dataset.slices)}')
  out = []
  for example_id, record in records(dataset, split, data_dir=data_dir):
    try:
      out.append(dataset.read(record, example_id))
    except Unlabeled:
      continue
    except BAD as error:
      raise bad_example(dataset, example_id, error) from None
    if len(out) == count:
      break
  return out

"""TFDS source: reads prepared datasets as named records, through seqio."""

import contextlib
import hashlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from flan_jax.catalog import splits
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Record
from flan_jax.errors import InputError

SEQIO_SPLITS = {'train': 'train', 'validation': 'dev', 'test': 'test'}
"""seqio's canonical split -> canonical split of a declaration."""


with contextlib.suppress(RuntimeError):  # TensorFlow runs already
  tf.config.set_visible_devices([], 'GPU')  # whose memory is the model's


class _Loader(seqio.LazyTfdsLoader):
  """TFDS loader that names every example and fits the declared slices to the data."""

  def __init__(self, dataset: Dataset, data_dir: str | None):
    slices = {
      seqio_split: dataset.slices[split]
      for seqio_split, split in SEQIO_SPLITS.items()
      if split in dataset.slices
    }
    super().__init__(dataset.tfds, data_dir=data_dir, split_map=slices, read_only=True)
    self._dataset = dataset

  @property
  def read_config(self) -> tfds.ReadConfig:
    return tfds.ReadConfig(add_tfds_id=True)

  def _get_builder(self, split: str | None = None):
    try:
      builder = super()._get_builder(split)
    except (AssertionError, tfds.core.DatasetNotFoundError) as error:
      raise InputError(f'dataset {self._dataset.name!r}: {error}') from None
    if not builder.is_prepared():
      # Not memoized: it may be prepared before the next call.
      self._MEMOIZED_BUILDERS.pop((self.name, self.data_dir), None)
      raise InputError(
        f'dataset {self._dataset.name!r}: {self._dataset.tfds} is not prepared in '
        f'{builder.data_path.parent}; `flan fetch {self._dataset.name}` prepares it'
      )
    return builder

  def _map_split(self, split: str) -> str:
    sizes = {name: s.num_examples for name, s in self.builder.info.splits.items()}
    return str(self._dataset.resolve_splits(sizes)[SEQIO_SPLITS[split]])

  def size(self, split: str) -> int:
    sizes = {name: s.num_examples for name, s in self.builder.info.splits.items()}
    return self._dataset.num_examples(SEQIO_SPLITS[split], sizes)


class Source(seqio.TfdsDataSource):
  """`seqio.TfdsDataSource` of one declared dataset."""

  def __init__(self, dataset: Dataset, data_dir: str | None = None):
    loader = _Loader(dataset, data_dir)
    super().__init__(dataset.tfds, data_dir, splits=dict(loader._split_map))
    self._tfds_dataset = loader


def plain(value: Any) -> Any:
  """Converts a TFDS value to plain Python: str, int, float, bool, list, dict."""
  if isinstance(value, Mapping):
    return {key: plain(item) for key, item in value.items()}
  if isinstance(value, bytes):
    return value.decode('utf-8')
  if isinstance(value, (tf.RaggedTensor, tf.compat.v1.ragged.RaggedTensorValue)):
    return plain(value.to_list())
  if isinstance(value, tf.Tensor):
    return plain(value.numpy())
  if isinstance(value, np.ndarray):
    return plain(value.tolist())
  if isinstance(value, np.generic):
    return plain(value.item())
  if isinstance(value, (list, tuple)):
    return [plain(item) for item in value]
  return value


def example_id(tfds_id: str) -> str:
  """`super_glue-train.tfrecord-00000-of-00001__12` -> `train.0.12`."""
  file, _, position = tfds_id.rpartition('__')
  name, _, shards = file.partition('.')
  shard = shards.split('-')[1]
  return f'{name.rpartition("-")[2]}.{int(shard)}.{position}'


def records(
  dataset: Dataset, split: str, *, data_dir: str | None = None
) -> Iterator[tuple[str, Record]]:
  """Yields (example id, record) of a canonical split from the prepared TFDS dataset.

  Raises:
    InputError: if the dataset, or the TFDS split that it reads, is not prepared.
  """
  names = {split: seqio_split for seqio_split, split in SEQIO_SPLITS.items()}
  source = Source(dataset, data_dir)
  prepared = source.tfds_dataset.builder.info.splits
  wanted = splits.parse(dataset.slices[split]).split
  if wanted not in prepared:
    raise InputError(
      f'dataset {dataset.name!r}: {split} is read from TFDS split {wanted!r}, which '
      f'is not prepared ({", ".join(prepared)} are); `flan fetch {dataset.name}` '
      'prepares it'
    )
  examples = source.get_dataset(names[split], shuffle=False)

  def read():
    for record in examples.as_numpy_iterator():
      tfds_id = record.pop('tfds_id')
      yield example_id(tfds_id.decode()), plain(record)

  return read()


def sizes(dataset: Dataset, *, data_dir: str | None = None) -> dict[str, int]:
  """TFDS split -> number of prepared examples."""
  info = Source(dataset, data_dir).tfds_dataset.info
  return {name: split.num_examples for name, split in info.splits.items()}


def stamp(dataset: Dataset, *, data_dir: str | None = None) -> str:
  """Digest (hex) of the names, sizes and times of the prepared files."""
  folder = Source(dataset, data_dir).tfds_dataset.builder.data_path
  found = hashlib.sha256()
  for path in sorted(pathlib.Path(folder).iterdir()):
    status = path.stat()
    found.update(f'{path.name} {status.st_size} {status.st_mtime_ns}\n'.encode())
  return found.hexdigest()

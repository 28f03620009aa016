"""Where rows come from: TFDS (through the seqio source) or a generator.

TensorFlow is imported only when a TFDS dataset is read.
"""

from collections.abc import Iterator, Mapping

from flan_jax.catalog import tfds_features
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Record
from flan_jax.errors import InputError


def _microworld():
  from flan_jax.microworld import records

  return records


def _registry():
  try:
    from flan_jax.interop.seqio import tasks
  except ModuleNotFoundError as error:
    raise InputError(
      f'module {error.name!r}: not installed; raw TFDS data needs it: '
      "pip install 'flan_jax[data]'"
    ) from None
  return tasks


def records(
  dataset: Dataset, split: str, *, data_dir: str | None = None
) -> Iterator[tuple[str, Record]]:
  """Yields (row id, record) of a canonical split, in stored order.

  Args:
    dataset: the declaration.
    split: `train`, `dev` or `test`.
    data_dir: TFDS data directory; None for TFDS's own default.

  Raises:
    InputError: if the dataset is not prepared; says which command prepares it.
  """
  if dataset.family == 'microworld':
    tfds_split = dataset.resolve_splits(dataset.sizes)[split].split
    return _microworld().records(dataset.name, tfds_split)
  return _registry().records(dataset, split, data_dir=data_dir)


def sizes(dataset: Dataset, *, data_dir: str | None = None) -> Mapping[str, int]:
  """TFDS split -> number of rows really prepared.

  Raises:
    InputError: if the dataset is not prepared (says which command prepares it), or its
      records lack a path that the declaration reads.
  """
  if dataset.family == 'microworld':
    return dict(dataset.sizes)
  found = _registry().sizes(dataset, data_dir=data_dir)
  tfds_features.check(dataset, data_dir=data_dir)
  return found


def stamp(dataset: Dataset, *, data_dir: str | None = None) -> str:
  """Changes when the raw data on this machine does: of its files, not their content.

  For work that is taken up again; a store never depends on it.
  """
  if dataset.family == 'microworld':
    return ''
  return _registry().stamp(dataset, data_dir=data_dir)

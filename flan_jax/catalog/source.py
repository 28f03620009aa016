"""Sources: where the raw records of a dataset come from.

A source is any object with the methods of `Source`; a declaration names one. `Tfds` and
`Generator` are here, those that read files are in `flan_jax.data.sources`.
"""

import dataclasses
import functools
import importlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from flan_jax.catalog.fields import Record
from flan_jax.errors import InputError


@runtime_checkable
class Source(Protocol):
  """Raw records in named splits, read in a stable order."""

  def sizes(self) -> Mapping[str, int]:
    """Split of the source -> number of its records."""
    ...

  def records(self, split: str) -> Iterator[tuple[str, Record]]:
    """Yields (id, record) of a split of the source, in the same order every time."""
    ...

  def stamp(self) -> str:
    """Stamp of the data on this machine; another one if the data may have changed."""
    ...

  def digest(self) -> str:
    """Digest of the data, the same everywhere; '' if the declaration tells all."""
    ...


_TFDS_NAME = re.compile(r'\w+(/[\w.+-]+)?:\d+\.\d+\.\d+')


@dataclasses.dataclass(frozen=True)
class Tfds:
  """A TensorFlow dataset, read by `flan_jax.data.tfds_source`.

  Attributes:
    name: TFDS name with config and pinned version, as `super_glue/rte:1.0.2`.
  """

  name: str

  def __post_init__(self):
    if not isinstance(self.name, str) or not _TFDS_NAME.fullmatch(self.name):
      raise InputError(
        f'tfds {self.name!r}; must be a TFDS name with its version, as '
        "'super_glue/rte:1.0.2'"
      )


UNKNOWN_SIZE = 10**12
"""Number of examples assumed for a split of unknown size."""

SEQIO_READER = 'flan_jax.data.sources.seqio_task'
"""Module that reads seqio Tasks; importing it imports seqio, and TensorFlow."""


@dataclasses.dataclass(frozen=True)
class SeqioTask:
  """The examples of a registered seqio Task, read by seqio itself.

  A record has every feature of an example; `inputs` and `targets` are texts: the
  feature `inputs_pretokenized` if there is one, else what the vocabulary decodes.

  Attributes:
    name: name of the task.
    tokenized: whether the store keeps the task's own tokens. Otherwise the texts are
      put into the templates of the dataset, and tokenized as those of any other.
    lengths: (feature, maximum tokens) of the examples, and ('text', maximum) of the
      targets of a task without inputs; () for whole ones.
    seed: seed of the task's random preprocessors.
    data_dir: TFDS data directory; None for TFDS's own default.
  """

  name: str
  tokenized: bool = False
  lengths: tuple[tuple[str, int], ...] = ()
  seed: int = 0
  data_dir: str | None = None

  def __post_init__(self):
    if not isinstance(self.name, str) or not self.name:
      raise InputError(
        f'seqio task {self.name!r}; must be the name of a registered seqio Task'
      )

  def __str__(self) -> str:
    return f'the seqio task {self.name}'

  def sizes(self) -> Mapping[str, int]:
    return _seqio_reader().sizes(self)

  def records(self, split: str) -> Iterator[tuple[str, Record]]:
    return _seqio_reader().records(self, split)

  def stamp(self) -> str:
    return _seqio_reader().stamp(self)

  def digest(self) -> str:
    return _seqio_reader().digest(self)

  def tokenizer(self) -> Any:
    """The tokenizer (`flan_jax.data.tokenizers.Tokenizer`) of the task's vocabulary."""
    return _seqio_reader().tokenizer(self)


def _seqio_reader() -> Any:
  try:
    return importlib.import_module(SEQIO_READER)
  except ModuleNotFoundError as error:
    raise InputError(
      f'module {error.name!r}: not installed; seqio tasks need it: '
      "pip install 'flan_jax[data]'"
    ) from None


@dataclasses.dataclass(frozen=True)
class Generator:
  """Records that a function makes, the same ones at every call.

  Attributes:
    function: split -> its records, as (id, record) pairs or as records alone, whose id
      is then `split.position`.
    examples: split -> number of its records; None to count them when they are needed.
    version: any text; another one tells that the function makes other records.
  """

  function: Callable[[str], Iterable[Record | tuple[str, Record]]]
  examples: Mapping[str, int] | None = None
  version: str = ''

  def __str__(self) -> str:
    return f'the function {getattr(self.function, "__qualname__", self.function)}'

  def sizes(self) -> Mapping[str, int]:
    if self.examples is not None:
      return dict(self.examples)
    return {'train': _counted(self, 'train')}

  def records(self, split: str) -> Iterator[tuple[str, Record]]:
    position = 0
    try:
      for made in self.function(split):
        yield made if isinstance(made, tuple) else (f'{split}.{position}', made)
        position += 1
    except InputError:
      raise
    except (ValueError, TypeError, AttributeError, LookupError, OSError) as error:
      raise InputError(
        f'{self}, record {position} of split {split!r}: {type(error).__name__}: {error}'
      ) from error

  def stamp(self) -> str:
    return self.version

  def digest(self) -> str:
    return self.version


@functools.cache
def _counted(source: Generator, split: str) -> int:
  """Number of records of a split, made once to count them."""
  return sum(1 for _ in source.records(split))

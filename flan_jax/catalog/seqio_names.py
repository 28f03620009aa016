"""Names of seqio: the tasks and mixtures that the user's modules registered with it.

A module that registers one has imported seqio; nothing here does, so TensorFlow is not
imported unless such a module did.
"""

import importlib
import sys
from typing import Any

from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.source import SEQIO_READER

SEQIO_MIXTURES = 'flan_jax.data.sources.seqio_mixture'
"""Module that reads seqio Mixtures."""


def _module(name: str) -> Any:
  """The module that reads them; None if nobody has imported seqio."""
  return importlib.import_module(name) if 'seqio' in sys.modules else None


def dataset(name: str) -> Dataset | None:
  """The dataset of the seqio Task of that name; None if not found.

  Raises:
    InputError: if the task cannot train.
  """
  reader = _module(SEQIO_READER)
  return None if reader is None else reader.dataset(name)


def is_mixture(name: str) -> bool:
  """True for the name of a seqio Mixture."""
  reader = _module(SEQIO_MIXTURES)
  return reader is not None and reader.is_registered(name)


def mixture(name: str) -> Any:
  """The `registry.Mixture` of the seqio Mixture of that name; None if not found.

  Raises:
    InputError: if one of its tasks cannot train.
  """
  reader = _module(SEQIO_MIXTURES)
  return None if reader is None else reader.mixture(name)


def every() -> list[str]:
  """Names of the registered seqio Tasks and Mixtures."""
  reader = _module(SEQIO_READER)
  return [] if reader is None else reader.names()


def hidden(mixture: Any) -> list[str]:
  """Lines on seqio Tasks that have the name of a dataset of a `registry.Mixture`."""
  reader = _module(SEQIO_MIXTURES)
  return [
    f'warning: {name!r}: the dataset registered here takes precedence over the seqio '
    'task of that name'
    for name in (() if reader is None else reader.hidden(mixture))
  ]

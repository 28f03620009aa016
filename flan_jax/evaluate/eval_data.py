"""Evaluation data: the requested datasets, and the source of their examples."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flan_jax.catalog import leakage, names, registry
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.fields import Unlabeled
from flan_jax.data import raw_records
from flan_jax.data.few_shot import POOL_SIZE
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime.progress import Progress

Examples = Callable[[str, str], Iterable[Example]]
"""(dataset, split) -> its examples."""


def requested(
  family: str, clusters: str | tuple[str, ...], datasets: str | tuple[str, ...]
) -> list[Dataset]:
  """Returns the datasets of CLUSTERS in a family, and DATASETS, each once.

  Raises:
    InputError: at an unknown name; names the nearest.
  """
  whole = leakage.clusters(clusters, setting='CLUSTERS')
  named = (datasets,) if isinstance(datasets, str) else datasets
  if family not in registry.families():
    known = registry.families()
    raise InputError(
      f'FAMILY {family!r}: must be one of {", ".join(known)}'
      f'{did_you_mean(family, known)}',
      field='FAMILY',
    )
  found = registry.of_clusters(whole, [family])
  found += names.evaluated(named, setting='DATASETS')
  return list({dataset.name: dataset for dataset in found}.values())


def is_prepared(
  dataset: Dataset, *, data_dir: str | None, missing: str, progress: Progress
) -> bool:
  """Returns whether a dataset's raw data exists; logs a line if it does not.

  Raises:
    InputError: if it does not exist and `missing` is 'refuse'.
  """
  try:
    raw_records.sizes(dataset, data_dir=data_dir)
  except InputError as error:
    if missing == 'refuse':
      raise
    progress.line(f'skipped: {error}')
    return False
  return True


def in_store(
  datasets: Sequence[Dataset], store: Store, *, missing: str, progress: Progress
) -> list[Dataset]:
  """Selects the datasets with evaluation examples in a store; logs the others.

  Raises:
    InputError: if one is absent and `missing` is 'refuse'.
  """
  absent = [d.name for d in datasets if d.name not in store.manifest['evaluation']]
  if absent and missing == 'refuse':
    raise InputError(
      f'STORE {str(store.path)!r}: has no evaluation examples of {", ".join(absent)}; '
      'give another, or --gin.MISSING=skip',
      field='STORE',
    )
  if absent:
    progress.line(f'skipped, not in the store: {", ".join(absent)}')
  held = store.manifest['evaluation']
  return [
    of_store(d, held[d.name]['examples']) for d in datasets if d.name not in absent
  ]


def of_store(dataset: Dataset, entry: Mapping[str, Any]) -> Dataset:
  """A dataset as a store holds it; the declaration itself if its source can be read.

  Args:
    dataset: the declaration.
    entry: 'examples' of its entry in the manifest: split -> number.
  """
  try:
    _ = dataset.full_sizes
  except InputError:  # the raw data is on another machine
    splits = {name: name if name in entry else '' for name in ('dev', 'test')}
    return dataclasses.replace(dataset, train='', sizes=dict(entry), **splits)
  return dataset


def stored(store: Store, *, data_dir: str | None, progress: Progress) -> Examples:
  """Reads examples from a store; exemplars, whose fields it lacks, from raw data.

  Without a dev split a dataset has no dev examples.
  """
  from_raw = raw(data_dir=data_dir, progress=progress)

  def examples(dataset: str, split: str) -> Iterable[Example]:
    if split == 'train':
      return from_raw(dataset, split)
    if split not in store.manifest['evaluation'][dataset]['examples']:
      return []
    return store.evaluation_examples(dataset, split)

  return examples


def remembered(examples: Examples) -> Examples:
  """Wraps `examples` to read each split once, for several evaluations."""

  @functools.cache
  def read(dataset: str, split: str) -> tuple[Example, ...]:
    return tuple(examples(dataset, split))

  return read


def raw(*, data_dir: str | None, progress: Progress) -> Examples:
  """Reads examples from raw data; unlabeled ones are left out and counted.

  Of train, only the examples that exemplars are drawn from are read.
  """

  def examples(name: str, split: str) -> list[Example]:
    dataset = registry.get(name)
    out, dropped = [], 0
    for example_id, record in raw_records.records(dataset, split, data_dir=data_dir):
      try:
        example = dataset.read(record, example_id)
      except Unlabeled:
        dropped += 1
      except raw_records.BAD as error:
        raise raw_records.bad_example(dataset, example_id, error) from None
      else:
        if split != 'train' or not example.answer.is_blank:
          out.append(example)
      if split == 'train' and len(out) == POOL_SIZE:
        break
    if dropped:
      progress.line(
        f'{name} {split}: {dropped:,} examples left out: no label, or none among the '
        'options'
      )
    return out

  return examples

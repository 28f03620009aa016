"""Registry: datasets, mixtures and tasks by name."""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any

from flan_jax.catalog.answers import Choice, Label, Text
from flan_jax.catalog.dataset import CLUSTERS, Dataset
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.errors import InputError, did_you_mean

FAMILIES = {
  'flan': 'flan_jax.tasks',
  'microworld': 'flan_jax.microworld.tasks',
}
"""Dataset family -> package whose `DATASETS` declares its datasets.

A package with a function `records` generates the records; otherwise TFDS prepares them.
"""

MIXTURES = 'flan_jax.mixtures'
"""Package with `MIXTURES`, all mixtures, and `EXCLUDED_WITH`, related clusters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
  """Datasets that train together, and the clusters held out.

  Attributes:
    name: its seqio name, as `flan_held_out_nli`.
    datasets: names of the datasets that train.
    held_out: clusters that are evaluated and not trained on.
    excluded: related clusters that are not trained on either (FLAN footnote 1).
    family: dataset family of its datasets.
    style: prompt style of its examples.
    shared_cap: whether tasks that the paper counts as one dataset share one maximum
      rate; otherwise each task has its own, as in the reference.
    allowed_overlap: (dataset that trains, source shared with a held-out one): the
      leakage check allows this overlap with a warning.
    note: why it has these datasets; shown by `flan tasks --mixture`.
  """

  name: str
  datasets: tuple[str, ...]
  held_out: tuple[str, ...] = ()
  excluded: tuple[str, ...] = ()
  family: str = 'flan'
  style: PromptStyle = PromptStyle()
  shared_cap: bool = False
  allowed_overlap: tuple[tuple[str, str], ...] = ()
  note: str = ''

  @property
  def members(self) -> tuple[Dataset, ...]:
    """The datasets, in the mixture's prompt style."""
    return tuple(
      self.style.apply(get(name, family=self.family)) for name in self.datasets
    )

  @property
  def trained_on(self) -> tuple[str, ...]:
    """Clusters of the datasets."""
    clusters = {get(name, family=self.family).cluster for name in self.datasets}
    return tuple(c for c in CLUSTERS if c in clusters)


@functools.cache
def datasets(family: str) -> dict[str, Dataset]:
  """Datasets of a family by short name, in the order of the declarations.

  Raises:
    InputError: if a name is declared twice.
  """
  found: dict[str, Dataset] = {}
  for dataset in importlib.import_module(FAMILIES[family]).DATASETS:
    if dataset.name in found:
      raise InputError(
        f'dataset {dataset.name!r}: declared twice in {FAMILIES[family]}'
      )
    found[dataset.name] = dataset
  return found


def get(name: str, *, family: str = 'flan') -> Dataset:
  """The dataset of that short name.

  Raises:
    InputError: if not found; names the nearest.
  """
  declared = datasets(family)
  if name not in declared:
    raise InputError(
      f'dataset {name!r}: not declared; `flan tasks` lists them'
      + did_you_mean(name, declared)
    )
  return declared[name]


def find(name: str) -> Dataset | None:
  """The dataset of that short name in any family; None if not found."""
  found = (datasets(family).get(name) for family in FAMILIES)
  return next((dataset for dataset in found if dataset is not None), None)


@functools.cache
def tasks() -> dict[str, Dataset]:
  """Training task name (`flan_rte`) -> dataset, in every family."""
  return {d.task: d for family in FAMILIES for d in datasets(family).values()}


def task(name: str) -> Dataset:
  """The dataset behind a task name, as `flan_rte`.

  Raises:
    InputError: if not found; names the nearest.
  """
  if name in mixtures():
    raise InputError(
      f'task {name!r}: a mixture; give one of its tasks: `flan tasks --mixture {name}` '
      'lists them',
      field='Run.mixture',
    )
  if name not in tasks():
    raise InputError(
      f'task {name!r}: not registered; `flan tasks` lists them'
      + did_you_mean(name, tasks()),
      field='Run.mixture',
    )
  return tasks()[name]


@functools.cache
def mixtures() -> dict[str, Mixture]:
  """Every declared mixture by name."""
  declared = importlib.import_module(MIXTURES).MIXTURES
  return {mixture.name: mixture for mixture in declared}


def excluded_with(cluster: str) -> tuple[str, ...]:
  """Related clusters, excluded when `cluster` is held out (FLAN footnote 1)."""
  return importlib.import_module(MIXTURES).EXCLUDED_WITH.get(cluster, ())


def generator(family: str) -> Callable[[str, str], Iterator[tuple[str, Any]]] | None:
  """The function (dataset, split) -> (id, record); None unless generated."""
  return getattr(importlib.import_module(FAMILIES[family]), 'records', None)


def mixture(name: str) -> Mixture:
  """The mixture (or the one task, as a mixture) of that name.

  Raises:
    InputError: if not found; names the nearest.
  """
  if name in mixtures():
    return mixtures()[name]
  if name in tasks():
    dataset = tasks()[name]
    return Mixture(name=name, datasets=(dataset.name,), family=dataset.family)
  raise InputError(
    f'mixture {name!r}: not registered; `flan tasks --mixture` lists them'
    + did_you_mean(name, [*mixtures(), *tasks()]),
    field='Run.mixture',
  )


def as_json(dataset: Dataset, *, rate: int) -> dict[str, Any]:
  """One object of `flan tasks --json`."""
  answer_type = {Label: 'classification', Choice: 'multiple_choice', Text: 'generation'}
  return {
    'dataset': dataset.name,
    'cluster': dataset.cluster,
    'in_paper': dataset.in_paper,
    'paper_name': dataset.paper_name,
    'tfds': dataset.tfds,
    'splits': dataset.slices,
    'rate': rate,
    'metric': dataset.metric,
    'answer_type': answer_type[type(dataset.answer)],
    'templates': [
      {
        'inputs': template.inputs,
        'targets': template.targets,
        'inverted': template.inverted,
        **({'direction': template.direction} if template.direction else {}),
      }
      for template in dataset.templates
    ],
  }

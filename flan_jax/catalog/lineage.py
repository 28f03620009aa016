"""Lineage: what a model was trained on, and every model before it.

A model is no cleaner than the one it was tuned from: what any ancestor saw is part of
what it saw. What nobody recorded is unknown, which is not the same as nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog import registry
from flan_jax.catalog.dataset import CLUSTERS
from flan_jax.catalog.registry import Mixture
from flan_jax.errors import InputError

UNKNOWN = 'unknown'
"""In place of clusters or datasets that nobody recorded."""


class Trained(NamedTuple):
  """A dataset that trained, as it was declared then.

  Attributes:
    name: of the dataset.
    cluster: its cluster.
    sources: what its examples are made of, itself included.
  """

  name: str
  cluster: str
  sources: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """One training, and the model that came out of it.

  Attributes:
    model: name of that model.
    datasets: what trained it; None where that is unknown.
    family: the world of the datasets.
    mixture: its name; '' where there is none.
    weights: digest of the weights that came out; '' where it was not kept.
    train_examples: cluster -> examples seen.
    allowed_overlap: (dataset, what it shares) that the mixture declares and lets through.
    note: one line for the reader; '' for none.
  """

  model: str
  datasets: tuple[Trained, ...] | None
  family: str = ''
  mixture: str = ''
  weights: str = ''
  train_examples: Mapping[str, int] = dataclasses.field(default_factory=dict)
  allowed_overlap: tuple[tuple[str, str], ...] = ()
  note: str = ''

  @property
  def clusters(self) -> tuple[str, ...] | None:
    """Clusters that trained; None where that is unknown."""
    if self.datasets is None:
      return None
    seen = {dataset.cluster for dataset in self.datasets}
    return tuple(cluster for cluster in CLUSTERS if cluster in seen)

  def related(self, family: str) -> bool:
    """Whether its datasets may have to do with those of a family.

    Two worlds that are declared here share names and nothing else; a world that is
    declared no more is judged by what was recorded.
    """
    return self.family == family or self.family not in registry.FAMILIES

  def as_json(self) -> dict[str, Any]:
    known = self.datasets is not None
    return {
      'model': self.model,
      'weights': self.weights,
      'trained_on': list(self.clusters) if known else UNKNOWN,
      'family': self.family,
      'mixture': self.mixture,
      'datasets': [
        {'name': name, 'cluster': cluster, 'sources': list(sources)}
        for name, cluster, sources in self.datasets
      ]
      if known
      else UNKNOWN,
      'train_examples': dict(self.train_examples),
      'allowed_overlap': [list(pair) for pair in self.allowed_overlap],
      'note': self.note,
    }


@dataclasses.dataclass(frozen=True)
class Lineage:
  """The trainings that a model came out of, the oldest first.

  One that starts from random parameters begins with its own first training; without
  any, it was never trained.
  """

  trainings: tuple[Training, ...] = ()

  @property
  def known(self) -> bool:
    """Whether nothing in it is unknown."""
    return all(training.datasets is not None for training in self.trainings)

  def then(self, *later: Training) -> 'Lineage':
    """The lineage of a model that was trained on."""
    return Lineage((*self.trainings, *later))

  def trained_on(self, family: str) -> tuple[str, ...] | None:
    """Clusters of a family that any training saw; None where one is unknown."""
    if not self.known:
      return None
    related = [t for t in self.trainings if t.related(family)]
    seen = {cluster for training in related for cluster in training.clusters}
    return tuple(cluster for cluster in CLUSTERS if cluster in seen)

  def train_examples(self, family: str) -> dict[str, int]:
    """Cluster of a family -> examples that are known to have been seen."""
    out: dict[str, int] = {}
    for training in self.trainings:
      if training.related(family):
        for cluster, examples in training.train_examples.items():
          out[cluster] = out.get(cluster, 0) + examples
    return out

  def about(self, family: str) -> dict[str, Any]:
    """What a report says of it, beside datasets of a family."""
    clusters = self.trained_on(family)
    return {
      'lineage': self.as_json(),
      'trained_on': UNKNOWN if clusters is None else list(clusters),
      'train_examples': self.train_examples(family),
    }

  def as_json(self) -> list[dict[str, Any]]:
    return [training.as_json() for training in self.trainings]


RANDOM = Lineage()
"""Of random parameters."""


def unknown(model: str, note: str = '') -> Training:
  """The training of a model of which nothing is recorded."""
  return Training(model=model, datasets=None, note=note)


def of_mixture(
  mixture: Mixture, datasets: Sequence[str] | None = None, **more: Any
) -> Training:
  """The training on a mixture that is declared.

  Args:
    mixture: the declaration.
    datasets: those of its datasets that train; None for all of them.
    more: further fields.
  """
  names = mixture.datasets if datasets is None else datasets
  found = [registry.get(name, family=mixture.family) for name in names]
  return Training(
    datasets=tuple(Trained(d.name, d.cluster, tuple(sorted(d.sources))) for d in found),
    family=mixture.family,
    mixture=mixture.name,
    allowed_overlap=mixture.allowed_overlap,
    **more,
  )


def of_json(found: Any, *, where: str) -> Lineage:
  """A lineage as `Lineage.as_json` wrote it.

  Args:
    found: the list.
    where: the file, for errors.

  Raises:
    InputError: if it is something else.
  """
  try:
    return Lineage(tuple(_training(**entry) for entry in found))
  except (TypeError, ValueError, AttributeError, KeyError) as error:
    raise InputError(
      f'{where}: lineage: not as a run wrote it ({error}); restore the file, or delete '
      'it: its history is unknown then'
    ) from None


def of_record(record: Mapping[str, Any], *, parent: Lineage, model: str) -> Lineage:
  """The lineage of a model whose training.json was written before there were any.

  What it says of its own training is judged by the declarations, and by what it
  recorded where they are gone.

  Args:
    record: the content of training.json.
    parent: the lineage of what it started from.
    model: its name.

  Raises:
    InputError: if its guard is not as a run wrote it.
  """
  mixture = record.get('mixture', '')
  declared = None
  if mixture in registry.mixtures() or mixture in registry.tasks():
    declared = registry.mixture(mixture)
  leakage = record.get('leakage') or {}
  lacking = [part for part in ('mixture', 'datasets', 'family') if part not in leakage]
  if leakage and lacking:
    raise InputError(
      f'training.json: guard lacks {", ".join(lacking)}; must be as a run wrote it, or '
      'without a guard'
    )
  names = leakage.get('datasets')
  examples = record.get('train_examples', {})
  if names is None:
    own = unknown(model) if declared is None else of_mixture(declared, model=model)
    return parent.then(dataclasses.replace(own, train_examples=examples))
  family = leakage['family']
  declared_now = registry.datasets(family) if family in registry.FAMILIES else {}
  found = [declared_now[name] for name in names if name in declared_now]
  gone = [name for name in names if name not in declared_now]
  known = [Trained(d.name, d.cluster, tuple(sorted(d.sources))) for d in found]
  # Of which cluster a dataset was that is declared no more: of one without another.
  told = record.get('trained_on', leakage.get('trained_on', ()))
  left = [c for c in told if c not in {dataset.cluster for dataset in known}] or ['']
  own = Training(
    model=model,
    datasets=(*known, *(Trained(name, c, (name,)) for name in gone for c in left)),
    family=family,
    mixture=mixture,
    train_examples=examples,
    allowed_overlap=declared.allowed_overlap if declared else (),
  )
  if gone and not told:
    return parent.then(own, unknown(model, f'of which cluster {gone[0]} was'))
  return parent.then(own)


def _training(
  *,
  model,
  weights,
  trained_on,
  family,
  mixture,
  datasets,
  train_examples,
  allowed_overlap,
  note,
) -> Training:
  if (trained_on == UNKNOWN) != (datasets == UNKNOWN):
    raise ValueError(f'trained_on is {trained_on!r} and datasets {datasets!r:.80}')
  return Training(
    model=str(model),
    weights=str(weights),
    family=str(family),
    mixture=str(mixture),
    datasets=None
    if datasets == UNKNOWN
    else tuple(
      Trained(one['name'], one['cluster'], tuple(map(str, one['sources'])))
      for one in datasets
    ),
    train_examples={
      str(cluster): int(examples) for cluster, examples in train_examples.items()
    },
    allowed_overlap=tuple((str(name), str(source)) for name, source in allowed_overlap),
    note=str(note),
  )

"""Lineage: the training data of a model and of all its ancestors.

A model has seen whatever any of its ancestors saw. A training that is not recorded is
unknown, which is not the same as none.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog import names as names_lib
from flan_jax.catalog import registry
from flan_jax.catalog.registry import Mixture
from flan_jax.errors import InputError

UNKNOWN = 'unknown'
"""Stands for clusters or datasets that are not recorded."""


class Trained(NamedTuple):
  """A dataset that trained, as it was declared at the time.

  Attributes:
    name: short name of the dataset.
    cluster: its cluster.
    sources: datasets and named texts that its examples are made of, itself included.
  """

  name: str
  cluster: str
  sources: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
  """One training, and the model that came out of it.

  Attributes:
    model: name of that model.
    datasets: the datasets that trained it; None if unknown.
    family: dataset family of the datasets.
    mixture: name of the mixture; '' for none.
    weights: digest of the weights that came out; '' if not recorded.
    train_examples: cluster -> examples seen.
    allowed_overlap: (dataset, shared source) pairs that the mixture's declaration
      allows.
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
    """Clusters that trained; None if unknown."""
    if self.datasets is None:
      return None
    seen = {dataset.cluster for dataset in self.datasets}
    return registry.in_order(seen)

  def may_share_data(self, family: str) -> bool:
    """True if its datasets may share data with those of a dataset family.

    Generated data shares nothing with other data. All else is compared by the recorded
    clusters and sources, a family that is not registered any more too.
    """
    return registry.may_share_data(self.family, family)

  def as_json(self) -> dict[str, Any]:
    clusters, datasets = self.clusters, self.datasets
    return {
      'model': self.model,
      'digest': self.weights,
      'trained_on': UNKNOWN if clusters is None else list(clusters),
      'family': self.family,
      'mixture': self.mixture,
      'datasets': UNKNOWN
      if datasets is None
      else [
        {'name': name, 'cluster': cluster, 'sources': list(sources)}
        for name, cluster, sources in datasets
      ],
      'train_examples': dict(self.train_examples),
      'allowed_overlap': [list(pair) for pair in self.allowed_overlap],
      'note': self.note,
    }


@dataclasses.dataclass(frozen=True)
class Lineage:
  """The trainings that a model came out of, the oldest first.

  Empty for random parameters.
  """

  trainings: tuple[Training, ...] = ()

  @property
  def known(self) -> bool:
    """True if the data of every training is recorded."""
    return all(training.datasets is not None for training in self.trainings)

  def then(self, *later: Training) -> 'Lineage':
    """Appends later trainings."""
    return Lineage((*self.trainings, *later))

  def trained_on(self, family: str) -> tuple[str, ...] | None:
    """Clusters of a family that any training saw; None if a training is unknown."""
    if not self.known:
      return None
    trainings = [t for t in self.trainings if t.may_share_data(family)]
    seen = {cluster for training in trainings for cluster in training.clusters or ()}
    return registry.in_order(seen)

  def train_examples(self, family: str) -> dict[str, int]:
    """Cluster of a family -> examples that are known to have been seen."""
    out: dict[str, int] = {}
    for training in self.trainings:
      if training.may_share_data(family):
        for cluster, examples in training.train_examples.items():
          out[cluster] = out.get(cluster, 0) + examples
    return out

  def summary(self, family: str) -> dict[str, Any]:
    """The entries of report.json and training.json, for datasets of a family."""
    clusters = self.trained_on(family)
    return {
      'lineage': self.as_json(),
      'trained_on': UNKNOWN if clusters is None else list(clusters),
      'train_examples': self.train_examples(family),
    }

  def as_json(self) -> list[dict[str, Any]]:
    return [training.as_json() for training in self.trainings]


RANDOM = Lineage()
"""Lineage of random parameters."""


def unknown(model: str, note: str = '') -> Training:
  """The training of a model without any record."""
  return Training(model=model, datasets=None, note=note)


def of_mixture(
  mixture: Mixture, datasets: Sequence[str] | None = None, **more: Any
) -> Training:
  """The training on a declared mixture.

  Args:
    mixture: the declaration.
    datasets: those of its datasets that train; None for all of them.
    more: further fields of Training.
  """
  names = mixture.datasets if datasets is None else datasets
  found = [registry.get(name) for name in names]
  return Training(
    datasets=tuple(Trained(d.name, d.cluster, tuple(sorted(d.sources))) for d in found),
    family=mixture.family,
    mixture=mixture.name,
    allowed_overlap=mixture.allowed_overlap,
    **more,
  )


def of_json(found: Any, *, where: str) -> Lineage:
  """Reads a lineage that `Lineage.as_json` wrote.

  Args:
    found: the parsed JSON.
    where: the file; for errors.

  Raises:
    InputError: if it has another form.
  """
  try:
    return Lineage(tuple(_training(**entry) for entry in found))
  except (TypeError, ValueError, AttributeError, KeyError) as error:
    raise InputError(
      f'{where}: lineage: not as a run wrote it ({error}); restore the file, or delete '
      'it: the training history is then unknown'
    ) from None


def of_record(record: Mapping[str, Any], *, parent: Lineage, model: str) -> Lineage:
  """The lineage of a model whose training.json has no `lineage` entry (older runs).

  Its datasets are looked up in the declarations; the recorded clusters stand in for
  datasets that are not declared any more.

  Args:
    record: the content of training.json.
    parent: lineage of its initial checkpoint.
    model: its name.

  Raises:
    InputError: if its leakage report is not as a run wrote it.
  """
  mixture = record.get('mixture', '')
  declared = names_lib.trained(mixture)
  leakage = record.get('leakage') or {}
  lacking = [part for part in ('mixture', 'datasets', 'family') if part not in leakage]
  if leakage and lacking:
    raise InputError(
      f'training.json: leakage lacks {", ".join(lacking)}; must be as a run wrote it, '
      'or absent'
    )
  names = leakage.get('datasets')
  examples = record.get('train_examples', {})
  if names is None:
    own = unknown(model) if declared is None else of_mixture(declared, model=model)
    return parent.then(dataclasses.replace(own, train_examples=examples))
  family = leakage['family']
  declared_now = registry.datasets(family)
  found = [declared_now[name] for name in names if name in declared_now]
  gone = [name for name in names if name not in declared_now]
  known = [Trained(d.name, d.cluster, tuple(sorted(d.sources))) for d in found]
  # A dataset that is not declared any more counts for each recorded cluster that no
  # declared dataset accounts for.
  recorded = record.get('trained_on', leakage.get('trained_on', ()))
  accounted = {dataset.cluster for dataset in known}
  left = [cluster for cluster in recorded if cluster not in accounted] or ['']
  own = Training(
    model=model,
    datasets=(*known, *(Trained(name, c, (name,)) for name in gone for c in left)),
    family=family,
    mixture=mixture,
    train_examples=examples,
    allowed_overlap=declared.allowed_overlap if declared else (),
  )
  if gone and not recorded:
    return parent.then(own, unknown(model, f'no cluster is recorded for {gone[0]}'))
  return parent.then(own)


def _training(
  *,
  model,
  digest,
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
    weights=str(digest),
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

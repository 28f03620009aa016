"""The guard: nothing of a held-out cluster, or too near to it, may train.

A dataset is unseen only if nothing of its cluster trained (FLAN section 2.2), nor of
a cluster too near to it (footnote 1), nor anything made of the same texts. What is let
through all the same is let through by name, and every proof says so.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax import catalogue, mixtures
from flan_jax.catalogue import CLUSTERS, Dataset, Mixture
from flan_jax.errors import InputError, did_you_mean


class Shared(NamedTuple):
  """Something that training and the held-out clusters share, and that was accepted.

  Attributes:
    dataset: the one that trains.
    cluster: its cluster.
    source: what it shares: a dataset, a text by name, or a cluster.
    held_out: the held-out cluster.
    by: `mixture` where its declaration accepts it, `run` where the settings do.
  """

  dataset: str
  cluster: str
  source: str
  held_out: str
  by: str

  def __str__(self) -> str:
    if self.source in CLUSTERS:
      what = 'which is held out' if self.cluster == self.held_out else 'too near to it'
      return (
        f'{self.dataset} trains, of {self.cluster}, {what} (accepted by the {self.by})'
      )
    return (
      f'{self.dataset} trains and shares {self.source} with held-out {self.held_out} '
      f'(accepted by the {self.by})'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Proof:
  """What trained, what is held out of it, and what they have in common all the same.

  Attributes:
    mixture: name of what trained; '' where nobody knows.
    family: the world of its datasets.
    held_out: clusters that may be measured as never seen.
    excluded: clusters left out with them.
    trained_on: clusters that trained.
    datasets: datasets that trained; None where nobody knows.
    accepted: what they share, accepted by name.
  """

  mixture: str
  family: str
  held_out: tuple[str, ...]
  excluded: tuple[str, ...]
  trained_on: tuple[str, ...]
  datasets: tuple[str, ...] | None
  accepted: tuple[Shared, ...]

  @property
  def warnings(self) -> tuple[str, ...]:
    """One line for each thing that a reader of the figures should know."""
    if self.datasets is None:
      return (
        'guard: the checkpoint does not say what it was trained on; nothing is proven',
      )
    return tuple(f'guard: {shared}' for shared in self.accepted)

  def as_json(self) -> dict[str, Any]:
    """The proof as it stands in a checkpoint and in a report."""
    return {
      'mixture': self.mixture,
      'family': self.family,
      'held_out': list(self.held_out),
      'excluded': list(self.excluded),
      'trained_on': list(self.trained_on),
      'datasets': None if self.datasets is None else list(self.datasets),
      'accepted': [shared._asdict() for shared in self.accepted],
      'warnings': list(self.warnings),
    }


def clusters(
  names: str | Sequence[str], *, setting: str = 'HELD_OUT'
) -> tuple[str, ...]:
  """Cluster names, checked; `setting` is where they were given.

  Raises:
    InputError: at a name that is no cluster; names the nearest.
  """
  names = (names,) if isinstance(names, str) else tuple(names)
  for name in names:
    if name not in CLUSTERS:
      raise InputError(
        f'{setting} {name!r}: no such cluster; clusters are {", ".join(CLUSTERS)}'
        + did_you_mean(name, CLUSTERS)
      )
  return names


def prove(
  mixture: Mixture,
  asked: str | Sequence[str] | None = None,
  *,
  accept: str | Sequence[str] | None = None,
  datasets: Iterable[str] | None = None,
  setting: str = 'HELD_OUT',
) -> Proof:
  """Proves that a run of `mixture` may measure some clusters as never seen.

  Args:
    mixture: what trains.
    asked: HELD_OUT, the clusters; None for those that the mixture holds out.
    accept: datasets, or whole clusters, that may train although they share something
      with a held-out cluster, or held-out clusters that may share anything; each is
      recorded.
    datasets: what really trains, of the mixture's datasets; None for all of them.
    setting: where the clusters were asked for; for errors.

  Raises:
    InputError: if the mixture trains on a held-out cluster, on one that the paper
      excludes with it (FLAN footnote 1), or on a dataset made of the same texts, and
      nobody accepted it by name.
  """
  family = catalogue.family(mixture.family)
  held_out = mixture.held_out if asked is None else clusters(asked, setting=setting)
  accept = _names(accept, family)
  names = mixture.datasets if datasets is None else tuple(datasets)
  foreign = [name for name in names if name not in mixture.datasets]
  if foreign:
    raise InputError(
      f'mixture {mixture.name!r}: {foreign[0]!r} trains and is not one of its datasets'
    )
  trained = [catalogue.get(name, family=mixture.family) for name in names]
  accepted: list[Shared] = []
  for cluster in held_out:
    measured = [dataset for dataset in family.values() if dataset.cluster == cluster]
    near = (cluster, *mixtures.EXCLUDED_WITH.get(cluster, ()), *mixture.excluded)
    for dataset in trained:
      for source in _common(dataset, near, measured):
        by_run = bool(accept & {dataset.name, dataset.cluster, cluster})
        # A declaration cannot accept the held-out cluster itself; a run can.
        declared = source != cluster and (dataset.name, source) in mixture.accepted
        if not by_run and not declared:
          raise _refusal(mixture, dataset, cluster, source, setting)
        by = 'run' if by_run else 'mixture'
        shared = Shared(dataset.name, dataset.cluster, source, cluster, by)
        accepted.append(shared)
  seen = {dataset.cluster for dataset in trained}
  too_near = {c for name in held_out for c in mixtures.EXCLUDED_WITH.get(name, ())}
  return Proof(
    mixture=mixture.name,
    family=mixture.family,
    held_out=held_out,
    excluded=tuple(c for c in CLUSTERS if c in too_near and c not in seen),
    trained_on=tuple(c for c in CLUSTERS if c in seen),
    datasets=names,
    accepted=tuple(accepted),
  )


def prove_checkpoint(
  provenance: Mapping[str, Any],
  asked: str | Sequence[str],
  *,
  family: str,
  accept: str | Sequence[str] | None = None,
) -> Proof:
  """Proves that a checkpoint may be measured on some clusters as never seen.

  Args:
    provenance: what the checkpoint says of its training; {} where it says nothing.
    asked: the clusters.
    family: the world of the clusters.
    accept: as for `prove`; here it also lets a cluster be measured that trained.

  Raises:
    InputError: as `prove`.
  """
  mixture = _trained(provenance)
  if mixture is None or mixture.family != family:
    # Nothing known to compare, or a world that shares nothing with this one.
    return Proof(
      mixture=provenance.get('mixture', ''),
      family=mixture.family if mixture else family,
      held_out=clusters(asked, setting='CLUSTERS'),
      excluded=(),
      trained_on=mixture.trained_on if mixture else (),
      datasets=mixture.datasets if mixture else None,
      accepted=(),
    )
  return prove(mixture, asked, accept=accept, setting='CLUSTERS')


def _trained(provenance: Mapping[str, Any]) -> Mixture | None:
  """What a checkpoint says that it was trained on; None where nobody knows."""
  name = provenance.get('mixture', '')
  declared = None
  if name in catalogue.mixtures() or name in catalogue.tasks():
    declared = catalogue.mixture(name)
  proof = provenance.get('guard')
  if not proof:
    return declared
  lacking = [part for part in ('mixture', 'datasets', 'family') if part not in proof]
  if lacking:
    raise InputError(
      f'training.json: guard lacks {", ".join(lacking)}; must be as a run wrote it, or '
      'without a guard'
    )
  if proof['datasets'] is None:
    return declared
  return Mixture(
    name=proof['mixture'],
    datasets=tuple(proof['datasets']),
    family=proof['family'],
    accepted=declared.accepted if declared else (),
  )


def _names(
  accept: str | Sequence[str] | None, family: Mapping[str, Dataset]
) -> set[str]:
  names = {accept} if isinstance(accept, str) else set(accept or ())
  for name in sorted(names):
    if name not in CLUSTERS and name not in family:
      legal = [*family, *CLUSTERS]
      raise InputError(
        f'accept {name!r}: must be a dataset or a cluster' + did_you_mean(name, legal)
      )
  return names


def _common(
  dataset: Dataset, near: Iterable[str], measured: Iterable[Dataset]
) -> tuple[str, ...]:
  """What `dataset` shares with held-out datasets: a cluster, or texts by name."""
  if dataset.cluster in near:
    return (dataset.cluster,)
  theirs = set().union(*(other.sources for other in measured))
  return tuple(sorted(dataset.sources & theirs))


def _refusal(
  mixture: Mixture, dataset: Dataset, cluster: str, source: str, setting: str
) -> InputError:
  head = f'{setting} {cluster!r}: mixture {mixture.name!r} trains on '
  if source not in CLUSTERS:
    return InputError(
      f'{head}{dataset.name!r}, which shares {source!r} with it; leave it out, or '
      f"accept it by name: ACCEPT = ('{dataset.name}',)"
    )
  what = 'that very cluster' if source == cluster else f'{source}, too near to it'
  return InputError(
    f"{head}{what} ({dataset.name}); use '{mixture.family}_held_out_{cluster}', or "
    f"accept it by name: ACCEPT = ('{source}',)"
  )

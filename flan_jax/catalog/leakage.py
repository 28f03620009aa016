"""The guard: nothing of a held-out cluster, or too near to it, may train.

A dataset is unseen only if nothing of its cluster trained (FLAN section 2.2), nor of
a cluster too near to it (footnote 1), nor anything made of the same texts; now, or in
any model that this one was tuned from. What is let through all the same is let through
by name, and every proof says so. What nobody recorded is unknown, and proves nothing.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog import registry
from flan_jax.catalog.dataset import CLUSTERS, Dataset
from flan_jax.catalog.lineage import Lineage, Trained, Training
from flan_jax.catalog.registry import Mixture
from flan_jax.errors import InputError, did_you_mean

NEVER = 'never trained on'
"""Of a cluster: every training is known, and nothing near to it was in one."""

UNKNOWN = 'training unknown'
"""Of a cluster: what some ancestor was trained on is not recorded."""

_RELATED = 'zero-shot (its kin trained)'
_UNRECORDED = f'zero-shot ({UNKNOWN})'
_TRAINED_ON = 'trained on'

CLAIMS = (NEVER, _RELATED, _UNRECORDED, _TRAINED_ON)
"""All that is said of a cluster, from the best to the worst."""


class Shared(NamedTuple):
  """Something that training and the held-out clusters share, and that was accepted.

  Attributes:
    dataset: the one that trains.
    cluster: its cluster.
    source: what it shares: a dataset, a text by name, or a cluster.
    held_out: the held-out cluster.
    by: `mixture` where its declaration accepts it, `run` where the settings do.
    model: the ancestor that it trained; '' for what trains now.
  """

  dataset: str
  cluster: str
  source: str
  held_out: str
  by: str
  model: str = ''

  def __str__(self) -> str:
    who = f'{self.dataset} trained {self.model!r}' if self.model else self.dataset
    if self.source in CLUSTERS:
      what = 'which is held out' if self.cluster == self.held_out else 'too near to it'
      verb = ',' if self.model else ' trains,'
      return f'{who}{verb} of {self.cluster}, {what} (accepted by the {self.by})'
    verb = 'and' if self.model else 'trains and'
    return (
      f'{who} {verb} shares {self.source} with held-out {self.held_out} '
      f'(accepted by the {self.by})'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakageReport:
  """What trained, what is held out of it, and what they have in common all the same.

  Attributes:
    mixture: name of what trained last; '' where nobody knows.
    family: the world of its datasets.
    measured: the world of the held-out clusters.
    held_out: clusters that may be measured as never seen.
    excluded: clusters left out with them.
    trained_on: clusters that trained last.
    datasets: datasets that trained last; None where nobody knows.
    allowed_overlap: what they share, accepted by name, ancestors included.
    lineage: every training, the last one included.
  """

  mixture: str
  family: str
  measured: str
  held_out: tuple[str, ...]
  excluded: tuple[str, ...]
  trained_on: tuple[str, ...]
  datasets: tuple[str, ...] | None
  allowed_overlap: tuple[Shared, ...]
  lineage: Lineage

  @property
  def warnings(self) -> tuple[str, ...]:
    """One line for each thing that a reader of the figures should know."""
    found = []
    for training in self.lineage.trainings:
      if training.datasets is None:
        why = f' ({training.note})' if training.note else ''
        found.append(
          f'guard: what {training.model!r} was trained on is unknown{why}; nothing is '
          'proven of what it saw'
        )
      elif training.datasets and not training.related(self.measured):
        found.append(
          f'guard: {training.model!r} was trained on datasets of {training.family}, '
          f'which have nothing to do with those of {self.measured}'
        )
    return (
      *dict.fromkeys(found),
      *(f'guard: {shared}' for shared in self.allowed_overlap),
    )

  @property
  def seen(self) -> dict[str, str]:
    """Held-out cluster -> what may be claimed of it, in words."""
    return {cluster: self._seen(cluster) for cluster in self.held_out}

  def _seen(self, cluster: str) -> str:
    related = [t for t in self.lineage.trainings if t.related(self.measured)]
    if any(cluster in (training.clusters or ()) for training in related):
      return _TRAINED_ON
    if not self.lineage.known:
      return _UNRECORDED
    if any(s.held_out == cluster and s.by == 'run' for s in self.allowed_overlap):
      return _RELATED
    return NEVER

  def as_json(self) -> dict[str, Any]:
    """The proof as it stands in a checkpoint and in a report."""
    return {
      'mixture': self.mixture,
      'family': self.family,
      'held_out': list(self.held_out),
      'excluded': list(self.excluded),
      'trained_on': list(self.trained_on),
      'datasets': None if self.datasets is None else list(self.datasets),
      'allowed_overlap': [shared._asdict() for shared in self.allowed_overlap],
      'seen': self.seen,
      'warnings': list(self.warnings),
    }


def beside(proof: LeakageReport, base: LeakageReport | None) -> dict[str, Any]:
  """The proof of a report: of a model, and of a base that is measured beside it.

  The claim of a cluster holds for both: where the base's is the worse of the two, it
  is said beside the model's.
  """
  found = proof.as_json()
  if base is None:
    return found
  for cluster, said in base.seen.items():
    own = found['seen'][cluster]
    if CLAIMS.index(said) > CLAIMS.index(own):
      both = [] if own == NEVER else [_reason(own)]
      both.append(f'base model: {_reason(said)}')
      found['seen'][cluster] = f'zero-shot ({"; ".join(both)})'
  lines = [line.replace('guard: ', 'guard: base model: ', 1) for line in base.warnings]
  mine = {line.replace('guard: ', 'guard: base model: ', 1) for line in proof.warnings}
  found['warnings'] += [line for line in lines if line not in mine]
  return {**found, 'base': {**base.as_json(), 'lineage': base.lineage.as_json()}}


def _reason(said: str) -> str:
  """A claim without its `zero-shot (...)`."""
  return said.removeprefix('zero-shot (').removesuffix(')')


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


def check(
  mixture: Mixture,
  asked: str | Sequence[str] | None = None,
  *,
  allow_overlap: str | Sequence[str] | None = None,
  datasets: Iterable[str] | None = None,
  lineage: Lineage = lineage_lib.RANDOM,
  setting: str = 'HELD_OUT',
) -> LeakageReport:
  """Proves that a run of `mixture` may measure some clusters as never seen.

  Args:
    mixture: what trains.
    asked: HELD_OUT, the clusters; None for those that the mixture holds out.
    allow_overlap: datasets, or whole clusters, that may train although they share something
      with a held-out cluster, or held-out clusters that may share anything; each is
      recorded.
    datasets: what really trains, of the mixture's datasets; None for all of them.
    lineage: of the model that the run starts from; none for random parameters.
    setting: where the clusters were asked for; for errors.

  Raises:
    InputError: if the mixture trains on a held-out cluster, on one that the paper
      excludes with it (FLAN footnote 1), or on a dataset made of the same texts, or an
      ancestor was trained on such a thing, and nobody accepted it by name.
  """
  held_out = mixture.held_out if asked is None else clusters(asked, setting=setting)
  names = mixture.datasets if datasets is None else tuple(datasets)
  foreign = [name for name in names if name not in mixture.datasets]
  if foreign:
    raise InputError(
      f'mixture {mixture.name!r}: {foreign[0]!r} trains and is not one of its datasets'
    )
  own = lineage_lib.of_mixture(mixture, names, model='')
  allowed_overlap = _judge(
    lineage.then(own),
    held_out,
    family=mixture.family,
    near=mixture.excluded,
    allow_overlap=allow_overlap,
    refusal=lambda training, *found: (
      _refusal(mixture, *found, setting)
      if training is own
      else _inherited(training, *found, setting, 'INITIAL_CHECKPOINT_PATH')
    ),
  )
  too_near = {c for name in held_out for c in registry.excluded_with(name)}
  return LeakageReport(
    mixture=mixture.name,
    family=mixture.family,
    measured=mixture.family,
    held_out=held_out,
    excluded=tuple(c for c in CLUSTERS if c in too_near and c not in own.clusters),
    trained_on=own.clusters,
    datasets=names,
    allowed_overlap=allowed_overlap,
    lineage=lineage.then(own),
  )


def check_checkpoint(
  lineage: Lineage,
  asked: str | Sequence[str],
  *,
  family: str,
  allow_overlap: str | Sequence[str] | None = None,
  which: str = 'CHECKPOINT',
  setting: str = 'CLUSTERS',
) -> LeakageReport:
  """Proves that a checkpoint may be measured on some clusters as never seen.

  Args:
    lineage: what the checkpoint and its ancestors say of their training.
    asked: the clusters.
    family: the world of the clusters.
    allow_overlap: as for `check`; here it also lets a cluster be measured that trained.
    which: the setting that names the checkpoint; for errors.
    setting: where the clusters were asked for; for errors.

  Raises:
    InputError: as `check`.
  """
  held_out = clusters(asked, setting=setting)
  allowed_overlap = _judge(
    lineage,
    held_out,
    family=family,
    near=(),
    allow_overlap=allow_overlap,
    refusal=lambda *found: _inherited(*found, setting, which),
  )
  last = lineage.trainings[-1] if lineage.trainings else None
  trained = last is not None and last.datasets is not None
  seen = last.clusters if trained else ()
  too_near = {c for name in held_out for c in registry.excluded_with(name)}
  known = trained and last.datasets and last.related(family)
  return LeakageReport(
    mixture=last.mixture if last else '',
    family=last.family if trained else family,
    measured=family,
    held_out=held_out,
    excluded=tuple(c for c in CLUSTERS if c in too_near and c not in seen)
    if known
    else (),
    trained_on=seen,
    datasets=tuple(dict.fromkeys(d.name for d in last.datasets))
    if trained
    else None
    if last
    else (),
    allowed_overlap=allowed_overlap,
    lineage=lineage,
  )


def _judge(
  lineage: Lineage,
  held_out: Iterable[str],
  *,
  family: str,
  near: Iterable[str],
  allow_overlap: str | Sequence[str] | None,
  refusal: Callable[[Training, Trained, str, str], InputError],
) -> tuple[Shared, ...]:
  """What any training shares with the held-out clusters, all of it accepted.

  Args:
    lineage: every training.
    held_out: the clusters.
    family: their world.
    near: clusters too near to them, beside the paper's.
    allow_overlap: what the run accepts.
    refusal: the error of (training, dataset, held-out cluster, what they share).

  Raises:
    InputError: that refusal, at the first thing that nobody accepted.
  """
  declared = registry.datasets(family)
  related = [t for t in lineage.trainings if t.datasets and t.related(family)]
  recorded = {dataset.name for training in related for dataset in training.datasets}
  allow_overlap = _names(
    allow_overlap, [*declared, *sorted(recorded.difference(declared))]
  )
  allowed_overlap: list[Shared] = []
  for cluster in held_out:
    measured = [dataset for dataset in declared.values() if dataset.cluster == cluster]
    close = (cluster, *registry.excluded_with(cluster), *near)
    for training in related:
      for dataset in training.datasets:
        for source in _common(dataset, close, measured):
          by_run = bool(allow_overlap & {dataset.name, dataset.cluster, cluster})
          # A declaration cannot accept the held-out cluster itself; a run can.
          granted = (
            source != cluster and (dataset.name, source) in training.allowed_overlap
          )
          if not by_run and not granted:
            raise refusal(training, dataset, cluster, source)
          by = 'run' if by_run else 'mixture'
          allowed_overlap.append(
            Shared(dataset.name, dataset.cluster, source, cluster, by, training.model)
          )
  return tuple(dict.fromkeys(allowed_overlap))


def _names(
  allow_overlap: str | Sequence[str] | None, datasets: Sequence[str]
) -> set[str]:
  names = (
    {allow_overlap} if isinstance(allow_overlap, str) else set(allow_overlap or ())
  )
  for name in sorted(names):
    if name not in CLUSTERS and name not in datasets:
      raise InputError(
        f'accept {name!r}: must be a dataset or a cluster'
        + did_you_mean(name, [*datasets, *CLUSTERS])
      )
  return names


def _common(
  dataset: Trained, near: Iterable[str], measured: Iterable[Dataset]
) -> tuple[str, ...]:
  """What `dataset` shares with held-out datasets: a cluster, or texts by name."""
  if dataset.cluster in near:
    return (dataset.cluster,)
  theirs = set().union(*(other.sources for other in measured))
  return tuple(sorted(theirs.intersection(dataset.sources)))


def _refusal(
  mixture: Mixture, dataset: Trained, cluster: str, source: str, setting: str
) -> InputError:
  head = f'{setting} {cluster!r}: mixture {mixture.name!r} trains on '
  if source not in CLUSTERS:
    return InputError(
      f'{head}{dataset.name!r}, which shares {source!r} with it; leave it out, or '
      f"accept it by name: ALLOW_OVERLAP = ('{dataset.name}',)"
    )
  what = 'that very cluster' if source == cluster else f'{source}, too near to it'
  return InputError(
    f"{head}{what} ({dataset.name}); use '{mixture.family}_held_out_{cluster}', or "
    f"accept it by name: ALLOW_OVERLAP = ('{source}',)"
  )


def _inherited(
  training: Training,
  dataset: Trained,
  cluster: str,
  source: str,
  setting: str,
  which: str,
) -> InputError:
  """The refusal of a checkpoint, for what it or an ancestor was trained on."""
  of = f' (mixture {training.mixture!r})' if training.mixture else ''
  head = f'{setting} {cluster!r}: {which}: {training.model!r}{of} was trained on '
  if source not in CLUSTERS:
    what, name = f'{dataset.name!r}, which shares {source!r} with it', dataset.name
    family = training.family
    if family not in registry.FAMILIES or name not in registry.datasets(family):
      name = cluster  # what is declared no more cannot be named
  else:
    very = source == cluster
    what = 'that very cluster' if very else f'{source}, too near to it'
    what, name = f'{what} ({dataset.name})', source
  return InputError(
    f"{head}{what}; give another checkpoint, or accept it by name: ALLOW_OVERLAP = ('{name}',)"
  )

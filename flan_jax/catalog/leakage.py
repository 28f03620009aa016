"""Leakage check: refuses training data that overlaps with a held-out cluster.

A dataset is unseen only if nothing of its cluster trained (FLAN section 2.2), nor of
a related cluster (footnote 1), nor anything made of the same texts; now, or in any
model that this one was tuned from. Overlap may be allowed by name, and every report
then lists it. A training that is not recorded is unknown: it counts neither as seen nor
as unseen.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog import lineage as lineage_lib
from flan_jax.catalog import registry
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.lineage import Lineage, Trained, Training
from flan_jax.catalog.registry import Mixture
from flan_jax.errors import InputError, did_you_mean

NEVER = 'never trained on'
"""Claim for a cluster: every training is known, and none used related data."""

UNKNOWN = 'training unknown'
"""Claim for a cluster: the training data of some ancestor is not recorded."""

_RELATED = 'zero-shot (related data trained)'
_UNRECORDED = f'zero-shot ({UNKNOWN})'
_TRAINED_ON = 'trained on'

CLAIMS = (NEVER, _RELATED, _UNRECORDED, _TRAINED_ON)
"""All claims for a cluster, from the best to the worst."""


ITSELF = 'itself'
"""`Overlap.by` of a dataset that is a cluster by itself, measured after it trained."""


class Overlap(NamedTuple):
  """Something that training and a measured cluster share, and that was allowed.

  Attributes:
    dataset: the dataset that trains.
    cluster: its cluster.
    source: the shared dataset, text (by name) or cluster.
    held_out: the held-out cluster.
    by: `mixture` if its declaration allows it, `run` if the settings do; ITSELF if
      nothing is held out.
    model: the ancestor that it trained; '' for the current training.
  """

  dataset: str
  cluster: str
  source: str
  held_out: str
  by: str
  model: str = ''

  def __str__(self) -> str:
    subject = f'{self.dataset} trained {self.model!r}' if self.model else self.dataset
    if self.by == ITSELF:
      how = '' if self.source == self.held_out else f' and shares {self.source} with it'
      return f'{subject}{how}: the figures of {self.held_out} are no held-out ones'
    if registry.is_cluster(self.source):
      same = self.cluster == self.held_out
      relation = 'which is held out' if same else 'related to it'
      verb = ',' if self.model else ' trains,'
      return f'{subject}{verb} of {self.cluster}, {relation} (allowed by the {self.by})'
    verb = 'and' if self.model else 'trains and'
    return (
      f'{subject} {verb} shares {self.source} with held-out {self.held_out} '
      f'(allowed by the {self.by})'
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeakageReport:
  """The training data, the held-out clusters, and the overlap between them.

  Attributes:
    mixture: name of the mixture that trained last; '' if unknown.
    family: dataset family of its datasets.
    evaluated_family: dataset family of the held-out clusters.
    held_out: clusters that may be measured as unseen.
    excluded: clusters left out with them.
    trained_on: clusters that trained last.
    datasets: datasets that trained last; None if unknown.
    allowed_overlap: overlap that was allowed by name, ancestors included.
    lineage: every training, the last one included.
  """

  mixture: str
  family: str
  evaluated_family: str
  held_out: tuple[str, ...]
  excluded: tuple[str, ...]
  trained_on: tuple[str, ...]
  datasets: tuple[str, ...] | None
  allowed_overlap: tuple[Overlap, ...]
  lineage: Lineage

  @property
  def warnings(self) -> tuple[str, ...]:
    """One line for each thing that a reader of the figures should know."""
    found = []
    for training in self.lineage.trainings:
      if training.datasets is None:
        why = f' ({training.note})' if training.note else ''
        found.append(
          f'leakage: the training data of {training.model!r} is unknown{why}; any '
          'cluster may have been seen'
        )
      elif training.datasets and not training.may_share_data(self.evaluated_family):
        found.append(_unrelated(training, self.evaluated_family))
    return (
      *dict.fromkeys(found),
      *(f'leakage: {overlap}' for overlap in self.allowed_overlap),
    )

  @property
  def seen(self) -> dict[str, str]:
    """Held-out cluster -> the claim that holds for it, one of CLAIMS."""
    return {cluster: self._seen(cluster) for cluster in self.held_out}

  def _seen(self, cluster: str) -> str:
    family = self.evaluated_family
    trainings = [t for t in self.lineage.trainings if t.may_share_data(family)]
    if any(cluster in (training.clusters or ()) for training in trainings):
      return _TRAINED_ON
    if not self.lineage.known:
      return _UNRECORDED
    if any(o.held_out == cluster and o.by != 'mixture' for o in self.allowed_overlap):
      return _RELATED
    return NEVER

  def as_json(self) -> dict[str, Any]:
    """The report as written to a checkpoint and to report.json."""
    return {
      'mixture': self.mixture,
      'family': self.family,
      'held_out': list(self.held_out),
      'excluded': list(self.excluded),
      'trained_on': list(self.trained_on),
      'datasets': None if self.datasets is None else list(self.datasets),
      'allowed_overlap': [overlap._asdict() for overlap in self.allowed_overlap],
      'seen': self.seen,
      'warnings': list(self.warnings),
    }


_MAX_NAMED = 4
"""Maximum number of datasets that a line names one by one."""


def _unrelated(training: Training, evaluated: str) -> str:
  """The line on a training that shares nothing with the evaluated family."""
  trained, others = f'datasets of {training.family}', f'those of {evaluated}'
  if not training.family:  # as of a file
    names = list(dict.fromkeys(dataset.name for dataset in training.datasets or ()))
    kind = 'dataset' if len(names) == 1 else 'datasets'
    count = f'{len(names)} {kind}' if len(names) > _MAX_NAMED else f'the {kind}'
    listed = '' if len(names) > _MAX_NAMED else f' {", ".join(names)}'
    trained, others = f'{count}{listed}', f'the datasets of {evaluated}'
  if not evaluated:
    others = 'the evaluated datasets'
  return (
    f'leakage: {training.model!r} was trained on {trained}, which '
    f'{"is" if trained.startswith("the dataset ") else "are"} unrelated to {others}'
  )


def with_base(report: LeakageReport, base: LeakageReport | None) -> dict[str, Any]:
  """The JSON report of a model and of the base model measured beside it.

  The claim for a cluster must hold for both models: if the base's claim is the worse
  one, it is added to the model's.
  """
  found = report.as_json()
  if base is None:
    return found
  for cluster, base_claim in base.seen.items():
    claim = found['seen'][cluster]
    if CLAIMS.index(base_claim) > CLAIMS.index(claim):
      reasons = [] if claim == NEVER else [_reason(claim)]
      reasons.append(f'base model: {_reason(base_claim)}')
      found['seen'][cluster] = f'zero-shot ({"; ".join(reasons)})'
  own = set(map(_of_base, report.warnings))
  lines = map(_of_base, base.warnings)
  found['warnings'] += [line for line in lines if line not in own]
  return {**found, 'base': {**base.as_json(), 'lineage': base.lineage.as_json()}}


def _of_base(warning: str) -> str:
  return warning.replace('leakage: ', 'leakage: base model: ', 1)


def _reason(claim: str) -> str:
  """A claim without its `zero-shot (...)`."""
  return claim.removeprefix('zero-shot (').removesuffix(')')


def clusters(
  names: str | Sequence[str], *, setting: str = 'HELD_OUT'
) -> tuple[str, ...]:
  """Checks cluster names.

  Args:
    names: one name, or several.
    setting: name of the setting that holds them; for errors.

  Raises:
    InputError: if a name is not a cluster; names the nearest.
  """
  names = (names,) if isinstance(names, str) else tuple(names)
  for name in names:
    if not registry.is_cluster(name):
      known = registry.clusters()
      raise InputError(
        f'{setting} {name!r}: no such cluster; clusters are {", ".join(known)}'
        + did_you_mean(name, known)
      )
  return names


def check(
  mixture: Mixture,
  held_out: str | Sequence[str] | None = None,
  *,
  allow_overlap: str | Sequence[str] | None = None,
  datasets: Iterable[str] | None = None,
  lineage: Lineage = lineage_lib.RANDOM,
  setting: str = 'HELD_OUT',
) -> LeakageReport:
  """Checks that a run of `mixture` may measure some clusters as unseen.

  Args:
    mixture: the training mixture.
    held_out: the clusters; None for those that the mixture holds out.
    allow_overlap: datasets or clusters that may train although they share something
      with a held-out cluster, or held-out clusters that may share anything; each
      overlap is recorded.
    datasets: those of the mixture's datasets that train; None for all of them.
    lineage: lineage of the initial checkpoint; empty for random parameters.
    setting: name of the setting that holds the clusters; for errors.

  Raises:
    InputError: if the mixture trains on a held-out cluster, on one that the paper
      excludes with it (FLAN footnote 1), or on a dataset made of the same texts, or an
      ancestor was trained on such a dataset, and it was not allowed by name.
  """
  held_out = (
    mixture.held_out if held_out is None else clusters(held_out, setting=setting)
  )
  names = mixture.datasets if datasets is None else tuple(datasets)
  foreign = [name for name in names if name not in mixture.datasets]
  if foreign:
    raise InputError(
      f'mixture {mixture.name!r}: {foreign[0]!r} trains and is not one of its datasets'
    )
  own = lineage_lib.of_mixture(mixture, names, model='')
  trained_on = own.clusters or ()

  def refusal(
    training: Training, dataset: Trained, cluster: str, source: str
  ) -> InputError:
    if training is own:
      return _mixture_error(mixture, dataset, cluster, source, setting)
    checkpoint_setting = 'INITIAL_CHECKPOINT_PATH'
    return _checkpoint_error(
      training, dataset, cluster, source, setting, checkpoint_setting
    )

  allowed_overlap = _allowed_overlap(
    lineage.then(own),
    held_out,
    families=mixture.families,
    related=mixture.excluded,
    allow_overlap=allow_overlap,
    refusal=refusal,
  )
  return LeakageReport(
    mixture=mixture.name,
    family=mixture.family,
    evaluated_family=mixture.family,
    held_out=held_out,
    excluded=_excluded(held_out, trained_on),
    trained_on=trained_on,
    datasets=names,
    allowed_overlap=allowed_overlap,
    lineage=lineage.then(own),
  )


def check_checkpoint(
  lineage: Lineage,
  held_out: str | Sequence[str],
  *,
  family: str,
  allow_overlap: str | Sequence[str] | None = None,
  itself: Sequence[str] = (),
  checkpoint_setting: str = 'CHECKPOINT',
  setting: str = 'CLUSTERS',
) -> LeakageReport:
  """Checks that a checkpoint may be measured on some clusters as unseen.

  Args:
    lineage: lineage of the checkpoint.
    held_out: the clusters.
    family: dataset family of the clusters.
    allow_overlap: as for `check`; here it also lets a cluster be measured that trained.
    itself: clusters of one dataset, which are measured although they trained: nothing
      is held out.
    checkpoint_setting: name of the setting that holds the checkpoint; for errors.
    setting: name of the setting that holds the clusters; for errors.

  Raises:
    InputError: as `check`.
  """
  held_out = clusters(held_out, setting=setting)
  allowed_overlap = _allowed_overlap(
    lineage,
    held_out,
    families=(family,),
    related=(),
    allow_overlap=allow_overlap,
    itself=itself,
    refusal=lambda training, dataset, cluster, source: _checkpoint_error(
      training, dataset, cluster, source, setting, checkpoint_setting
    ),
  )
  no_training = Training(model='', datasets=(), family=family)
  last = lineage.trainings[-1] if lineage.trainings else no_training
  trained_on = last.clusters or ()
  names = None
  if last.datasets is not None:
    names = tuple(dict.fromkeys(dataset.name for dataset in last.datasets))
  comparable = last.datasets and last.may_share_data(family)
  return LeakageReport(
    mixture=last.mixture,
    family=family if names is None else last.family,
    evaluated_family=family,
    held_out=held_out,
    excluded=_excluded(held_out, trained_on) if comparable else (),
    trained_on=trained_on,
    datasets=names,
    allowed_overlap=allowed_overlap,
    lineage=lineage,
  )


def _excluded(held_out: Iterable[str], trained_on: Iterable[str]) -> tuple[str, ...]:
  """Clusters related to the held-out ones, without those that trained."""
  related = {c for name in held_out for c in registry.too_near(name)}
  return registry.in_order(related.difference(trained_on))


def _allowed_overlap(
  lineage: Lineage,
  held_out: Iterable[str],
  *,
  families: Sequence[str],
  related: Iterable[str],
  allow_overlap: str | Sequence[str] | None,
  refusal: Callable[[Training, Trained, str, str], InputError],
  itself: Sequence[str] = (),
) -> tuple[Overlap, ...]:
  """Finds the overlap of any training with the held-out clusters; all was allowed.

  Args:
    lineage: every training.
    held_out: the clusters.
    families: their dataset families.
    related: clusters related to them, beside the paper's.
    allow_overlap: datasets or clusters that the run allows.
    refusal: makes the error for (training, dataset, held-out cluster, shared source).
    itself: as for `check_checkpoint`.

  Raises:
    InputError: the refusal of the first overlap that was not allowed.
  """
  declared = registry.datasets()
  trainings = [
    (training, training.datasets)
    for training in lineage.trainings
    if training.datasets and any(map(training.may_share_data, families))
  ]
  recorded = {dataset.name for _, datasets in trainings for dataset in datasets}
  allowed_names = _checked_names(
    allow_overlap, [*declared, *sorted(recorded.difference(declared))]
  )
  found: list[Overlap] = []
  for cluster in held_out:
    measured = registry.of_clusters([cluster], families)
    excluded = (cluster, *registry.too_near(cluster), *related)
    for training, datasets in trainings:
      for dataset in datasets:
        for source in _shared_sources(dataset, excluded, measured):
          by_run = bool(allowed_names & {dataset.name, dataset.cluster, cluster})
          # A declaration cannot allow the held-out cluster itself; a run can.
          by_mixture = (
            source != cluster and (dataset.name, source) in training.allowed_overlap
          )
          if not by_run and not by_mixture and cluster not in itself:
            raise refusal(training, dataset, cluster, source)
          by = 'run' if by_run else 'mixture' if by_mixture else ITSELF
          found.append(
            Overlap(dataset.name, dataset.cluster, source, cluster, by, training.model)
          )
  return tuple(dict.fromkeys(found))


def _checked_names(
  allow_overlap: str | Sequence[str] | None, datasets: Sequence[str]
) -> set[str]:
  """The names of ALLOW_OVERLAP, each a dataset or a cluster."""
  names = (
    {allow_overlap} if isinstance(allow_overlap, str) else set(allow_overlap or ())
  )
  for name in sorted(names):
    if not registry.is_cluster(name) and name not in datasets:
      raise InputError(
        f'ALLOW_OVERLAP {name!r}: must be a dataset or a cluster'
        + did_you_mean(name, [*datasets, *registry.clusters()]),
        field='ALLOW_OVERLAP',
      )
  return names


def _shared_sources(
  dataset: Trained, excluded: Iterable[str], measured: Iterable[Dataset]
) -> tuple[str, ...]:
  """Sources that `dataset` shares with held-out data: its cluster, or texts by name."""
  if dataset.cluster in excluded:
    return (dataset.cluster,)
  sources = set().union(*(other.sources for other in measured))
  return tuple(sorted(sources.intersection(dataset.sources)))


def _mixture_error(
  mixture: Mixture, dataset: Trained, cluster: str, source: str, setting: str
) -> InputError:
  """The refusal of a mixture that is about to train."""
  head = f'{setting} {cluster!r}: mixture {mixture.name!r} trains on '
  if not registry.is_cluster(source):
    return InputError(
      f'{head}{dataset.name!r}, which shares {source!r} with it; leave it out, or '
      f"allow it by name: ALLOW_OVERLAP = ('{dataset.name}',)"
    )
  other = f'{mixture.family}_held_out_{cluster}'
  use = f"use '{other}', or " if other in registry.mixtures() else ''
  return InputError(
    f'{head}{_cluster_found(dataset, cluster, source)}; {use}allow it by name: '
    f"ALLOW_OVERLAP = ('{source}',)"
  )


def _checkpoint_error(
  training: Training,
  dataset: Trained,
  cluster: str,
  source: str,
  setting: str,
  checkpoint_setting: str,
) -> InputError:
  """The refusal of a checkpoint, for its own training or an ancestor's."""
  mixture = f' (mixture {training.mixture!r})' if training.mixture else ''
  if registry.is_cluster(source):
    found, name = _cluster_found(dataset, cluster, source), source
  else:
    found, name = f'{dataset.name!r}, which shares {source!r} with it', dataset.name
    if registry.find(name) is None:
      name = cluster  # ALLOW_OVERLAP takes no dataset that is not declared any more
  return InputError(
    f'{setting} {cluster!r}: {checkpoint_setting}: {training.model!r}{mixture} was '
    f'trained on {found}; give another checkpoint, or allow it by name: '
    f"ALLOW_OVERLAP = ('{name}',)"
  )


def _cluster_found(dataset: Trained, cluster: str, source: str) -> str:
  """The held-out cluster or a related one, with the dataset that trains, in words."""
  found = 'that very cluster' if source == cluster else f'{source}, related to it'
  return f'{found} ({dataset.name})'

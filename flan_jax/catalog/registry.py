"""Registry: families, clusters, datasets and mixtures by name.

What ships and what a user brings come in by the same `register`. The packages that ship
are imported at the first look-up, and so are the modules that the user named
(`flan_jax.runtime.modules`), in every process.
"""

import dataclasses
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from flan_jax.catalog import seqio_names
from flan_jax.catalog.answers import Choice, Label, Text
from flan_jax.catalog.dataset import CLUSTERS, Dataset, check_name, refuse_single
from flan_jax.catalog.prompt_style import PromptStyle
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import modules

SHIPPED = ('flan_jax.tasks', 'flan_jax.microworld.tasks', 'flan_jax.mixtures')
"""Packages that register the datasets and mixtures that ship."""


@dataclasses.dataclass(frozen=True)
class Family:
  """A family of datasets, whose task names begin with its name.

  Attributes:
    name: as `flan`: the task of dataset `rte` is `flan_rte`.
    generated: True if its data is made by a program, and shares nothing with that of
      any other family.
    task_source: its name in the published collections of rendered examples, which
      have it in a column of that name; '' for `name`.
  """

  name: str
  generated: bool = False
  task_source: str = ''


@dataclasses.dataclass(frozen=True)
class Cluster:
  """A task cluster.

  Attributes:
    name: any name; the paper's twelve are in `flan_jax.catalog.dataset.CLUSTERS`.
    too_near: clusters that must not train when this one is held out (FLAN footnote 1).
  """

  name: str
  too_near: tuple[str, ...] = ()

  def __post_init__(self):
    refuse_single(self, f'cluster {self.name!r}')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixture:
  """Datasets that train together, and the clusters held out.

  Attributes:
    name: its seqio name, as `flan_held_out_nli`.
    datasets: short names of the datasets that train; the name of another mixture
      stands for all of its datasets.
    rates: member -> its mixing rate, in place of the one that its examples give; that
      of a mixture is shared by its datasets as in the mixture itself.
    held_out: clusters that are evaluated and not trained on.
    excluded: related clusters that are not trained on either (FLAN footnote 1).
    style: prompt style of its examples.
    styles: dataset -> its own prompt style.
    shared_cap: whether tasks that the paper counts as one dataset share one maximum
      rate; otherwise each task has its own, as in the reference.
    allowed_overlap: (dataset that trains, source shared with a held-out one): the
      leakage check allows this overlap with a warning.
    note: why it has these datasets; shown by `flan tasks --mixture`.
    rate_function: function of the examples of its datasets that gives the rates of all
      of them, in proportion to one another, or {} if they are not known yet; None for
      those that their examples give.
    parts: mixtures among its members by name, as a look-up returns it.
  """

  name: str
  datasets: tuple[str, ...]
  rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  held_out: tuple[str, ...] = ()
  excluded: tuple[str, ...] = ()
  style: PromptStyle = PromptStyle()
  styles: Mapping[str, PromptStyle] = dataclasses.field(default_factory=dict)
  shared_cap: bool = False
  allowed_overlap: tuple[tuple[str, str], ...] = ()
  note: str = ''
  rate_function: Callable[[Mapping[str, int]], Mapping[str, float]] | None = None
  parts: Mapping[str, 'Mixture'] = dataclasses.field(default_factory=dict, repr=False)

  def __post_init__(self):
    refuse_single(self, f'mixture {self.name!r}')
    for setting in ('rates', 'styles'):
      for name in getattr(self, setting):
        if name not in self.datasets and name not in self.parts:
          raise InputError(
            f'mixture {self.name!r}: {setting} of {name!r}; must be one of its '
            f'datasets, {", ".join(self.datasets)}{did_you_mean(name, self.datasets)}'
          )
    for style in (self.style, *self.styles.values()):
      style.check_stored()
    for name, rate in self.rates.items():
      if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not rate > 0:
        what = f'mixture {self.name!r}: rate of {name!r}'
        raise InputError(f'{what}: got {rate!r}; must be a number above 0')

  def style_of(self, name: str) -> PromptStyle:
    """The prompt style of one of its datasets."""
    return self.styles.get(name, self.style)

  @property
  def members(self) -> tuple[Dataset, ...]:
    """The datasets, each in its prompt style."""
    return tuple(self.style_of(name).apply(get(name)) for name in self.datasets)

  @property
  def families(self) -> tuple[str, ...]:
    """The families of its datasets; '' for datasets of none."""
    return tuple(dict.fromkeys(get(name).family for name in self.datasets))

  @property
  def family(self) -> str:
    """The family of all its datasets; '' if they have none, or several."""
    return family_of(map(get, self.datasets))

  @property
  def trained_on(self) -> tuple[str, ...]:
    """Clusters of the datasets."""
    return in_order(get(name).cluster for name in self.datasets)


class _Entry(NamedTuple):
  item: Any
  place: str  # file:line of the registration
  replaces: bool


_KINDS = {Family: 'family', Cluster: 'cluster', Dataset: 'dataset', Mixture: 'mixture'}

_entries: dict[str, dict[str, _Entry]] = {kind: {} for kind in _KINDS.values()}
_state = {'loaded': False}


def register(*items: Any, family: str = '', replace: bool = False) -> None:
  """Registers datasets, mixtures, clusters and families.

  Args:
    *items: `Dataset`, `Mixture`, `Cluster` or `Family` objects.
    family: family of the datasets that name none; '' for none.
    replace: whether they take the place of what has the same names.

  Raises:
    InputError: if a name is taken, by another object or by one of another kind that is
      looked up alike; names both places. An equal object is no other one.
  """
  place = _place()
  for item in items:
    kind = _KINDS.get(type(item))
    if kind is None:
      raise InputError(
        f'register: got {item!r}; must be a Dataset, Mixture, Cluster or Family'
      )
    if isinstance(item, Dataset) and not item.templates:
      raise InputError(
        f'dataset {item.name!r} ({place}): no templates; must have at least one'
      )
    if isinstance(item, Dataset) and family and not item.family:
      item = dataclasses.replace(item, family=family)
    _add(kind, _Entry(item, place, replace))


def _add(kind: str, new: _Entry) -> None:
  entries, name = _entries[kind], new.item.name
  check_name(f'{kind} {name!r} ({new.place}): name', name)
  for taken, other, place in _of_the_other_kind(kind, new.item):
    raise InputError(
      f'{kind} {name!r} ({new.place}): {taken!r} is the name of {other} ({place}); '
      'must have another name'
    )
  old = entries.get(name)
  if old is not None and old.item != new.item and not new.replaces:
    if old.replaces:
      return  # registered first to replace what is registered now
    raise InputError(
      f'{kind} {name!r}: registered twice, at {old.place} and at {new.place}; must '
      'have another name, or be given to register(..., replace=True)'
    )
  entries[name] = new


def _of_the_other_kind(kind: str, item: Any) -> Iterator[tuple[str, str, str]]:
  """Yields (name, item, place) of mixtures named as a dataset, or the reverse."""
  if kind == 'dataset':
    for name in {item.name, item.task} & _entries['mixture'].keys():
      yield name, 'a mixture', _entries['mixture'][name].place
  elif kind == 'mixture':
    for name, entry in _entries['dataset'].items():
      if item.name in (name, entry.item.task):
        yield item.name, f'dataset {name!r}', entry.place


def _place() -> str:
  """Returns the place of the call of `register`, file:line; notes its module."""
  frame = sys._getframe(2)
  modules.note(frame.f_globals['__name__'])
  return f'{frame.f_code.co_filename}:{frame.f_lineno}'


def _load() -> None:
  """Imports what registers: the packages that ship, then the user's modules."""
  if _state['loaded']:
    return
  _state['loaded'] = True  # they may look up what they build upon
  try:
    for name in SHIPPED:
      importlib.import_module(name)
    modules.load()
  except BaseException:
    _state['loaded'] = False
    raise
  mixtures()  # refuses those whose members are not registered
  for name in _entries['cluster']:
    too_near(name)  # refuses those that name no cluster


def _flat(mixture: Mixture, above: tuple[str, ...]) -> Mixture:
  """Puts the datasets of mixtures among the members in their place.

  Args:
    mixture: mixture as it is registered.
    above: names of the mixtures that it is in, itself included.

  Raises:
    InputError: if a member is not registered; names the mixture and the nearest.
  """
  found, styles = {}, dict(mixture.styles)
  parts, overlap = dict(mixture.parts), list(mixture.allowed_overlap)
  for member in mixture.datasets:
    dataset, entry = find(member), _entries['mixture'].get(member)
    if dataset is not None:
      found[dataset.name] = None
      continue
    known = entry.item if entry is not None else seqio_names.mixture(member)
    if known is None or member in above:
      what = f'has {mixture.name!r} among its own'
      if known is None:
        every = [*datasets(), *_entries['mixture'], *seqio_names.every()]
        what = f'is not registered{did_you_mean(member, every)}'
      place = _entries['mixture'][above[0]].place
      raise InputError(f'mixture {mixture.name!r} ({place}): member {member!r} {what}')
    part = parts[member] = _flat(known, (*above, member))
    overlap += part.allowed_overlap
    for name in part.datasets:
      found[name] = None
      if part.style_of(name) != mixture.style:
        styles.setdefault(name, part.style_of(name))
  if tuple(found) == mixture.datasets:
    return mixture
  return dataclasses.replace(
    mixture,
    datasets=tuple(found),
    parts=parts,
    styles=styles,
    allowed_overlap=tuple(dict.fromkeys(overlap)),
  )


@contextmanager
def restored() -> Iterator[None]:
  """Restores the registry at the end: what is registered inside is forgotten."""
  _load()
  before = {kind: dict(entries) for kind, entries in _entries.items()}
  try:
    yield
  finally:
    for kind, entries in before.items():
      _entries[kind].clear()
      _entries[kind].update(entries)


def families() -> dict[str, Family]:
  """Registered families by name."""
  _load()
  return {name: entry.item for name, entry in _entries['family'].items()}


def is_shipped(dataset: Dataset) -> bool:
  """True if this package registered the dataset, not a module of the user's."""
  file = _entries['dataset'][dataset.name].place.rpartition(':')[0]
  folders = [os.path.dirname(str(sys.modules[name].__file__)) for name in SHIPPED]
  return any(file.startswith(folder + os.sep) for folder in folders)


def family_of(datasets: Iterable[Dataset]) -> str:
  """The family of all of some datasets; '' if they have none, or several."""
  found = {dataset.family for dataset in datasets}
  return found.pop() if len(found) == 1 else ''


def may_share_data(one: str, other: str) -> bool:
  """True if datasets of two families may share data.

  Generated data shares nothing with other data. A family that is not registered, or
  none, may hold anything.
  """
  known = families()
  apart = any(name in known and known[name].generated for name in (one, other))
  return one == other or not apart


def clusters() -> tuple[str, ...]:
  """Every cluster: the paper's twelve, then others in the order of registration."""
  _load()
  own = (entry.item.cluster for entry in _entries['dataset'].values())
  return tuple(dict.fromkeys((*CLUSTERS, *_entries['cluster'], *own)))


def is_cluster(name: str) -> bool:
  """True if datasets have that cluster: registered ones, or the seqio Task `name`."""
  if name in clusters():
    return True
  found = seqio_names.dataset(name)
  return found is not None and found.cluster == name


def in_order(names: Iterable[str]) -> tuple[str, ...]:
  """Sorts clusters as `clusters` has them; those that are not registered come last."""
  given = set(names)
  return (
    *(name for name in clusters() if name in given),
    *sorted(given - set(clusters())),
  )


def too_near(cluster: str) -> tuple[str, ...]:
  """Clusters that must not train when `cluster` is held out (FLAN footnote 1).

  Raises:
    InputError: if one of them is none; names the nearest.
  """
  _load()
  entry, known = _entries['cluster'].get(cluster), clusters()
  if entry is None:
    return ()
  for name in entry.item.too_near:
    if name not in known:
      raise InputError(
        f'cluster {cluster!r} ({entry.place}): too_near names {name!r}; must be one of '
        f'{", ".join(known)}{did_you_mean(name, known)}'
      )
  return entry.item.too_near


def datasets(family: str | None = None) -> dict[str, Dataset]:
  """Datasets by short name, in the order of registration.

  Args:
    family: family of the datasets; '' for those that may share data with any family;
      None for all.
  """
  _load()
  every = {name: entry.item for name, entry in _entries['dataset'].items()}
  if family is None:
    return every
  return {
    name: dataset
    for name, dataset in every.items()
    if dataset.family == family or (not family and may_share_data('', dataset.family))
  }


def of_clusters(names: Iterable[str], families: Iterable[str]) -> list[Dataset]:
  """Datasets of some clusters, in the order of registration.

  Args:
    names: the clusters.
    families: families of the datasets; those without a family belong to each. Of a
      cluster that they lack, the datasets of all families that are not generated.
  """
  names, families = list(names), {*families, ''}
  found = set()
  for name in names:
    every = [d for d in datasets().values() if d.cluster == name]
    inside = [d.name for d in every if d.family in families]
    found.update(inside or (d.name for d in every if may_share_data('', d.family)))
  theirs = [seqio_names.dataset(name) for name in dict.fromkeys(names)]
  return [
    *(dataset for name, dataset in datasets().items() if name in found),
    *(one for one in theirs if one is not None and one.cluster == one.name),
  ]


def find(name: str) -> Dataset | None:
  """The dataset of a short name, as `rte`, or task name, as `flan_rte`; or None."""
  _load()
  entry = _entries['dataset'].get(name)
  if entry is not None:
    return entry.item
  found = tasks().get(name)
  return found if found is not None else seqio_names.dataset(name)


def get(name: str) -> Dataset:
  """The dataset of a short name, as `rte`, or task name, as `flan_rte`.

  Raises:
    InputError: if not found; names the nearest.
  """
  found = find(name)
  if found is None:
    raise not_registered('dataset', name)
  return found


def not_registered(what: str, name: str) -> InputError:
  """The refusal of a name that nothing has: where to look, and the nearest."""
  known = dict.fromkeys([*datasets(), *tasks(), *seqio_names.every()])
  if what == 'mixture':
    known |= dict.fromkeys(_entries['mixture'])
  option = ' --mixture' if what == 'mixture' else ''
  return InputError(
    f'{what} {name!r}: not registered; `flan tasks{option}` lists them{modules.hint()}'
    + did_you_mean(name, known),
    field=None if what == 'dataset' else 'Run.mixture',
  )


def tasks() -> dict[str, Dataset]:
  """Training task name (`flan_rte`) -> dataset."""
  return {dataset.task: dataset for dataset in datasets().values()}


def mixtures() -> dict[str, Mixture]:
  """Every mixture by name.

  Raises:
    InputError: if a member of one is not registered; names the nearest.
  """
  _load()
  return {
    name: _flat(entry.item, (name,)) for name, entry in _entries['mixture'].items()
  }


def is_mixture(name: str) -> bool:
  """True for the name of a mixture, registered here or with seqio."""
  _load()
  if name in _entries['mixture']:
    return True
  return seqio_names.is_mixture(name) and find(name) is None


def mixture(name: str) -> Mixture:
  """The mixture (or the one task, as a mixture) of that name.

  Raises:
    InputError: if not found; names the nearest.
  """
  _load()
  if name in _entries['mixture']:
    return _flat(_entries['mixture'][name].item, (name,))
  dataset = find(name)
  if dataset is not None:
    return Mixture(name=dataset.task, datasets=(dataset.name,))
  if (theirs := seqio_names.mixture(name)) is not None:
    return theirs
  raise not_registered('mixture', name)


def as_json(dataset: Dataset, *, rate: float | None) -> dict[str, Any]:
  """One object of `flan tasks --json`."""
  answer_type = {Label: 'classification', Choice: 'multiple_choice', Text: 'generation'}
  return {
    'dataset': dataset.name,
    'cluster': dataset.cluster,
    'in_paper': dataset.in_paper,
    'paper_name': dataset.paper_name,
    'tfds': dataset.tfds,
    **({} if dataset.tfds else {'source': str(dataset.source)}),
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

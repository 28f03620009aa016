"""seqio Mixtures: their tasks, flattened, at the rates that seqio gives them."""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import seqio

from flan_jax.catalog import registry
from flan_jax.catalog.registry import Mixture
from flan_jax.catalog.source import UNKNOWN_SIZE, SeqioTask
from flan_jax.errors import InputError

_Rate = Any
"""A rate of a seqio Mixture: a number, or a function of the task."""


@dataclasses.dataclass(frozen=True)
class SeqioRates:
  """The rates of a seqio Mixture, as `seqio.Mixture.get_rate` gives them.

  Attributes:
    name: name of the seqio Mixture.
    members: dataset -> name of the seqio Task.
    declared: the mixture's members and rates, and those of its own mixtures, as data.
  """

  name: str
  members: tuple[tuple[str, str], ...]
  declared: tuple[Any, ...]

  def __call__(self, examples: Mapping[str, int]) -> dict[str, float]:
    """Dataset -> rate.

    Args:
      examples: dataset -> number of its training examples; it is used where the task
        itself does not know its number (`num_input_examples`). A dataset that it lacks
        is not prepared, and counts as one without examples.

    Returns:
      The rates; {} if one of them needs a number that nobody knows yet.

    Raises:
      InputError: if a function of the mixture fails, or gives no rate.
    """
    mixture = seqio.MixtureRegistry.get(self.name)
    every = {task.name: task for task in mixture.tasks}
    counts = {task: examples.get(dataset, 0) for dataset, task in self.members}
    found = {}
    with _counted(every.values(), counts) as unknown:
      for dataset, task in self.members:
        if dataset not in examples:
          continue
        try:
          found[dataset] = rate = float(mixture.get_rate(every[task]))
        except Exception as error:  # a rate is any function of the user's
          if unknown and UNKNOWN_SIZE in counts.values():
            return {}
          raise self._refusal(task, f'{type(error).__name__}: {error}') from error
        if not 0 <= rate < math.inf:
          raise self._refusal(task, f'got {rate!r}; must be 0 or more')
    return found

  def _refusal(self, task: str, wrong: str) -> InputError:
    return InputError(f'seqio mixture {self.name!r}: rate of {task!r}: {wrong}')


@contextlib.contextmanager
def _counted(
  tasks: Iterable[seqio.Task], counts: Mapping[str, int]
) -> Iterator[set[str]]:
  """Lets tasks that do not know their number of examples answer with that of `counts`.

  Yields:
    The tasks that were asked for a number that nobody knows.
  """
  unknown: set[str] = set()

  def count(task: seqio.Task, split: str) -> int | None:
    given = counts[task.name]
    found = type(task).num_input_examples(task, split) if given else 0
    if found is None and split == 'train' and given < UNKNOWN_SIZE:
      found = given
    if found is None:
      unknown.add(task.name)
    return found

  tasks = list(tasks)
  for task in tasks:
    vars(task)['num_input_examples'] = functools.partial(count, task)
  try:
    yield unknown
  finally:
    for task in tasks:
      del vars(task)['num_input_examples']


def is_registered(name: str) -> bool:
  """True for the name of a registered seqio Mixture."""
  return name in seqio.MixtureRegistry.names()


def mixture(name: str) -> Mixture | None:
  """A registered seqio Mixture as one of ours; None if not found.

  Raises:
    InputError: if one of its tasks cannot train, or has the name of another dataset.
  """
  if name not in seqio.MixtureRegistry.names():
    return None
  found = seqio.MixtureRegistry.get(name)
  members = tuple((_dataset(task, name), task.name) for task in found.tasks)
  return Mixture(
    name=name,
    datasets=tuple(dataset for dataset, _ in members),
    rate_function=SeqioRates(name, members, _declared(found)),
    note=f'the seqio mixture {name}',
  )


def _dataset(task: seqio.Task, mixture: str) -> str:
  """Name of the dataset of a task: our own one if it is our export of it."""
  dataset = registry.get(task.name)
  theirs = isinstance(dataset.source, SeqioTask) and dataset.source.name == task.name
  if not theirs and not _is_ours(task):
    raise InputError(
      f'seqio mixture {mixture!r}: task {task.name!r} has the name of a dataset '
      'registered here, which takes precedence; must have another name'
    )
  return dataset.name


def hidden(mixture: Mixture) -> list[str]:
  """Names of seqio Tasks that a dataset of the mixture takes precedence over."""
  found = []
  for name in mixture.datasets:
    dataset = registry.get(name)
    for one in dict.fromkeys((name, dataset.task)):
      if isinstance(dataset.source, SeqioTask) and dataset.source.name == one:
        continue
      registered = one in seqio.TaskRegistry.names()
      if registered and not _is_ours(seqio.TaskRegistry.get(one)):
        found.append(one)
  return found


def _is_ours(task: seqio.Task) -> bool:
  """True if the task is one that `flan_jax.seqio_tasks` registers."""
  return any(
    str(getattr(function, '__module__', '')).startswith('flan_jax.')
    for function in task.preprocessors
  )


def _declared(mixture: seqio.Mixture) -> tuple[Any, ...]:
  """The members and rates of a mixture, and those of the mixtures among them."""
  inside = [(one.name, _declared(one)) for one in getattr(mixture, '_sub_mixtures', ())]
  rates = [(name, _as_data(rate)) for name, rate in mixture.rate_per_task_name.items()]
  return (*rates, *inside)


def _as_data(rate: _Rate) -> Any:
  """A rate as data; a function by its name and arguments."""
  if isinstance(rate, functools.partial):
    given = [(name, repr(value)) for name, value in sorted(rate.keywords.items())]
    return (_as_data(rate.func), tuple(map(repr, rate.args)), tuple(given))
  return getattr(rate, '__qualname__', None) or repr(rate)

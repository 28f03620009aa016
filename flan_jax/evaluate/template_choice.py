"""The templates of an evaluation: all, the first few, or those of some indices."""

from collections.abc import Sequence

from flan_jax.catalog.dataset import Dataset
from flan_jax.errors import InputError
from flan_jax.evaluate.predict import Warnings

_MAX_NAMED = 3
"""Maximum number of datasets that a message names."""


def check(datasets: Sequence[Dataset], templates: int | Sequence[int] | None) -> None:
  """Checks that every index in `templates` is one of some dataset.

  Raises:
    InputError: if no dataset has it; names the indices that there are.
  """
  if templates is None or isinstance(templates, int) or not datasets:
    return
  legal = sorted({i for dataset in datasets for i in dataset.evaluated_templates})
  names = ', '.join(dataset.name for dataset in datasets)
  whose = names if len(datasets) <= _MAX_NAMED else 'the datasets'
  for index in templates:
    if index not in legal:
      raise InputError(
        f'TEMPLATES: got index {index}; must be one of the templates that ask for the '
        f'answer of {whose}: {_ranges(legal)}; the nearest is '
        f'{min(legal, key=lambda i: abs(i - index), default=0)}',
        field='Evaluate.templates',
      )


def directions(
  datasets: Sequence[Dataset],
  templates: int | Sequence[int] | None,
  warnings: Warnings,
) -> list[Dataset]:
  """Lists the datasets, in each direction, that have any of the templates.

  Warns of the others, and of indices that a dataset lacks.
  """
  found = []
  for dataset in datasets:
    legal = dataset.evaluated_templates
    if not legal:
      warnings.add(dataset.label, 'left out: no template asks for its answer')
      continue
    if isinstance(templates, int) or templates is None:
      found += dataset.by_direction
      continue
    if absent := [index for index in templates if index not in legal]:
      none = len(absent) == len(templates)
      warnings.add(
        dataset.label,
        f'{"left out, without" if none else "evaluated without"} template '
        f'{", ".join(map(str, absent))} of TEMPLATES: it has {_ranges(legal)}',
      )
    for directed in dataset.by_direction:
      if set(templates) & set(directed.evaluated_templates):
        found.append(directed)
  return found


def _ranges(numbers: Sequence[int]) -> str:
  """Sorted numbers in words: `0 to 5, 7`."""
  runs: list[list[int]] = []
  for number in numbers:
    if runs and number == runs[-1][-1] + 1:
      runs[-1].append(number)
    else:
      runs.append([number])
  parts = []
  for run in runs:
    parts += [f'{run[0]} to {run[-1]}'] if len(run) > 2 else map(str, run)
  return ', '.join(parts) or 'none'


def of(dataset: Dataset, templates: int | Sequence[int] | None) -> tuple[int, ...]:
  """Returns the indices of the templates of a dataset that are evaluated."""
  legal = dataset.evaluated_templates
  if templates is None:
    return legal
  if isinstance(templates, int):
    return legal[:templates]
  return tuple(index for index in templates if index in legal)

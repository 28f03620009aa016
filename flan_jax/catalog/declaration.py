"""Declaration: what a Dataset refuses as it is declared, since it cannot work.

What can work and is still a mistake is found by `flan_jax.catalog.lint`.
"""

import re
from typing import TYPE_CHECKING

from flan_jax.catalog import splits as splits_lib
from flan_jax.catalog import template as template_lib
from flan_jax.catalog.fields import Choice, Text
from flan_jax.errors import InputError, did_you_mean

if TYPE_CHECKING:
  from flan_jax.catalog.dataset import Dataset

_TFDS_NAME = re.compile(r'\w+(/[\w.+-]+)?:\d+\.\d+\.\d+')

_MANY = 10**12
"""Rows that a split of unknown size is taken to have."""


def check(dataset: 'Dataset') -> None:
  """Checks a declaration.

  Raises:
    InputError: naming the dataset, what it declares and the rule.
  """
  if dataset.evidence and dataset.evidence.field not in dataset.fields:
    raise InputError(
      f'dataset {dataset.name!r}: evidence in {dataset.evidence.field!r}; must be one '
      f'of its fields, {", ".join(dataset.fields)}'
      + did_you_mean(dataset.evidence.field, dataset.fields)
    )
  for template in dataset.templates:
    template.validate(tuple(dataset.fields), has_options=dataset.has_options)
  _check_answer(dataset)
  _check_source(dataset)
  _check_rows(dataset)
  _check_directions(dataset)


def _check_answer(dataset: 'Dataset') -> None:
  """Refuses an answer that names no field, or one that is not declared.

  `Text('response')` would train on the word "response".
  """
  answer = dataset.answer
  if isinstance(answer, Text):
    texts = (answer.text,)
    if not template_lib.names(answer.text):
      word = answer.text
      near = (
        f"'{{{word}}}'"
        if word in dataset.fields
        else f"'{{{next(iter(dataset.fields))}}}'"
      )
      raise InputError(
        f'dataset {dataset.name!r}: answer Text({word!r}) names no field; every target '
        f'would be these words; must have a field in braces, as Text({near})'
      )
  elif isinstance(answer, Choice) and not isinstance(answer.options, str):
    texts = answer.options
  else:
    return
  for name in (name for text in texts for name in template_lib.names(text)):
    if name not in dataset.fields:
      raise InputError(
        f'dataset {dataset.name!r}: the answer names field {name!r}; must be one of '
        f'{", ".join(dataset.fields)}{did_you_mean(name, dataset.fields)}'
      )


def _check_source(dataset: 'Dataset') -> None:
  """Refuses a TFDS name without version, and slices that cannot be read."""
  if dataset.tfds and not _TFDS_NAME.fullmatch(dataset.tfds):
    raise InputError(
      f'dataset {dataset.name!r}: tfds {dataset.tfds!r}; must be a TFDS name with its '
      "version, as 'super_glue/rte:1.0.2'"
    )
  sizes = dataset.sizes
  for setting, text in dataset.slices.items():
    try:
      split = splits_lib.parse(text).split
    except InputError as error:
      raise InputError(f'dataset {dataset.name!r}: {setting}: {error}') from None
    if split not in sizes and (sizes or dataset.tfds):
      raise InputError(
        f'dataset {dataset.name!r}: {setting} is {text!r}, and sizes has no {split!r}; '
        f'must be a slice of {", ".join(sizes) or "a split that sizes names"}'
        + did_you_mean(split, sizes)
      )


def _check_rows(dataset: 'Dataset') -> None:
  """Refuses slices without a row, and two slices that share rows."""
  seen: list[tuple[str, str, int, int]] = []
  for setting, text in dataset.slices.items():
    part = splits_lib.parse(text)
    start, stop = part.bounds(dataset.sizes.get(part.split, _MANY))
    if start >= stop:
      rows = dataset.sizes.get(part.split)
      of = '' if rows is None else f' of the {rows:,} of {part.split!r}'
      raise InputError(
        f'dataset {dataset.name!r}: {setting} is {text!r}, no row{of}; must have one '
        f"or more, or be '' where there is no {setting}"
      )
    for other, split, first, last in seen:
      shared = min(stop, last) - max(start, first)
      if split == part.split and shared > 0:
        count = (
          f'{shared:,} row{"s"[: shared != 1]}' if split in dataset.sizes else 'rows'
        )
        raise InputError(
          f'dataset {dataset.name!r}: {setting} is {text!r} and {other} is '
          f'{dataset.slices[other]!r}, which share {count}; must share none, as '
          f"'{split}[:-200]' and '{split}[-200:]'"
        )
    seen.append((setting, part.split, start, stop))


def _check_directions(dataset: 'Dataset') -> None:
  """Checks that every template that is evaluated has a direction of the dataset's.

  Raises:
    InputError: naming the dataset, and the template where one is to blame.
  """
  directions = dataset.directions
  if directions and dataset.has_options:
    raise InputError(
      f'dataset {dataset.name!r}: has directions; its answer must be a Text'
    )
  if dataset.direction and dataset.direction not in directions:
    raise InputError(
      f'dataset {dataset.name!r}: no direction {dataset.direction!r}; directions are '
      f'{", ".join(directions) or "none"}' + did_you_mean(dataset.direction, directions)
    )
  if directions and not dataset.direction:
    first, text = next(iter(directions.items()))
    if text != dataset.answer.text:
      raise InputError(
        f'dataset {dataset.name!r}: direction {first!r} has the answer {text!r}; the '
        f'first direction must have that of the dataset, {dataset.answer.text!r}'
      )
  legal = tuple(directions) or ('',)
  for template in dataset.templates:
    if not template.turned_around and template.direction not in legal:
      raise InputError(
        f'dataset {dataset.name!r}, template {template.inputs!r}: direction '
        f'{template.direction!r}; must be one of {", ".join(map(repr, legal))}'
        + did_you_mean(template.direction, legal)
      )

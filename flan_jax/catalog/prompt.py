"""Prompt: an example put into words by one template."""

from collections.abc import Sequence
from typing import NamedTuple

from flan_jax.catalog import options_style
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.catalog.options_style import Shown


class Prompt(NamedTuple):
  """An example put into words by one template."""

  inputs: str
  targets: str


ANSWER = 'ANSWER: '
"""Stands between the inputs and the targets of an exemplar."""

NEXT = '\n\n###\n\n'
"""Stands after every exemplar."""


def render(
  dataset: Dataset,
  template: int,
  example: Example,
  *,
  exemplars: Sequence[Example] = (),
) -> Prompt:
  """Renders an example; the only function that renders a dataset's template.

  Args:
    dataset: the declaration.
    template: index of the template; it renders the exemplars as well.
    example: the example.
    exemplars: examples shown before it with their answers (FLAN section 4.4). A
      few-shot prompt ends with the zero-shot one.
  """
  shown = shown_options(dataset, template, example)
  zero_shot = Prompt(
    *dataset.templates[template].render(
      example.values,
      example.answer.options,
      block=None if shown is None else shown.block,
      answer=label(shown, example),
    )
  )
  before = ''.join(exemplar(dataset, template, example) for example in exemplars)
  return zero_shot._replace(inputs=before + zero_shot.inputs)


def shown_options(dataset: Dataset, template: int, example: Example) -> Shown | None:
  """The options as a template shows them in an own style; None for the usual block.

  A template that is turned around has no labels: its target is no answer.
  """
  of = dataset.templates[template]
  if dataset.options_style == options_style.DEFAULT or not of.has_options:
    return None
  shown = options_style.show(dataset.options_style, example.answer.options)
  return shown._replace(labels=()) if of.inverted else shown


def label(shown: Shown | None, example: Example) -> str | None:
  """The label that is the answer in a target; None if the answer is its text."""
  if shown is None or not shown.labels:
    return None
  options, text = example.answer.options, example.values.get('answer')
  return shown.labels[
    options.index(text) if text in options else example.answer.gold[0]
  ]


def exemplar(dataset: Dataset, template: int, example: Example) -> str:
  """Renders one exemplar with its answer, and the separator after it."""
  shown = render(dataset, template, example)
  return f'{shown.inputs}\n{ANSWER}{shown.targets}{NEXT}'

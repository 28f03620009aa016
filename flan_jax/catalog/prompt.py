"""Prompt: an example put into words by one template."""

from collections.abc import Sequence
from typing import NamedTuple

from flan_jax.catalog.dataset import Dataset, Example


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
  zero_shot = Prompt(
    *dataset.templates[template].render(example.values, example.answer.options)
  )
  shown = ''.join(exemplar(dataset, template, example) for example in exemplars)
  return zero_shot._replace(inputs=shown + zero_shot.inputs)


def exemplar(dataset: Dataset, template: int, example: Example) -> str:
  """Renders one exemplar with its answer, and the separator after it."""
  shown = render(dataset, template, example)
  return f'{shown.inputs}\n{ANSWER}{shown.targets}{NEXT}'

"""Prompt: an example put into words by one template."""

from collections.abc import Sequence
from typing import NamedTuple

from flan_jax.catalog.dataset import Dataset, Example


class Prompt(NamedTuple):
  """An example put into words by one template."""

  inputs: str
  targets: str


ANSWER = 'ANSWER: '
"""Stands between what an exemplar asks and what it answers."""

NEXT = '\n\n###\n\n'
"""Stands between two exemplars, and between the last and the prompt."""


def render(
  dataset: Dataset,
  template: int,
  example: Example,
  *,
  exemplars: Sequence[Example] = (),
) -> Prompt:
  """Puts `example` into words; the only place that renders a dataset's template.

  Args:
    dataset: the declaration.
    template: index of the template; the exemplars are put into words by it as well.
    example: what is asked.
    exemplars: examples shown with their answers beforehand (FLAN section 4.4). Without
      them the prompt is the zero-shot one, with them it ends in it.
  """
  asked = Prompt(
    *dataset.templates[template].render(example.values, example.answer.options)
  )
  shown = ''.join(exemplar(dataset, template, example) for example in exemplars)
  return asked._replace(inputs=shown + asked.inputs)


def exemplar(dataset: Dataset, template: int, example: Example) -> str:
  """One exemplar with its answer, and the line that parts it from what follows."""
  shown = render(dataset, template, example)
  return f'{shown.inputs}\n{ANSWER}{shown.targets}{NEXT}'

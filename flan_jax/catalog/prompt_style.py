"""Style: how a mixture puts its examples into words, where that is not all ten templates.

A style changes a dataset's templates and nothing else, so whatever renders a dataset
renders a styled one: seqio Tasks, the store, the evaluator.
"""

import dataclasses

from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.template import OPTIONS, Template
from flan_jax.config.evaluation import MAX_FEWSHOT, PROMPT_STYLES
from flan_jax.errors import InputError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class Style:
  """How examples are put into words.

  Attributes:
    prompt_style: `instructions` for the dataset's templates, `no_options` for the same without
      their OPTIONS block, `no_template` for its fields alone, `dataset_name` for its
      fields after its name.
    templates: only the first so many templates; None for all of them.
    num_fewshot: exemplars before every prompt; fewer where no more fit.
  """

  prompt_style: str = 'instructions'
  templates: int | None = None
  num_fewshot: int = 0

  def __post_init__(self):
    if self.prompt_style not in PROMPT_STYLES:
      raise InputError(
        f'form {self.prompt_style!r}: must be one of {", ".join(PROMPT_STYLES)}'
        + did_you_mean(self.prompt_style, PROMPT_STYLES)
      )
    if self.templates is not None and self.templates < 1:
      raise InputError(f'templates {self.templates}: must be 1 or more')
    if not 0 <= self.num_fewshot <= MAX_FEWSHOT:
      raise InputError(f'num_fewshot {self.num_fewshot}: must be 0 to {MAX_FEWSHOT}')

  @property
  def suffix(self) -> str:
    """What it adds to the name of a task or a mixture; '' for the plain style."""
    parts = []
    if self.prompt_style != 'instructions':
      parts.append(self.prompt_style)
    if self.templates is not None:
      parts.append(f'{self.templates}_templates')
    if self.num_fewshot:
      many = 'multi' if self.num_fewshot == MAX_FEWSHOT else str(self.num_fewshot)
      parts.append(f'{many}_shot')
    return ''.join(f'_{part}' for part in parts)

  def of(self, dataset: Dataset) -> Dataset:
    """The dataset with the templates of this style."""
    templates = dataset.templates
    if self.prompt_style == 'no_options':
      templates = tuple(map(without_options, templates))
    elif self.prompt_style != 'instructions':
      text = bare(dataset)
      if self.prompt_style == 'dataset_name':
        text = f'{title(dataset)}\n{text}'
      first = dataset.templates[dataset.evaluated_templates[0]]
      templates = (Template(text, direction=first.direction),)
    templates = templates[: self.templates]
    if templates == dataset.templates:
      return dataset
    return dataclasses.replace(dataset, templates=templates)


def without_options(template: Template) -> Template:
  """The same words without the block of OPTIONS, which stands at their end."""
  if not template.has_options:
    return template
  text = template.inputs.replace(f'{{{OPTIONS}}}', '').rstrip()
  return dataclasses.replace(template, inputs=text)


def bare(dataset: Dataset) -> str:
  """A template of the dataset's fields alone, a line each: no word, no OPTIONS.

  They are the fields that the first template of its direction shows, in its order.
  """
  shown = dataset.templates[dataset.evaluated_templates[0]].input_fields
  return '\n'.join(f'{{{name}}}' for name in shown)


def title(dataset: Dataset) -> str:
  """Task and dataset by name, as in `[nli: RTE]`; what paper section 4.3 prepends.

  One direction of a translation is named: `[translation: WMT14 EN/FR, en-fr]`.
  """
  cluster = dataset.cluster.replace('_', ' ')
  way = f', {dataset.direction}' if dataset.direction else ''
  return f'[{cluster}: {dataset.paper_name or dataset.name}{way}]'

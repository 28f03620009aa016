"""Prompt styles: few-shot prompts, fewer templates, and prompts without instructions.

A style changes a dataset's templates and nothing else, so whatever renders a dataset
renders a styled one: seqio Tasks, the store, the evaluator.
"""

import dataclasses

from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.template import OPTIONS, Template
from flan_jax.config.evaluation import MAX_FEWSHOT, PROMPT_STYLES
from flan_jax.errors import InputError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptStyle:
  """The prompts of a mixture or an evaluation.

  Attributes:
    prompt_style: `instructions` for the dataset's templates, `no_options` for the same
      without their OPTIONS block, `no_template` for its fields alone, `dataset_name`
      for its fields after its name.
    templates: number of templates used, from the first; None for all of them.
    num_fewshot: exemplars before every prompt; fewer if they do not fit.
  """

  prompt_style: str = 'instructions'
  templates: int | None = None
  num_fewshot: int = 0

  def __post_init__(self):
    if self.prompt_style not in PROMPT_STYLES:
      raise InputError(
        f'prompt_style {self.prompt_style!r}: must be one of {", ".join(PROMPT_STYLES)}'
        + did_you_mean(self.prompt_style, PROMPT_STYLES)
      )
    if self.templates is not None and self.templates < 1:
      raise InputError(f'templates {self.templates}: must be 1 or more')
    if not 0 <= self.num_fewshot <= MAX_FEWSHOT:
      raise InputError(f'num_fewshot {self.num_fewshot}: must be 0 to {MAX_FEWSHOT}')

  @property
  def suffix(self) -> str:
    """Suffix of task and mixture names; '' for the plain style."""
    parts = []
    if self.prompt_style != 'instructions':
      parts.append(self.prompt_style)
    if self.templates is not None:
      parts.append(f'{self.templates}_templates')
    if self.num_fewshot:
      many = 'multi' if self.num_fewshot == MAX_FEWSHOT else str(self.num_fewshot)
      parts.append(f'{many}_shot')
    return ''.join(f'_{part}' for part in parts)

  def apply(self, dataset: Dataset) -> Dataset:
    """Returns the dataset with the templates of this style."""
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
  """Returns the template without the OPTIONS block at its end."""
  if not template.has_options:
    return template
  text = template.inputs.replace(f'{{{OPTIONS}}}', '').rstrip()
  return dataclasses.replace(template, inputs=text)


def bare(dataset: Dataset) -> str:
  """A template of the dataset's fields alone, one a line: no instruction, no OPTIONS.

  The fields are those of the first evaluated template, in its order.
  """
  shown = dataset.templates[dataset.evaluated_templates[0]].input_fields
  return '\n'.join(f'{{{name}}}' for name in shown)


def title(dataset: Dataset) -> str:
  """Task and dataset by name, as in `[nli: RTE]` (FLAN section 4.3).

  A translation names its direction: `[translation: WMT14 EN/FR, en-fr]`.
  """
  cluster = dataset.cluster.replace('_', ' ')
  way = f', {dataset.direction}' if dataset.direction else ''
  return f'[{cluster}: {dataset.paper_name or dataset.name}{way}]'

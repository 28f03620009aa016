"""Prompt styles: few-shot prompts, fewer templates, and prompts without instructions.

A style changes a dataset's templates and nothing else, so whatever renders a dataset
renders a styled one: seqio Tasks, the store, the evaluator.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any

from flan_jax.catalog import options_style
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.template import Template
from flan_jax.config.evaluation import MAX_FEWSHOT
from flan_jax.errors import InputError, failure
from flan_jax.runtime.named import Named

_styles: Named[Callable[[Dataset], Iterable[Template]]] = Named('prompt style')

_chats: set[str] = set()
"""Names of the styles whose prompts go through a model's chat template."""


def prompt_style(
  function: Any = None, *, name: str | None = None, chat: bool = False
) -> Any:
  """Registers a prompt style: a function of a dataset that returns its templates.

  ```python
  @flan_jax.prompt_style
  def politely(dataset):
    return [dataclasses.replace(t, inputs=f'Please: {t.inputs}')
            for t in dataset.templates]
  ```

  Args:
    function: the function; None for a decorator with a name.
    name: name of the style; None for that of the function.
    chat: whether a prompt is a user's turn in the model's own chat template, and its
      answer the assistant's. Such a style is for evaluation and inference.

  Raises:
    InputError: if the name is another's.
  """
  if function is None:
    return functools.partial(prompt_style, name=name, chat=chat)
  _styles.register(function, name=name)
  if chat:
    _chats.add(function.__name__ if name is None else name)
  return function


@prompt_style
def instructions(dataset: Dataset) -> Iterable[Template]:
  """The dataset's own templates."""
  return dataset.templates


@prompt_style
def no_options(dataset: Dataset) -> Iterable[Template]:
  """The same without their OPTIONS block."""
  return [template.without_options for template in dataset.templates]


@prompt_style
def no_template(dataset: Dataset) -> Iterable[Template]:
  """The dataset's fields alone (FLAN section 4.3)."""
  return _only(dataset, bare(dataset))


@prompt_style
def dataset_name(dataset: Dataset) -> Iterable[Template]:
  """The dataset's fields after its name (FLAN section 4.3)."""
  return _only(dataset, f'{title(dataset)}\n{bare(dataset)}')


@prompt_style(name='chat', chat=True)
def own_chat(dataset: Dataset) -> Iterable[Template]:
  """The dataset's own templates, in the model's chat template."""
  return dataset.templates


WITH_OWN_TEMPLATES = ('instructions', 'no_options', 'chat')
"""Names of the styles in which a template's number is that of the declaration."""

SHIPPED = ('instructions', 'no_options', 'no_template', 'dataset_name')
"""Names of the styles that ship; their code is that of this version."""


def names() -> tuple[str, ...]:
  """Names of the registered styles."""
  return _styles.names()


def is_chat(name: str) -> bool:
  """Returns whether a style's prompts go through the model's chat template."""
  return name in names() and name in _chats


def stored_names() -> tuple[str, ...]:
  """Names of the registered styles that need no model's chat template."""
  return tuple(name for name in names() if name not in _chats)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptStyle:
  """The prompts of a mixture or an evaluation.

  Attributes:
    prompt_style: `instructions`, `no_options`, `no_template`, `dataset_name`, or
      another that is registered when the style is used.
    templates: number of templates used, from the first; None for all of them.
    num_fewshot: exemplars before every prompt; fewer if they do not fit.
    options_style: `bullets`, `letters`, `numbers`, `none`, or another that is
      registered when the style is used.
  """

  prompt_style: str = 'instructions'
  templates: int | None = None
  num_fewshot: int = 0
  options_style: str = options_style.DEFAULT

  def __post_init__(self):
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
    if self.options_style != options_style.DEFAULT:
      parts.append(f'{self.options_style}_options')
    if self.templates is not None:
      parts.append(f'{self.templates}_templates')
    if self.num_fewshot:
      many = 'multi' if self.num_fewshot == MAX_FEWSHOT else str(self.num_fewshot)
      parts.append(f'{many}_shot')
    return ''.join(f'_{part}' for part in parts)

  @property
  def is_own(self) -> bool:
    """True if its prompts depend on more than this version and the declarations."""
    return self.prompt_style not in SHIPPED or bool(self.options)

  @property
  def options(self) -> str:
    """The options style, if it is not the usual one; otherwise ''."""
    return '' if self.options_style == options_style.DEFAULT else self.options_style

  def as_json(self) -> dict[str, Any]:
    """The style as data, without the usual options style."""
    found = dataclasses.asdict(self)
    if not self.options:
      del found['options_style']
    return found

  def check(self) -> None:
    """Checks that its styles are registered.

    Raises:
      InputError: if one is not; names the nearest.
    """
    _styles.get(self.prompt_style)
    options_style.check(self.options_style)

  def check_stored(self) -> None:
    """Checks that its prompts can be rendered without a model.

    Raises:
      InputError: if they go through a model's chat template.
    """
    if self.prompt_style in _chats:
      raise InputError(
        f"prompt style {self.prompt_style!r}: needs a model's chat template; must be "
        'another in a mixture; an evaluation takes it as PROMPT_STYLE'
      )

  def apply(self, dataset: Dataset) -> Dataset:
    """Returns the dataset with the templates of this style.

    Raises:
      InputError: if a style is not registered, or one returns no templates.
    """
    self.check()
    try:
      made = _styles.get(self.prompt_style)(dataset)
    except InputError:
      raise
    except Exception as error:  # of a user's function
      what = f'prompt style {self.prompt_style!r}, dataset {dataset.name!r}'
      raise failure(what, error) from error
    templates = tuple(made) if isinstance(made, Iterable) else ()
    if not templates or not all(isinstance(each, Template) for each in templates):
      raise InputError(
        f'prompt style {self.prompt_style!r}, dataset {dataset.name!r}: returned '
        f'{made!r:.80}; must return templates, at least one'
      )
    templates = templates[: self.templates]
    if self.options:
      dataset = dataclasses.replace(dataset, options_style=self.options)
    if templates == dataset.templates:
      return dataset
    return dataclasses.replace(dataset, templates=templates)


def _only(dataset: Dataset, text: str) -> tuple[Template]:
  """One template in the direction of the first that is evaluated."""
  first = dataset.templates[dataset.evaluated_templates[0]]
  return (Template(text, direction=first.direction),)


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

"""PromptSpec: the prompts of one model for one dataset, and the options it ranks."""

import dataclasses

from flan_jax.catalog import continuation_prompts
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data.few_shot import FewShotPool


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptSpec:
  """Prompts of one model for one dataset.

  Attributes:
    dataset: declaration, in the prompt style of this model.
    templates: indices of the evaluated templates.
    pool: exemplars to show before each prompt; None for zero-shot.
    target_delimiter: text between prompt and answer if both are one text, such as a
      blank, which is dropped before a comma or another mark that joins the word before
      it; '' if EOS separates two texts.
    end: a generated answer ends before this text; None for the model's own end.
  """

  dataset: Dataset
  templates: tuple[int, ...]
  pool: FewShotPool | None = None
  target_delimiter: str = ''
  end: str | None = None

  @property
  def texts(self) -> tuple[str, ...]:
    """Inputs of the evaluated templates, with {fields}, as they are declared."""
    return tuple(self.dataset.templates[i].inputs for i in self.templates)

  def options(self, example: Example, template: int | None = None) -> list[str]:
    """Returns the options of an example, each with the delimiter before it.

    Args:
      example: the example.
      template: template whose labels stand for the options; None for their texts.
    """
    return [
      continuation_prompts.delimited(self.target_delimiter, option)
      for option in self.labels(example, template) or example.answer.options
    ]

  def labels(self, example: Example, template: int | None) -> tuple[str, ...]:
    """Returns the labels of the options in a prompt; () if it has none."""
    if template is None:
      return ()
    shown = prompt_lib.shown_options(self.dataset, template, example)
    return () if shown is None else shown.labels

  def answer(self, text: str) -> str:
    """Extracts the answer from a generated text."""
    text = text.strip()
    return text if self.end is None else text.partition(self.end)[0].rstrip()

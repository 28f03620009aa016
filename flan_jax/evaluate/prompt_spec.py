"""PromptSpec: the prompts of one model for one dataset, and the options it ranks."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flan_jax.catalog import continuation_prompts
from flan_jax.catalog import prompt as prompt_lib
from flan_jax.catalog.dataset import Dataset, Example
from flan_jax.data import batch
from flan_jax.data.few_shot import FewShotPool
from flan_jax.data.tokenizers import Tokenizer
from flan_jax.inference import joined_tokens
from flan_jax.inference.joined_tokens import Joined

if TYPE_CHECKING:
  from flan_jax.inference.chat_prompts import ChatPrompts  # imports Jinja


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
    chat: chat template whose turns prompt and answer are; None for other forms.
    prompt_style: name of the prompt style, for the predictions.
    end: a generated answer ends before this text; None for the model's own end.
  """

  dataset: Dataset
  templates: tuple[int, ...]
  pool: FewShotPool | None = None
  target_delimiter: str = ''
  chat: 'ChatPrompts | None' = None
  prompt_style: str = 'instructions'
  end: str | None = None

  @property
  def texts(self) -> tuple[str, ...]:
    """Inputs of the evaluated templates, with {fields}, as they are declared."""
    return tuple(self.dataset.templates[i].inputs for i in self.templates)

  @property
  def is_joined(self) -> bool:
    """Returns whether prompt and answer are tokenized as one text."""
    return bool(self.target_delimiter) or self.chat is not None

  def join(
    self, requests: Sequence[tuple[str, Sequence[str]]], tokenizer: Tokenizer
  ) -> list[Joined]:
    """Tokenizes each (prompt, options) as one text an option."""
    if self.chat is not None:
      return self.chat.join(requests)
    return joined_tokens.join(requests, tokenizer)

  def context(self, text: str, ids: np.ndarray) -> np.ndarray:
    """Returns the tokens by which a model is asked for a text.

    Args:
      text: the prompt.
      ids: its tokens.
    """
    return ids if self.chat is None else self.chat.prompt(text)

  def room(self, max_length: int, num_answer: int, bos_id: int | None) -> int:
    """Returns the maximum tokens of a prompt beside an answer of `num_answer`.

    Prompt and answer have `max_length` tokens together, with all that is added to them;
    of a chat template, its own text, which is never cut.
    """
    if self.chat is None:
      return batch.room(max_length, num_answer, bos_id)
    return max_length - num_answer - self.chat.num_added

  @property
  def form(self) -> dict[str, str]:
    """The fields of a prediction that say how the model was asked."""
    return form(self.prompt_style, 'none' if self.is_joined else 'eos')

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


def form(prompt_style: str, separator: str) -> dict[str, str]:
  """The prompt style and the separator of a prediction, unless they are FLAN's."""
  found = {} if prompt_style == 'instructions' else {'prompt_style': prompt_style}
  return found if separator == 'eos' else {**found, 'separator': separator}

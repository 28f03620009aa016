"""Chat prompts: a prompt and its answer as two turns of a model's chat template."""

import functools
import re
from collections.abc import Sequence

import numpy as np

from flan_jax.data.chat import ChatTemplate, Message
from flan_jax.errors import InputError
from flan_jax.inference import joined_tokens
from flan_jax.inference.joined_tokens import Joined

_PROBE = 'flanjaxprobe'
"""An answer that is rendered to see what the template writes after it."""


class ChatPrompts:
  """Prompts as a user's turn, answers as the assistant's.

  Attributes:
    template: chat template of the model.
  """

  def __init__(self, template: ChatTemplate):
    self.template = template
    self._marks = re.compile('|'.join(map(re.escape, template.control)))

  def prompt(self, text: str) -> np.ndarray:
    """Encodes a prompt, up to where the assistant answers, int32 [n].

    Raises:
      InputError: if the template refuses a conversation of one turn.
    """
    return self.template.encode([_turn('user', text)])

  def join(self, requests: Sequence[tuple[str, Sequence[str]]]) -> list[Joined]:
    """Encodes each (prompt, options), every option as a conversation of two turns.

    Its tokens are those of the whole conversation, up to the end of the answer.

    Raises:
      InputError: if the template refuses a conversation.
    """
    return [
      joined_tokens.of_tokens(
        self.prompt(prompt), [self._answered(prompt, option) for option in options]
      )
      for prompt, options in requests
    ]

  @property
  def end_mark(self) -> str:
    """The first control token that the template writes after an answer; '' if none."""
    found = self._marks.search(self._after_answer)
    return '' if found is None else found[0]

  @property
  def end_text(self) -> str:
    """The text that the template writes between an answer and its end mark."""
    return self._after_answer.partition(self.end_mark or '\0')[0].strip()

  @functools.cached_property
  def end_id(self) -> int:
    """Id of the end mark; of EOS if the template writes none."""
    if not self.end_mark:
      return self.template.tokenizer.eos_id
    return int(self.template.encode_rendered(self.end_mark)[-1])

  @functools.cached_property
  def num_added(self) -> int:
    """Tokens that the template adds to a prompt and its answer."""
    return len(self.prompt('')) + len(self.template.encode_rendered(self._end))

  @functools.cached_property
  def _after_answer(self) -> str:
    before, _, after = self._rendered('a', _PROBE).rpartition(_PROBE)
    if not before:
      raise InputError("chat template: leaves out the assistant's answer")
    return after

  @functools.cached_property
  def _end(self) -> str:
    """The text scored after an answer: up to the end mark, or all if it has none."""
    before, mark, _ = self._after_answer.partition(self.end_mark or '\0')
    return before + mark

  def _answered(self, prompt: str, answer: str) -> np.ndarray:
    """Encodes a prompt with its answer, up to the end of the answer."""
    text, after = self._rendered(prompt, answer), self._after_answer
    if not text.endswith(after):
      raise InputError(
        f'chat template: ends an answer by {text[-len(after) or None :]!r:.40}; must '
        f'end each by {after!r:.40}'
      )
    return self.template.encode_rendered(text.removesuffix(after) + self._end)

  def _rendered(self, prompt: str, answer: str) -> str:
    turns = [_turn('user', prompt), _turn('assistant', answer)]
    return self.template.render(turns, add_generation_prompt=False)


def _turn(role: str, content: str) -> Message:
  return {'role': role, 'content': content}

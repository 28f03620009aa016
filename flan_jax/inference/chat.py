"""Chat templates: a conversation as the tokens of a model's own template.

A template is Jinja, rendered in a sandbox by the rules of `transformers`. Control
tokens are those that the template writes: a message that spells one stays text.
"""

import datetime
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np
from jinja2 import ext, sandbox

from flan_jax.data.tokenizers import HuggingFace, Tokenizer
from flan_jax.errors import InputError

Message = Mapping[str, str]
"""A turn: `role`, as 'user' or 'assistant', and `content`."""

_JOINT = '\ue0fb\ue0fd'
"""Private-use characters that break a control token in a message."""


class ChatTemplate:
  """The chat template of a model."""

  def __init__(self, text: str, tokenizer: Tokenizer):
    """Compiles the template.

    Raises:
      InputError: if it is not a template, or the tokenizer is no tokenizer.json.
    """
    if not isinstance(tokenizer, HuggingFace):
      raise InputError(
        f'chat template: the tokenizer is {tokenizer.name!r}; must be a '
        'tokenizer.json, whose control tokens the template writes'
      )
    self._tokenizer = tokenizer
    self._control = sorted(tokenizer.control, key=len, reverse=True)
    try:
      self._template = _environment().from_string(text)
    except jinja2.TemplateError as error:
      raise InputError(f'chat template: not a Jinja template ({error})') from None

  def encode(self, messages: Sequence[Message]) -> np.ndarray:
    """Encodes a conversation, up to where the assistant answers, int32 [n].

    BOS is there if the template writes it.

    Raises:
      InputError: if the template refuses the conversation.
    """
    broken = [
      {**message, 'content': self._break(message['content'])} for message in messages
    ]
    roles = {f'{name}_token': token for name, token in self._tokenizer.roles.items()}
    try:
      text = self._template.render(messages=broken, add_generation_prompt=True, **roles)
    except (jinja2.TemplateError, TypeError) as error:
      raise InputError(f'chat template: refused the conversation ({error})') from None
    for token in self._control:
      text = text.replace(token, self._tokenizer.control[token])
    return self._tokenizer.encode(text.replace(_JOINT, ''))

  def _break(self, content: str) -> str:
    content = content.replace(_JOINT, '')
    for token in self._control:
      content = content.replace(token, token[:1] + _JOINT + token[1:])
    return content


class _Generation(ext.Extension):
  """The block that marks the assistant's turns; it renders as its content."""

  tags = {'generation'}

  def parse(self, parser):
    next(parser.stream)
    return parser.parse_statements(('name:endgeneration',), drop_needle=True)


def _environment() -> jinja2.Environment:
  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[_Generation, ext.loopcontrols],
  )
  environment.filters['tojson'] = _to_json
  environment.globals['raise_exception'] = _refuse
  environment.globals['strftime_now'] = lambda form: datetime.datetime.now().strftime(
    form
  )
  return environment


def _to_json(value: Any, indent: int | None = None) -> str:
  return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> None:
  raise jinja2.TemplateError(message)

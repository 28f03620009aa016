"""Chat templates: a conversation as the tokens of a model's own template.

A template is Jinja, rendered in a sandbox by the rules of `transformers`. Control
tokens are those that the template writes: a message that spells one stays text.
"""

import datetime
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jinja2 import ext, sandbox
from sentencepiece import SentencePieceProcessor

from flan_jax.data.tokenizers import HuggingFace, SentencePiece, Tokenizer
from flan_jax.errors import InputError

Message = Mapping[str, str]
"""A turn: `role`, as 'user' or 'assistant', and `content`."""

_JOINT = '\ue0fc\ue0fe'
"""Private-use characters that break a control token in a message."""


class ChatTemplate:
  """The chat template of a model."""

  def __init__(self, text: str, tokenizer: Tokenizer):
    """Compiles the template.

    Raises:
      InputError: if it is not a template, or the tokenizer has no control tokens.
    """
    self._tokenizer = tokenizer
    self._vocabulary = _vocabulary(tokenizer)
    self._control = sorted(self._vocabulary.control, key=len, reverse=True)
    self._marks = re.compile(f'({"|".join(map(re.escape, self._control))})')
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
    roles = {f'{name}_token': token for name, token in self._vocabulary.roles.items()}
    try:
      text = self._template.render(messages=broken, add_generation_prompt=True, **roles)
    except (jinja2.TemplateError, TypeError) as error:
      raise InputError(f'chat template: refused the conversation ({error})') from None
    parts = [part.replace(_JOINT, '') for part in self._marks.split(text)]
    return self._vocabulary.encode(parts)

  def _break(self, content: str) -> str:
    content = content.replace(_JOINT, _JOINT[:1] + _JOINT + _JOINT[1:])
    for token in self._control:
      content = content.replace(token, token[:1] + _JOINT + token[1:])
    return content


class _Vocabulary(NamedTuple):
  """A tokenizer as a chat template knows it.

  Attributes:
    roles: role, as 'bos', -> its token.
    control: tokens that a template writes and no message becomes.
    encode: encodes a text in parts, each second of which is one of `control`.
  """

  roles: Mapping[str, str]
  control: Collection[str]
  encode: Callable[[Sequence[str]], np.ndarray]


def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary:
  if isinstance(tokenizer, HuggingFace):
    control = tokenizer.control

    def joined(parts: Sequence[str]) -> np.ndarray:
      named = (control[part] if i % 2 else part for i, part in enumerate(parts))
      return tokenizer.encode(''.join(named))

    return _Vocabulary(tokenizer.roles, control, joined)
  if not isinstance(tokenizer, SentencePiece):
    raise InputError(
      f'chat template: the tokenizer is {tokenizer.name!r}; must be SentencePiece or '
      'a tokenizer.json, whose control tokens a template writes'
    )
  pieces = SentencePieceProcessor(model_proto=tokenizer.model)
  ids = {'bos': tokenizer.bos_id, 'eos': tokenizer.eos_id}
  roles = {role: pieces.id_to_piece(i) for role, i in ids.items() if i is not None}

  def apart(parts: Sequence[str]) -> np.ndarray:
    texts = iter(tokenizer.encode_batch(parts[::2]))
    ids = [
      [pieces.piece_to_id(part)] if i % 2 else next(texts)
      for i, part in enumerate(parts)
    ]
    return np.concatenate(ids).astype(np.int32)

  return _Vocabulary(roles, set(roles.values()), apart)


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

"""Chat templates: a conversation as the tokens of a model's own template.

A template is Jinja, rendered in a sandbox by the rules of `transformers`. Control
tokens are those that the template writes: a message that spells one stays text.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jinja2 import ext, nodes
from sentencepiece import SentencePieceProcessor

from flan_jax.catalog.chats import ASSISTANT
from flan_jax.data import chat_sandbox
from flan_jax.data.batch import Conversation
from flan_jax.data.tokenizers import HuggingFace, SentencePiece, Tokenizer
from flan_jax.errors import InputError, said

Message = Mapping[str, str]
"""A turn: `role`, as 'user' or 'assistant', and `content`."""

_JOINT = '\ue0fc\ue0fe'
"""Private-use characters that break a control token in a message."""

_OPEN, _CLOSE = '\ue0fc\ue0f0', '\ue0fc\ue0f1'
"""Private-use characters around what a template has in a `generation` block."""

_Span = tuple[int, int]
"""First and last character or token of a part, the last one exclusive."""


class ChatTemplate:
  """The chat template of a model.

  Attributes:
    source: its Jinja text.
    tokenizer: tokenizer of the model.
    control: tokens that a template writes and no message becomes.
  """

  def __init__(self, text: str, tokenizer: Tokenizer):
    """Compiles the template.

    Raises:
      InputError: if it is not a template, or the tokenizer has no control tokens.
    """
    self.source = text
    self.tokenizer = tokenizer
    self._vocabulary = _vocabulary(tokenizer)
    self.control = sorted(self._vocabulary.control, key=len, reverse=True)
    self._marks = re.compile(
      f'({"|".join(map(re.escape, (*self.control, _OPEN, _CLOSE)))})'
    )
    self._edges = re.compile(f'{self._marks.pattern}|\n')
    self._environment = chat_sandbox.Environment([_Generation])
    try:
      self._template = self._environment.from_string(text)
    except Exception as error:  # Jinja compiles it to Python, which may refuse it too
      raise InputError(f'chat template: not a Jinja template ({said(error)})') from None

  def encode(self, messages: Sequence[Message]) -> np.ndarray:
    """Encodes a conversation, up to where the assistant answers, int32 [n].

    BOS is there if the template writes it.

    Raises:
      InputError: if the template refuses the conversation.
    """
    return self.encode_rendered(self.render(messages))

  def render(
    self, messages: Sequence[Message], *, add_generation_prompt: bool = True
  ) -> str:
    """Renders a conversation; control tokens that a message spells are broken.

    Args:
      messages: the turns.
      add_generation_prompt: whether it ends where the assistant answers.

    Raises:
      InputError: as `encode`.
    """
    text = self._render(self._broken(messages), add_generation_prompt)
    return text.replace(_OPEN, '').replace(_CLOSE, '')

  def _render(self, broken: Sequence[Message], add_generation_prompt: bool) -> str:
    """Renders turns in which control tokens are broken; marks `generation` blocks."""
    roles = {f'{name}_token': token for name, token in self._vocabulary.roles.items()}
    try:
      return self._environment.rendered(
        self._template,
        messages=broken,
        add_generation_prompt=add_generation_prompt,
        tools=None,  # defined, as in `transformers`
        documents=None,
        **roles,
      )
    except Exception as error:  # the template's own code may raise anything
      why = error if isinstance(error, jinja2.TemplateError) else said(error)
      raise InputError(f'chat template: refused the conversation ({why})') from None

  def encode_rendered(self, text: str) -> np.ndarray:
    """Encodes a text of `render`, or a part of one, int32 [n]."""
    return self._vocabulary.encode(*self._split(text))[0]

  def conversation(self, messages: Sequence[Message]) -> Conversation:
    """Encodes a whole conversation, with the loss on the turns of the assistant.

    Such a turn is what the template has in a `generation` block; without one, what
    follows the prompt to answer, up to the mark that ends the turn.

    Raises:
      InputError: if the template refuses the conversation; or if it has no
        `generation` block, and rewrites a turn.
    """
    broken = self._broken(messages)
    text = self._render(broken, False)
    if _OPEN not in text:
      text = self._with_turns_marked(text, broken)
    parts, spans = self._split(text)
    ids, learnt = self._vocabulary.encode(parts, spans)
    loss = np.zeros(len(ids), bool)
    for first, last in learnt:
      loss[first:last] = True
    return Conversation(ids, loss)

  def _with_turns_marked(self, text: str, broken: Sequence[Message]) -> str:
    """Marks the assistant's turns in a rendered conversation as `generation` does."""
    out, done = [], 0
    for i, message in enumerate(broken):
      if message['role'] == ASSISTANT:
        first, last = self._turn(text, broken, i)
        out += [text[done:first], _OPEN, text[first:last], _CLOSE]
        done = last
    return ''.join((*out, text[done:]))

  def _turn(self, text: str, broken: Sequence[Message], i: int) -> _Span:
    """Finds turn `i` in a rendered conversation, by what is rendered up to it."""
    refusal = InputError(
      f"chat template: the assistant's part of turn {i + 1} cannot be told from the "
      'rest; must have {% generation %} around it'
    )
    asked = self._render(broken[:i], True)
    first = len(asked)
    if not text.startswith(asked):
      # It is asked for more than it has, as for its thoughts.
      if not text.startswith(self._render(broken[:i], False)):
        raise refusal
      first = len(os.path.commonprefix([text, asked]))
      first = max((m.end() for m in self._edges.finditer(text[:first])), default=0)
    answered = self._render(broken[: i + 1], False)
    if answered.rstrip().endswith(tuple(self.control)):
      answered = answered.rstrip()  # the mark ends the turn, not the newline after it
    if text.startswith(answered) and first < len(answered):
      return first, len(answered)
    said = broken[i]['content'].strip()
    for mark in self._marks.finditer(text, first):  # a later turn changes this one
      if text[first : mark.start()].rstrip().endswith(said):
        return first, mark.end()
    raise refusal

  def _split(self, text: str) -> tuple[list[str], list[_Span]]:
    """Splits a rendered text at its control tokens.

    Returns:
      (parts, each second of which is a control token; (first, last) character of the
      assistant's turns, in the parts as `_Vocabulary.encode` counts them).
    """
    parts, spans, length, first = [''], [], 0, 0
    for i, part in enumerate(self._marks.split(text)):
      if part == _OPEN:
        first = length
      elif part == _CLOSE:
        spans.append((first, length))
      elif i % 2:
        parts += [part, '']
        length += len(self._vocabulary.control[part])
      else:
        plain = part.replace(_JOINT, '')
        parts[-1] += plain
        length += len(plain)
    return parts, spans

  def _broken(self, messages: Sequence[Message]) -> list[Message]:
    return [self._break(message) for message in messages]

  def _break(self, value: Any) -> Any:
    """Breaks the control tokens in all texts of a value, as the calls of tools."""
    if isinstance(value, Mapping):
      return {self._break(key): self._break(one) for key, one in value.items()}
    if isinstance(value, list):
      return [self._break(one) for one in value]
    if isinstance(value, str):
      for token in (_JOINT, _OPEN, _CLOSE, *self.control):
        value = value.replace(token, token[:1] + _JOINT + token[1:])
    return value


class _Vocabulary(NamedTuple):
  """A tokenizer as a chat template knows it.

  Attributes:
    roles: role, as 'bos', -> its token.
    control: token that a template writes and no message becomes -> its spelling, in
      which `encode` counts characters.
    encode: encodes a text in parts, each second of which is one of `control`; turns
      spans of characters into those of the tokens that have one of them.
  """

  roles: Mapping[str, str]
  control: Mapping[str, str]
  encode: Callable[[Sequence[str], Sequence[_Span]], tuple[np.ndarray, list[_Span]]]


def _vocabulary(tokenizer: Tokenizer) -> _Vocabulary:
  if isinstance(tokenizer, HuggingFace):
    control = tokenizer.control

    def joined(parts: Sequence[str], spans: Sequence[_Span]):
      named = (control[part] if i % 2 else part for i, part in enumerate(parts))
      ids, offsets = tokenizer.encode_with_offsets(''.join(named))
      return ids, [_touched(offsets, *span) for span in spans]

    return _Vocabulary(tokenizer.roles, control, joined)
  if not isinstance(tokenizer, SentencePiece):
    raise InputError(
      f'chat template: the tokenizer is {tokenizer.name!r}; must be SentencePiece or '
      'a tokenizer.json, whose control tokens a template writes'
    )
  pieces = SentencePieceProcessor(model_proto=tokenizer.model)
  ids = {'bos': tokenizer.bos_id, 'eos': tokenizer.eos_id}
  roles = {role: pieces.id_to_piece(i) for role, i in ids.items() if i is not None}

  def apart(parts: Sequence[str], spans: Sequence[_Span]):
    found, token_at, length, count = [], {0: 0}, 0, 0
    texts = iter(tokenizer.encode_batch(parts[::2]))
    edges = {edge for span in spans for edge in span}
    for i, part in enumerate(parts):
      ids = np.array([pieces.piece_to_id(part)]) if i % 2 else next(texts)
      for edge in edges:
        if length < edge < length + len(part):
          before = tokenizer.encode(part[: edge - length])
          token_at[edge] = count + _shared(before, ids)
      found.append(ids)
      length, count = length + len(part), count + len(ids)
      token_at[length] = count
    tokens = np.concatenate(found).astype(np.int32)
    return tokens, [(token_at[first], token_at[last]) for first, last in spans]

  return _Vocabulary(roles, {token: token for token in roles.values()}, apart)


def _touched(offsets: np.ndarray, first: int, last: int) -> _Span:
  """Tokens of which a character is in [first, last)."""
  starts, stops = offsets[:, 0], offsets[:, 1]
  # A token of blanks alone may have no width, and stands at its end.
  ahead = (starts < last) | ((starts == stops) & (stops <= last))
  (found,) = np.nonzero((stops > first) & ahead)
  return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)


def _shared(a: np.ndarray, b: np.ndarray) -> int:
  """Number of first tokens that two texts share."""
  n = min(len(a), len(b))
  return n if np.array_equal(a[:n], b[:n]) else int(np.argmin(a[:n] == b[:n]))


class _Generation(ext.Extension):
  """The block that marks the assistant's turns; it renders as its content, marked."""

  tags = {'generation'}

  def parse(self, parser):
    line = next(parser.stream).lineno
    body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
    call = self.call_method('_marked')
    return nodes.CallBlock(call, [], [], body).set_lineno(line)

  def _marked(self, caller: Callable[[], str]) -> str:
    return f'{_OPEN}{caller()}{_CLOSE}'

"""Chats: datasets of conversations, of which the assistant's turns are learnt."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flan_jax.catalog.answers import Text
from flan_jax.catalog.dataset import Dataset
from flan_jax.catalog.fields import Field, Unlabeled
from flan_jax.catalog.source import Source
from flan_jax.catalog.template import Template
from flan_jax.errors import InputError, did_you_mean

MESSAGES = 'messages'
"""Usual name of the column of a conversation, and the field that holds it as JSON."""

ASSISTANT = 'assistant'
"""Role of the turns that are learnt."""

ROLES = ('system', 'developer', 'user', ASSISTANT, 'tool')
"""Roles of turns."""


def chat(
  name: str,
  source: Source,
  *,
  messages: str = MESSAGES,
  cluster: str | None = None,
  **declared: Any,
) -> Dataset:
  """Declares a dataset of conversations, which the model's chat template renders.

  Args:
    name: short name.
    source: source of its records.
    messages: path in a record of its turns: a list of objects with a `role` and a
      `content`.
    cluster: its cluster; None for one of its own name.
    **declared: further arguments of `Dataset`, as `train='train[:-200]'`.
  """
  return Dataset(
    name=name,
    cluster=cluster or name,
    source=source,
    fields={MESSAGES: Field(messages, as_json), 'answers': Field(messages, answers)},
    answer=Text('{answers}'),
    metric='exact_match',
    templates=(Template(f'{{{MESSAGES}}}', '{answers}'),),
    messages=MESSAGES,
    **declared,
  )


def as_json(turns: Any) -> str:
  """A conversation as JSON.

  Raises:
    Unlabeled: if the assistant says nothing in it.
    InputError: if it is no list of turns, each with a role and a content.
  """
  if not isinstance(turns, Sequence) or isinstance(turns, str):
    got = f'{turns!r:.40}'
    raise InputError(
      f'messages: got {got}; must be a list of turns, as '
      '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
    )
  kept = [_turn(number, turn) for number, turn in enumerate(turns, start=1)]
  if not any(turn['role'] == ASSISTANT for turn in kept):
    raise Unlabeled('no turn of the assistant')
  return json.dumps(kept, ensure_ascii=False)


def _turn(number: int, turn: Any) -> dict[str, Any]:
  """A turn without the keys that are null in it, as tables have them."""
  if not isinstance(turn, Mapping):
    raise InputError(f'messages: turn {number} is {turn!r:.40}; must be an object')
  for key in ('role', 'content'):
    if not isinstance(turn.get(key), str):
      got = repr(turn[key])[:40] if key in turn else f'none, but {", ".join(turn)}'
      raise InputError(f'messages: turn {number}, {key!r}: got {got}; must be a text')
  if (role := turn['role']) not in ROLES:
    raise InputError(
      f"messages: turn {number}, 'role': got {role!r:.40}; must be one of "
      f'{", ".join(ROLES)}{did_you_mean(role[:40], ROLES)}'
    )
  return {key: value for key, value in turn.items() if value is not None}


def answers(turns: Sequence[Mapping[str, Any]]) -> str:
  """All that the assistant says in a conversation that `as_json` has taken.

  A turn without text says which tools it calls; '' if a turn says nothing.
  """
  said = []
  for turn in turns:
    if turn['role'] == ASSISTANT:
      calls = turn.get('tool_calls')
      called = json.dumps(calls, ensure_ascii=False) if calls else ''
      said.append(turn['content'] if turn['content'].strip() else called)
  return '\n\n'.join(said) if all(said) else ''


def of_json(text: str) -> list[dict[str, Any]]:
  """The turns of a conversation; the inverse of `as_json`."""
  return json.loads(text)

"""The text of a chat template: the model's own, a file, or `chatml`."""

import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flan_jax.errors import InputError
from flan_jax.runtime import input_file

if TYPE_CHECKING:
  from flan_jax.data.tokenizers import Tokenizer

FILE = 'chat_template.jinja'
"""File of a template, beside a tokenizer."""

MAX_BYTES = 1 << 20
"""Maximum size of a template."""

CHATML = 'chatml'
"""Name of the template that any tokenizer can have."""

_CHATML = """\
{%- for message in messages %}
  {{- '<|im_start|>' + message['role'] + '\\n' }}
  {%- if message['role'] == 'assistant' %}
    {%- generation %}
      {{- message['content'] + '<|im_end|>' }}
      {{- '' if eos_token == '<|im_end|>' else eos_token }}
    {%- endgeneration %}
  {%- else %}
    {{- message['content'] + '<|im_end|>' }}
  {%- endif %}
  {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_EOS_CHATML = """\
{%- for message in messages %}
  {{- '<|im_start|>' + message['role'] + '\\n' }}
  {%- if message['role'] == 'assistant' %}
    {%- generation %}
      {{- message['content'] + eos_token }}
    {%- endgeneration %}
  {%- else %}
    {{- message['content'] + eos_token }}
  {%- endif %}
  {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
  {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
"""`chatml` for a tokenizer without `<|im_end|>`, which a model would write as text."""


def beside(tokenizer: str | os.PathLike) -> str | None:
  """The chat template in the folder of a tokenizer's file; None if not found."""
  if not pathlib.Path(tokenizer).is_file():
    return None
  folder = pathlib.Path(tokenizer).parent
  if (folder / FILE).is_file():
    return input_file.read_text(folder / FILE, max_bytes=MAX_BYTES)
  settings = folder / 'tokenizer_config.json'
  if not settings.is_file():
    return None
  found = named(input_file.read_object(settings).get('chat_template'))
  return found.get('default')


def named(value: Any) -> dict[str, str]:
  """Name -> template, of the entry `chat_template`; what is no text is left out."""
  if isinstance(value, list):
    pairs = [one for one in value if isinstance(one, Mapping)]
    value = {str(one.get('name')): one.get('template') for one in pairs}
  found = value if isinstance(value, Mapping) else {'default': value}
  return {name: text for name, text in found.items() if isinstance(text, str)}


def load(name: str | None) -> str | None:
  """The text of a chat template: `chatml`, or a file; None for None.

  Raises:
    InputError: if there is no such file.
  """
  if name is None:
    return None
  if name == CHATML:
    return _CHATML
  if not pathlib.Path(name).is_file():
    raise InputError(
      f"CHAT_TEMPLATE: no file {name!r}; must be one with a template, or 'chatml'",
      field='CHAT_TEMPLATE',
    )
  return input_file.read_text(name, max_bytes=MAX_BYTES)


def suited(text: str | None, tokenizer: 'Tokenizer | None') -> str | None:
  """A chat template in the form that a tokenizer needs: its turns end with a token.

  Args:
    text: the template; each but `chatml` stays as it is.
    tokenizer: the tokenizer; None for one that will be trained.
  """
  control = getattr(tokenizer, 'control', ())
  return _EOS_CHATML if text == _CHATML and '<|im_end|>' not in control else text

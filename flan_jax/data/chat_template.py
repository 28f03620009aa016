"""The text of a chat template: the model's own, a file, or `chatml`."""

import json
import os
import pathlib

from flan_jax.errors import InputError

FILE = 'chat_template.jinja'
"""File of a template, beside a tokenizer."""

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


def beside(tokenizer: str | os.PathLike) -> str | None:
  """The chat template in the folder of a tokenizer's file; None if not found."""
  if not pathlib.Path(tokenizer).is_file():
    return None
  folder = pathlib.Path(tokenizer).parent
  if (folder / FILE).is_file():
    return (folder / FILE).read_text(encoding='utf-8')
  settings = folder / 'tokenizer_config.json'
  if not settings.is_file():
    return None
  found = json.loads(settings.read_text(encoding='utf-8')).get('chat_template')
  if isinstance(found, list):
    found = {one['name']: one['template'] for one in found}.get('default')
  return found


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
  return pathlib.Path(name).read_text(encoding='utf-8')

"""Markdown of the settings: fields of the dataclasses that gin fills, and macros."""

import dataclasses
import inspect
import re
import typing

from flan_jax.config import gin, setting

ATTRIBUTE = re.compile(r'^  (\w+): (.*)$')


def meanings(cls: type) -> dict[str, str]:
  """Field -> its meaning, from the section Attributes of the class's docstring."""
  section = inspect.getdoc(cls).partition('Attributes:\n')[2]
  found, name = {}, None
  for line in section.split('\n'):
    if match := ATTRIBUTE.match(line):
      name = match.group(1)
      found[name] = match.group(2)
    elif line.startswith('   ') and name:
      found[name] += ' ' + line.strip()
    elif line.strip():
      break
  return found


def render_macros() -> str:
  """A table of every macro: the fields that it sets, and what it means."""
  fields: dict[str, list[tuple[str, str, str]]] = {}
  for selector, cls in gin.CLASSES.items():
    for field, macro in setting.macros(cls).items():
      fields.setdefault(macro, []).append((selector, field, meanings(cls)[field]))
  lines = ['| macro | meaning |', '|---|---|']
  for macro, places in sorted(fields.items()):
    names = ', '.join(f'[`{s}.{f}`](#{anchor(s)})' for s, f, _ in places)
    lines.append(f'| `{macro}` | {escaped(places[0][2])} Sets {names}. |')
  return '\n'.join(lines)


def render() -> str:
  """A section for each settings class: field, type, default, macro, meaning."""
  return '\n\n'.join(_section(selector, cls) for selector, cls in gin.CLASSES.items())


def _section(selector: str, cls: type) -> str:
  about = inspect.getdoc(cls).partition('\n')[0]
  lines = [f'## `{selector}` {{#{anchor(selector)}}}', '', about, '']
  lines += ['| field | meaning |', '|---|---|']
  texts, macros = meanings(cls), setting.macros(cls)
  for field in dataclasses.fields(cls):
    parts = [escaped(texts.get(field.name, '')), f'{_type(cls, field.name)},']
    parts.append(_default(field) + '.')
    if field.name in macros:
      parts.append(f'Macro `{macros[field.name]}`.')
    lines.append(f'| `{field.name}` | {" ".join(filter(None, parts))} |')
  return '\n'.join(lines)


def anchor(selector: str) -> str:
  return f'settings-{selector.lower()}'


def _type(cls: type, name: str) -> str:
  hint = typing.get_type_hints(cls)[name]
  shown = (
    hint.__name__ if inspect.isclass(hint) and not typing.get_args(hint) else str(hint)
  )
  shown = re.sub(r'\b(?:\w+\.)+(?=\w)', '', shown)
  return f'`{shown}`'.replace('|', r'\|')


def _default(field: dataclasses.Field) -> str:
  if field.default is not dataclasses.MISSING:
    value = field.default
  elif field.default_factory is not dataclasses.MISSING:
    value = field.default_factory()
  else:
    return 'required'
  if dataclasses.is_dataclass(value):
    name = setting.selector(type(value))
    return f'[`@{name}()`](#{anchor(name)})'
  return f'`{value!r}`'.replace('|', r'\|')


def escaped(text: str) -> str:
  text = re.sub(r'(?<![`\w])@[\w.]+(?:\(\))?', lambda match: f'`{match.group()}`', text)
  return text.replace('|', r'\|').replace('**', r'\*\*').replace('<', '&lt;')

"""Markdown of the settings: fields of the dataclasses that gin fills, and macros."""

import dataclasses
import inspect
import re
import typing
from collections.abc import Collection, Mapping

from flan_jax.config import gin, search, setting

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


SECTIONS: Mapping[str, Mapping[str, str]] = {
  'Run': {
    'model_dir': 'The run',
    'held_out': 'Held-out clusters',
    'store': 'Data',
    'seed': 'Seeds',
    'accumulation': 'The train step',
    'log_period': 'Log, checkpoints and interruptions',
    'mesh': 'Parts with settings of their own',
  },
  'DecoderConfig': {
    'vocab_size': 'Sizes and activation',
    'positions': 'Positions',
    'norm': 'Norms and residuals',
    'attention_bias': 'Attention',
    'tied_embedding': 'Embedding and output',
    'attention': 'Mask, memory and precision',
  },
}
"""Selector with many fields -> first field of each table -> heading of the table."""

VERBS = {
  'Training': ('Run', 'Mesh', 'Optimizer', 'Lora', 'DecoderConfig'),
  'How models are evaluated': ('Evaluate', 'Decoding'),
  'Evaluating a checkpoint': ('Evaluation',),
  'Inference': ('Infer',),
  'Studies': ('Study',),
}
"""Heading of a table of macros -> selectors; a macro stands in the first that fits."""

GIN_FILES: Mapping[str, str] = {
  'train': 'runs/base.gin',
  'eval': 'evaluate/zero_shot.gin',
  'infer': 'infer.gin',
  'study': 'studies/base.gin',
}
"""Verb -> the file in gin/ that binds its macros."""

OTHERS = 'More'
"""Heading of the macros of all other selectors."""


def render_macros() -> str:
  """Tables of the macros: the fields that each sets, and what it means."""
  fields: dict[str, list[tuple[str, str, str]]] = {}
  for selector, cls in gin.CLASSES.items():
    for field, macro in setting.macros(cls).items():
      fields.setdefault(macro, []).append((selector, field, meanings(cls)[field]))
  verbs = {
    verb: gin.load([str(search.shipped() / path)]).macros
    for verb, path in GIN_FILES.items()
  }
  tables: dict[str, list[str]] = {heading: [] for heading in (*VERBS, OTHERS)}
  for macro, places in sorted(fields.items()):
    names = ', '.join(f'[`{s}.{f}`](#{anchor(s)})' for s, f, _ in places)
    uses = ', '.join(f'`{verb}`' for verb, known in verbs.items() if macro in known)
    row = f'| `{macro}` | {uses or "-"} | {_sentence(places[0][2])} Sets {names}. |'
    tables[_heading({selector for selector, _, _ in places})].append(row)
  return '\n\n'.join(
    '\n'.join(
      [f'### {heading}', '', '| macro | verbs | meaning |', '|---|---|---|', *rows]
    )
    for heading, rows in tables.items()
    if rows
  )


def _heading(selectors: Collection[str]) -> str:
  fits = (name for name, known in VERBS.items() if not selectors.isdisjoint(known))
  return next(fits, OTHERS)


def render() -> str:
  """A section for each settings class: field, type, default, macro, meaning."""
  return '\n\n'.join(_section(selector, cls) for selector, cls in gin.CLASSES.items())


def _section(selector: str, cls: type) -> str:
  about = inspect.getdoc(cls).partition('\n')[0]
  lines = [f'## `{selector}` {{#{anchor(selector)}}}', '', about]
  texts, macros = meanings(cls), setting.macros(cls)
  starts = SECTIONS.get(selector) or {dataclasses.fields(cls)[0].name: ''}
  missing = set(starts) - {field.name for field in dataclasses.fields(cls)}
  if missing:
    raise KeyError(f'{selector}: {sorted(missing)} of SECTIONS are no fields')
  for field in dataclasses.fields(cls):
    if field.name in starts:
      heading = starts[field.name]
      lines += ['', f'### {heading}'] if heading else []
      lines += ['', '| field | meaning |', '|---|---|']
    parts = [_sentence(texts.get(field.name, '')), f'{_type(cls, field.name)},']
    parts.append(_default(field) + '.')
    if field.name in macros:
      parts.append(f'Macro `{macros[field.name]}`.')
    lines.append(f'| `{field.name}` | {" ".join(filter(None, parts))} |')
  return '\n'.join(lines)


def _sentence(text: str) -> str:
  text = escaped(text)
  return text[:1].upper() + text[1:]


def anchor(selector: str) -> str:
  return f'settings-{selector.lower()}'


def _type(cls: type, name: str) -> str:
  hint = typing.get_type_hints(cls)[name]
  shown = (
    hint.__name__ if inspect.isclass(hint) and not typing.get_args(hint) else str(hint)
  )
  shown = re.sub(r'\b(?:\w+\.)+(?=\w)', '', shown)
  return f'`{shown}`'  # no escapes in code: a table keeps its pipes


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
  return f'`{value!r}`'


def escaped(text: str) -> str:
  text = re.sub(r'(?<![`\w])@[\w.]+(?:\(\))?', lambda match: f'`{match.group()}`', text)
  return text.replace('|', r'\|').replace('**', r'\*\*').replace('<', '&lt;')

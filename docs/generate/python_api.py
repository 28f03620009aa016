"""Directives of mkdocstrings for the public names of flan_jax, by folder."""

import ast
import importlib.util
from collections.abc import Iterator

import python_examples

import flan_jax

GROUPS = {
  'catalog': 'Declarations',
  'data': 'Sources',
  'jobs': 'Models and jobs',
  'evaluate': 'Metrics',
  'config': 'Configuration',
  'train': 'Training',
  'interop': 'Model families',
}
"""First folder of a public name's module -> heading; every folder has one."""

OPEN = {'LanguageModel', 'Metric', 'Hook', 'Writer'}
"""Classes whose methods a user calls or overrides: these are shown."""


def render() -> str:
  parts = [*_overview()]
  for group, heading in GROUPS.items():
    parts += [f'## {heading}', '```python', python_examples.EXAMPLES[group].strip()]
    parts += ['```', '', python_examples.AFTER[group], '']
    for name, module in _names(group):
      parts += [f'::: flan_jax.{module}.{name}', '    options:']
      if name in OPEN:
        parts.append('      filters: ["!^_"]')
      else:
        parts.append('      members: false')
      if not name[0].isupper():
        parts.append('      show_signature_annotations: true')
      parts.append('')
  return '\n'.join(parts)


def _names(group: str) -> list[tuple[str, str]]:
  public = sorted(flan_jax._PUBLIC.items())
  return [(name, module) for name, module in public if module.split('.')[0] == group]


def _overview() -> Iterator[str]:
  """A table of all names: kind, and the first line of the documentation."""
  for group, heading in GROUPS.items():
    yield f'### {heading} {{#names-{group}}}'
    yield ''
    yield '| name | does |'
    yield '|---|---|'
    for name, module in _names(group):
      text = _first_line(module, name).replace('|', r'\|')
      yield f'| [`flan.{name}`](#flan_jax.{module}.{name}) | {text} |'
    yield ''


def _first_line(module: str, name: str) -> str:
  """The first line of a docstring, read from the source: nothing is imported."""
  path = importlib.util.find_spec(f'flan_jax.{module}').origin
  with open(path, encoding='utf-8') as file:
    tree = ast.parse(file.read())
  (found,) = (node for node in tree.body if getattr(node, 'name', '') == name)
  return (ast.get_docstring(found) or '').partition('\n')[0]

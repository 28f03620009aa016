"""Markdown of the command line: a section for each verb, from its argparse parser."""

import argparse
from collections.abc import Iterator

from flan_jax.cli import dispatch

WIDTH = 76
"""Columns of a usage line."""


def render() -> str:
  top = dispatch.parser()
  (verbs,) = (
    action for action in top._actions if isinstance(action, argparse._SubParsersAction)
  )
  return '\n'.join(_section(verb, parser) for verb, parser in verbs.choices.items())


def _section(verb: str, parser: argparse.ArgumentParser) -> str:
  parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=WIDTH)
  lines = [
    f'## `flan {verb}` {{#flan-{verb}}}',
    _sentence(parser.description),
    '```text\n' + parser.format_usage().removeprefix('usage: ').rstrip() + '\n```',
    '\n'.join(_table(parser)),
    _sentence(parser.epilog),
  ]
  return '\n\n'.join(filter(None, lines)) + '\n'


def _sentence(text: str | None) -> str:
  text = _escaped(' '.join((text or '').split()))
  return f'{text[:1].upper()}{text[1:]}' + ('.' if text and text[-1] != '.' else '')


def _table(parser: argparse.ArgumentParser) -> Iterator[str]:
  yield '| argument | meaning | default |'
  yield '|---|---|---|'
  for action in parser._actions:
    if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
      continue
    names = ', '.join(f'`{name}`' for name in action.option_strings)
    value = '' if action.nargs == 0 else _value(action)
    meaning = _escaped(' '.join((action.help or '').split()).replace('%%', '%'))
    default = (
      '' if action.default in (None, False, [], '==SUPPRESS==') else action.default
    )
    shown = f'`{default}`' if default != '' else ''
    yield f'| {" ".join(filter(None, (names, value)))} | {meaning} | {shown} |'


def _value(action: argparse.Action) -> str:
  """The placeholder of an argument's value, or its choices."""
  if action.choices:
    return ' or '.join(f'`{choice}`' for choice in action.choices)
  names = action.metavar or action.dest.upper()
  return ' '.join(
    f'`{name}`' for name in (names if isinstance(names, tuple) else [names])
  )


def _escaped(text: str) -> str:
  return text.replace('|', r'\|').replace('<', '&lt;').replace('*', r'\*')

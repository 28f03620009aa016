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
  sections = (_section(verb, parser) for verb, parser in verbs.choices.items())
  return '\n'.join([_overview(verbs), *sections])


def _overview(verbs: argparse._SubParsersAction) -> str:
  lines = ['| verb | does |', '|---|---|']
  for action in verbs._choices_actions:
    lines.append(
      f'| [`flan {action.dest}`](#flan-{action.dest}) | {_sentence(action.help)} |'
    )
  return '\n'.join([*lines, ''])


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
  """The arguments of a verb; a group with a title has a table of its own."""
  for group in parser._action_groups:
    rows = list(filter(None, map(_row, group._group_actions)))
    if not rows:
      continue
    if group.title not in ('options', 'positional arguments'):
      yield from ('', f'{_sentence(group.title)}', '')
    elif group.title == 'options' and _positional(parser):
      yield ''
    yield '| argument | meaning |'
    yield '|---|---|'
    yield from rows


def _positional(parser: argparse.ArgumentParser) -> bool:
  return any(not action.option_strings for action in parser._actions)


def _row(action: argparse.Action) -> str | None:
  if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
    return None
  names = ', '.join(f'`{name}`' for name in action.option_strings)
  value = '' if action.nargs == 0 else _value(action)
  meaning = _sentence(' '.join((action.help or '').split()).replace('%%', '%'))
  if action.default not in (None, False, [], '==SUPPRESS==') and (
    '(default' not in meaning
  ):
    meaning += f' Default `{action.default}`.'
  return f'| {" ".join(filter(None, (names, value)))} | {meaning} |'


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

"""Names of things in Google Cloud, as flags of `flan launch` give them.

A name goes to gcloud, docker, xpk or SkyPilot, which put it into commands and files of
their own: what is no name is refused here. Standard library only.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flan_jax.errors import InputError


class Rule(NamedTuple):
  """A rule of names.

  Attributes:
    pattern: regular expression of the whole name.
    text: the rule in words.
    max_length: the most characters.
  """

  pattern: str
  text: str
  max_length: int


RULES: dict[str, Rule] = {}
"""Flag -> rule of its value."""


def register(flag: str, pattern: str, text: str, *, max_length: int = 63) -> None:
  """Adds the rule of a flag."""
  RULES[flag] = Rule(pattern, text, max_length)


_LABEL = r'[a-z]([-a-z0-9]*[a-z0-9])?'
_LABEL_TEXT = 'of a-z, 0-9 and -, a letter first'

register('--tpu', _LABEL, _LABEL_TEXT)
register('--zone', _LABEL, f'{_LABEL_TEXT}, as us-central1-a')
register('--cluster', _LABEL, _LABEL_TEXT, max_length=40)
register('--project', r'[a-z0-9][-a-z0-9.:]*', 'of a-z, 0-9, -, . and :')
register('--runtime', r'[A-Za-z0-9][-\w.]*', 'of letters, 0-9, -, _ and .')
register(
  '--image',
  r'[A-Za-z0-9][-\w.:/]*',
  'of letters, 0-9 and -_.:/, as us-docker.pkg.dev/PROJECT/flan/flan',
  max_length=255,
)


def check(flag: str, name: str) -> None:
  """Refuses what is no name.

  Raises:
    InputError: if it breaks the rule of the flag.
  """
  rule = RULES[flag]
  legal = re.fullmatch(rule.pattern, name, re.ASCII)
  if legal is None or len(name) > rule.max_length:
    near = nearest(rule, name)
    raise InputError(
      f'{flag}: got {name!a}; must be 1 to {rule.max_length} {rule.text}'
      + (f'; the nearest is {near!r}' if near else '')
    )


def nearest(rule: Rule, name: str) -> str:
  """A legal name like this one; '' if none is found."""
  tries: Iterable[Callable[[str], str]] = (str, str.lower)
  for spelled in tries:
    text = re.sub(r'[^A-Za-z0-9._:/-]+', '-', spelled(name))
    for near in (text, re.sub(r'[^A-Za-z0-9-]+', '-', text)):
      near = near.lstrip('-0123456789._:/')[: rule.max_length].rstrip('-._:/')
      if re.fullmatch(rule.pattern, near, re.ASCII):
        return near
  return ''


def check_all(named: Iterable[tuple[str, str | None]]) -> None:
  """Refuses the first that is no name; None is a flag that was not given."""
  for flag, name in named:
    if name is not None:
      check(flag, name)


def check_arguments(given: Iterable[str]) -> None:
  """Refuses further arguments of gcloud that are no flags.

  Raises:
    InputError: if one is not.
  """
  for argument in given:
    if not re.match(r'--[a-z]', argument):
      raise InputError(
        f'--create-arg: got {argument!a}; must be a flag of gcloud, as '
        '--create-arg=--network=NAME'
      )

"""The parser of the command line. Standard library only."""

import argparse

from flan_jax.errors import InputError


class Parser(argparse.ArgumentParser):
  """A parser whose errors are one line, with exit code 2."""

  def error(self, message):
    raise InputError(f'{message}; see `{self.prog} --help`')

  def parse_known_args(self, args=None, namespace=None):  # pyright: ignore
    """Takes an optional positional behind the flags, too, as Python 3.13 does."""
    found, rest = super().parse_known_args(args, namespace)
    for action in self._actions:  # argparse takes `--flag=--` as no value at all
      value = getattr(found, action.dest, None)
      lists = isinstance(value, list) and (value == [] != action.default or [] in value)
      if action.option_strings and lists:
        self.error(f'argument {action.option_strings[0]}: got --; must be a value')
    for action in self._get_positional_actions():
      missing = action.nargs == '?' and getattr(found, action.dest) == action.default
      if missing and len(rest) == 1 and (rest[0] == '-' or not rest[0].startswith('-')):
        setattr(found, action.dest, rest.pop())
    return found, rest

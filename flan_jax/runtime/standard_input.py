"""Standard input, read to its end: a wait for it is said. Standard library only."""

import sys

from flan_jax.errors import InputError
from flan_jax.runtime import network


def read() -> str:
  """Reads standard input to its end; says at intervals that it waits for it.

  Raises:
    InputError: if it is not UTF-8.
  """
  try:
    with network.waiting(lambda: 'the end of standard input (Ctrl-D)'):
      return sys.stdin.read()
  except UnicodeDecodeError:
    raise InputError('standard input: not text; must be UTF-8') from None

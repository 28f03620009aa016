"""lm-eval's own command line, with our model in it."""

import sys
from collections.abc import Sequence

from flan_jax.errors import InputError

MODEL = 'flan_jax'
"""Name of our model, as `--model` takes it."""

_DEFAULTS = (
  (('--model', '-M'), MODEL),
  (('--batch_size', '-b'), '8'),  # lm-eval's own is 1
)
"""Flags of a run, and the values they have here if none is given."""


def run(arguments: Sequence[str]) -> None:
  """Runs lm-eval with these arguments.

  Raises:
    InputError: if it is not installed.
  """
  try:
    from lm_eval.__main__ import cli_evaluate
  except ModuleNotFoundError as error:
    raise InputError(
      f"module {error.name!r}: not installed; pip install 'flan_jax[lm-eval]'"
    ) from None
  from flan_jax.interop.lm_eval import model

  assert model.NAME == MODEL  # importing it registers the model
  before = sys.argv
  sys.argv = ['flan lm-eval', *with_defaults(arguments)]
  try:
    cli_evaluate()
  finally:
    sys.argv = before


def with_defaults(arguments: Sequence[str]) -> list[str]:
  """Adds our model and batch size to a run that names no others.

  >>> with_defaults(['--tasks', 'piqa', '-b', '4'])
  ['--tasks', 'piqa', '-b', '4', '--model', 'flan_jax']
  >>> with_defaults(['ls', 'tasks'])
  ['ls', 'tasks']
  """
  arguments = list(arguments)
  runs = arguments[:1] == ['run'] or (arguments and arguments[0].startswith('-'))
  given = {argument.partition('=')[0] for argument in arguments}
  if not runs or given & {'--config', '-C', '--help', '-h'}:
    return arguments
  for flags, value in _DEFAULTS:
    if not given & set(flags):
      arguments += [flags[0], value]
  return arguments

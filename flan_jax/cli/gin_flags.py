"""gin settings on the command line. Standard library only."""

from collections.abc import Sequence

from flan_jax.errors import InputError

_BINDINGS = '--gin_bindings'


def split_gin(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
  """Splits off gin flags: (arguments, NAME=VALUE of each, in their order).

  They are `--gin.NAME=VALUE`, and t5x's `--gin_bindings="NAME = VALUE"`.

  Raises:
    InputError: if --gin_bindings, or the name in it, has no value.
  """
  rest, gin = [], []
  left = iter(arguments)
  for argument in left:
    name, equals, value = argument.partition('=')
    if argument.startswith('--gin.'):
      gin.append(argument.removeprefix('--gin.'))
    elif name == _BINDINGS:
      value = value if equals else next(left, '')
      given = value
      bound, _, value = given.partition('=')
      if not value.strip():
        raise InputError(
          f'{_BINDINGS}: got {given!r}; must be NAME=VALUE, as "TRAIN_STEPS = 100"'
        )
      gin.append(f'{bound.strip()}={value}')
    else:
      rest.append(argument)
  return rest, gin

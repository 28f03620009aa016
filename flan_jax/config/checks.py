"""Checks of settings: the field, the value got, the rule, the nearest legal value."""

from flan_jax.errors import InputError, did_you_mean


def check_one_of(name: str, got: str, legal: tuple[str, ...], *, field: str) -> None:
  if got not in legal:
    raise InputError(
      f'{name}: got {got!r}; must be one of {", ".join(legal)}'
      + did_you_mean(got, legal),
      field=field,
    )


def nearest_divisor(number: int, to: int) -> int:
  divisors = (n for n in range(1, number + 1) if number % n == 0)
  return min(divisors, key=lambda n: abs(n - to))


def check_at_least(name: str, got: float, least: float, *, field: str) -> None:
  if got < least:
    message = f'{name}: got {got:,}; must be {least:,} or more'
    raise InputError(message, field=field)


def check_seed(name: str, got: int, *, field: str) -> None:
  if not 0 <= got < 2**32:
    nearest = min(max(got, 0), 2**32 - 1)
    raise InputError(
      f'{name}: got {got}; must be 0 to {2**32 - 1}; the nearest is {nearest}',
      field=field,
    )


def check_name(name: str, got: str, *, field: str) -> None:
  if not got:
    message = f'{name}: got an empty name; must be a folder, as runs/mine'
    raise InputError(message, field=field)

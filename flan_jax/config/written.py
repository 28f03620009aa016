"""Settings and recipes, written as gin."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from flan_jax.config import setting
from flan_jax.config.recipe import Recipe, recipes_in


def flatten(values: Any) -> Iterator[tuple[str, Any]]:
  """Yields (`Optimizer.learning_rate`-like name, value) of nested settings, recipes."""
  if isinstance(values, Recipe):
    pairs = [(f'{values.key}.{name}', value) for name, value in values.arguments]
  else:
    prefix = setting.selector(type(values))
    names = [field.name for field in dataclasses.fields(values)]
    pairs = [(f'{prefix}.{name}', getattr(values, name)) for name in names]
  for name, value in pairs:
    yield name, value
    for inner in _inner(value):
      yield from flatten(inner)


def _inner(value: Any) -> Iterator[Any]:
  """Settings and recipes in a value."""
  if _is_settings(value):
    yield value
  yield from recipes_in(value)


def written(value: Any) -> str:
  """A value in gin: references to settings classes and functions, or a literal."""
  if isinstance(value, Recipe):
    return str(value)
  if _is_settings(value):
    return f'@{setting.selector(type(value))}()'
  if isinstance(value, dict):
    pairs = (f'{written(key)}: {written(item)}' for key, item in value.items())
    return f'{{{", ".join(pairs)}}}'
  if isinstance(value, list):
    return f'[{", ".join(map(written, value))}]'
  if isinstance(value, tuple):
    return f'({", ".join(map(written, value))}{"," * (len(value) == 1)})'
  return repr(value)


def _is_settings(value: Any) -> bool:
  """Returns whether a value is an instance of a settings class."""
  return dataclasses.is_dataclass(value) and not isinstance(value, (type, Recipe))

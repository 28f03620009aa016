"""A setting: a dataclass field with its gin macro and its rule, stated once."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from flan_jax.config.checks import Rule, shown, sound
from flan_jax.errors import InputError


def setting(
  default: Any = dataclasses.MISSING,
  *,
  macro: str | None = None,
  rule: Rule | None = None,
) -> Any:
  """A dataclass field that gin files bind.

  Args:
    default: default value; without one the field is required.
    macro: gin macro that sets the field in our run files, as 'TRAIN_STEPS'.
    rule: rule of flan_jax.config.checks that every value must obey.
  """
  return dataclasses.field(default=default, metadata={'macro': macro, 'rule': rule})


def selector(cls: type) -> str:
  """Name of a settings class in gin: its SELECTOR, or the name of the class."""
  return getattr(cls, 'SELECTOR', cls.__name__)


def macros(cls: type) -> dict[str, str]:
  """Field -> macro of the fields that have one."""
  fields = dataclasses.fields(cls)
  return {f.name: f.metadata['macro'] for f in fields if f.metadata.get('macro')}


def label(cls: type, name: str) -> str:
  """The name of a field in messages: its macro, `Run.keep`, or the bare field.

  Classes that are also filled from Python and config.json have no SELECTOR, and their
  fields no prefix.
  """
  prefix = f'{cls.SELECTOR}.' if hasattr(cls, 'SELECTOR') else ''
  return macros(cls).get(name, prefix + name)


def qualified(cls: type, name: str) -> str:
  """InputError.field of a field: 'Run.train_steps'.

  Raises:
    TypeError: if the class has no such field.
  """
  if name not in cls.__dataclass_fields__:
    raise TypeError(f'{cls.__name__} has no field {name!r}')
  return f'{selector(cls)}.{name}'


def refusal(settings: Any, name: str, wrong: str, *, got: str | None = None):
  """The InputError of a field: its label, the value got, what is wrong with it.

  Args:
    settings: instance of a settings class.
    name: field at fault.
    wrong: the rule and the nearest legal value, as 'must be 1 or more'.
    got: the value got in words; None shows the field's own.
  """
  cls = type(settings)
  field = qualified(cls, name)
  got = shown(getattr(settings, name)) if got is None else got
  return InputError(f'{label(cls, name)}: got {got}; {wrong}', field=field)


def check_fields(settings: Any) -> None:
  """Holds every field against its rule, and what holds of any value, in their order.

  Raises:
    InputError: at the first field that breaks one; carries the field.
  """
  own = dict(rules(type(settings)))
  for field in dataclasses.fields(settings):
    value = getattr(settings, field.name)
    rule = own.get(field.name)
    wrong = (rule and rule(value)) or sound(value)
    if wrong:
      raise refusal(settings, field.name, wrong)


def rules(cls: type) -> Iterator[tuple[str, Rule]]:
  """Yields (field, rule) of the fields that have one."""
  for field in dataclasses.fields(cls):
    if field.metadata.get('rule'):
      yield field.name, field.metadata['rule']

"""Types of gin values: whether one fits an annotation, and the annotation in words."""

import collections.abc
import inspect
import types
import typing
from typing import Any

from flan_jax.config import setting
from flan_jax.config.checks import shown, sound
from flan_jax.config.functions import Function
from flan_jax.config.recipe import Recipe
from flan_jax.config.written import written
from flan_jax.errors import InputError

_ARRAYS = ('numpy', 'jax', 'jaxlib')
"""Libraries whose arrays a number or a list stands for."""


def fits(value: Any, hint: Any, *, late: bool = False) -> bool:
  """Returns whether a gin value has the annotated type; an int passes for a float.

  An annotation that says nothing about gin's values (a type variable, a name that could
  not be resolved) fits all of them.

  Args:
    value: a literal of gin, a settings class, or a recipe.
    hint: the annotation.
    late: whether a called reference stands for what it returns once it is built, and
      another for a function, as in the arguments of a function.
  """
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if hint in (Any, object, inspect.Parameter.empty):
    return True
  if origin is typing.Annotated:
    return fits(value, arguments[0], late=late)
  if origin in (typing.Union, types.UnionType):
    return any(fits(value, option, late=late) for option in arguments)
  if isinstance(value, Recipe):
    return hint is Recipe or (late and (value.called or _takes_functions(hint)))
  if hint is None or hint is type(None):
    return value is None
  if origin is typing.Literal:
    return any(type(value) is type(legal) and value == legal for legal in arguments)
  cls = hint if origin is None else origin
  if not isinstance(cls, type):
    return True
  if cls is collections.abc.Callable or cls is type:
    return False
  if cls in (float, complex, int):
    kinds = int if cls is int else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)
  if cls.__module__.partition('.')[0] in _ARRAYS:
    return _is_array(value, cls)
  return _is_instance(value, cls) and _items_fit(value, cls, arguments, late=late)


def _takes_functions(hint: Any) -> bool:
  """Returns whether an annotation may stand for a function or a class."""
  cls = typing.get_origin(hint) or hint
  plain = (int, float, complex, str, bytes, bool, tuple, list, dict, set, type(None))
  return hint is not None and cls not in plain and cls is not typing.Literal


def _is_array(value: Any, cls: type) -> bool:
  """Returns whether a value may become an array or a dtype of a library."""
  if 'dtype' in cls.__name__.lower():
    return isinstance(value, str)
  return isinstance(value, (bool, int, float, list, tuple))


def _is_instance(value: Any, cls: type) -> bool:
  if isinstance(value, str) and cls.__module__ == 'collections.abc':
    return False  # a string is a sequence of strings, and rarely meant as one
  try:
    return isinstance(value, cls)
  except TypeError:  # a protocol that does not check
    return True


def _items_fit(value: Any, cls: type, hints: tuple[Any, ...], *, late: bool) -> bool:
  """Returns whether the items of a container have the types of its annotation."""
  if not hints:
    return True
  if isinstance(value, dict):
    key, item = hints if len(hints) == 2 else (Any, Any)
    return all(
      fits(k, key, late=late) and fits(v, item, late=late) for k, v in value.items()
    )
  if cls is tuple and not (len(hints) == 2 and hints[1] is Ellipsis):
    pairs = zip(value, hints, strict=False)
    return len(value) == len(hints) and all(fits(v, h, late=late) for v, h in pairs)
  if isinstance(value, (list, tuple)):
    return all(fits(item, hints[0], late=late) for item in value)
  return True


def check(name: str, value: Any, hint: Any, origin: str) -> None:
  """Checks that a gin value has the type of its field, whose rule it meets later.

  Args:
    name: name of the field.
    value: the value.
    hint: its annotation.
    origin: place where it was given.

  Raises:
    InputError: if it has not.
  """
  wrong = ''
  if not fits(value, hint):
    wrong = rule(value, hint)
  elif _is_quoted(value, hint):
    wrong = f'a text; must be without its quotes: {value.strip()}'
  if wrong:
    raise InputError(f'{origin}: {name} = {brief(value)}; {wrong}')


def check_argument(
  function: Function, key: str, name: str, value: Any, origin: str
) -> None:
  """Checks that a gin value has the type of a function's parameter, and its range.

  Args:
    function: the function.
    key: its name in its scope.
    name: name of the parameter.
    value: the value.
    origin: place where it was given.

  Raises:
    InputError: if it has not.
  """
  hint, limits = function.hint(name), function.rule(name)
  number = isinstance(value, (int, float)) and not isinstance(value, bool)
  if not fits(value, hint, late=True):
    wrong = rule(value, hint, late=True)
  else:
    wrong = (number and limits is not None and limits(value)) or sound(value)
  if wrong:
    raise InputError(f'{origin}: {key}.{name} = {brief(value)}; {wrong}')


def _is_quoted(value: Any, hint: Any) -> bool:
  """Returns whether a text holds a tuple or a list, where those are legal too."""
  kinds = [typing.get_origin(kind) or kind for kind in typing.get_args(hint)]
  if not isinstance(value, str) or not {tuple, list} & set(kinds):
    return False
  text = value.strip()
  return (text[:1], text[-1:]) in (('(', ')'), ('[', ']'))


def unfit(value: Any, cls: type, field: str) -> str:
  """Says what is wrong with a value of a field, alone; '' if the field takes it."""
  hint = typing.get_type_hints(cls)[field]
  if not fits(value, hint):
    return rule(value, hint)
  own = dict(setting.rules(cls)).get(field)
  return (own(value) if own else '') or sound(value)


def as_number(value: Any, hint: Any) -> Any:
  """A value that fits its annotation; an integer that stands for a number, as one."""
  kinds = typing.get_args(hint) or (hint,)
  if type(value) is not int or float not in kinds or int in kinds:
    return value
  return value if abs(value) >= 2**63 else float(value)  # which no rule takes


def brief(value: Any) -> str:
  """A value in gin; of a long one, its beginning."""
  if type(value) is int:
    return str(value) if abs(value) < 2**63 else shown(value)
  text = written(value)
  return text if len(text) <= _WIDTH else f'{text[:_WIDTH]}...'


_WIDTH = 200


def rule(value: Any, hint: Any, *, late: bool = False) -> str:
  """Says what a value that does not fit must be, and which item of it is at fault."""
  return f'must be {describe(hint)}{_at_fault(value, hint, late=late)}'


def _at_fault(value: Any, hint: Any, *, late: bool) -> str:
  """`; '64' of 'inputs' is not an integer`, or '' if no single item is at fault."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Annotated:
    return _at_fault(value, arguments[0], late=late)
  if origin in (typing.Union, types.UnionType):
    return next(filter(None, (_at_fault(value, h, late=late) for h in arguments)), '')
  if not isinstance(origin, type) or not arguments or not _is_instance(value, origin):
    return ''
  items: list[tuple[Any, Any, str]] = []  # item, its annotation, its place
  if isinstance(value, dict) and len(arguments) == 2:
    items += [(key, arguments[0], '') for key in value]
    items += [(item, arguments[1], f' of {key!r}') for key, item in value.items()]
  elif isinstance(value, (list, tuple)) and arguments[1:] in ((), (Ellipsis,)):
    items += [(item, arguments[0], '') for item in value]
  for item, wanted, place in items:
    if not fits(item, wanted, late=late):
      return f'; {brief(item)}{place} is not {describe(wanted)}'
  return ''


_WORDS = {
  int: 'an integer',
  float: 'a number',
  complex: 'a number',
  str: "a string, as in 'text'",
  bool: 'True or False',
  type(None): 'None',
  list: 'a list',
  tuple: 'a tuple',
  dict: 'a dictionary',
  type: 'a class, as @MyClass',
  collections.abc.Callable: 'a function, as @my_function',
  collections.abc.Mapping: 'a dictionary',
  collections.abc.Sequence: 'a list or tuple',
  collections.abc.Iterable: 'a list or tuple',
  Recipe: 'a function, as @my_function()',
}


def describe(hint: Any) -> str:
  """Describes a type in words: `an integer or None`."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Annotated:
    return describe(arguments[0])
  if origin in (typing.Union, types.UnionType):
    return ' or '.join(dict.fromkeys(describe(option) for option in arguments))
  if origin is typing.Literal:
    return f'one of {", ".join(map(repr, arguments))}'
  cls = hint if origin is None else origin
  if cls is tuple and arguments:
    if arguments[0] is str:
      return "a tuple of strings, as ('text',)"
    if arguments[0] is int:
      return 'a tuple of integers, as (0, 1)'
    return f'a tuple of {describe(arguments[0])}'
  if cls is list and arguments:
    item = 'integers' if arguments[0] is int else describe(arguments[0])
    return f'a list of {item}'
  if cls in (dict, collections.abc.Mapping) and len(arguments) == 2:
    key = describe(arguments[0]).partition(',')[0]
    return f'a dictionary from {key} to {describe(arguments[1])}'
  if cls in _WORDS:
    return _WORDS[cls]
  if getattr(cls, '__module__', '').partition('.')[0] in _ARRAYS:
    return 'an array'
  name = setting.selector(cls) if isinstance(cls, type) else str(cls)
  return f'@{name}()'

"""A recipe: a function and its arguments in gin, called when the run is built."""

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flan_jax.config import functions
from flan_jax.errors import InputError, failure


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A reference of a gin file, `@scope/my.function()`, with its arguments.

  Nothing is called before `build`. Two recipes are equal if they say the same; where
  the arguments were given is known to the Config that they were read from.

  Attributes:
    name: full name of the function.
    arguments: (name, value) of those that are bound, sorted; a value may be a recipe.
    scope: scope of the reference, as 'teacher'; '' for none.
    called: whether it stands for what the function returns (`@f()`), or for the
      function with these arguments (`@f`).
  """

  name: str
  arguments: tuple[tuple[str, Any], ...] = ()
  scope: str = ''
  called: bool = True

  def __hash__(self) -> int:
    return hash((self.name, self.scope, self.called))

  def __repr__(self) -> str:
    values = ', '.join(f'{name}={value!r}' for name, value in self.arguments)
    return f'{"" if self.called else "partial "}@{self.key}({values})'

  def __str__(self) -> str:
    return f'@{self.key}{"()" if self.called else ""}'

  @property
  def key(self) -> str:
    """Name of the function in its scope: a binding's, without the parameter."""
    return functions.scoped(self.scope, self.name)

  @property
  def described(self) -> str:
    """The reference with its arguments: `@my.focal, gamma = 2.0`."""
    return ', '.join([str(self), *(f'{name} = {v}' for name, v in self.arguments)])

  def get(self, name: str, default: Any = None) -> Any:
    """The value of an argument, or `default`."""
    return dict(self.arguments).get(name, default)

  def missing(
    self, *, given: Sequence[str] = (), offered: Sequence[str] = ()
  ) -> list[str]:
    """Parameters without a default that nothing sets, as `my.f.x`; inner ones too.

    Args:
      given: parameters that the caller sets.
      offered: names for `offered`.
    """
    have = {*given, *offered, *dict(self.arguments)}
    found = [f'{self.key}.{p}' for p in functions.find(self.name).required
             if p not in have]  # fmt: skip
    for name, value in self.arguments:
      for inner in recipes_in(value) if name not in given else ():
        if inner.called:
          found += inner.missing(offered=offered)
    return found

  def offered(self, values: Mapping[str, Any]) -> 'Recipe':
    """The recipe with values for parameters of these names, its inner ones' too.

    Args:
      values: name -> value; for parameters that gin does not bind, and whose default is
        None, or that have none.
    """
    bound = {name: _offered(value, values) for name, value in self.arguments}
    parameters = functions.find(self.name).signature.parameters
    for name, value in values.items():
      if name in bound or name not in parameters:
        continue
      default = parameters[name].default
      if default is None or default is inspect.Parameter.empty:
        bound[name] = value
    return dataclasses.replace(self, arguments=tuple(bound.items()))

  def check(self, given: Sequence[str] = ()) -> None:
    """Checks that nothing is missing for a call.

    Args:
      given: parameters that the caller sets.

    Raises:
      InputError: if a parameter is; names it.
    """
    for name in self.missing(given=given):
      raise InputError(f'{self}: {name} is not set, and has no default', field=name)

  def build(self, **more: Any) -> Any:
    """Calls the function; without `called`, returns the function to be called.

    Args:
      **more: further arguments; they win over those of gin.

    Raises:
      InputError: if an argument is missing, or the function raises: its own error, in
        one line.
    """
    if self.called:
      return self._call((), more)
    function = functions.find(self.name)
    if not (self.arguments or self.scope or more):
      return function.target

    @functools.wraps(function.target)
    def bound(*args: Any, **kwargs: Any) -> Any:
      return self._call(args, {**more, **kwargs})

    return bound

  def _call(self, args: Sequence[Any], more: Mapping[str, Any]) -> Any:
    function = functions.find(self.name)
    try:
      call = function.signature.bind_partial(*args, **more)
    except TypeError as error:
      raise InputError(f'{self}: {error}') from None
    others = function.others
    taken = {*call.arguments, *call.arguments.get(others or '', {})}
    self.check([*taken])
    for name, value in self.arguments:
      if name in taken:
        continue
      if name in function.signature.parameters and name != others:
        call.arguments[name] = _built(value)
      elif others:
        call.arguments.setdefault(others, {})[name] = _built(value)
    if any(call.arguments.get(name) for name in function.positional):
      call.apply_defaults()  # so that what stands before *args is given by position
    with self._entered(function):
      return function.target(*call.args, **call.kwargs)

  @contextlib.contextmanager
  def _entered(self, function: functions.Function) -> Iterator[None]:
    """Enters the scope, and states an error of the function in one line."""
    try:
      with function.scope(self.scope):
        yield
    except InputError:
      raise
    except Exception as error:
      raise failure(str(self), error) from error


def _offered(value: Any, values: Mapping[str, Any]) -> Any:
  """A value whose recipes have been offered values."""
  if isinstance(value, Recipe):
    return value.offered(values)
  if isinstance(value, (list, tuple)):
    return type(value)(_offered(item, values) for item in value)
  if isinstance(value, dict):
    return {key: _offered(item, values) for key, item in value.items()}
  return value


def _built(value: Any) -> Any:
  """A value with its recipes built; containers are copies."""
  if isinstance(value, Recipe):
    return value.build()
  if isinstance(value, (list, tuple)):
    return type(value)(map(_built, value))
  if isinstance(value, dict):
    return {_built(key): _built(item) for key, item in value.items()}
  return value


def recipes_in(value: Any) -> Iterator[Recipe]:
  """Recipes in a value, not those in the arguments of one."""
  if isinstance(value, Recipe):
    yield value
  elif isinstance(value, (list, tuple)):
    for item in value:
      yield from recipes_in(item)
  elif isinstance(value, dict):
    for pair in value.items():
      yield from recipes_in(pair)

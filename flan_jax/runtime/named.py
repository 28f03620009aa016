"""Things that modules register by name: ours, and a user's. Standard library only."""

import functools
from typing import Any, Generic, TypeVar

from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import modules

T = TypeVar('T')


def check_name(kind: str, name: Any) -> None:
  """Checks the name that something of a user's is registered by.

  Raises:
    InputError: if it is none.
  """
  if not (isinstance(name, str) and name.isidentifier()):
    near = f'my_{kind.rpartition(" ")[2]}'
    raise InputError(f'{kind} {name!r:.80}: must be a name, as in {near}')


def check_code(kind: str, item: Any) -> None:
  """Checks that a decorator has been given a function or a class.

  Raises:
    InputError: if it has not.
  """
  if not (callable(item) and hasattr(item, '__name__')):
    raise InputError(f'{kind}: got {item!r:.80}; must be a function or a class')


class Named(Generic[T]):
  """Registered things of one kind, by name."""

  def __init__(self, kind: str):
    """Starts empty; `kind` is their name in errors, as 'prompt style'."""
    self._kind = kind
    self._items: dict[str, T] = {}
    self._places: dict[str, str] = {}

  def add(self, name: str, item: T, source: Any) -> None:
    """Registers a thing; a notebook may run its cell again.

    Args:
      name: its name.
      item: the thing.
      source: the function or class that the user gave, whose module is its place.

    Raises:
      InputError: if the name is another's.
    """
    check_code(self._kind, source)
    check_name(self._kind, name)
    place = f'{source.__module__}.{source.__qualname__}'
    old = self._places.get(name, place)
    if old != place:
      raise InputError(
        f'{self._kind} {name!r}: registered twice, as {old} and as {place}; must have '
        'another name'
      )
    self._items[name], self._places[name] = item, place
    modules.note(source.__module__)

  def register(self, item: Any, *, name: str | None) -> Any:
    """Registers a function or class as a decorator does, and returns it.

    Args:
      item: the function or class; None for a decorator with a name.
      name: its name; None for its own.

    Raises:
      InputError: if the name is another's.
    """
    if item is None:
      return functools.partial(self.register, name=name)
    check_code(self._kind, item)
    self.add(item.__name__ if name is None else name, item, item)
    return item

  def names(self) -> tuple[str, ...]:
    """Every name, after the user's modules have registered theirs."""
    modules.load()
    return tuple(self._items)

  def get(self, name: str) -> T:
    """The thing of that name.

    Raises:
      InputError: if not found; names the nearest.
    """
    if name not in self._items and name not in self.names():
      legal = self.names()
      raise InputError(
        f'{self._kind} {name!r}: must be one of {", ".join(legal)}{modules.hint()}'
        + did_you_mean(name, legal)
      )
    return self._items[name]

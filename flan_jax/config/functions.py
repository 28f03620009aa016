"""Functions that gin files refer to: registered ones, and those of optax.

A module that the user admits registers functions and classes with gin-config's
decorators, or with `flan_jax.configurable`. `optax.NAME` and `optax.contrib.NAME` are
the public functions of the two modules. Nothing is reached through another module, and
nothing is called here.
"""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from flan_jax.config.checks import Rule, at_least, count, positive, share
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import modules, named

LIBRARIES = ('optax', 'optax.contrib')
"""Modules whose public functions have their own names in gin."""

SHIPPED = {'without_norms': 'flan_jax.train.matrices'}
"""Function of ours -> the module that registers it, imported for its name alone."""

_RANGES: Mapping[str, Rule] = {
  **dict.fromkeys(('b1', 'b2', 'b3', 'decay', 'momentum', 'rho'), share),
  **dict.fromkeys(('eps', 'eps_root', 'learning_rate', 'weight_decay'), at_least(0)),
  **dict.fromkeys(('max_norm', 'max_delta'), positive),
  **dict.fromkeys(('decay_steps', 'transition_steps', 'warmup_steps'), count(0)),
}
"""Parameter -> rule of its numbers, of those that mean the same in all of optax."""

_OWN = ('gin.macro', 'gin.constant', 'gin.singleton')
"""Functions that gin-config registers for itself."""


def configurable(
  function: Callable[..., Any] | str | None = None,
  *,
  module: str | None = None,
  allowlist: Sequence[str] | None = None,
  denylist: Sequence[str] | None = None,
) -> Any:
  """Registers a function or class, so that gin files can bind and refer to it.

  It stays as it is: calls in Python are not affected.

  ```python
  @flan_jax.configurable
  def my_schedule(peak: float, steps: int):
    return optax.cosine_decay_schedule(peak, steps)
  ```

  and in gin `optax.adamw.learning_rate = @my_schedule()`, `my_schedule.peak = 3e-4`.

  Args:
    function: the function, or its name in gin for a decorator with arguments.
    module: first part of its full name; None for that of its Python module.
    allowlist: parameters that gin may set; None for all.
    denylist: parameters that gin may not set.
  """
  options = {'module': module, 'allowlist': allowlist, 'denylist': denylist}
  if function is None or isinstance(function, str):
    return functools.partial(_register, name=function, **options)
  return _register(function, name=None, **options)


def _register(function: Any, *, name: str | None, **options: Any) -> Any:
  from gin import config as gin_config

  named.check_code('configurable', function)
  name = function.__name__ if name is None else name
  full = '.'.join(filter(None, (options['module'] or function.__module__, name)))
  if full not in gin_config._REGISTRY:
    try:
      return gin_config.register(name, **options)(function)
    except (TypeError, ValueError) as error:  # its name, or what it allows
      raise InputError(f'configurable {name!r}: {error}') from None
  before = gin_config._REGISTRY[full].wrapped
  if (before.__module__, before.__qualname__) != (
    function.__module__,
    function.__qualname__,
  ):
    raise InputError(
      f'configurable {full!r}: registered by {_place(function)} and by '
      f'{_place(before)}; give one of them another name'
    )
  with gin_config.interactive_mode():  # a notebook runs its cells again
    return gin_config.register(name, **options)(function)


def _place(function: Any) -> str:
  """Place of a function or class: `file:line`, or its module."""
  try:
    _, line = inspect.getsourcelines(function)
    return f'{inspect.getsourcefile(function)}:{line}'
  except (OSError, TypeError):
    return f'{function.__module__}.{function.__qualname__}'


def scoped(scope: str, name: str) -> str:
  """Name in a scope: `scope/name`."""
  return f'{scope}/{name}' if scope else name


@dataclasses.dataclass(frozen=True)
class Function:
  """A function or class that gin files can bind and refer to.

  Attributes:
    name: full name.
    target: the function itself.
    allowlist: parameters that gin may set; None for all.
    denylist: parameters that gin may not set.
    registered: whether it is registered with gin-config, which keeps track of scopes.
  """

  name: str
  target: Callable[..., Any]
  allowlist: Sequence[str] | None = None
  denylist: Sequence[str] | None = None
  registered: bool = True

  @functools.cached_property
  def signature(self) -> inspect.Signature:
    """Signature of the target; of any arguments if Python finds none."""
    try:
      return inspect.signature(self.target)
    except (TypeError, ValueError):
      return inspect.signature(lambda *args, **kwargs: None)

  def _of_kind(self, *kinds: Any) -> list[str]:
    return [p.name for p in self.signature.parameters.values() if p.kind in kinds]

  @property
  def others(self) -> str | None:
    """Name of `**kwargs`, or None."""
    return next(iter(self._of_kind(inspect.Parameter.VAR_KEYWORD)), None)

  @property
  def positional(self) -> list[str]:
    """Name of `*args`, if it has it."""
    return self._of_kind(inspect.Parameter.VAR_POSITIONAL)

  @property
  def by_position(self) -> list[str]:
    """Names of the parameters that may be given by position, but for `*args`."""
    kinds = inspect.Parameter
    return self._of_kind(kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)

  @property
  def required(self) -> list[str]:
    """Names of the parameters without a default."""
    import gin

    optional = {*self.positional, self.others}
    return [
      p.name
      for p in self.signature.parameters.values()
      if p.name not in optional
      and (p.default is inspect.Parameter.empty or p.default is gin.REQUIRED)
    ]

  @property
  def legal(self) -> list[str]:
    """Names of the parameters that gin may set, other than those of `**kwargs`."""
    names = [name for name in self.signature.parameters if name != self.others]
    return [name for name in names if self._allows(name)]

  def _allows(self, name: str) -> bool:
    return (not self.allowlist or name in self.allowlist) and name not in (
      self.denylist or ()
    )

  def check(self, name: str) -> None:
    """Checks that gin may set a parameter.

    Raises:
      InputError: if it has no such parameter, or its registration denies it to gin.
    """
    if not self._allows(name):
      raise InputError(
        f'{self.name}.{name}: must not be set in gin, says the registration of '
        f'{self.name}; must be one of {", ".join(self.legal) or "none"}'
      )
    if name not in self.legal and not self.others:
      raise InputError(
        f'{self.name} has no parameter {name!r}; must be one of '
        f'{", ".join(self.legal) or "none"}{did_you_mean(name, self.legal)}'
      )

  def hint(self, name: str) -> Any:
    """Annotation of a parameter; Any without one, or if it cannot be resolved."""
    parameter = self.signature.parameters.get(name)
    if parameter is None or parameter.annotation is inspect.Parameter.empty:
      return Any
    hint = _resolved(parameter.annotation, self.target)
    return tuple[hint, ...] | list[hint] if name in self.positional else hint

  def rule(self, name: str) -> Rule | None:
    """Rule of a parameter whose range is known; None for any other."""
    return _RANGES.get(name) if self.name.startswith('optax.') else None

  def scope(self, scope: str) -> contextlib.AbstractContextManager[Any]:
    """Context in which a function finds the scope of the reference to it."""
    if not self.registered:
      return contextlib.nullcontext()
    import gin

    return gin.config_scope(scope.split('/') if scope else None)


def _resolved(annotation: Any, target: Any) -> Any:
  """An annotation with its names looked up where the function is defined."""
  inner = inspect.unwrap(target)
  module = sys.modules.get(getattr(inner, '__module__', ''))
  names = getattr(inner, '__globals__', None) or vars(module or types)
  holder = types.SimpleNamespace(__annotations__={'it': annotation})
  try:
    return typing.get_type_hints(holder, globalns=names)['it']
  except Exception:  # a name of TYPE_CHECKING, say
    return annotation if not isinstance(annotation, str) else Any


def find(name: str, *, also: Iterable[str] = ()) -> Function:
  """Finds a function by its name; a registered one by the end of its full name.

  Args:
    name: name without a scope, as `my_schedule`, `acme.my_schedule`, `optax.adamw`.
    also: further legal names, to suggest if there is no such function.

  Raises:
    InputError: if no function has it (names the nearest), or several do.
  """
  from gin import config as gin_config

  registry = gin_config._REGISTRY  # its one table of functions, with their parameters
  found = registry.matching_selectors(name)
  library = _library() if not found and name.startswith('optax.') else {}
  if name in library:
    return Function(name, library[name], registered=False)
  if not found:
    if (last := name.rpartition('.')[2]) in SHIPPED:
      importlib.import_module(SHIPPED[last])
    modules.load()  # those of entry points
    found = registry.matching_selectors(name)
  if len(found) > 1:
    full = ' and '.join(sorted(found))
    raise InputError(f'name {name!r}: stands for {full}; give one of them in full')
  if found:
    entry = registry[found[0]]
    return Function(entry.selector, entry.wrapped, entry.allowlist, entry.denylist)
  if name.partition('.')[0] == 'optax':
    legal = library or _library()
    short = name.rpartition('.')[2]
    meant = [f'{home}.{short}' for home in LIBRARIES if f'{home}.{short}' in legal]
    raise InputError(
      f'unknown name {name!r}; must be a public function of optax or optax.contrib, as '
      f'optax.adamw{did_you_mean(meant[0] if meant else name, meant or legal)}'
    )
  own = [key for key, _ in registry.items() if key not in _OWN]
  short = [key.rpartition('.')[2] for key in own]
  legal = ', '.join([*also, *sorted(own)][:40])
  raise InputError(
    f'unknown name {name!r}; must be one of {legal}, or optax.NAME'
    f'{did_you_mean(name, [*also, *own, *short])}'
  )


def constant(name: str) -> tuple[str, Any] | None:
  """(full name, value) of a constant that a module has given gin-config, or None.

  Raises:
    InputError: if several have this name.
  """
  from gin import config as gin_config

  constants = gin_config._CONSTANTS
  found = constants.matching_selectors(name)
  if len(found) > 1:
    raise InputError(f'%{name}: stands for {" and ".join(sorted(found))}; give one')
  return (found[0], constants[found[0]]) if found else None


@functools.cache
def _library() -> Mapping[str, Callable[..., Any]]:
  """Name in gin -> public function of LIBRARIES."""
  found = {}
  for library in LIBRARIES:
    module = importlib.import_module(library)
    for name, value in vars(module).items():
      home = str(getattr(getattr(value, 'func', value), '__module__', ''))
      public = callable(value) and not inspect.isclass(value) and name[0] != '_'
      if public and home.partition('.')[0] == 'optax':
        found[f'{library}.{name}'] = value
  return found

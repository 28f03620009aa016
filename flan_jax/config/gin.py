"""gin at the edge: parse, type-check, provenance, "did you mean".

gin-config's grammar is used through its own parser. Its registry is not: gin 0.5.0
keeps global state, checks no types, and does not record where a value came from. Here
a configuration is parsed into a Config, which fills frozen dataclasses.

Supported: macros (`TRAIN_STEPS = 100`, `%TRAIN_STEPS`), `%gin.REQUIRED`, includes,
bindings (`Optimizer.learning_rate = 3e-5`) and references. One to a settings class
(`@DecoderConfig()`) is the class, filled; one to a function (`@scope/my.function()`,
`config.functions`) is a Recipe: nothing is called while gin is read.
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from flan_jax.config import (
  evaluation,
  functions,
  inference,
  parsing,
  setting,
  study,
  training,
  value_types,
)
from flan_jax.config import mesh as mesh_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import Decoding
from flan_jax.config.parsing import (
  MACRO,
  MAX_VALUES,
  TOP,
  Bound,
  Inside,
  Macro,
  Reference,
  followed,
  keys,
  macros_in,
  placed,
)
from flan_jax.config.recipe import Recipe
from flan_jax.config.search import find, is_shipped, shipped, split_paths
from flan_jax.config.written import flatten, written
from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import modules

CLASSES: Mapping[str, type] = {
  setting.selector(cls): cls
  for cls in (
    training.TrainConfig,
    mesh_config.MeshConfig,
    optimizer_config.OptimizerConfig,
    optimizer_config.Lora,
    evaluation.EvalConfig,
    evaluation.EvalJobConfig,
    inference.InferConfig,
    study.StudyConfig,
    Decoding,
    DecoderConfig,
  )
}
"""Selector -> settings class that gin files can bind."""

_NAME = re.compile(r'[A-Za-z_][\w/.]*')


def environment(name: str) -> str | None:
  """An environment variable; the only place outside the CLI that reads one."""
  return os.environ.get(name)


@functools.cache
def known_macros() -> frozenset[str]:
  """Macros of the settings, and those that models and meshes define for themselves."""
  names = {name for cls in CLASSES.values() for name in setting.macros(cls).values()}
  for folder in ('models', 'mesh'):
    for path in (shipped() / folder).glob('*.gin'):
      names.update(load([str(path)]).macros)
  return frozenset(names)


def _unknown_macro(name: str, known: Iterable[str], *, near: Iterable[str] = ()) -> str:
  """The message for an unknown macro; suggests one of `near` too."""
  known = sorted(known)
  meant = did_you_mean(name, [*known, *near])
  return f'unknown macro {name!r}{meant or ";"} known macros: {", ".join(known)}'


class Config:
  """A parsed configuration: macros and bindings, each with its origin."""

  def __init__(self, search_paths: Sequence[str] = ()):
    self._search_paths = split_paths(search_paths)
    self.macros: dict[str, Bound] = {}
    self.bindings: dict[tuple[str, str], Bound] = {}
    self._named: dict[str, str] = {}
    self._built: set[str] = set()
    self._building: list[str] = []  # classes, the outermost first
    self._resolved = 0  # values of the binding that is being resolved
    self._used: set[tuple[str, str]] = set()  # bindings that a recipe has taken
    self._open: list[pathlib.Path] = []  # files being read, the outermost first

  def parse_file(self, path: str, *, beside: str | None = None) -> None:
    """Adds the statements of a file, with its includes in place.

    Raises:
      InputError: if it cannot be read, or includes itself.
    """
    found = find(path, beside, search_paths=self._search_paths)
    if found.resolve() in self._open:
      raise InputError(f'{beside}: include of {path!r}, which includes this file')
    try:
      text = found.read_text(encoding='utf-8')
    except UnicodeDecodeError:
      raise InputError(f'gin file {path!r}: not text; must be UTF-8') from None
    except OSError as error:
      raise InputError(f'gin file {path!r}: {error.strerror}') from None
    self._open.append(found.resolve())
    self._parse(text, str(found))
    self._open.pop()

  def parse_flag(self, flag: str) -> None:
    """Adds one `NAME=VALUE` of the command line; unquoted text is a string."""
    name, equals, value = (part.strip() for part in flag.partition('='))
    if not equals:
      raise InputError(f'--gin.{flag}: no value; must be --gin.NAME=VALUE')
    if not _NAME.fullmatch(name):
      raise InputError(
        f'--gin.{flag}: got name {name!r}; must be --gin.NAME=VALUE, as '
        '--gin.TRAIN_STEPS=500'
      )
    with contextlib.suppress(SyntaxError):
      return self._parse(f'{name} = {value}', f'--gin.{name}')
    try:
      self._parse(f'{name} = {value!r}', f'--gin.{name}')
    except SyntaxError:
      raise InputError(
        f'--gin.{name}: got name {name!r}; must be a macro or CLASS.FIELD'
      ) from None

  def _parse(self, text: str, source: str) -> None:
    from gin import config_parser

    statements = parsing.statements(text, source, named=self._named)
    for statement in statements:
      if isinstance(statement, config_parser.ImportStatement):
        if statement.module == '__gin__.dynamic_registration':
          raise InputError(
            f'{source}:{statement.location.line_num}: dynamic_registration: not '
            'supported; a module registers its functions, as by @gin.configurable'
          )
        modules.require([statement.module], setting=f'{source}: import of')
      if isinstance(statement, config_parser.IncludeStatement):
        self.parse_file(statement.filename, beside=source)
      elif isinstance(statement, config_parser.BindingStatement):
        self._bind(statement, source)

  def _bind(self, statement, source: str) -> None:
    flag = source.startswith('--gin.')
    origin = source if flag else f'{source}:{statement.location.line_num}'
    name, argument, scope = statement.selector, statement.arg_name, statement.scope
    if scope and name in MACRO and argument == 'value':  # NAME/macro.value = 3
      name, argument, scope = scope, '', ''
    bound = Bound(statement.value, origin)
    if name == modules.MACRO and not argument:
      named = bound.value if isinstance(bound.value, (list, tuple)) else [bound.value]
      modules.require(map(str, named), setting=f'{origin}: {name}')
    elif not argument:
      self._bind_macro(functions.scoped(scope, name), bound, flag=flag)
    elif name in CLASSES:
      if scope:
        raise InputError(
          f'{origin}: scope {scope!r}: scopes are not supported for {name}, which is '
          'there once'
        )
      legal = [field.name for field in dataclasses.fields(CLASSES[name])]
      if argument not in legal:
        raise InputError(
          f'{origin}: {name} has no field {argument!r}; must be one of '
          + ', '.join(legal)
          + did_you_mean(argument, legal)
        )
      self.bindings[name, argument] = bound
    else:
      with placed(origin):
        function = functions.find(name, also=CLASSES)
        function.check(argument)
      self.bindings[functions.scoped(scope, function.name), argument] = bound

  def _bind_macro(self, name: str, bound: Bound, *, flag: bool) -> None:
    if flag and name not in self.macros and name not in self._named:
      if field := self._unbound_field(
        name, {selector for selector, _ in self.bindings}
      ):
        raise InputError(
          f'{bound.origin}: no macro of these gin files; write --gin.{field}=VALUE'
        )
      classes = [f'{selector}.' for selector in CLASSES]
      unknown = _unknown_macro(name, self.macros, near=classes)
      raise InputError(f'{bound.origin}: {unknown}')
    self.macros[name] = bound

  def _unbound_field(self, macro: str, selectors: Iterable[str]) -> str | None:
    """The field of these selectors that a macro sets in the files of other verbs."""
    fields = (
      (selector, field)
      for selector in sorted(set(selectors) & set(CLASSES))
      for field, name in setting.macros(CLASSES[selector]).items()
      if name == macro
    )
    return next(
      ('.'.join(field) for field in fields if field not in self.bindings), None
    )

  def give(self, values: Mapping[str, Any], *, origin: str) -> None:
    """Sets those of these macros that are %gin.REQUIRED."""
    for name, value in values.items():
      bound = self.macros.get(name)
      if bound is not None and bound.value == Macro('gin.REQUIRED'):
        self.macros[name] = Bound(value, origin)

  def resolve(self, bound: Bound, what: str, *, inside: Inside = TOP) -> Bound:
    """Follows macros and references; the origin is that of the final value.

    Args:
      bound: the value as it is bound.
      what: name of what it is bound to; for errors.
      inside: the function that the value is an argument of.
    """
    value, origin = bound
    self._resolved += 1
    if self._resolved > MAX_VALUES:
      raise InputError(f'{origin}: {what}: has more than {MAX_VALUES:,} values')
    if isinstance(value, Macro):
      return self._resolve_macro(value.name, origin, what, inside=inside)
    if isinstance(value, Reference):
      if value.name not in CLASSES:
        return Bound(self._recipe(value, origin, inside=inside), origin)
      if not value.evaluate or value.scope:
        raise InputError(
          f'{origin}: {value}; must be one of '
          f'{", ".join(f"@{name}()" for name in CLASSES)}'
          + did_you_mean(value.name, CLASSES)
        )
      return Bound(self.build(value.name), origin)

    def each(items: Iterable[Any]) -> Iterator[Any]:
      for item in items:
        yield self.resolve(Bound(item, origin), what, inside=inside).value

    if isinstance(value, (list, tuple)):
      kind = type(value) if inside.function else tuple
      return Bound(kind(each(value)), origin)
    if isinstance(value, dict):
      return Bound(dict(zip(each(value), each(value.values()), strict=True)), origin)
    return bound

  def _resolve_macro(
    self, name: str, origin: str, what: str, *, inside: Inside
  ) -> Bound:
    if name == 'gin.REQUIRED':
      raise InputError(f'{what}: not set; give --gin.{what}=VALUE')
    if name not in self.macros:
      return self._constant(name, origin)
    inside = inside.enter(f'%{name}', origin)
    return self.resolve(self.macros[name], name, inside=inside)

  def _constant(self, name: str, origin: str) -> Bound:
    """The value of a constant of gin-config; of one that gin cannot write, a recipe."""
    with placed(origin):
      found = functions.constant(name)
    if found is None:
      raise InputError(f'{origin}: {_unknown_macro(name, self.macros)}')
    full, value = found
    if value is not None and type(value) not in (bool, int, float, str):
      value = Recipe('gin.constant', scope=full)
    return Bound(value, origin)

  def _recipe(self, reference: Reference, origin: str, *, inside: Inside) -> Recipe:
    """The recipe of a reference to a function, with the arguments in its scope."""
    with placed(origin):
      function = functions.find(reference.name, also=CLASSES)
    scope = reference.scope or inside.scope
    key = functions.scoped(scope, function.name)
    within = inside.enter(f'@{key}', origin)._replace(scope=scope, function=key)
    arguments = {}
    for outer in reversed(keys(key)):  # those of an inner scope win
      for (name, argument), bound in self.bindings.items():
        if name == outer:
          arguments[argument] = bound
          self._used.add((name, argument))
    values = {}
    for argument, bound in sorted(arguments.items()):
      value, at = self.resolve(bound, f'{key}.{argument}', inside=within)
      value_types.check_argument(function, key, argument, value, at)
      values[argument] = value
    return Recipe(function.name, tuple(values.items()), scope, reference.evaluate)

  def build(self, name: str) -> Any:
    """Builds the dataclass `name` from its bindings.

    Raises:
      InputError: at a missing value, a value of the wrong type, or a value that the
        dataclass refuses; each with its origin.
    """
    cls = CLASSES[name]
    if name in self._building:
      chain = ' -> '.join(f'@{each}()' for each in (*self._building, name))
      raise InputError(f'{chain}: a class must not refer to itself')
    self._building.append(name)
    try:
      values = self._values(name)
    finally:
      self._building.pop()
    for field in dataclasses.fields(cls):
      if field.default is dataclasses.MISSING and field.name not in values:
        raise InputError(f'{name}.{field.name}: not set, and it has no default')
    with self.located():
      return cls(**values)

  @contextlib.contextmanager
  def located(self) -> Iterator[None]:
    """Prefixes an error about a setting with the place where its value was given.

    The error says which setting by InputError.field; an error without one, or about a
    field that nothing binds, passes as it is.
    """
    try:
      yield
    except InputError as error:
      for selector, field in self._fields_of(error.field or ''):
        origin = self._origin(selector, field)
        if origin:
          raise InputError(f'{origin}: {error}') from None
      raise

  def _origin(self, selector: str, field: str) -> str:
    """Place where the value of a field was given; '' if nothing binds it."""
    for key in keys(selector):
      bound = followed(self.bindings.get((key, field)), self.macros)
      if bound is not None:
        return bound.origin
    return ''

  def _fields_of(self, name: str) -> list[tuple[str, str]]:
    """(selector, field) of InputError.field; of a macro, those of the built classes."""
    selector, dot, field = name.rpartition('.')
    if dot:
      return [(selector, field)]
    return [
      (cls, field)
      for cls in CLASSES
      if cls in self._built
      for field, macro in setting.macros(CLASSES[cls]).items()
      if macro == name
    ]

  def bound(self, name: str) -> dict[str, Any]:
    """Field -> value of the bindings of the dataclass `name`; {} if none is bound.

    Raises:
      InputError: at a value of the wrong type.
    """
    return self._values(name)

  def refuse_unused(self, verb: str) -> list[str]:
    """Refuses macros and bindings that `verb` does not use; call after all builds.

    A file may set known macros that another verb uses; any other macro that nothing
    refers to is a typo.

    Args:
      verb: verb of the command line, for messages.

    Returns:
      Warnings: known macros in the user's files that have no effect here.

    Raises:
      InputError: if a macro or binding has no effect; names the nearest that has one.
    """
    built = [name for name in CLASSES if name in self._built]
    for (cls, field), bound in self.bindings.items():
      if cls not in CLASSES:
        self._refuse_unreferred(cls, field, bound)
      elif cls not in self._built and not is_shipped(bound.origin):
        raise InputError(
          f'{bound.origin}: {cls}.{field} has no effect: `flan {verb}` uses '
          f'{", ".join(built)} here, and no {cls}{did_you_mean(cls, built)}'
        )
    used = self._reachable()
    warnings = []
    for name, bound in self.macros.items():
      if name in used or is_shipped(bound.origin):
        continue
      known, flag = name in known_macros(), bound.origin.startswith('--')
      if known and not flag:
        self._check_unused(name, bound)
        field = self._unbound_field(name, built)
        write = f'; write {field} = VALUE' if field else ''
        warnings.append(f'{bound.origin}: {name} has no effect on `flan {verb}`{write}')
        continue
      if not known:
        raise InputError(f'{bound.origin}: {_unknown_macro(name, used)}')
      raise InputError(
        f'{bound.origin}: {name} has no effect on `flan {verb}`'
        f'{did_you_mean(name, used) or ";"} macros in effect: {", ".join(sorted(used))}'
      )
    return warnings

  def _check_unused(self, name: str, bound: Bound) -> None:
    """Refuses the value of a macro without effect that no other verb takes either."""
    value, origin = self.resolve(bound, name)
    wrong = [
      value_types.unfit(value, cls, field)
      for cls in CLASSES.values()
      for field, macro in setting.macros(cls).items()
      if macro == name
    ]
    if wrong and all(wrong):
      raise InputError(f'{origin}: {name} = {value_types.brief(value)}; {wrong[0]}')

  def _refuse_unreferred(self, key: str, field: str, bound: Bound) -> None:
    """Refuses the binding of a function that no reference has taken."""
    if (key, field) in self._used:
      return
    near = sorted({name for name, _ in self._used})
    raise InputError(
      f'{bound.origin}: {key}.{field} has no effect: no setting refers to @{key}(), '
      'and calls in Python are not bound'
      f'{did_you_mean(key, near)}'
    )

  def _reachable(self) -> set[str]:
    """Names of the macros that the bindings refer to, directly or not."""
    found: set[str] = set()
    left = [m for bound in self.bindings.values() for m in macros_in(bound.value)]
    while left:
      name = left.pop()
      if name in self.macros and name not in found:
        found.add(name)
        left.extend(macros_in(self.macros[name].value))
    return found

  def _values(self, name: str) -> dict[str, Any]:
    """Field -> value of the bindings of a class; checks the types."""
    self._built.add(name)
    hints = typing.get_type_hints(CLASSES[name])
    values = {}
    for field in dataclasses.fields(CLASSES[name]):
      bound = self.bindings.get((name, field.name))
      if bound is None:
        continue
      self._resolved = 0
      value, origin = self.resolve(bound, f'{name}.{field.name}')
      hint = hints[field.name]
      value_types.check(f'{name}.{field.name}', value, hint, origin)
      values[field.name] = value_types.as_number(value, hint)
    return values

  def text(self, values: Any) -> str:
    """Resolved values, one per line, each with its origin: a gin file that gives them.

    The origin of a value that nothing binds is `default`.
    """
    lines = {}
    for name, value in flatten(values):
      selector, _, field = name.rpartition('.')
      origin = self._origin(selector, field) or 'default'
      if ':' in origin and not origin.startswith('--'):
        file, _, line = origin.rpartition(':')
        origin = f'{pathlib.PurePath(file).name}:{line}'
      lines[name] = f'{name} = {written(value)}  # {origin}\n'
    return ''.join(lines.values())


def load(
  files: Sequence[str], flags: Sequence[str] = (), *, search_paths: Sequence[str] = ()
) -> Config:
  """Parses gin files in order, then the command line's `NAME=VALUE` flags.

  Args:
    files: gin files, shipped or the user's.
    flags: `NAME=VALUE` of the command line.
    search_paths: folders to look for gin files in, as --gin_search_paths has them.
  """
  config = Config(search_paths)
  for file in files:
    config.parse_file(file)
  for flag in flags:
    config.parse_flag(flag)
  return config

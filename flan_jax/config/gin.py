"""gin at the edge: parse, type-check, provenance, "did you mean".

gin-config's grammar is used through its own parser. Its registry is not: gin 0.5.0
keeps global state, checks no types, and does not record where a value came from. Here
a configuration is parsed into a Config, which fills frozen dataclasses.

Supported: macros (`TRAIN_STEPS = 100`, `%TRAIN_STEPS`), `%gin.REQUIRED`, includes,
bindings (`Optimizer.learning_rate = 3e-5`) and references (`@DecoderConfig()`).
"""

import contextlib
import dataclasses
import functools
import os
import pathlib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flan_jax.config import evaluation, setting, training
from flan_jax.config import mesh as mesh_config
from flan_jax.config import optimizer as optimizer_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.decoding import Decoding
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
    Decoding,
    DecoderConfig,
  )
}
"""Selector -> settings class that gin files can bind."""

_NAME = re.compile(r'[A-Za-z_][\w/.]*')


def environment(name: str) -> str | None:
  """An environment variable; the only place outside the CLI that reads one."""
  return os.environ.get(name)


class Bound(NamedTuple):
  """A value and its origin: `file:line` or `--gin.NAME`."""

  value: Any
  origin: str


@dataclasses.dataclass(frozen=True)
class _Macro:
  name: str


@dataclasses.dataclass(frozen=True)
class _Reference:
  name: str
  evaluate: bool


def shipped() -> pathlib.Path:
  """Folder of the shipped gin files: `gin/` of a checkout, `configs/` if installed."""
  here = pathlib.Path(__file__).parents[1]
  return here / 'configs' if (here / 'configs').is_dir() else here.parent / 'gin'


def find(path: str, beside: str | None = None) -> pathlib.Path:
  """Finds a gin file: as given, beside the including file, or a shipped one.

  Raises:
    InputError: if no such file exists; names the nearest of the shipped ones.
  """
  tried = [pathlib.Path(path)]
  if beside is not None:
    tried.append(pathlib.Path(beside).parent / path)
  tried.append(shipped() / path.removeprefix('gin/'))
  for candidate in tried:
    if candidate.is_file():
      return candidate
  folder = shipped()
  names = [f'gin/{f.relative_to(folder).as_posix()}' for f in folder.rglob('*.gin')]
  raise InputError(f'gin file {path!r}: no such file{did_you_mean(path, names)}')


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


def _is_shipped(origin: str) -> bool:
  """Returns whether a value was given in a gin file that ships with the package."""
  path = pathlib.Path(origin.rpartition(':')[0]).resolve()
  return path.is_relative_to(shipped().resolve())


def _macros_in(value: Any) -> Iterator[str]:
  """Names of the macros that a parsed value refers to."""
  if isinstance(value, _Macro):
    yield value.name
  elif isinstance(value, (list, tuple)):
    for item in value:
      yield from _macros_in(item)
  elif isinstance(value, dict):
    for pair in value.items():
      yield from _macros_in(pair)


class Config:
  """A parsed configuration: macros and bindings, each with its origin."""

  def __init__(self):
    self.macros: dict[str, Bound] = {}
    self.bindings: dict[tuple[str, str], Bound] = {}
    self._named: dict[str, str] = {}
    self._built: set[str] = set()
    self._open: list[pathlib.Path] = []  # files being read, the outermost first

  def parse_file(self, path: str, *, beside: str | None = None) -> None:
    """Adds the statements of a file, with its includes in place.

    Raises:
      InputError: if it cannot be read, or includes itself.
    """
    found = find(path, beside)
    if found.resolve() in self._open:
      raise InputError(f'{beside}: include of {path!r}, which includes this file')
    try:
      text = found.read_text(encoding='utf-8')
    except UnicodeDecodeError:
      raise InputError(f'gin file {path!r}: not text; must be UTF-8') from None
    self._open.append(found.resolve())
    self._parse(text, str(found))
    self._open.pop()

  def parse_flag(self, flag: str) -> None:
    """Adds one `NAME=VALUE` of the command line; unquoted text is a string."""
    name, equals, value = flag.partition('=')
    if not equals:
      raise InputError(f'--gin.{flag}: no value; must be --gin.NAME=VALUE')
    if not _NAME.fullmatch(name):
      raise InputError(
        f'--gin.{flag}: got name {name!r}; must be --gin.NAME=VALUE, as '
        '--gin.TRAIN_STEPS=500'
      )
    try:
      self._parse(f'{name} = {value}', f'--gin.{name}')
    except SyntaxError:
      self._parse(f'{name} = {value!r}', f'--gin.{name}')

  def _parse(self, text: str, source: str) -> None:
    from gin import config_parser

    named = self._named

    class Delegate(config_parser.ParserDelegate):
      def configurable_reference(self, scoped_configurable_name, evaluate):
        return _Reference(scoped_configurable_name, evaluate)

      def macro(self, macro_name):
        named.setdefault(macro_name, source)
        return _Macro(macro_name)

    try:
      statements = list(config_parser.ConfigParser(text, Delegate()))
    except SyntaxError as error:
      if source.startswith('--gin.'):
        raise
      raise InputError(f'{source}:{error.lineno}: {error.msg}') from None
    for statement in statements:
      if isinstance(statement, config_parser.ImportStatement):
        modules.require([statement.module], setting=f'{source}: import of')
      if isinstance(statement, config_parser.IncludeStatement):
        self.parse_file(statement.filename, beside=source)
      elif isinstance(statement, config_parser.BindingStatement):
        self._bind(statement, source)

  def _bind(self, statement, source: str) -> None:
    flag = source.startswith('--gin.')
    origin = source if flag else f'{source}:{statement.location.line_num}'
    name, argument = statement.selector, statement.arg_name
    if statement.scope:
      raise InputError(f'{origin}: scope {statement.scope!r}; scopes are not supported')
    bound = Bound(statement.value, origin)
    if name == modules.MACRO and not argument:
      named = bound.value if isinstance(bound.value, (list, tuple)) else [bound.value]
      modules.require(map(str, named), setting=f'{origin}: {name}')
      return
    if not argument:
      if flag and name not in self.macros and name not in self._named:
        classes = [f'{selector}.' for selector in CLASSES]
        unknown = _unknown_macro(name, self.macros, near=classes)
        raise InputError(f'{origin}: {unknown}')
      self.macros[name] = bound
      return
    if name not in CLASSES:
      raise InputError(
        f'{origin}: unknown name {name!r}; must be one of {", ".join(CLASSES)}'
        + did_you_mean(name, CLASSES)
      )
    legal = [field.name for field in dataclasses.fields(CLASSES[name])]
    if argument not in legal:
      raise InputError(
        f'{origin}: {name} has no field {argument!r}; must be one of '
        + ', '.join(legal)
        + did_you_mean(argument, legal)
      )
    self.bindings[name, argument] = bound

  def give(self, values: Mapping[str, Any], *, origin: str) -> None:
    """Sets those of these macros that are %gin.REQUIRED."""
    for name, value in values.items():
      bound = self.macros.get(name)
      if bound is not None and bound.value == _Macro('gin.REQUIRED'):
        self.macros[name] = Bound(value, origin)

  def resolve(self, bound: Bound, what: str, *, seen: tuple[str, ...] = ()) -> Bound:
    """Follows macros and references; the origin is that of the final value."""
    value, origin = bound
    if isinstance(value, _Macro):
      if value.name == 'gin.REQUIRED':
        raise InputError(f'{what}: not set; give --gin.{what}=VALUE')
      if value.name not in self.macros:
        unknown = _unknown_macro(value.name, self.macros)
        raise InputError(f'{origin}: {unknown}')
      if value.name in seen:
        chain = ' -> '.join(f'%{name}' for name in (*seen, value.name))
        raise InputError(f'{origin}: {chain}: a macro must not refer to itself')
      seen = (*seen, value.name)
      return self.resolve(self.macros[value.name], value.name, seen=seen)
    if isinstance(value, _Reference):
      if value.name not in CLASSES or not value.evaluate:
        raise InputError(
          f'{origin}: @{value.name}; must be one of '
          f'{", ".join(f"@{name}()" for name in CLASSES)}'
          + did_you_mean(value.name, CLASSES)
        )
      return Bound(self.build(value.name), origin)
    if isinstance(value, (list, tuple)):
      items = (
        self.resolve(Bound(item, origin), what, seen=seen).value for item in value
      )
      return Bound(tuple(items), origin)
    if isinstance(value, dict):
      items = {
        key: self.resolve(Bound(item, origin), what, seen=seen).value
        for key, item in value.items()
      }
      return Bound(items, origin)
    return bound

  def build(self, name: str) -> Any:
    """Builds the dataclass `name` from its bindings.

    Raises:
      InputError: at a missing value, a value of the wrong type, or a value that the
        dataclass refuses; each with its origin.
    """
    cls = CLASSES[name]
    values = self._values(name)
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
      for key in self._fields_of(error.field or ''):
        if key in self.bindings:
          origin = self.resolve(self.bindings[key], '.'.join(key)).origin
          raise InputError(f'{origin}: {error}') from None
      raise

  def _fields_of(self, name: str) -> list[tuple[str, str]]:
    """(selector, field) of InputError.field; of a macro, those of the built classes."""
    selector, dot, field = name.partition('.')
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
      if cls not in self._built:
        raise InputError(
          f'{bound.origin}: {cls}.{field} has no effect: `flan {verb}` uses '
          f'{", ".join(built)} here, and no {cls}{did_you_mean(cls, built)}'
        )
    used = self._reachable()
    warnings = []
    for name, bound in self.macros.items():
      if name in used or _is_shipped(bound.origin):
        continue
      known, flag = name in known_macros(), bound.origin.startswith('--')
      if known and not flag:
        warnings.append(f'{bound.origin}: {name} has no effect on `flan {verb}`')
        continue
      if not known:
        raise InputError(f'{bound.origin}: {_unknown_macro(name, used)}')
      raise InputError(
        f'{bound.origin}: {name} has no effect on `flan {verb}`'
        f'{did_you_mean(name, used) or ";"} macros in effect: {", ".join(sorted(used))}'
      )
    return warnings

  def _reachable(self) -> set[str]:
    """Names of the macros that the bindings refer to, directly or not."""
    found: set[str] = set()
    left = [m for bound in self.bindings.values() for m in _macros_in(bound.value)]
    while left:
      name = left.pop()
      if name in self.macros and name not in found:
        found.add(name)
        left.extend(_macros_in(self.macros[name].value))
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
      value, origin = self.resolve(bound, f'{name}.{field.name}')
      hint = hints[field.name]
      if not fits(value, hint):
        raise InputError(
          f'{origin}: {name}.{field.name} = {value!r}; must be {describe(hint)}'
        )
      values[field.name] = float(value) if hint is float else value
    return values

  def text(self, values: Any) -> str:
    """Resolved values, one per line, each with its origin."""
    lines = []
    for name, value in flatten(values):
      cls, _, argument = name.rpartition('.')
      bound = self.bindings.get((cls.rpartition('.')[2], argument))
      origin = 'default'
      if bound is not None:
        origin = self.resolve(bound, name).origin
        if not origin.startswith('--'):
          file, _, line = origin.rpartition(':')
          origin = f'{pathlib.PurePath(file).name}:{line}'
      lines.append(f'{name} = {value!r}  # {origin}')
    return '\n'.join(lines) + '\n'


def flatten(values: Any, prefix: str | None = None) -> Iterator[tuple[str, Any]]:
  """Yields (`Run.optimizer.learning_rate`-like name, value) of nested dataclasses."""
  names = {cls: name for name, cls in CLASSES.items()}
  for field in dataclasses.fields(values):
    value = getattr(values, field.name)
    if dataclasses.is_dataclass(value):
      yield from flatten(value)
    else:
      yield f'{names[type(values)]}.{field.name}', value


def fits(value: Any, hint: Any) -> bool:
  """Returns whether a gin value has the annotated type; an int passes for a float."""
  origin = typing.get_origin(hint)
  if hint is None or hint is type(None):
    return value is None
  if origin in (typing.Union, types.UnionType):
    return any(fits(value, option) for option in typing.get_args(hint))
  if origin is tuple:
    arguments = typing.get_args(hint)
    if not isinstance(value, tuple):
      return False
    if len(arguments) == 2 and arguments[1] is Ellipsis:
      return all(fits(item, arguments[0]) for item in value)
    pairs = zip(value, arguments, strict=False)
    return len(value) == len(arguments) and all(fits(v, h) for v, h in pairs)
  if origin is Mapping:
    key_hint, item_hint = typing.get_args(hint)
    return isinstance(value, dict) and all(
      fits(key, key_hint) and fits(item, item_hint) for key, item in value.items()
    )
  if hint is float:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
  if hint is int:
    return isinstance(value, int) and not isinstance(value, bool)
  return isinstance(value, hint)


def describe(hint: Any) -> str:
  """Describes a type in words: `an integer or None`."""
  words = {int: 'an integer', float: 'a number', str: "a string, as in 'text'",
           bool: 'True or False', type(None): 'None'}  # fmt: skip
  if hint in words:
    return words[hint]
  if typing.get_origin(hint) in (typing.Union, types.UnionType):
    return ' or '.join(describe(option) for option in typing.get_args(hint))
  if typing.get_origin(hint) is tuple:
    return f'a tuple of {describe(typing.get_args(hint)[0])}'
  if typing.get_origin(hint) is Mapping:
    return f'a dict, each value {describe(typing.get_args(hint)[1])}'
  return f'@{getattr(hint, "__name__", hint)}()'


def load(files: Sequence[str], flags: Sequence[str] = ()) -> Config:
  """Parses gin files in order, then the command line's `NAME=VALUE` flags."""
  config = Config()
  for file in files:
    config.parse_file(file)
  for flag in flags:
    config.parse_flag(flag)
  return config

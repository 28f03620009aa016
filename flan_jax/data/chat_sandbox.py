"""The sandbox that renders chat templates, which come with a model from anywhere.

Jinja's sandbox keeps a template from Python's insides, but not from endless loops or
from texts and lists of any size. Here a rendering has a time limit, and every text,
list and number that it makes a maximum size.
"""

import datetime
import functools
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jinja2
from jinja2 import compiler, ext, nodes, sandbox, visitor

MAX_SECONDS = 10.0
"""Maximum CPU time of one rendering; conversations take milliseconds."""

MAX_TEXT = 1 << 22
"""Maximum characters of a text."""

MAX_ITEMS = 100_000
"""Maximum values in a list or object, those inside it included."""

MAX_NUMBER = 1 << 20
"""Maximum number that is given to a filter, or to a method of a text or list."""

_MAX_BITS = 1 << 12
_COUNTED = '_counted'
_WIDE = re.compile(r'[0-9]{5}|%[^a-zA-Z%]*[*]')
"""Part of a format that pads a value to any width."""


class Environment(sandbox.ImmutableSandboxedEnvironment):
  """Jinja's sandbox with bounds; has the additions of `transformers`."""

  intercepted_binops = frozenset(('+', '*', '**', '%'))

  def __init__(self, extensions: Iterable[type[ext.Extension]] = ()):
    super().__init__(
      trim_blocks=True,
      lstrip_blocks=True,
      optimized=False,  # constants are not computed before the clock runs
      finalize=_sized,
      extensions=[*extensions, ext.loopcontrols],
    )
    self.filters['tojson'] = _to_json
    self.filters = {name: _bounded(name, one) for name, one in self.filters.items()}
    self.filters[_COUNTED] = _Counted
    self.globals['raise_exception'] = _refuse
    self.globals['strftime_now'] = lambda form: datetime.datetime.now().strftime(form)
    del self.globals['lipsum']

  def rendered(self, template: jinja2.Template, **values: Any) -> str:
    """Renders a template.

    Raises:
      jinja2.TemplateError: if it takes too long, or makes something too large.
    """
    _clock.end = time.thread_time() + MAX_SECONDS
    return _join(template.root_render_func(template.new_context(values)))

  def call(__self, __context, __obj, *args, **kwargs):
    _tick()
    method = getattr(__obj, '__wrapped__', __obj)  # str.format is wrapped
    owner = getattr(method, '__self__', None)
    if isinstance(owner, (str, int, float, list, tuple, dict)):
      if method.__name__ == 'join':
        args = tuple(map(_listed, args))
      _check_arguments((*args, *kwargs.values()))
      _check_growth(method.__name__, owner, args)
    return _sized(super().call(__context, __obj, *args, **kwargs))

  def call_binop(self, context, operator, left, right):
    _tick()
    _check_operands(operator, left, right)
    return _sized(super().call_binop(context, operator, left, right))

  def _parse(self, source, name, filename):
    return _Loops().visit(super()._parse(source, name, filename))


class _Loops(visitor.NodeTransformer):
  """Lets every loop look at the clock."""

  def visit_For(self, node):
    self.generic_visit(node)
    node.iter = nodes.Filter(node.iter, _COUNTED, [], [], None, None)
    return node


class _Code(compiler.CodeGenerator):
  """Joins texts, and makes lists, within the bounds."""

  def visit_Concat(self, node, frame):
    self.write('environment.joined((')
    for child in node.nodes:
      self.visit(child, frame)
      self.write(', ')
    self.write('))')


def _literal(name: str) -> Callable[..., None]:
  def visit(self, node, frame):
    if getattr(node, 'ctx', 'load') != 'load':  # names that a loop sets
      return getattr(compiler.CodeGenerator, name)(self, node, frame)
    self.write('environment.sized(')
    getattr(compiler.CodeGenerator, name)(self, node, frame)
    self.write(')')

  return visit


for _name in ('visit_List', 'visit_Dict', 'visit_Tuple'):
  setattr(_Code, _name, _literal(_name))


class _Counted:
  """An iterable whose loop looks at the clock."""

  def __init__(self, values: Iterable[Any]):
    self._values = values

  def __iter__(self) -> Iterator[Any]:
    for value in self._values:
      _tick()
      yield value

  def __len__(self) -> int:
    return len(self._values)  # type: ignore[arg-type]


_clock = threading.local()


def _tick() -> None:
  if time.thread_time() > getattr(_clock, 'end', 0.0):
    raise jinja2.TemplateRuntimeError(f'it takes more than {MAX_SECONDS:g} s')


def _refuse(message: Any) -> None:
  raise jinja2.TemplateError(str(message)[:300])


def _join(texts: Iterable[Any]) -> str:
  """The texts as one, without making more than is allowed."""
  out, length = [], 0
  for text in texts:
    text = text if isinstance(text, str) else str(_sized(text))
    out.append(text)
    length += len(text)
    if length > MAX_TEXT:
      _refuse(f'a text of more than {MAX_TEXT:,} characters')
  return ''.join(out)


def _listed(values: Any) -> Any:
  """The values of an iterable, to be counted before they are joined."""
  if isinstance(values, (str, list, tuple, dict)) or not isinstance(values, Iterable):
    return values
  return list(_Counted(values))


def _sized(value: Any) -> Any:
  """The value itself, if it is not too large."""
  if isinstance(value, str):
    if len(value) > MAX_TEXT:
      _refuse(f'a text of {len(value):,} characters; at most {MAX_TEXT:,}')
  elif isinstance(value, (bytes, bytearray)):
    _refuse('bytes; must be a text')
  elif isinstance(value, int):
    if value.bit_length() > _MAX_BITS:
      _refuse(f'a number of {value.bit_length():,} bits')
  elif isinstance(value, (list, tuple, dict)):
    left, count = [value], 0
    while left:
      children = left.pop()
      count += len(children)
      if count > MAX_ITEMS:
        _refuse(f'a list or object of more than {MAX_ITEMS:,} values')
      children = children.values() if isinstance(children, dict) else children
      left += [child for child in children if isinstance(child, (list, tuple, dict))]
  return value


def _check_arguments(values: Iterable[Any]) -> None:
  for value in values:
    if isinstance(value, (int, float)) and abs(value) > MAX_NUMBER:
      _refuse(f'{value:.6g} as an argument; at most {MAX_NUMBER:,}')
    _sized(value)


def _check_operands(operator: str, left: Any, right: Any) -> None:
  """Refuses an operation whose result would be too large, before it is made."""
  sides = (left, right)
  whole = [x for x in sides if isinstance(x, int)]
  sized = [x for x in sides if isinstance(x, (str, list, tuple))]
  if operator == '*' and whole and sized and len(sized[0]) * whole[0] > MAX_TEXT:
    _refuse(f'{len(sized[0]):,} characters or values {whole[0]:.6g} times')
  if operator == '+' and len(sized) == 2 and sum(map(len, sized)) > MAX_TEXT:
    _refuse(f'a text or list of more than {MAX_TEXT:,}')
  power = operator == '**' and len(whole) == 2
  if power and abs(right) * max(1, left.bit_length()) > _MAX_BITS:
    _refuse(f'a power of more than {_MAX_BITS:,} bits')
  if operator == '%' and isinstance(left, str):
    _check_growth('format', left, ())
    _sized(right)


def _check_growth(name: str, owner: Any, args: tuple) -> None:
  """Refuses a method whose text is longer than what it is given, before it is made."""
  if name in ('format', 'format_map') and _WIDE.search(owner):
    _refuse(f'a format of any width, {owner[:40]!r}')
  length = 0
  if name == 'replace' and isinstance(owner, str) and len(args) > 1:
    length = owner.count(str(args[0])) * len(str(args[1]))
  elif name == 'join' and args and isinstance(args[0], (str, list, tuple, dict)):
    values = args[0]
    length = len(values) * len(owner)
    if not isinstance(values, str):
      length += sum(len(value) for value in values if isinstance(value, str))
  elif name in ('expandtabs', 'translate') and args:
    values = args[0].values() if isinstance(args[0], dict) else args[:1]
    sizes = [len(x) if isinstance(x, str) else x for x in values]
    length = len(owner) * max((x for x in sizes if isinstance(x, int)), default=1)
  if length > MAX_TEXT:
    _refuse(f'a text of {length:,} characters; at most {MAX_TEXT:,}')


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
  """A filter that is given, and makes, nothing too large."""
  skipped = 1 if hasattr(function, 'jinja_pass_arg') else 0

  @functools.wraps(function)
  def bounded(*args: Any, **kwargs: Any) -> Any:
    _tick()
    value, *rest = args[skipped:]
    _sized(value)
    _check_arguments((*rest, *kwargs.values()))
    if name == 'join':
      value = _listed(value)
      args = (*args[:skipped], value, *rest)
      _check_growth(name, str(rest[0]) if rest else '', (value,))
    elif isinstance(value, str):
      _check_growth(name, value, tuple(rest))
    return _sized(function(*args, **kwargs))

  return bounded


def _to_json(value: Any, indent: int | None = None) -> str:
  return json.dumps(value, ensure_ascii=False, indent=indent)


Environment.code_generator_class = _Code
Environment.concat = staticmethod(_join)  # type: ignore[assignment]
Environment.joined = staticmethod(_join)  # type: ignore[attr-defined]
Environment.sized = staticmethod(_sized)  # type: ignore[attr-defined]

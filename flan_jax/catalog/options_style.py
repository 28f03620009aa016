"""Options styles: how a prompt lists the options of an example.

A style gives the text of the OPTIONS block, and perhaps a label for each option. A
labeled option is answered by its label: in training targets, in exemplars, and where
options are ranked.
"""

import string
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flan_jax.catalog.template import options_block
from flan_jax.errors import InputError, failure
from flan_jax.runtime.named import Named

DEFAULT = 'bullets'


class Shown(NamedTuple):
  """The options of an example, as a style shows them.

  Attributes:
    block: text of the OPTIONS block; '' for none.
    labels: label of each option; () if options are answered by their text.
  """

  block: str
  labels: tuple[str, ...] = ()


_styles: Named[Callable[[Sequence[str]], Any]] = Named('options style')


def options_style(function: Any = None, *, name: str | None = None) -> Any:
  """Registers an options style: a function of the options of an example.

  It returns the text of the block, or the text and the label of each option.

  ```python
  @flan_jax.options_style
  def roman(options):
    labels = ('i', 'ii', 'iii', 'iv', 'v')[: len(options)]
    return '\\n'.join(f'{l}. {o}' for l, o in zip(labels, options)), labels
  ```

  Args:
    function: the function; None for a decorator with a name.
    name: name of the style; None for that of the function.

  Raises:
    InputError: if the name is another's.
  """
  return _styles.register(function, name=name)


@options_style
def bullets(options: Sequence[str]) -> str:
  """`OPTIONS:`, then one option a line (FLAN section 2.3)."""
  return options_block(options)


@options_style
def letters(options: Sequence[str]) -> tuple[str, list[str]]:
  """One option a line after its letter, by which it is answered."""
  labels = [_letters(i) for i in range(len(options))]
  return _lines(labels, options), labels


@options_style
def numbers(options: Sequence[str]) -> tuple[str, list[str]]:
  """One option a line after its number, by which it is answered."""
  labels = [str(i + 1) for i in range(len(options))]
  return _lines(labels, options), labels


@options_style
def none(options: Sequence[str]) -> str:
  """No options in the prompt."""
  del options
  return ''


def _letters(i: int) -> str:
  """`A` to `Z`, then `AA`, `AB`, ..."""
  more, last = divmod(i, 26)
  return (_letters(more - 1) if more else '') + string.ascii_uppercase[last]


def _lines(labels: Sequence[str], options: Sequence[str]) -> str:
  lines = [f'{label}. {option}' for label, option in zip(labels, options, strict=True)]
  return '\n'.join(['OPTIONS:', *lines])


def names() -> tuple[str, ...]:
  """Names of the registered styles."""
  return _styles.names()


def check(style: str) -> None:
  """Checks that a style is registered.

  Raises:
    InputError: if it is not; names the nearest.
  """
  _styles.get(style)


def show(style: str, options: Sequence[str]) -> Shown:
  """Shows options in a style.

  Raises:
    InputError: if there is no such style, or it returns something else than a text and
      a label for each option.
  """
  function = _styles.get(style)
  if style == DEFAULT:
    return Shown(function(options))
  try:
    made = function(tuple(options))
  except Exception as error:  # any, of a function of the user's
    what = f'options style {style!r}, {len(options)} options'
    raise failure(what, error) from error
  block: Any = made
  labels: Any = ()
  if isinstance(made, tuple) and len(made) == 2:
    block, labels = made
  labels = tuple(labels or ())
  wrong = ''
  if not isinstance(block, str):
    wrong = f'returned {made!r:.80}; must return a text, or (text, labels)'
  elif labels and not (
    len(labels) == len(options) == len({*labels})
    and all(isinstance(label, str) and label.strip() for label in labels)
  ):
    wrong = f'returned the labels {labels!r:.80}; must be one for each, all different'
  if wrong:
    raise InputError(f'options style {style!r}, {len(options)} options: {wrong}')
  return Shown(block, labels)

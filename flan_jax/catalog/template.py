"""Template: an instruction with named fields. Parse, validate, render.

Seqio tasks, the materialized store, the evaluator and `flan show` all call
`Template.render`, pure Python over strings.
"""

import dataclasses
import functools
import string
from collections.abc import Mapping, Sequence

from flan_jax.errors import InputError, did_you_mean

OPTIONS = 'OPTIONS'
"""Placeholder of the options block: `{OPTIONS}` in a template."""


def options_block(options: Sequence[str]) -> str:
  """Renders the options of a classification example (FLAN section 2.3).

  >>> print(options_block(['yes', 'no']))
  OPTIONS:
  - yes
  - no
  """
  return 'OPTIONS:\n' + '\n'.join(f'- {option}' for option in options)


@functools.cache
def parse(text: str) -> tuple[tuple[str, str | None], ...]:
  """Splits `text` into (literal, field name or None) pairs.

  Raises:
    InputError: if braces are unbalanced, or hold anything but a plain name.
  """
  try:
    parts = list(string.Formatter().parse(text))
  except ValueError as error:
    raise InputError(
      f'template {text!r}: {error}; a literal brace is written twice'
    ) from None
  for _, name, spec, conversion in parts:
    if name is not None and (not name.isidentifier() or spec or conversion):
      raise InputError(
        f'template {text!r}: field {name!r} must be a plain name, as in {{premise}}'
      )
  return tuple((literal, name) for literal, name, _, _ in parts)


def names(text: str) -> tuple[str, ...]:
  """Names of the fields that `text` uses, in order, without repeats."""
  return tuple(dict.fromkeys(name for _, name in parse(text) if name is not None))


def fill(text: str, values: Mapping[str, str]) -> str:
  """Puts `values` into the fields of `text`; a value is never parsed again.

  Raises:
    InputError: if `text` names a field that `values` lacks.
  """
  out = []
  for literal, name in parse(text):
    out.append(literal)
    if name is None:
      continue
    if name not in values:
      raise InputError(
        f'template {text!r}: no field {name!r}; fields are {sorted(values)}'
        + did_you_mean(name, values)
      )
    out.append(values[name])
  return ''.join(out)


@dataclasses.dataclass(frozen=True)
class Template:
  """One way to put a dataset's example into words.

  Attributes:
    inputs: the prompt; `{name}` is a field, `{OPTIONS}` the options block.
    targets: the target text; `{answer}` is the dataset's own answer.
    inverted: True if it asks for something else than the answer (FLAN section 2.1: up
      to three of ten). Inverted templates train and are never evaluated.
    direction: translation direction, a key of `Dataset.directions`; '' in a dataset
      without directions.
  """

  inputs: str
  targets: str = '{answer}'
  inverted: bool = False
  direction: str = ''

  @property
  def fields(self) -> tuple[str, ...]:
    """Names of the fields used, without the options block."""
    used = dict.fromkeys(names(self.inputs) + names(self.targets))
    return tuple(name for name in used if name != OPTIONS)

  @property
  def input_fields(self) -> tuple[str, ...]:
    """Names of the fields of the inputs, in order, without the options block."""
    return tuple(name for name in names(self.inputs) if name != OPTIONS)

  @property
  def kind(self) -> str:
    """A remark for readers: turned around, or the direction; '' for neither."""
    return 'turned around' if self.inverted else self.direction

  @property
  def has_options(self) -> bool:
    return OPTIONS in names(self.inputs)

  def validate(self, fields: Sequence[str], *, has_options: bool) -> None:
    """Checks the template against the fields of its dataset.

    Raises:
      InputError: if the dataset lacks a field, or an options block is used without
        options.
    """
    legal = set(fields) | {'answer'}
    for name in self.fields:
      if name not in legal:
        raise InputError(
          f'template {self.inputs!r}: no field {name!r}; fields are {sorted(legal)}'
          + did_you_mean(name, legal)
        )
    if self.has_options and not has_options:
      raise InputError(
        f'template {self.inputs!r}: {{OPTIONS}} in a dataset without options; '
        'its answer must be a Label or a Choice'
      )

  @property
  def without_options(self) -> 'Template':
    """The template without the OPTIONS block at its end."""
    if not self.has_options:
      return self
    text = self.inputs.replace(f'{{{OPTIONS}}}', '').rstrip()
    return dataclasses.replace(self, inputs=text)

  def render(
    self,
    values: Mapping[str, str],
    options: Sequence[str] = (),
    *,
    block: str | None = None,
    answer: str | None = None,
  ) -> tuple[str, str]:
    """Returns (inputs, targets) for one example's field values.

    Args:
      values: field name -> text.
      options: options of the example.
      block: text of the OPTIONS block; '' for none, None for `options_block`.
      answer: answer in the targets; None for that of `values`.
    """
    if self.has_options and block == '':
      return self.without_options.render(values, options, answer=answer)
    if self.has_options:
      shown = options_block(options) if block is None else block
      values = {**values, OPTIONS: shown}
    answered = values if answer is None else {**values, 'answer': answer}
    return fill(self.inputs, values), fill(self.targets, answered)

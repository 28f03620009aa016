"""Answers: the expected output of an example: a class, a choice or free text."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flan_jax.catalog import template
from flan_jax.catalog.fields import Clean, Record, Unlabeled, at
from flan_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Answer:
  """The expected output of one example.

  Attributes:
    text: the answer in the training target.
    options: the strings that classification ranks; empty for free text.
    gold: indices into `options` of the right ones; empty for free text.
    references: every text that counts as right; `text` is among them, or, with
      `Label.measured`, the number that `text` rounds.
    span: (first, last) character of the evidence, `last` exclusive, in the field named
      by `Evidence.field`; () if unknown.
  """

  text: str
  options: tuple[str, ...] = ()
  gold: tuple[int, ...] = ()
  references: tuple[str, ...] = ()
  span: tuple[int, ...] = ()

  @property
  def is_blank(self) -> bool:
    """True if the answer is empty, so that nothing can be measured."""
    return not self.text.strip()

  @property
  def right(self) -> list[str]:
    """Texts that a metric compares a prediction with."""
    return list(self.references) or [self.options[i] for i in self.gold] or [self.text]

  def cleaned(self, clean: Callable[[str], str]) -> 'Answer':
    """Returns the answer with every text of it cleaned."""
    references = dict.fromkeys(map(clean, self.references))
    return dataclasses.replace(
      self,
      text=clean(self.text),
      options=tuple(map(clean, self.options)),
      references=tuple(references)
      if not self.options
      else tuple(map(clean, self.references)),
    )


def class_id(value: Any) -> int | None:
  """The class that a value names; None if it names none: nothing is rounded.

  >>> class_id(1), class_id(1.0), class_id('1'), class_id(True)
  (1, 1, 1, 1)
  >>> class_id(1.9), class_id('1.9'), class_id(float('nan')), class_id(None)
  (None, None, None, None)
  """
  if isinstance(value, str):
    return int(value) if re.fullmatch(r'\s*-?[0-9]{1,18}\s*', value) else None
  try:
    found = int(value)
  except (TypeError, ValueError, OverflowError):
    return None
  return found if found == value else None


@dataclasses.dataclass(frozen=True)
class Label:
  """A class id of the record, put into words; the options are all the words.

  Attributes:
    path: path of the class id (an int or a bool) in the record.
    words: the label word of each class, in the order of the ids.
    read: turns the value into the class id, as `round` does for a score.
    measured: if True, a prediction is compared with the value itself, a number, and not
      with its label word.
  """

  path: str
  words: tuple[str, ...]
  read: Callable[[Any], int] = int
  measured: bool = False

  def __call__(self, record: Record, values: Mapping[str, str]) -> Answer:
    del values
    value = at(record, self.path)
    label = class_id(value) if self.read is int else self.read(value)
    if label == -1:
      raise Unlabeled(self.path)
    # true and false are two classes, and name none of three
    is_third = isinstance(value, bool) and self.read is int and len(self.words) != 2
    if label is None or is_third or not 0 <= label < len(self.words):
      raise InputError(
        f'label {self.path!r}: got {value!r:.40}; must be a whole number, 0 to '
        f'{len(self.words) - 1} '
        f'({", ".join(self.words)})'
      )
    word = self.words[label]
    right = f'{value:g}' if self.measured else word
    return Answer(word, self.words, (label,), (right,))


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of the example's own options, or several that are all right.

  Attributes:
    path: path of the index of the right option, or of the texts of the right ones.
    options: a path to a list of strings, or one string per option with fields in
      braces, as in `('{option1} {rest}', '{option2} {rest}')`.
    first: the index that the record gives to the first option.
    cleaning: passes every option through these, in order.
    count: number of options that an example must have, or it is dropped; None for any.
    gap: (field, mark): an option reads as that field with the mark replaced by it; None
      if the options stand by themselves.
  """

  path: str
  options: str | tuple[str, ...]
  first: int = 0
  cleaning: tuple[Clean, ...] = ()
  count: int | None = None
  gap: tuple[str, str] | None = None

  def __call__(self, record: Record, values: Mapping[str, str]) -> Answer:
    if isinstance(self.options, str):
      options = tuple(str(text) for text in at(record, self.options))
    else:
      options = tuple(template.fill(text, values) for text in self.options)
    for clean in self.cleaning:
      options = tuple(clean(option) for option in options)
    options = tuple(option.strip() for option in options)
    if self.count not in (None, len(options)):
      raise Unlabeled(f'{len(options)} options; must be {self.count}')
    gold = self._gold(at(record, self.path), options)
    if self.gap:
      field, mark = self.gap
      options = tuple(values[field].replace(mark, option) for option in options)
    right = tuple(options[index] for index in gold)
    return Answer(right[0], options, gold, right)

  def _gold(self, value: Any, options: tuple[str, ...]) -> tuple[int, ...]:
    """Indices of the right options, in the order in which the record names them."""
    if isinstance(value, (list, tuple)):
      texts = dict.fromkeys(str(text).strip() for text in value)
      gold = tuple(options.index(text) for text in texts if text in options)
      if not gold:
        raise Unlabeled(f'{self.path}: none of the options')
      return gold
    label = None if isinstance(value, bool) else class_id(value)
    if label == -1:
      raise Unlabeled(self.path)
    index = -1 if label is None else label - self.first
    if not 0 <= index < len(options):
      raise InputError(
        f'choice {self.path!r}: got {value!r:.40}; must be {self.first} to '
        f'{self.first + len(options) - 1} (the example has {len(options)} options)'
      )
    return (index,)


@dataclasses.dataclass(frozen=True)
class Text:
  """Free text.

  Attributes:
    text: a field in braces, or several, as in `'{summary}'`.
    references: path to a list of further right answers, or None.
    cleaning: passes every further answer through these, in order.
  """

  text: str
  references: str | None = None
  cleaning: tuple[Clean, ...] = ()

  def __call__(self, record: Record, values: Mapping[str, str]) -> Answer:
    text = template.fill(self.text, values)
    more: Sequence[str] = at(record, self.references) if self.references else ()
    for clean in self.cleaning:
      more = [clean(reference) for reference in more]
    references = dict.fromkeys([text, *(str(r).strip() for r in more)])
    return Answer(text, references=tuple(r for r in references if r))

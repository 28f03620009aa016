"""Fields: how a raw record becomes the strings that a template uses.

A declaration in `tasks/` gives the path of each field in the TFDS record and its
cleaning, as data; the functions below are the cleanings.
Records are plain Python: nested dicts of str, int, float, bool, and lists.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flan_jax.errors import InputError, did_you_mean

Record = Mapping[str, Any]
Clean = Callable[[Any], Any]


class Unlabeled(ValueError):
  """The example has no usable label: it is dropped and counted, not an error.

  Its label is -1, its input equals its target, or its options are not as declared.
  """


def at(record: Record, path: str) -> Any:
  """The value at `path`, as in `question/stem`; a list index is a number.

  The empty path is the whole record.
  """
  value: Any = record
  for key in path.split('/') if path else ():
    try:
      value = value[int(key)] if isinstance(value, (list, tuple)) else value[key]
    except (KeyError, IndexError, ValueError, TypeError):
      keys = sorted(value) if isinstance(value, Mapping) else type(value).__name__
      near = did_you_mean(key, map(str, value)) if isinstance(value, Mapping) else ''
      raise InputError(
        f'field {path!r}: no {key!r} in the record ({keys}){near}'
      ) from None
  return value


@dataclasses.dataclass(frozen=True, init=False)
class Field:
  """A value of the record at `path`, passed through `cleaning` in order.

  None, as files and tables may have, is an empty text.
  """

  path: str
  cleaning: tuple[Clean, ...]

  def __init__(self, path: str, *cleaning: Clean):
    object.__setattr__(self, 'path', path)
    object.__setattr__(self, 'cleaning', cleaning)

  @property
  def by_sentences(self) -> bool:
    """True if it is cut to whole sentences, and may be cut to fewer of them."""
    return any(getattr(clean, 'by_sentences', False) for clean in self.cleaning)

  @property
  def max_words(self) -> int | None:
    """Number of words that its cleaning cuts it to; None if it is not cut."""
    caps = [getattr(clean, 'max_words', None) for clean in self.cleaning]
    return min((cap for cap in caps if cap is not None), default=None)

  @property
  def paths(self) -> tuple[str, ...]:
    """Paths in the record that its first cleaning reads, beside `path`."""
    found = getattr(self.cleaning[0], 'paths', ()) if self.cleaning else ()
    return tuple('/'.join(filter(None, (self.path, path))) for path in found)

  def __call__(self, record: Record) -> str:
    value = at(record, self.path)
    for clean in self.cleaning:
      value = clean(value)
    if isinstance(value, (list, tuple)):
      raise InputError(
        f'field {self.path!r}: a list of {len(value)}; join it, as in '
        f"Field({self.path!r}, join(', '))"
      )
    if isinstance(value, Mapping):
      inside = f'{self.path}/{next(iter(value), "NAME")}'
      raise InputError(
        f'field {self.path!r}: an object of {", ".join(map(str, value))}; must be one '
        f'of its values, as {inside!r}'
      )
    return '' if value is None else str(value).strip()


_SURROGATE = re.compile('[\ud800-\udfff]')


def not_unicode(text: str) -> str:
  """Names what is wrong with a text that no file can hold, as JSON escapes; or ''."""
  found = None if text.isascii() else _SURROGATE.search(text)
  if found is None:
    return ''
  return (
    f'{found[0]!r}, half of a surrogate pair, at character {found.start() + 1:,}; must '
    'be Unicode text'
  )


def before(mark: str) -> Clean:
  """The text before the first `mark`."""
  return lambda text: text.split(mark, 1)[0]


def after(mark: str) -> Clean:
  """The text after the first `mark`."""
  return lambda text: text.split(mark, 1)[-1]


def join(separator: str) -> Clean:
  """A list of strings as one string."""
  return lambda values: separator.join(str(value).strip() for value in values)


def pick(index: int) -> Clean:
  """One element of a list."""
  return lambda values: values[index]


def replace(old: str, new: str) -> Clean:
  """Replaces every `old` by `new`."""
  return lambda text: text.replace(old, new)


def drop(pattern: str) -> Clean:
  """Removes every match of a regular expression."""
  compiled = re.compile(pattern)
  return lambda text: compiled.sub('', text)


def squeeze(text: str) -> str:
  """Runs of blanks as one blank, lines kept."""
  return '\n'.join(' '.join(line.split()) for line in text.splitlines())


def question_mark(text: str) -> str:
  """A question that ends with one question mark; a request keeps its full stop."""
  text = text.strip()
  if text.endswith(('.', '!', ':', '?"', "?'", '?)')):
    return text
  return text.rstrip(' ?') + '?'


def full_stop(text: str) -> str:
  """A sentence that ends with a full stop, if nothing else ends it."""
  text = text.strip()
  return text + '.' if text[-1:].isalnum() or text[-1:] in (')', '%') else text


def capitalized(text: str) -> str:
  """The text with a capital for its first letter."""
  text = text.lstrip()
  return text[:1].upper() + text[1:]


_FIRST_LETTER = re.compile(
  r'(?m)^(["“(]?)([a-z])|((?<!\.)[.!?])( ["“(]?| *\n["“(]?)([a-z])|(\."|\.”)( )([a-z])'
)
_ABBREVIATION = re.compile(
  r'(?i)(?:\b(?:mr|mrs|ms|dr|prof|st|jr|sr|vs|etc|approx|ca|cf|inc|ltd|co|corp|dept|fig)'
  r'|\d ?(?:in|ft|yd|oz|lbs?|tbsp|tsp|pt|qt|gal|min|hrs?|sec|cm|mm|km|kg|ml)'
  r'|\.[a-z]|\b[a-hj-z])\Z'
)
_SAID = re.compile(
  r'(?:\w+ ){0,2}\w*(?:said|says?|told|tells|asks?|asked|adds|added)\b'
)


def sentence_case(text: str) -> str:
  """The text with a capital for the first letter of every sentence and line.

  No sentence ends at a few abbreviations, at units after a number (`vs.`, `e.g.`,
  `12 oz.`), or at a quotation before `he says`.
  """

  def capital(match: re.Match[str]) -> str:
    before = text[: match.start()][-12:]
    if match[3] == '.' and _ABBREVIATION.search(before):
      return match[0]
    if match[6] and _SAID.match(text, match.end() - 1):
      return match[0]
    return match[0][:-1] + match[0][-1].upper()

  return _FIRST_LETTER.sub(capital, text)


def each(*cleaning: Clean) -> Clean:
  """Every element of a list passed through `cleaning` in order."""

  def clean(values: Sequence[Any]) -> list[Any]:
    out = list(values)
    for change in cleaning:
      out = [change(value) for value in out]
    return out

  inside = getattr(cleaning[0], 'paths', ()) if cleaning else ()
  clean.paths = tuple(f'0/{path}' for path in inside)
  return clean


def recode(table: Mapping[Any, Any]) -> Clean:
  """Maps each value to another: `recode({'cause': 'because', 'effect': 'so'})`."""

  def clean(value: Any) -> Any:
    if value not in table:
      raise InputError(f'value {value!r}: must be one of {sorted(table)}')
    return table[value]

  return clean


_MONTHS = (
  'January|February|March|April|May|June|July|August|September|October|November|'
  'December'
)
_DATE = re.compile(rf'(\d*)-({_MONTHS}|)-(\d{{1,2}})', re.IGNORECASE)


def date_in_words(text: str) -> str:
  """A date of TFDS's DROP in words: `1917-November-7` -> `7 November 1917`.

  Its year or its month may be missing. Any other text stays as it is.
  """
  found = _DATE.fullmatch(text.strip())
  if found is None or not (found[1] or found[2]):
    return text
  return ' '.join(part for part in reversed(found.groups()) if part)


def numbered(values: Sequence[Any]) -> str:
  """A list as numbered lines: `1. ...`, `2. ...`."""
  return '\n'.join(f'{i}. {" ".join(str(v).split())}' for i, v in enumerate(values, 1))


def first(max_items: int) -> Clean:
  """The first `max_items` elements; an example with an empty list is dropped."""

  def clean(values: Sequence[Any]) -> Sequence[Any]:
    if not values:
      raise Unlabeled('an empty list')
    return values[:max_items]

  return clean


def first_or(default: str) -> Clean:
  """The first element of a list, or `default` if the list is empty."""
  return lambda values: values[0] if values else default


def split(mark: str) -> Clean:
  """The pieces of a text between `mark`s, empty ones left out."""
  return lambda text: [piece.strip() for piece in text.split(mark) if piece.strip()]


def substitute(pattern: str, by: str) -> Clean:
  r"""Replaces every match of `pattern` by `by`, which may name groups, as in `\1`."""
  compiled = re.compile(pattern)
  return lambda text: compiled.sub(by, text)


def without(*marks: str) -> Clean:
  """The text itself; an example whose text holds one of `marks` is dropped."""

  def clean(text: str) -> str:
    found = [mark for mark in marks if mark in text]
    if found:
      raise Unlabeled(f'{found[0]!r} in {text!r}')
    return text

  return clean


def words_of(name: str) -> str:
  """An identifier as words: `priceRange` -> `price range`."""
  spaced = re.sub(r'(?<=[a-z])(?=[A-Z][a-z])', ' ', name.replace('_', ' '))
  return ' '.join(w if w.isupper() else w.lower() for w in spaced.split())


def attributes(text: str) -> str:
  """`name[The Mill], eatType[pub]` as lines `name = The Mill`, `eat type = pub`."""
  pairs = re.findall(r'([^,\[\]]+)\[([^\]]*)\]', text)
  return '\n'.join(f'{words_of(name)} = {value.strip()}' for name, value in pairs)


_ENCLOSED = re.compile(r'\A"([^"]*)"\Z')
_DATATYPE = re.compile(r'\A"([^"]*)"\((\w+)\)\Z')


def triples(texts: Sequence[str]) -> str:
  """WebNLG's `A_B | runwayLength | "9"` as lines `A B | runway length | 9`.

  Quotes that enclose the value or have no partner are dropped, and the datatype is set
  apart: `"10.0"(minutes)` -> `10.0 (minutes)`.
  """
  lines = []
  for text in texts:
    subject, relation, value = text.split(' | ', 2)
    value = _DATATYPE.sub(r'\1 (\2)', value.strip())
    value = _ENCLOSED.sub(r'\1', value)
    if value.endswith('"') and value.count('"') % 2:
      value = value[:-1]
    if value.count("''") == 1:
      value = value.replace("''", '')
    lines.append(' | '.join((subject, words_of(relation), value)).replace('_', ' '))
  return '\n'.join(lines)


def altered(*changes: Clean) -> Clean:
  """The text after `changes`; an example that stays the same is dropped and counted."""

  def clean(text: str) -> str:
    new = text
    for change in changes:
      new = change(new)
    if new == text:
      raise Unlabeled(f'nothing to restore in {text!r}')
    return new

  clean.paths = getattr(changes[0], 'paths', ()) if changes else ()
  return clean

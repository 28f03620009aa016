"""Extracts: fields that are made of several places of a record.

Each is the first cleaning of a Field with path '', the whole record. Its attribute
`paths` lists the paths that it reads, so that `flan_jax.catalog.tfds_features` finds
unknown ones; set it on your own functions too.
"""

import re
import string

from flan_jax.catalog.fields import Clean, Record, at
from flan_jax.errors import InputError


def cut(text: str, *, start: str | None = None, stop: str | None = None) -> Clean:
  """The field `text` between two character offsets.

  `start` and `stop` name the fields that hold the offsets; None is the text's end.
  """

  def clean(record: Record) -> str:
    lo = at(record, start) if start else None
    hi = at(record, stop) if stop else None
    return at(record, text)[lo:hi]

  clean.paths = tuple(path for path in (text, start, stop) if path)
  return clean


def marked(text: str, *, word: str) -> Clean:
  """The field `text` with asterisks around one word.

  `word` names the field that holds its position among the words, counted from 0;
  punctuation at the word stays outside: `The fish ate it.` -> `The fish ate *it*.`
  """

  def clean(record: Record) -> str:
    words = at(record, text).split()
    index = at(record, word)
    if not 0 <= index < len(words):
      raise InputError(f'field {word!r}: got {index}; must be 0 to {len(words) - 1}')
    words[index] = re.sub(r'^(\W*)(.+?)(\W*)$', r'\1*\2*\3', words[index])
    return ' '.join(words)

  clean.paths = (text, word)
  return clean


_POSSESSIVES = ('his', 'its', 'their', 'hers', 'theirs')
_NOT_A_NOUN = re.compile(
  r'\s*(?:$|[^\w\s]|(?:about|above|after|again|against|all|and|any|around|as|at|away|back|'
  r'because|before|behind|but|by|down|for|from|how|if|in|into|like|not|of|off|on|onto|'
  r'or|out|over|since|so|than|that|the|then|there|through|to|together|too|under|until|'
  r'up|what|when|where|whether|while|who|why|with|without)\b)'
)
"""Text after `her` that shows it is an object: `told her.`, `told her about it`."""


def standing_for(option: str, *, pronoun: str, text: str, end: str) -> Clean:
  """The field `option` in the form of its field `pronoun`.

  For a possessive pronoun it takes the ending: `Bill` for `his` is `Bill's`. `her` is
  possessive if a noun follows: `her boyfriend`, but `told her about it`.

  Args:
    option: the field of the noun phrase.
    pronoun: the field of the pronoun that it replaces.
    text: the field of the text in which the pronoun stands.
    end: the field of the offset at which the pronoun ends in the text.
  """

  def clean(record: Record) -> str:
    word, noun = at(record, pronoun).lower(), at(record, option).strip()
    possessive = word in _POSSESSIVES
    if word == 'her':
      possessive = not _NOT_A_NOUN.match(at(record, text)[at(record, end) :])
    if not possessive:
      return noun
    plural = word.startswith('their') and noun.endswith('s')
    return noun + ("'" if plural else "'s")

  clean.paths = (option, pronoun, text, end)
  return clean


def as_in(text: str, *, field: str) -> Clean:
  """The field `field` with the first letter in the case it has in field `text`.

  `The barman` becomes `the barman` if the text has that spelling only.
  """

  def clean(record: Record) -> str:
    value = ' '.join(at(record, field).split())
    lowered = value[:1].lower() + value[1:]
    whole = ' '.join(at(record, text).split())
    return lowered if value not in whole and lowered in whole else value

  clean.paths = (text, field)
  return clean


def spelled(text: str, *, among: str) -> Clean:
  """The field `text` without capitals throughout.

  `among` names a list of other spellings: the first that differs only in case is taken.
  Otherwise every word keeps one capital, as in `GRAY'S INN` -> `Gray's Inn`. Up to four
  letters may be an abbreviation, and stay.
  """

  def clean(record: Record) -> str:
    value = at(record, text).strip()
    if len(value) <= 4 or not value.isupper():
      return value
    value = value.strip("'")
    same = [s for s in at(record, among) if s.casefold() == value.casefold()]
    return next((s for s in same if not s.isupper()), string.capwords(value))

  clean.paths = (text, among)
  return clean

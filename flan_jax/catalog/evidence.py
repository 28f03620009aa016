"""Evidence: the place of the answer in an example's text, which truncation keeps."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flan_jax.catalog.answers import Answer
from flan_jax.catalog.fields import Clean, Field, Record, at
from flan_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
  """The field that holds the answer, and the pieces of it that must be kept.

  Only this field of a prompt that is too long is cut. The kept part holds every piece:
  the answer, or `texts`, or the slices between `start` and `stop`.

  Attributes:
    field: name of the field; its declaration does not cut it.
    start: path in the record of the answer's offset, or of one offset a piece. The
      occurrence of a piece nearest to it counts, so cleaning may move it a little. ''
      for the first occurrence.
    stop: path of the offsets at which the pieces end; `start` and `stop` then slice the
      raw text, as for a conversation with a passage for each answer.
    texts: path of a list of texts that must all be kept. For multiple choice these are
      the options, right or wrong: a cut must not tell them apart.
  """

  field: str
  start: str = ''
  stop: str = ''
  texts: str = ''

  def __post_init__(self):
    if self.stop and not self.start:
      raise InputError(f'evidence {self.field!r}: stop {self.stop!r} needs a start')
    if self.stop and self.texts:
      raise InputError(
        f'evidence {self.field!r}: stop {self.stop!r} and texts {self.texts!r}; '
        'give one of them'
      )

  def __call__(
    self,
    record: Record,
    field: Field,
    values: Mapping[str, str],
    answer: Answer,
    *,
    clean: Clean = str,
  ) -> tuple[int, ...]:
    """Finds the evidence of one example.

    Args:
      record: the raw record.
      field: declaration of the field named `field`.
      values: the fields, cleaned.
      answer: the answer of the example, cleaned.
      clean: cleaning of the dataset, for pieces that come from the record.

    Returns:
      (first, last) character of the field that must be kept, `last` exclusive; () if no
      piece is found.
    """
    text = values[self.field]
    starts = _offsets(at(record, self.start)) if self.start else []
    if self.stop:
      raw = str(at(record, field.path))
      stops = _offsets(at(record, self.stop))
      pairs = [(a, b) for a, b in zip(starts, stops, strict=True) if 0 <= a < b]
      pieces = [(clean(raw[a:b]).strip(), a) for a, b in pairs]
    elif self.texts:
      pieces = [(clean(str(piece)), 0) for piece in at(record, self.texts)]
    else:
      pieces = [(answer.text, starts[0] if starts else 0)]
    spans = [
      (found, found + len(piece))
      for piece, start in pieces
      if piece and (found := _nearest(text, piece, start)) >= 0
    ]
    if not spans:
      return ()
    return min(first for first, _ in spans), max(last for _, last in spans)


def _offsets(value: Any) -> Sequence[int]:
  return value if isinstance(value, (list, tuple)) else [value]


def _nearest(text: str, piece: str, start: int) -> int:
  """Offset nearest to `start` of `piece` as whole words in `text`; -1 if not found."""
  if start > 0 and text.startswith(piece, start):
    return start
  best = -1
  found = text.find(piece)
  while found >= 0:
    nearer = best < 0 or abs(found - start) < abs(best - start)
    if nearer and _is_whole(text, found, found + len(piece)):
      best = found
    found = text.find(piece, found + 1)
  return best


def _is_whole(text: str, first: int, last: int) -> bool:
  """True if text[first:last] cuts no word at either end."""
  before = first > 0 and text[first - 1].isalnum() and text[first].isalnum()
  after = last < len(text) and text[last - 1].isalnum() and text[last].isalnum()
  return not (before or after)

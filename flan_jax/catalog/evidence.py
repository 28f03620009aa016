"""Evidence: where in an example's text its answer stands, so that a cut can keep it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from flan_jax.catalog.answers import Answer
from flan_jax.catalog.fields import Clean, Field, Record, at
from flan_jax.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
  """The field that holds the answer, and what of it has to stay.

  A prompt that is too long is cut in this field alone. What stays holds every piece
  named here: the answer, or `texts`, or the slices between `start` and `stop`.

  Attributes:
    field: name of the field; it is not cut by its declaration.
    start: path in the record to the offset of the answer, or to one offset a piece.
      The occurrence of a piece nearest to it is taken, so cleaning may move it a
      little. '' for the first occurrence.
    stop: path to the offsets where the pieces end; with `start` they are slices of the
      raw text, as for a conversation with a passage behind each answer.
    texts: path to a list of texts that all have to stay. For multiple choice these
      are the options, right or wrong: a cut must not tell them apart.
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
      record: as it was read.
      field: declaration of the field named `field`.
      values: the fields, cleaned.
      answer: what the example expects, cleaned.
      clean: cleaning of every text of the dataset, for pieces that the record names.

    Returns:
      (first, last) character of the field that has to stay, `last` exclusive; () where
      nothing of it is found.
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
  """Where `piece` stands as whole words in `text`, nearest to `start`; -1: nowhere."""
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
  """Whether no word is cut at either end of text[first:last]."""
  before = first > 0 and text[first - 1].isalnum() and text[first].isalnum()
  after = last < len(text) and text[last - 1].isalnum() and text[last].isalnum()
  return not (before or after)

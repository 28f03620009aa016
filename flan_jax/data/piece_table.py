"""Piece table: decodes SentencePiece ids by joining bytes, faster than the library."""

from collections.abc import Sequence
from typing import Any

import numpy as np

_SPACE = '\u2581'


class PieceTable:
  """Bytes of every id of a model that decodes piece by piece.

  A model with a dummy prefix, or one that normalizes what it decodes, does not:
  `of` then gives None.
  """

  def __init__(self, processor: Any, table: Sequence[bytes]):
    self._processor = processor
    self._bytes = table

  @classmethod
  def of(cls, processor: Any) -> 'PieceTable | None':
    """The table of a model, checked id by id; None if it decodes otherwise.

    Args:
      processor: a `SentencePieceProcessor`.
    """
    ids = range(processor.vocab_size())
    pieces = processor.id_to_piece(list(ids))
    table = []
    for i, piece in zip(ids, pieces, strict=True):
      if processor.is_byte(i):
        table.append(bytes([int(piece[3:5], 16)]))
      elif processor.is_control(i) or processor.is_unknown(i):
        table.append(processor.decode([i]).encode())
      else:
        table.append(piece.replace(_SPACE, ' ').encode())
    # An incomplete character is never decoded by the table.
    whole = [i for i in ids if not (processor.is_byte(i) and table[i] >= b'\x80')]
    first = next((i for i in whole if table[i].strip()), None)
    if first is None:
      return None
    pairs = processor.decode([[first, i] for i in whole])
    alone = processor.decode([[i] for i in whole])
    for i, pair, one in zip(whole, pairs, alone, strict=True):
      if (table[first] + table[i], table[i]) != (pair.encode(), one.encode()):
        return None
    return cls(processor, table)

  def decode(self, ids: Sequence[int]) -> str:
    """Decodes ids of the vocabulary as the library does."""
    try:
      return b''.join(map(self._bytes.__getitem__, ids)).decode('utf-8')
    except UnicodeDecodeError:
      return self._processor.decode(ids)


def known_ids(batch: Sequence[np.ndarray], vocab_size: int) -> list[list[int]]:
  """Ids of each array, without those past the vocabulary; all are converted at once."""
  if not batch:
    return []
  stops = np.cumsum([len(ids) for ids in batch]).tolist()
  flat = np.concatenate(batch)
  if len(flat) and (flat.min() < 0 or flat.max() >= vocab_size):
    return [ids[(ids >= 0) & (ids < vocab_size)].tolist() for ids in batch]
  ids = flat.tolist()
  return [ids[a:b] for a, b in zip([0, *stops], stops, strict=False)]

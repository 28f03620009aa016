"""Piece table: decodes as the library does, or is not used."""

import numpy as np

from flan_jax.data.piece_table import PieceTable, known_ids


def test_any_ids_decode_as_in_the_library(kinds):
  """Incomplete characters, control tokens and blanks at the start included."""
  processor = kinds['own']._processor
  table = PieceTable.of(processor)
  assert table is not None
  draw = np.random.default_rng(0)
  for size in (0, 1, 2, 3, 5, 40):
    for _ in range(200):
      ids = draw.integers(0, processor.vocab_size(), size).tolist()
      assert table.decode(ids) == processor.decode(ids)
  for text in (' кот  на\n\n🙂 ', '▁ </s>', ''):
    ids = kinds['own'].encode(text).tolist()
    assert table.decode(ids) == processor.decode(ids) == text


def test_a_model_that_takes_blanks_off_has_no_table(kinds):
  assert PieceTable.of(kinds['dummy_prefix']._processor) is None


def test_ids_past_the_vocabulary_are_left_out():
  batch = [np.array(ids, np.int32) for ids in ([], [3, 4], [5, -1, 9, 10], [0])]
  assert known_ids(batch, 10) == [[], [3, 4], [5, 9], [0]]
  assert known_ids(batch[:2], 10) == [[], [3, 4]]
  assert known_ids([], 10) == []

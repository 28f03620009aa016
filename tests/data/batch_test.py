"""Batches: the decoder's arrays, position by position."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_jax.data import batch as batch_lib
from flan_jax.data.batch import Batch, TokenizedExample
from flan_jax.errors import InputError

EOS = 1


def example(inputs, targets):
  return TokenizedExample(np.array(inputs, np.int32), np.array(targets, np.int32))


def test_one_packed_sequence_position_by_position():
  """`10 11 EOS 20 EOS` and `12 EOS 21 22 EOS` in a sequence of 10."""
  sequence = batch_lib.assemble(
    [example([10, 11], [20]), example([12], [21, 22])],
    sequence_length=10,
    bos_id=None,
    eos_id=EOS,
  )
  table = {
    'tokens': [10, 11, EOS, 20, 12, EOS, 21, 22, 0, 0],
    'targets': [11, EOS, 20, EOS, EOS, 21, 22, EOS, 0, 0],
    'loss_mask': [0, 0, 1, 1, 0, 1, 1, 1, 0, 0],
    'segment_ids': [1, 1, 1, 1, 2, 2, 2, 2, 0, 0],
    'positions': [0, 1, 2, 3, 0, 1, 2, 3, 0, 0],
  }
  assert {name: array.tolist() for name, array in sequence._asdict().items()} == table
  dtypes = ['int32', 'int32', 'float32', 'int32', 'int32']
  assert [array.dtype.name for array in sequence] == dtypes


def test_a_sequence_with_bos():
  sequence = batch_lib.assemble(
    [example([10], [20])], sequence_length=5, bos_id=2, eos_id=EOS
  )
  assert sequence.tokens.tolist() == [2, 10, EOS, 20, 0]
  assert sequence.targets.tolist() == [10, EOS, 20, EOS, 0]
  assert sequence.loss_mask.tolist() == [0, 0, 1, 1, 0]


tokens = st.lists(st.integers(3, 99), min_size=1, max_size=9)


@given(st.lists(st.tuples(tokens, tokens), max_size=6), st.sampled_from([None, 2]))
def test_length_is_the_number_of_tokens_in_a_sequence(pairs, bos_id):
  examples = [example(*pair) for pair in pairs]
  sizes = [batch_lib.length(len(e.inputs), len(e.targets), bos_id) for e in examples]
  sequence = batch_lib.assemble(
    examples, sequence_length=sum(sizes) + 3, bos_id=bos_id, eos_id=EOS
  )
  assert np.bincount(sequence.segment_ids)[1:].tolist() == sizes
  assert sequence.loss_mask.sum() == sum(len(e.targets) + 1 for e in examples)
  answers = sequence.targets[sequence.loss_mask == 1].tolist()
  assert answers == [t for e in examples for t in (*e.targets.tolist(), EOS)]


def test_too_short_a_sequence_length_is_refused():
  with pytest.raises(InputError, match='sequence_length 4: .* must be at least 5'):
    batch_lib.assemble(
      [example([10, 11], [20, 21])], sequence_length=4, bos_id=None, eos_id=EOS
    )


def test_stacked_sequences_and_their_digests():
  one = batch_lib.assemble(
    [example([10], [20])], sequence_length=4, bos_id=None, eos_id=EOS
  )
  two = batch_lib.assemble(
    [example([11], [20])], sequence_length=4, bos_id=None, eos_id=EOS
  )
  batch = batch_lib.stack([one, two])
  assert {array.shape for array in batch} == {(2, 4)}
  second = Batch(*(array[1] for array in batch))
  assert (
    batch_lib.sequence_digest(second)
    == batch_lib.sequence_digest(two)
    != batch_lib.sequence_digest(one)
  )

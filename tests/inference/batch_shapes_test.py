"""Batches of few shapes: every packed sequence has a place, known programs are used."""

import numpy as np
import pytest

from flan_jax.config.decoder import DecoderConfig
from flan_jax.inference import batch_shapes
from flan_jax.inference.prefix_tree import PrefixTrees, ScoredSequence

SMALL = DecoderConfig(
  vocab_size=512, num_layers=2, d_model=64, d_ff=128, num_heads=2, num_kv_heads=2,
  head_dim=32,
)  # fmt: skip
LARGE = DecoderConfig(
  vocab_size=512, num_layers=48, d_model=4096, d_ff=16384, num_heads=32,
  num_kv_heads=32, head_dim=128,
)  # fmt: skip


def trees(count, length):
  rng = np.random.default_rng(length)
  sequences = [
    ScoredSequence(rng.integers(1, 500, length), np.array([7], np.int32))
    for _ in range(count)
  ]
  return PrefixTrees(sequences, whole_contexts=False)


def chosen(found, config=SMALL, known=frozenset(), **changes):
  how = {'batch_size': 8, 'sequence_length': 512, 'shards': 1} | changes
  return batch_shapes.choose(found, config=config, known=known, **how)


@pytest.mark.parametrize('shards', [1, 2, 4])
@pytest.mark.parametrize('count', [1, 5, 8, 13, 50])
def test_batches_hold_every_sequence_within_their_size(count, shards):
  for batches in batch_shapes.candidates(count, 8, shards=shards, known={4, 8, 16}):
    assert sum(batches) >= count
    assert sum(batches[:-1]) < count
    assert all(size <= 8 and size % shards == 0 for size in batches)


def test_a_small_model_uses_a_known_program_and_a_large_one_saves_padding():
  found = trees(5, 90)
  first = chosen(found)
  assert first.sequence_length < 512
  known = {(8, 128)}
  assert chosen(found, known=known).shapes == known
  assert chosen(found, config=LARGE, known=known).shapes != known


def test_the_second_dataset_needs_no_program_of_its_own():
  known = chosen(trees(24, 90)).shapes
  assert chosen(trees(23, 88), known=known).shapes <= known


def test_the_same_sequences_run_in_the_same_shapes_again():
  for count in (1, 7, 40):
    found = trees(count, 60)
    first = chosen(found)
    assert chosen(found, known=first.shapes).batches == first.batches


def test_no_batch_has_more_tokens_than_asked():
  for length in (30, 90, 200, 500):
    layout = chosen(trees(40, length))
    assert max(layout.batches) * layout.sequence_length <= 8 * 512
    assert sum(map(len, layout.packed)) == len(layout.trees)

"""Prefix trees hold every sequence, share what begins alike, and are packed whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flan_jax.errors import InputError
from flan_jax.inference import prefix_tree
from flan_jax.inference.prefix_tree import MIN_SHARED, PrefixTrees, ScoredSequence

CAPACITY = 64


def sequence(context, answer) -> ScoredSequence:
  return ScoredSequence(np.array(context, np.int32), np.array(answer, np.int32))


# Contexts of long equal stretches of tokens, so that many of them begin alike.
stretches = st.tuples(st.integers(3, 5), st.integers(1, 20))
contexts = st.lists(stretches, min_size=1, max_size=3).map(
  lambda parts: [token for token, count in parts for _ in range(count)][:40]
)
answers = st.lists(st.integers(3, 6), min_size=1, max_size=8)
scored = st.lists(st.builds(sequence, contexts, answers), min_size=1, max_size=12)


def trees_of(found: PrefixTrees, capacity: int = CAPACITY):
  places, sizes = found.cut(capacity)
  return [found.tree(p, size=int(n)) for p, n in zip(places, sizes, strict=True)]


def ancestors(tree, token: int) -> np.ndarray:
  """Places that a token of the tree attends to, itself included."""
  before = np.arange(token + 1)
  return before[tree.subtree_end[before] > token]


@given(scored, st.booleans())
def test_the_ancestors_of_a_target_are_the_tokens_before_it(sequences, whole):
  """Every sequence is in one tree; positions are depths."""
  trees = trees_of(PrefixTrees(sequences, whole_contexts=whole))
  assert sorted(i for tree in trees for i in tree.members) == [*range(len(sequences))]
  for tree in trees:
    for member, parents in zip(tree.members, tree.parents, strict=True):
      one = sequences[member]
      assert len(parents) == len(one.answer)
      for k, parent in enumerate(parents):
        path = ancestors(tree, parent)
        expected = [*one.context, *one.answer[:k]]
        assert tree.tokens[path].tolist() == expected
        assert tree.positions[path].tolist() == [*range(len(expected))]


@given(scored, st.booleans())
def test_no_tree_exceeds_the_capacity_nor_holds_a_token_without_a_sequence(
  sequences, whole
):
  for tree in trees_of(PrefixTrees(sequences, whole_contexts=whole)):
    assert len(tree) <= CAPACITY
    used = {i for parents in tree.parents for i in ancestors(tree, parents[-1])}
    assert used == set(range(len(tree)))


@given(scored)
def test_bidirectional_contexts_are_shared_whole_or_not_at_all(sequences):
  for tree in trees_of(PrefixTrees(sequences, whole_contexts=True)):
    (context,) = {tuple(sequences[i].context) for i in tree.members}
    np.testing.assert_array_equal(tree.context, np.arange(len(tree)) < len(context))
    assert tuple(tree.tokens[: len(context)]) == context


def test_the_answers_of_a_context_are_branches_of_one_trunk():
  found = [sequence([7] * 20, answer) for answer in ([3, 4, 5], [3, 4, 6], [9])]
  (tree,) = trees_of(PrefixTrees(found, whole_contexts=True))
  # The last token of an answer is predicted, never an input.
  assert tree.tokens.tolist() == [7] * 20 + [3, 4]
  assert sorted(map(len, tree.parents)) == [1, 3, 3]


@pytest.mark.parametrize(('shared', 'trees'), [(MIN_SHARED, 1), (MIN_SHARED - 1, 2)])
def test_contexts_that_begin_alike_share_a_tree_if_it_pays(shared, trees):
  found = [sequence([7] * shared + [end] * 5, [3]) for end in (8, 9)]
  assert len(trees_of(PrefixTrees(found, whole_contexts=False))) == trees
  assert len(trees_of(PrefixTrees(found, whole_contexts=True))) == 2


def test_a_sequence_longer_than_the_capacity_is_refused():
  found = PrefixTrees([sequence([7] * 20, [3, 4])], whole_contexts=False)
  assert found.max_length == 21
  with pytest.raises(InputError, match='capacity 20: a sequence has 21 tokens'):
    found.cut(20)


@given(scored)
def test_packed_trees_keep_their_tokens_and_name_every_target(sequences):
  found = PrefixTrees(sequences, whole_contexts=False)
  trees = trees_of(found)
  sizes = np.array([len(tree) for tree in trees])
  groups = prefix_tree.pack(sizes, sequence_length=CAPACITY)
  assert sorted(i for group in groups for i in group) == [*range(len(trees))]
  assert max(sizes[group].sum() for group in groups) <= CAPACITY
  packed, targets = prefix_tree.pack_trees(
    found,
    [[trees[i] for i in group] for group in groups],
    batch_size=len(groups) + 1,
    sequence_length=CAPACITY,
  )
  for b, group in enumerate(groups):
    start = 0
    for segment, tree in enumerate((trees[i] for i in group), start=1):
      at = (b, slice(start, start + len(tree)))
      for name in ('tokens', 'positions', 'context'):
        np.testing.assert_array_equal(getattr(packed, name)[at], getattr(tree, name))
      np.testing.assert_array_equal(packed.subtree_end[at] - start, tree.subtree_end)
      assert set(packed.segment_ids[at]) == {segment}
      start += len(tree)
    assert not packed.segment_ids[b, start:].any()  # padding
  assert not packed.segment_ids[len(groups)].any()
  for member, one in enumerate(sequences):
    mine = targets.member == member
    assert targets.token[mine].tolist() == one.answer.tolist()
    parents = packed.tokens.reshape(-1)[targets.parent[mine]]
    assert parents.tolist() == [one.context[-1], *one.answer[:-1]]


def test_nothing_is_packed_into_no_sequence():
  found = PrefixTrees([], whole_contexts=False)
  assert trees_of(found) == []
  assert prefix_tree.pack(np.zeros(0, np.int64), sequence_length=CAPACITY) == []
  _, targets = prefix_tree.pack_trees(found, [], batch_size=1, sequence_length=CAPACITY)
  assert all(len(part) == 0 for part in targets)

"""Prefix trees: sequences that share a beginning, stored once. numpy only.

The options of a prompt are branches of one tree, whose trunk is the prompt. Options
that begin alike share branches, and so do prompts: in a causal model a token's state
does not depend on later tokens. A tree is laid out depth first, and a token attends to
its ancestors: token k descends from token j if `j <= k < subtree_end[j]`. Positions are
depths, so they restart where branches part.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.data import packing
from flan_jax.errors import InputError

MIN_SHARED = 16
"""Minimum number of tokens that two prompts share to be put into one tree. Small trees
pack better, and into short sequences."""


class ScoredSequence(NamedTuple):
  """A context and the answer to score after it.

  Attributes:
    context: int32 [c], tokens before the answer; at least one.
    answer: int32 [m], at least one token. The last one is predicted, never an input.
  """

  context: np.ndarray
  answer: np.ndarray

  @property
  def length(self) -> int:
    """Number of input tokens."""
    return len(self.context) + len(self.answer) - 1

  @property
  def inputs(self) -> np.ndarray:
    """Input tokens, int32 [length]."""
    return np.concatenate([self.context, self.answer[:-1]])


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
  """Sequences merged where they begin alike.

  Attributes:
    members: indices of the sequences.
    parents: for each member int32 [m], the tokens of the tree that predict its answer.
    tokens: int32 [n], depth first.
    positions: int32 [n], depths.
    subtree_end: int32 [n], one past the last descendant.
    context: bool [n], True on the context of the first member.
  """

  members: tuple[int, ...]
  parents: tuple[np.ndarray, ...]
  tokens: np.ndarray
  positions: np.ndarray
  subtree_end: np.ndarray
  context: np.ndarray

  def __len__(self) -> int:
    """Number of tokens."""
    return len(self.tokens)


class PrefixTrees:
  """Sequences in an order that makes neighbors of those that begin alike.

  Attributes:
    sequences: sequences as given.
    max_length: input tokens of the longest sequence.
    order: indices of the sequences, sorted.
  """

  def __init__(self, sequences: Sequence[ScoredSequence], *, whole_contexts: bool):
    """Sorts `sequences`.

    Args:
      sequences: sequences to put into trees.
      whole_contexts: share tokens only between sequences with equal contexts; required
        if the tokens of a context attend to each other in both directions.
    """
    self.sequences = sequences
    self.max_length = max((sequence.length for sequence in sequences), default=0)
    keys = [
      (sequence.context.tobytes(), sequence.answer[:-1].tobytes())
      for sequence in sequences
    ]
    if not whole_contexts:
      keys = [(context + answer,) for context, answer in keys]
    self.order = sorted(range(len(sequences)), key=keys.__getitem__)
    # Tokens that each sequence shares with its predecessor in that order. Equal
    # contexts are shared whole, so the options of a prompt always stay together.
    self._shared = [0] * len(sequences)
    self._same_context = [False] * len(sequences)
    for place in range(1, len(sequences)):
      first, second = (sequences[i] for i in self.order[place - 1 : place + 1])
      same = np.array_equal(first.context, second.context)
      self._same_context[place] = same
      if same or not whole_contexts:
        self._shared[place] = _common_prefix(first.inputs, second.inputs)

  def cut(self, capacity: int) -> tuple[list[range], np.ndarray]:
    """Cuts the order into trees of at most `capacity` tokens.

    Returns:
      The places of each tree in the order, and its tokens, int64 [trees].

    Raises:
      InputError: a sequence is longer than `capacity`.
    """
    if self.max_length > capacity:
      raise InputError(
        f'capacity {capacity}: a sequence has {self.max_length} tokens; must be at '
        f'least {self.max_length}'
      )
    starts, sizes = [], []
    for place, index in enumerate(self.order):
      length, shared = self.sequences[index].length, self._shared[place]
      joins = self._same_context[place] or shared >= MIN_SHARED
      if joins and sizes[-1] + length - shared <= capacity:
        sizes[-1] += length - shared
      else:
        starts.append(place)
        sizes.append(length)
    ranges = map(range, starts, [*starts[1:], len(self.order)])
    return list(ranges), np.array(sizes, np.int64)

  def tree(self, places: range, *, size: int) -> Tree:
    """Builds the tree of consecutive places of the order; arguments from `cut`."""
    members = tuple(self.order[place] for place in places)
    tokens = np.empty(size, np.int32)
    positions = np.empty(size, np.int32)
    subtree_end = np.empty(size, np.int32)
    context = np.zeros(size, bool)
    context[: len(self.sequences[members[0]].context)] = True
    # The latest sequence: its token at each depth.
    branch = np.empty(self.max_length, np.int32)
    parents = []
    filled = depth = 0
    for place, index in zip(places, members, strict=True):
      sequence = self.sequences[index]
      shared = self._shared[place] if filled else 0
      subtree_end[branch[shared:depth]] = filled
      depth = sequence.length
      added = slice(filled, filled + depth - shared)
      tokens[added] = sequence.inputs[shared:]
      positions[added] = np.arange(shared, depth)
      branch[shared:depth] = np.arange(added.start, added.stop)
      filled = added.stop
      parents.append(branch[len(sequence.context) - 1 : depth].copy())
    subtree_end[branch[:depth]] = filled
    return Tree(members, tuple(parents), tokens, positions, subtree_end, context)


def _common_prefix(first: np.ndarray, second: np.ndarray) -> int:
  """Number of leading tokens that two sequences share."""
  n = min(len(first), len(second))
  differ = np.flatnonzero(first[:n] != second[:n])
  return int(differ[0]) if len(differ) else n


class PackedTrees(NamedTuple):
  """Trees packed into sequences, as the arrays of a decoder's batch: [B, L] each.

  Attributes:
    tokens: int32; 0 in padding.
    positions: int32, depth in the tree.
    segment_ids: int32, 1, 2, ... per tree of the sequence; 0 in padding.
    subtree_end: int32, one past the last place of the sequence that descends from the
      token.
    context: bool, True on the context of each tree's first member.
  """

  tokens: np.ndarray
  positions: np.ndarray
  segment_ids: np.ndarray
  subtree_end: np.ndarray
  context: np.ndarray


class Targets(NamedTuple):
  """Tokens to predict, each with the token that predicts it.

  Attributes:
    member: int32 [E], index of the scored sequence; its targets are together and in
      order.
    parent: int32 [E], b * L + place of the token that predicts, in packed sequence b.
    token: int32 [E], token to predict.
  """

  member: np.ndarray
  parent: np.ndarray
  token: np.ndarray


def pack(lengths: np.ndarray, *, sequence_length: int) -> list[list[int]]:
  """Assigns trees to packed sequences, best-fit decreasing; one list a sequence."""
  sequence_of = packing.best_fit(lengths, sequence_length)
  out: list[list[int]] = [[] for _ in range(int(sequence_of.max(initial=-1)) + 1)]
  for tree, sequence in enumerate(sequence_of.tolist()):
    out[sequence].append(tree)
  return out


def pack_trees(
  prefix_trees: PrefixTrees,
  trees: Sequence[Sequence[Tree]],
  *,
  batch_size: int,
  sequence_length: int,
) -> tuple[PackedTrees, Targets]:
  """Lays trees into the packed sequences of a batch.

  Args:
    prefix_trees: source of the trees.
    trees: trees of each packed sequence; they must fit.
    batch_size: B; sequences without trees are padding.
    sequence_length: L.
  """
  shape = (batch_size, sequence_length)
  packed = PackedTrees(
    tokens=np.zeros(shape, np.int32),
    positions=np.zeros(shape, np.int32),
    segment_ids=np.zeros(shape, np.int32),
    subtree_end=np.zeros(shape, np.int32),
    context=np.zeros(shape, bool),
  )
  member, parent, token = [], [], []
  for b, some in enumerate(trees):
    start = 0
    for segment, tree in enumerate(some, start=1):
      at = (b, slice(start, start + len(tree)))
      packed.tokens[at] = tree.tokens
      packed.positions[at] = tree.positions
      packed.segment_ids[at] = segment
      packed.subtree_end[at] = tree.subtree_end + start
      packed.context[at] = tree.context
      for index, places in zip(tree.members, tree.parents, strict=True):
        member.append(np.full(len(places), index, np.int32))
        parent.append(places + (b * sequence_length + start))
        token.append(prefix_trees.sequences[index].answer)
      start += len(tree)
  nothing = np.zeros(0, np.int32)
  joined = (
    np.concatenate(parts) if parts else nothing for parts in (member, parent, token)
  )
  return packed, Targets(*joined)

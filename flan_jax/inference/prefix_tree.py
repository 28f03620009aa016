"""Trees: sequences that begin alike, with what they share laid down once. numpy only.

The options of a prompt are branches of one tree, whose trunk is the prompt; options
that begin alike share branches, and so do prompts, since a causal model reads a token
the same way whatever comes after. A tree is laid out depth first, and a token may see
those that it descends from: token k descends from token j where `j <= k < ends[j]`.
Positions are depths, so that they restart where branches part.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from flan_jax.data import packing
from flan_jax.errors import InputError

SHARED = 16
"""Fewest tokens that two prompts must share to grow on one tree. Small trees pack
better, and in short rows."""


class Path(NamedTuple):
  """A sequence whose answer is to be scored.

  Attributes:
    context: int32 [c], what the answer follows; one token or more.
    answer: int32 [m], one token or more. Its last token is predicted and never read.
  """

  context: np.ndarray
  answer: np.ndarray

  @property
  def length(self) -> int:
    """Tokens that are read."""
    return len(self.context) + len(self.answer) - 1

  @property
  def read(self) -> np.ndarray:
    """int32 [length]."""
    return np.concatenate([self.context, self.answer[:-1]])


@dataclasses.dataclass(frozen=True, eq=False)
class Tree:
  """Paths laid over each other.

  Attributes:
    members: indices of the paths.
    parents: for each member int32 [m], the tokens of the tree that predict its answer.
    tokens: int32 [n], depth first.
    positions: int32 [n], depths.
    ends: int32 [n], one past the last descendant.
    context: bool [n], True on what belongs to the context of the first member.
  """

  members: tuple[int, ...]
  parents: tuple[np.ndarray, ...]
  tokens: np.ndarray
  positions: np.ndarray
  ends: np.ndarray
  context: np.ndarray

  def __len__(self) -> int:
    """Tokens."""
    return len(self.tokens)


class Grove:
  """Paths in the order in which those that begin alike are neighbors.

  Attributes:
    paths: those given.
    longest: tokens of the longest of them.
    order: indices of the paths, sorted.
  """

  def __init__(self, paths: Sequence[Path], *, whole_contexts: bool):
    """Sorts `paths`.

    Args:
      paths: to be laid into trees.
      whole_contexts: paths may share tokens only if their contexts are equal: so it
        must be where the tokens of a context see each other both ways.
    """
    self.paths = paths
    self.longest = max((path.length for path in paths), default=0)
    keys = [(path.context.tobytes(), path.answer[:-1].tobytes()) for path in paths]
    if not whole_contexts:
      keys = [(context + answer,) for context, answer in keys]
    self.order = sorted(range(len(paths)), key=keys.__getitem__)
    # Tokens that each path shares with the one before it in that order; of equal
    # contexts, all of them, so that options always stay together.
    self._shared = [0] * len(paths)
    self._same = [False] * len(paths)
    for place in range(1, len(paths)):
      first, second = (paths[i] for i in self.order[place - 1 : place + 1])
      same = np.array_equal(first.context, second.context)
      self._same[place] = same
      if same or not whole_contexts:
        self._shared[place] = _in_common(first.read, second.read)

  def cut(self, capacity: int) -> tuple[list[range], np.ndarray]:
    """Cuts the order into trees of at most `capacity` tokens.

    Returns:
      The places of each tree in the order, and its tokens, int64 [trees].

    Raises:
      InputError: a path is longer than that.
    """
    if self.longest > capacity:
      raise InputError(
        f'capacity {capacity}: a path has {self.longest} tokens; must be at least '
        f'{self.longest}'
      )
    starts, sizes = [], []
    for place, index in enumerate(self.order):
      length, shared = self.paths[index].length, self._shared[place]
      joins = self._same[place] or shared >= SHARED
      if joins and sizes[-1] + length - shared <= capacity:
        sizes[-1] += length - shared
      else:
        starts.append(place)
        sizes.append(length)
    ranges = map(range, starts, [*starts[1:], len(self.order)])
    return list(ranges), np.array(sizes, np.int64)

  def tree(self, places: range, *, size: int) -> Tree:
    """The tree of consecutive places of the order, of `size` tokens, as `cut` says."""
    members = tuple(self.order[place] for place in places)
    tokens = np.empty(size, np.int32)
    positions = np.empty(size, np.int32)
    ends = np.empty(size, np.int32)
    context = np.zeros(size, bool)
    context[: len(self.paths[members[0]].context)] = True
    trail = np.empty(self.longest, np.int32)  # of the latest path: token at each depth
    parents = []
    filled = depth = 0
    for place, index in zip(places, members, strict=True):
      path = self.paths[index]
      shared = self._shared[place] if filled else 0
      ends[trail[shared:depth]] = filled
      depth = path.length
      grown = slice(filled, filled + depth - shared)
      tokens[grown] = path.read[shared:]
      positions[grown] = np.arange(shared, depth)
      trail[shared:depth] = np.arange(grown.start, grown.stop)
      filled = grown.stop
      parents.append(trail[len(path.context) - 1 : depth].copy())
    ends[trail[:depth]] = filled
    return Tree(members, tuple(parents), tokens, positions, ends, context)


def _in_common(first: np.ndarray, second: np.ndarray) -> int:
  """How many tokens two sequences begin alike."""
  n = min(len(first), len(second))
  differ = np.flatnonzero(first[:n] != second[:n])
  return int(differ[0]) if len(differ) else n


class Forest(NamedTuple):
  """Trees packed into rows, as the arrays a decoder reads: [B, L] each.

  Attributes:
    tokens: int32; 0 in padding.
    positions: int32, depth in the tree.
    segment_ids: int32, 1, 2, ... per tree of the row; 0 in padding.
    ends: int32, one past the last place of the row that descends from the token.
    context: bool, True on the context of the first path of each tree.
  """

  tokens: np.ndarray
  positions: np.ndarray
  segment_ids: np.ndarray
  ends: np.ndarray
  context: np.ndarray


class Edges(NamedTuple):
  """What is to be predicted after which token.

  Attributes:
    member: int32 [E], the path that an edge belongs to; edges of a path are together,
      in order.
    parent: int32 [E], row * L + place of the token that predicts.
    token: int32 [E], what it predicts.
  """

  member: np.ndarray
  parent: np.ndarray
  token: np.ndarray


def pack(lengths: np.ndarray, *, sequence_length: int) -> list[list[int]]:
  """Best-fit decreasing: the trees of each row."""
  row_of = packing.best_fit(lengths, sequence_length)
  out: list[list[int]] = [[] for _ in range(int(row_of.max(initial=-1)) + 1)]
  for index, row in enumerate(row_of.tolist()):
    out[row].append(index)
  return out


def plant(
  grove: Grove, trees: Sequence[Sequence[Tree]], *, rows: int, sequence_length: int
) -> tuple[Forest, Edges]:
  """Lays trees into rows.

  Args:
    grove: that the trees are of.
    trees: of each row; they must fit.
    rows: B; those for which there are no trees are padding.
    sequence_length: L.
  """
  shape = (rows, sequence_length)
  forest = Forest(
    tokens=np.zeros(shape, np.int32),
    positions=np.zeros(shape, np.int32),
    segment_ids=np.zeros(shape, np.int32),
    ends=np.zeros(shape, np.int32),
    context=np.zeros(shape, bool),
  )
  member, parent, token = [], [], []
  for row, some in enumerate(trees):
    start = 0
    for segment, tree in enumerate(some, start=1):
      at = (row, slice(start, start + len(tree)))
      forest.tokens[at] = tree.tokens
      forest.positions[at] = tree.positions
      forest.segment_ids[at] = segment
      forest.ends[at] = tree.ends + start
      forest.context[at] = tree.context
      for index, places in zip(tree.members, tree.parents, strict=True):
        member.append(np.full(len(places), index, np.int32))
        parent.append(places + (row * sequence_length + start))
        token.append(grove.paths[index].answer)
      start += len(tree)
  nothing = np.zeros(0, np.int32)
  joined = (
    np.concatenate(parts) if parts else nothing for parts in (member, parent, token)
  )
  return forest, Edges(*joined)

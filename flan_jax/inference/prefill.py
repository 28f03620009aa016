"""Prefill of waiting prompts: packed, and each beginning that they share once.

Prompts are merged into prefix trees (prefix_tree), and trees packed into sequences, as
for log-likelihoods. A slot of the cache then gets the keys and values of its prompt's
tokens, wherever they lie.
"""

import collections
import functools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import jax
import numpy as np

from flan_jax.config.decoder import DecoderConfig
from flan_jax.inference import batch_shapes, prefix_tree, sampling
from flan_jax.inference.prefix_tree import PackedTrees, ScoredSequence, Tree
from flan_jax.model import kv_cache
from flan_jax.model.decoder import Decoder
from flan_jax.model.kv_cache import Cache

_LENGTH = 256
"""Length that short prompts may be packed to: beyond it, attention to tokens of other
prompts, which is masked, costs more than padding."""

_NO_ANSWER = np.zeros(1, np.int32)
"""The token after a prompt, which is not an input."""

_compiled: dict[DecoderConfig, set[batch_shapes.Shape]] = collections.defaultdict(set)
"""Shapes whose programs are compiled."""


class Filled(NamedTuple):
  """Packed prompts after their forward pass.

  Attributes:
    hidden_RxLxD: normed states of their tokens.
    cache: their keys and values, R sequences with L slots: each token in its place.
  """

  hidden_RxLxD: jax.Array
  cache: Cache


@functools.partial(jax.jit, static_argnames=('config',))
def forward(params: Any, packed: PackedTrees, *, config: DecoderConfig) -> Filled:
  """Runs packed prompts through the model.

  Args:
    params: parameters of `Decoder(config)`.
    packed: arrays [R, L]. If config.attention is 'prefix', the prompts of a tree must
      be equal.
    config: model config.
  """
  R, L = packed.tokens.shape
  found = Decoder(config).apply(
    {'params': params},
    packed.tokens,
    positions_BxL=packed.positions,
    segment_ids_BxL=packed.segment_ids,
    prefix_BxL=packed.context if config.attention == 'prefix' else None,
    subtree_end_BxL=packed.subtree_end,
    cache=kv_cache.init(config, batch=R, length=L, by_layer=not config.scan_layers),
    method='hidden',
  )
  return Filled(*cast(tuple[jax.Array, Cache], found))


class Prefilled(NamedTuple):
  """Place of a prompt in `Filled`.

  Attributes:
    prompt: index of the prompt.
    row: its packed sequence.
    places: int64 [n], its tokens there, in order.
    alone: whether no other prompt is in that sequence.
  """

  prompt: int
  row: int
  places: np.ndarray
  alone: bool


class _Row(NamedTuple):
  """Trees of a packed sequence."""

  trees: Sequence[Tree]
  longest: int  # tokens of a prompt

  @property
  def prompts(self) -> int:
    return sum(len(tree.members) for tree in self.trees)


class WaitingPrompts:
  """Prompts in packed sequences, those with the longest prompts first.

  Attributes:
    left: number of prompts that wait.
    computed: tokens of the batches that were taken, padding included.
    unpadded: tokens of those, without padding.
  """

  def __init__(
    self,
    sequences: Sequence[np.ndarray],
    *,
    config: DecoderConfig,
    batch_size: int,
    shards: int,
    length: int | None = None,
  ):
    """Packs the prompts.

    Args:
      sequences: tokens of each prompt, int32 [n].
      config: model config.
      batch_size: packed sequences of a batch, if they are as long as the longest
        prompt, or as 256 tokens.
      shards: parts of the mesh, which divide every batch.
      length: length of the packed sequences; None for the cheapest.
    """
    self._sequences = sequences
    self._trees = prefix_tree.PrefixTrees(
      [ScoredSequence(sequence, _NO_ANSWER) for sequence in sequences],
      whole_contexts=config.attention == 'prefix',
    )
    padded = sampling.padded_length
    if length is None:
      short = min(_LENGTH, padded(sum(map(len, sequences))))
      known = _compiled[config]
      layout = batch_shapes.choose(
        self._trees,
        config=config,
        batch_size=batch_size,
        sequence_length=max(padded(self._trees.max_length), short),
        shards=shards,
        known=known,
      )
      known |= layout.shapes
      self._length, self._sizes = layout.sequence_length, layout.batches
      trees, sizes, packed = layout[:3]
    else:
      trees, sizes = self._trees.cut(length)
      packed = prefix_tree.pack(sizes, sequence_length=length)
      self._length, self._sizes = length, [shards]
    rows = [
      self._row(self._trees.tree(trees[i], size=int(sizes[i])) for i in some)
      for some in packed
    ]
    self._rows = sorted(rows, key=lambda row: -row.longest)
    self.left = len(sequences)
    self.computed = self.unpadded = 0

  def _row(self, trees: Iterable[Tree]) -> _Row:
    trees = list(trees)
    members = [member for tree in trees for member in tree.members]
    return _Row(trees, max(len(self._sequences[member]) for member in members))

  @property
  def longest(self) -> int:
    """Tokens of the longest prompt that waits."""
    return max((row.longest for row in self._rows), default=0)

  def put_alone(self, prompt: int) -> None:
    """Puts a prompt back, into a packed sequence of its own."""
    place = self._trees.order.index(prompt)
    size = len(self._sequences[prompt])
    self._rows.append(self._row([self._trees.tree(range(place, place + 1), size=size)]))
    self.left += 1

  def take(self) -> tuple[PackedTrees, list[Prefilled]]:
    """Takes the next batch: its arrays, and its prompts, the longest first."""
    size = self._sizes.pop(0) if len(self._sizes) > 1 else self._sizes[0]
    rows, self._rows = self._rows[:size], self._rows[size:]
    packed, targets = prefix_tree.pack_trees(
      self._trees,
      [row.trees for row in rows],
      batch_size=size,
      sequence_length=self._length,
    )
    found = []
    ends = zip(targets.member.tolist(), targets.parent.tolist(), strict=True)
    for prompt, end in ends:
      row, last = divmod(end, self._length)
      places = np.flatnonzero(packed.subtree_end[row, : last + 1] > last)
      found.append(Prefilled(prompt, row, places, rows[row].prompts == 1))
    self.left -= len(found)
    self.computed += packed.tokens.size
    self.unpadded += sum(len(tree) for row in rows for tree in row.trees)
    return packed, sorted(found, key=lambda prefilled: -len(prefilled.places))

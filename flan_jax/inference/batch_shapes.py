"""Batch shapes of packed prefix trees: few, so that few programs are compiled.

A program of a shape that has run costs nothing to compile. `choose` weighs what a new
one costs against the padding that a known one takes.
"""

from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

import jax
import numpy as np

from flan_jax.config.decoder import DecoderConfig, flops_per_token
from flan_jax.inference import prefix_tree
from flan_jax.inference.prefix_tree import PrefixTrees
from flan_jax.inference.sampling import padded_length

Shape = tuple[int, int]
"""Packed sequences of a batch, and their length."""

_MIN_LENGTH = 64
"""Minimum length of a packed sequence: below it there is little attention to save."""

_COMPILE_FLOPS = {'cpu': 1.5e11}
"""FLOPs that take as long as one program to compile: two seconds of a CPU core."""

_COMPILE_FLOPS_ELSEWHERE = 1e15
"""The same on other devices: ten seconds of an accelerator."""

_MIN_FLOPS = 3e7
"""Minimum FLOPs of a token: in a small model, other work than products takes longer."""


class Layout(NamedTuple):
  """Assignment of trees to packed sequences, and the shapes of the batches.

  Attributes:
    trees: places of each tree, as PrefixTrees.cut returns them.
    sizes: tokens of each tree.
    packed: trees of each packed sequence.
    batches: packed sequences of each batch.
    sequence_length: length of a packed sequence.
  """

  trees: Sequence[range]
  sizes: np.ndarray
  packed: list[list[int]]
  batches: list[int]
  sequence_length: int

  @property
  def shapes(self) -> set[Shape]:
    """Shapes of the batches."""
    return {(size, self.sequence_length) for size in self.batches}

  def places(self, trees: Sequence[int]) -> list[int]:
    """Places of all sequences of some trees."""
    return [place for i in trees for place in self.trees[i]]


def choose(
  prefix_trees: PrefixTrees,
  *,
  config: DecoderConfig,
  batch_size: int,
  sequence_length: int,
  shards: int,
  known: Set[Shape],
) -> Layout:
  """Chooses the cheapest layout: its products, and the programs to compile for it.

  Args:
    prefix_trees: trees to lay out; none is longer than `sequence_length`.
    config: model config.
    batch_size: packed sequences of a batch at `sequence_length`; at most as many tokens
      are in a batch of other shapes.
    sequence_length: maximum length of a packed sequence.
    shards: parts of the mesh, which divide every batch.
    known: shapes whose programs are compiled.
  """
  head = 2 * config.vocab_size * config.d_model
  compiled = _COMPILE_FLOPS.get(jax.default_backend(), _COMPILE_FLOPS_ELSEWHERE)
  best = None
  for length in sorted({*_lengths(sequence_length), sequence_length}):
    if length < prefix_trees.max_length:
      continue
    trees, sizes = prefix_trees.cut(length)
    packed = prefix_tree.pack(sizes, sequence_length=length)
    max_size = max(1, batch_size * sequence_length // length // shards) * shards
    flops = max(_MIN_FLOPS, flops_per_token(config, length).forward - head)
    sizes_known = {size for size, known_length in known if known_length == length}
    for batches in candidates(len(packed), max_size, shards=shards, known=sizes_known):
      layout = Layout(trees, sizes, packed, batches, length)
      cost = sum(batches) * length * flops
      cost += len(layout.shapes - known) * compiled
      if best is None or cost < best[0]:
        best = cost, layout
  assert best is not None  # the greatest length holds every tree
  return best[1]


def candidates(
  count: int, max_size: int, *, shards: int, known: Set[int]
) -> Iterator[list[int]]:
  """Yields ways to run `count` packed sequences in batches of `max_size` at most.

  Each is a list of batch sizes: those with little padding, all of one size, and only
  sizes in `known`.
  """
  yield in_powers(count, max_size, shards=shards)
  batches = -(-count // max_size)
  size = -(-count // (batches * shards)) * shards
  yield [size] * batches
  usable = sorted(size for size in known if size <= max_size)
  if usable:
    out, rest = [], count
    while rest > 0:
      fitting = [size for size in usable if size <= rest]
      above = [size for size in usable if size >= rest]
      out.append(above[0] if above else fitting[-1])
      rest -= out[-1]
    yield out


def in_powers(count: int, max_size: int, *, shards: int) -> list[int]:
  """Sizes of the batches: `max_size`, and for the rest up to three powers of two."""
  whole, rest = divmod(count, max_size)
  out = [max_size] * whole
  for last in (False, False, True):
    if rest <= 0:
      break
    size = shards * power_of_two(rest // shards)
    if last and size < rest:
      size *= 2
    out.append(min(size, max_size))
    rest -= out[-1]
  return out


def power_of_two(number: int) -> int:
  """Returns the largest power of two that is at most `number`."""
  return 1 << (max(1, number).bit_length() - 1)


def _lengths(stop: int) -> Iterator[int]:
  """Yields the lengths of `padded_length` from _MIN_LENGTH to below `stop`."""
  length = _MIN_LENGTH
  while length < stop:
    yield length
    length = padded_length(length + 1)

"""Likelihood: the log-probability of answers, given what they follow.

Paths are laid into trees, trees packed into rows, rows read in batches; then logits
are computed after the tokens that predict an answer, and after no others.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from flan_jax.config.decoder import DecoderConfig, flops_per_token
from flan_jax.inference import prefix_tree
from flan_jax.inference.prefix_tree import Edges, Forest, Grove, Path
from flan_jax.inference.sampling import (
  empty_cache,
  padded_length,
  placed,
  replicated,
  shards,
)
from flan_jax.model.decoder import Decoder
from flan_jax.model.kv_cache import Cache

_SHORTEST = 64
"""Rows are not made shorter than this: there is little attention left to save."""

_LOGITS = 2**25
"""Most logits computed together, so that memory stays bounded: 128 MiB."""

_PREDICTIONS = 128
"""Most tokens whose logits are computed together: few, since those of the last ones are
padded to a power of two, and enough to make up for reading the vocabulary."""

Progress = Callable[[int, int], None]
"""Called with (sequences done, sequences in all)."""


@functools.partial(jax.jit, static_argnames=('config', 'kernel'))
def read_forest(
  params: Any, forest: Forest, *, config: DecoderConfig, kernel: bool = False
) -> jax.Array:
  """The states [B, L, D] of a forest's tokens, for `predict`.

  Args:
    params: of `Decoder(config)`.
    forest: arrays [B, L]. If config.attention is 'prefix', all paths of a tree must
      have the same context.
    config: of the model.
    kernel: whether attention is one TPU kernel, if the model is causal and without
      windows; on one device, since nothing here spreads a kernel over a mesh.
  """
  prefix = config.attention == 'prefix'
  kernel = kernel and not prefix and config.window is None
  return Decoder(config).apply(
    {'params': params},
    forest.tokens,
    positions_BxL=forest.positions,
    segment_ids_BxL=forest.segment_ids,
    prefix_BxL=forest.context if prefix else None,
    subtree_end_BxL=forest.ends,
    tree_kernel=kernel,
    method='hidden',
  )


@functools.partial(jax.jit, static_argnames=('config',), donate_argnames=('cache',))
def read_part(
  params: Any,
  tokens_BxL: jax.Array,
  positions_BxL: jax.Array,
  segment_ids_BxL: jax.Array,
  prefix_BxL: jax.Array | None,
  cache: Cache,
  *,
  config: DecoderConfig,
) -> tuple[jax.Array, Cache]:
  """The states [B, L, D] of the next tokens of B sequences, and their new cache."""
  return Decoder(config).apply(
    {'params': params},
    tokens_BxL,
    positions_BxL=positions_BxL,
    segment_ids_BxL=segment_ids_BxL,
    prefix_BxL=prefix_BxL,
    cache=cache,
    method='hidden',
  )


@functools.partial(jax.jit, static_argnames=('config', 'sharding'))
def predict(
  params: Any,
  hidden_BxLxD: jax.Array,
  parents_P: jax.Array,
  nth_E: jax.Array,
  tokens_E: jax.Array,
  *,
  config: DecoderConfig,
  sharding: NamedSharding | None = None,
) -> jax.Array:
  """Log-probability of a token after another, float32 [E], in nats.

  Logits are computed after P tokens alone: those of a whole batch would cost more
  than reading it where the vocabulary is large.

  Args:
    params: of `Decoder(config)`.
    hidden_BxLxD: of `read_forest`.
    parents_P: int32, row * L + place of the tokens that predict.
    nth_E: int32, which of those P each prediction follows.
    tokens_E: int32, what is predicted.
    config: of the model.
    sharding: of the batch, where there is a mesh; the result is on every device.
  """
  hidden_PxD = hidden_BxLxD.reshape(-1, hidden_BxLxD.shape[-1])[parents_P]
  if sharding is not None:
    over_P = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1]))
    hidden_PxD = jax.lax.with_sharding_constraint(hidden_PxD, over_P)
  logits_1xPxV = Decoder(config).apply(
    {'params': params}, hidden_PxD[None], method='head'
  )
  total_P = jax.nn.logsumexp(logits_1xPxV[0], axis=-1)
  logp_E = logits_1xPxV[0, nth_E, tokens_E] - total_P[nth_E]
  return replicated(logp_E, sharding)


class Likelihood:
  """A model that reads trees.

  Attributes:
    config: of the model.
    rows: rows of a batch.
    sequence_length: positions of a row, at most: rows are made shorter, and as many more of
      them, where that is cheaper. A longer path is read in parts.
    sharding: how [rows, length] arrays lie on a mesh; it must divide `rows`.
    on_batch: called before each batch.
  """

  def __init__(
    self,
    params: Any,
    *,
    config: DecoderConfig,
    batch_size: int,
    sequence_length: int,
    sharding: NamedSharding | None = None,
    on_batch: Callable[[], None] = lambda: None,
  ):
    """Of a model with `params`, as `Decoder(config)` has them."""
    self._params = params
    self.config = config
    self.batch_size = batch_size
    self.sequence_length = sequence_length
    self.sharding = sharding
    self.on_batch = on_batch
    self._shards = shards(sharding)

  def sums(
    self, paths: Sequence[Path], *, progress: Progress | None = None
  ) -> tuple[np.ndarray, int]:
    """Summed log-probability of each answer, in nats, and the positions computed.

    Every batch has at most rows x sequence_length positions, in one of a few shapes: few
    programs are compiled. A path whose sum is NaN is read again in a row of its own,
    so that it cannot spoil its neighbors.

    Returns:
      float64 [paths], NaN where the model gave no number; positions, padding included.
    """
    out = np.full(len(paths), np.nan)
    done = computed = 0

    def take(found: Iterator[tuple[np.ndarray, np.ndarray, int]]) -> int:
      nonlocal computed
      taken = 0
      for members, sums, positions in found:
        out[members] = sums
        computed += positions
        taken += len(members)
        if progress is not None:
          progress(min(done + taken, len(paths)), len(paths))
      return taken

    fitting = [i for i, path in enumerate(paths) if path.length <= self.sequence_length]
    longer = [i for i, path in enumerate(paths) if path.length > self.sequence_length]
    if fitting:
      grove = Grove(
        [paths[i] for i in fitting], whole_contexts=self.config.attention == 'prefix'
      )
      names = np.array(fitting)
      layout = self._layout(grove)
      done += take(
        (names[members], sums, positions)
        for members, sums, positions in self._forward(grove, layout)
      )
      for lone in self._alone(grove, layout, out[names]):
        take(
          (names[members], sums, positions)
          for members, sums, positions in self._forward(grove, lone)
        )
        if np.isnan(out[names]).all():
          break
    take(self._in_parts(paths, longer))
    return out, computed

  def _layout(self, grove: Grove) -> '_Layout':
    """The cheapest shape of batch for these paths."""
    lengths = sorted({*_sequence_lengths(self.sequence_length), self.sequence_length})
    best = None
    for sequence_length in lengths:
      if sequence_length < grove.longest:
        continue
      trees, sizes = grove.cut(sequence_length)
      packed = prefix_tree.pack(sizes, sequence_length=sequence_length)
      rows = self.batch_size * self.sequence_length // sequence_length
      rows = max(1, rows // self._shards) * self._shards
      batches = self._batches(len(packed), rows)
      head = 2 * self.config.vocab_size * self.config.d_model
      flops = flops_per_token(self.config, sequence_length).forward - head
      cost = sum(batches) * sequence_length * flops
      if best is None or cost < best[0]:
        best = cost, _Layout(trees, sizes, packed, batches, sequence_length)
    return best[1]

  def _batches(self, rows: int, most: int) -> list[int]:
    """Rows of each batch: `most`, and for the rest up to three powers of two."""
    whole, rest = divmod(rows, most)
    out = [most] * whole
    for last in (False, False, True):
      if rest <= 0:
        break
      size = self._shards * _power_of_two(rest // self._shards)
      if last and size < rest:
        size *= 2
      out.append(min(size, most))
      rest -= out[-1]
    return out

  def _alone(
    self, grove: Grove, layout: '_Layout', sums: np.ndarray
  ) -> Iterator['_Layout']:
    """Rows of one path each for those that are NaN and were not alone in their row.

    If all are, it is the model: a batch of them, from all over, is tried first.
    """
    crowded = [
      place
      for row in layout.packed
      for place in _places(layout, row)
      if len(_places(layout, row)) > 1
    ]
    spoilt = [place for place in crowded if np.isnan(sums[grove.order[place]])]
    if not spoilt:
      return
    most = max(layout.batches)
    parts = [spoilt]
    if len(spoilt) == len(sums) > most:
      step = -(-len(spoilt) // most)
      parts = [spoilt[::step], [p for i, p in enumerate(spoilt) if i % step]]
    for part in parts:
      yield layout._replace(
        trees=[range(place, place + 1) for place in part],
        sizes=np.array([grove.paths[grove.order[place]].length for place in part]),
        packed=[[i] for i in range(len(part))],
        batches=self._batches(len(part), most),
      )

  def _forward(
    self, grove: Grove, layout: '_Layout'
  ) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yields (members, their sums, positions computed) batch by batch."""
    start = 0
    for rows in layout.batches:
      planted = [
        [grove.tree(layout.trees[i], size=int(layout.sizes[i])) for i in row]
        for row in layout.packed[start : start + rows]
      ]
      start += rows
      forest, edges = prefix_tree.plant(
        grove, planted, rows=rows, sequence_length=layout.sequence_length
      )
      self.on_batch()
      forest = placed(forest, self.sharding)
      kernel = self.sharding is None and _runs_kernel(self.config)
      hidden_BxLxD = read_forest(
        self._params, forest, config=self.config, kernel=kernel
      )
      members, sums = _summed(edges, self._predicted(hidden_BxLxD, edges))
      yield members, sums, rows * layout.sequence_length

  def _in_parts(
    self, paths: Sequence[Path], members: Sequence[int]
  ) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """As `_forward`, for paths longer than a row: a part of sequence_length at a time.

    What was read before is in a cache. The context of a prefix model, where every
    token sees every other, is read in one part however long it is. Each option reads
    its prompt anew.
    """
    B = self._shards
    ordered = sorted(members, key=lambda i: paths[i].length)
    for start in range(0, len(ordered), B):
      group = ordered[start : start + B]
      longest = max(paths[i].length for i in group)
      part = self.sequence_length
      if self.config.attention == 'prefix':
        most = max(len(paths[i].context) for i in group)
        part = max(part, padded_length(most))
      parts = -(-longest // part)
      tokens = np.zeros((B, parts * part), np.int32)
      prefix = np.zeros(tokens.shape, bool)
      real = np.zeros(tokens.shape, np.int32)
      for row, i in enumerate(group):
        tokens[row, : paths[i].length] = paths[i].read
        prefix[row, : len(paths[i].context)] = True
        real[row, : paths[i].length] = 1
      positions = np.broadcast_to(
        np.arange(tokens.shape[1], dtype=np.int32), real.shape
      )
      cache = empty_cache(
        self.config, batch=B, length=parts * part, sharding=self.sharding
      )
      total = np.zeros(len(group))
      for at in range(0, tokens.shape[1], part):
        window = slice(at, at + part)
        arrays = [array[:, window] for array in (tokens, positions, real, prefix)]
        self.on_batch()
        arrays = placed(arrays, self.sharding)
        if self.config.attention != 'prefix' or at:
          arrays[3] = None
        hidden_BxLxD, cache = read_part(
          self._params, *arrays, cache=cache, config=self.config
        )
        edges = _edges_within(paths, group, at, part)
        if len(edges.member):
          found, sums = _summed(edges, self._predicted(hidden_BxLxD, edges))
          total[found] += sums
      yield np.array(group), total, tokens.size

  def _predicted(self, hidden_BxLxD: jax.Array, edges: Edges) -> np.ndarray:
    """The log-probability of each edge, float32 [E]."""
    parents, nth = np.unique(edges.parent, return_inverse=True)
    order = np.argsort(nth, kind='stable')
    nth = nth[order]
    P = min(_PREDICTIONS, _power_of_two(_LOGITS // self.config.vocab_size))
    P = min(P, 2 * _power_of_two(len(parents) - 1)) if len(parents) > 1 else 1
    P = -(-P // self._shards) * self._shards
    E = 4 * P
    out = np.empty(len(order), np.float32)
    start = 0
    while start < len(order):
      first = nth[start]
      stop = min(start + E, int(np.searchsorted(nth, first + P)))
      some = parents[first : nth[stop - 1] + 1]
      places = order[start:stop]
      found = predict(
        self._params,
        hidden_BxLxD,
        _padded(some, P),
        _padded(nth[start:stop] - first, E),
        _padded(edges.token[places], E),
        config=self.config,
        sharding=self.sharding,
      )
      out[places] = np.asarray(found)[: stop - start]
      start = stop
    return out


def _runs_kernel(config: DecoderConfig) -> bool:
  """Whether these devices run the tree kernel: TPUs, v2 and v3 in float32 alone."""
  device = jax.devices()[0]
  old = device.device_kind in ('TPU v2', 'TPU v3')
  return device.platform == 'tpu' and (config.dtype == 'float32' or not old)


class _Layout(NamedTuple):
  """Trees laid into rows, and the shapes of the batches.

  Attributes:
    trees: places of each, as Grove.cut gives them.
    sizes: tokens of each.
    packed: trees of each row.
    batches: rows of each batch.
    sequence_length: positions of a row.
  """

  trees: Sequence[range]
  sizes: np.ndarray
  packed: list[list[int]]
  batches: list[int]
  sequence_length: int


def _places(layout: _Layout, row: Sequence[int]) -> list[int]:
  """Places of all paths of a row."""
  return [place for i in row for place in layout.trees[i]]


def _sequence_lengths(most: int) -> Iterator[int]:
  """Those of `padded_length`, from _SHORTEST below `most`."""
  length = _SHORTEST
  while length < most:
    yield length
    length = padded_length(length + 1)


def _edges_within(
  paths: Sequence[Path], group: Sequence[int], start: int, length: int
) -> Edges:
  """Edges whose parent is in one part of the paths of a group, a path being a row."""
  member, parent, token = [], [], []
  for row, i in enumerate(group):
    places = np.arange(len(paths[i].context) - 1, paths[i].length) - start
    inside = (places >= 0) & (places < length)
    member.append(np.full(inside.sum(), row, np.int32))
    parent.append(places[inside] + row * length)
    token.append(paths[i].answer[inside])
  return Edges(*map(np.concatenate, (member, parent, token)))


def _summed(edges: Edges, logp_E: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The members of the edges, and the sum over the edges of each, float64."""
  members, nth = np.unique(edges.member, return_inverse=True)
  return members, np.bincount(nth, weights=logp_E, minlength=len(members))


def _padded(array: np.ndarray, length: int) -> np.ndarray:
  return np.pad(array, (0, length - len(array))).astype(np.int32)


def _power_of_two(number: int) -> int:
  """The largest power of two that is at most `number`."""
  return 1 << (max(1, number).bit_length() - 1)

"""Log-likelihoods of answers, given their contexts.

Sequences are merged into prefix trees, trees packed into sequences of one length, and
those run through the model in batches. Logits are computed only after the tokens that
predict an answer.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from flan_jax.config.decoder import DecoderConfig
from flan_jax.inference import batch_shapes, prefix_tree
from flan_jax.inference.batch_shapes import Layout, power_of_two
from flan_jax.inference.prefix_tree import (
  PackedTrees,
  PrefixTrees,
  ScoredSequence,
  Targets,
)
from flan_jax.inference.sampling import (
  empty_cache,
  padded_length,
  placed,
  replicated,
  shards,
)
from flan_jax.model.decoder import Decoder
from flan_jax.model.kv_cache import Cache

_MAX_LOGITS = 2**25
"""Maximum number of logits computed together, to bound memory: 128 MiB."""

_MAX_PREDICTIONS = 128
"""Maximum number of tokens whose logits are computed together: small, since the last
group is padded, but enough to pay for reading the vocabulary."""


class Computed(NamedTuple):
  """Tokens that were computed.

  Attributes:
    padded: all of them, padding included.
    unpadded: those of the texts.
  """

  padded: int
  unpadded: int

  def plus(self, padded: int, unpadded: int) -> 'Computed':
    return Computed(self.padded + padded, self.unpadded + unpadded)


Progress = Callable[[int, int, int], None]
"""Called with (sequences done, sequences in all, tokens computed)."""


@functools.partial(jax.jit, static_argnames=('config', 'kernel'))
def forward(
  params: Any, packed: PackedTrees, *, config: DecoderConfig, kernel: bool = False
) -> jax.Array:
  """Computes the hidden states [B, L, D] of packed trees, for `predict`.

  Args:
    params: parameters of `Decoder(config)`.
    packed: arrays [B, L]. If config.attention is 'prefix', all sequences of a tree must
      have the same context.
    config: model config.
    kernel: runs attention as one TPU kernel if the model is causal and without windows;
      on one device only, since the kernel is not sharded here.
  """
  prefix = config.attention == 'prefix'
  kernel = kernel and not prefix and config.window is None
  hidden_BxLxD = Decoder(_in_loop(config)).apply(
    {'params': params},
    packed.tokens,
    positions_BxL=packed.positions,
    segment_ids_BxL=packed.segment_ids,
    prefix_BxL=packed.context if prefix else None,
    subtree_end_BxL=packed.subtree_end,
    tree_kernel=kernel,
    method='hidden',
  )
  return cast(jax.Array, hidden_BxLxD)


def _in_loop(config: DecoderConfig) -> DecoderConfig:
  """A config whose layers are a loop of one: unrolled, they compile twice as long.

  Without gradients there is nothing to gain from unrolling.
  """
  return dataclasses.replace(config, remat='full')


@functools.partial(jax.jit, static_argnames=('config',), donate_argnames=('cache',))
def forward_cached(
  params: Any,
  tokens_BxL: jax.Array,
  positions_BxL: jax.Array,
  segment_ids_BxL: jax.Array,
  prefix_BxL: jax.Array | None,
  cache: Cache,
  *,
  config: DecoderConfig,
) -> tuple[jax.Array, Cache]:
  """Computes the states [B, L, D] of B sequences' next tokens, and the new cache."""
  out = Decoder(config).apply(
    {'params': params},
    tokens_BxL,
    positions_BxL=positions_BxL,
    segment_ids_BxL=segment_ids_BxL,
    prefix_BxL=prefix_BxL,
    cache=cache,
    method='hidden',
  )
  return cast(tuple[jax.Array, Cache], out)


@functools.partial(jax.jit, static_argnames=('sharding',))
def states(
  hidden_BxLxD: jax.Array,
  parents_P: jax.Array,
  *,
  sharding: NamedSharding | None = None,
) -> jax.Array:
  """Picks the states [P, D] of some tokens, for `predict`.

  A program of its own: that of the head then serves batches of any shape.

  Args:
    hidden_BxLxD: hidden states, from `forward`.
    parents_P: int32, b * L + place of the tokens that predict.
    sharding: sharding of the batch on a mesh, or None.
  """
  hidden_PxD = hidden_BxLxD.reshape(-1, hidden_BxLxD.shape[-1])[parents_P]
  if sharding is not None:
    over_P = NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[:1]))
    hidden_PxD = jax.lax.with_sharding_constraint(hidden_PxD, over_P)
  return hidden_PxD


@functools.partial(jax.jit, static_argnames=('config', 'sharding'))
def predict(
  params: Any,
  hidden_PxD: jax.Array,
  nth_E: jax.Array,
  tokens_E: jax.Array,
  *,
  config: DecoderConfig,
  sharding: NamedSharding | None = None,
) -> jax.Array:
  """Computes scores of target tokens, float32 [E, 2].

  They are the log-probability in nats, and the logit less the greatest one: 0 for a
  token that greedy decoding takes.

  Logits are computed after P tokens only: with a large vocabulary, those of a whole
  batch would cost more than its forward pass.

  Args:
    params: parameters of `Decoder(config)`.
    hidden_PxD: states of the tokens that predict.
    nth_E: int32, index into `hidden_PxD` for each target.
    tokens_E: int32, target tokens.
    config: model config.
    sharding: sharding of the batch on a mesh, or None; the result is replicated.
  """
  logits_1xPxV = Decoder(config).apply(
    {'params': params}, hidden_PxD[None], method='head'
  )
  logits_1xPxV = cast(jax.Array, logits_1xPxV)
  total_P = jax.nn.logsumexp(logits_1xPxV[0], axis=-1)
  best_P = logits_1xPxV[0].max(axis=-1)
  own_E = logits_1xPxV[0, nth_E, tokens_E]
  found_Ex2 = jnp.stack([own_E - total_P[nth_E], own_E - best_P[nth_E]], axis=-1)
  return replicated(found_Ex2, sharding)


class LogLikelihood:
  """Computes log-likelihoods in batches of packed prefix trees.

  Attributes:
    config: model config.
    batch_size: packed sequences of a batch.
    sequence_length: maximum length of a packed sequence. Batches of shorter sequences,
      and more of them, are used if that is cheaper. A scored sequence that is longer
      runs in parts.
    sharding: sharding of [batch, length] arrays; it must divide `batch_size`.
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
    """Sets up a model with `params`, those of `Decoder(config)`."""
    self._params = params
    self.config = config
    self.batch_size = batch_size
    self.sequence_length = sequence_length
    self.sharding = sharding
    self.on_batch = on_batch
    self._shards = shards(sharding)
    self._shapes: set[batch_shapes.Shape] = set()  # whose programs are compiled

  def sums(
    self, sequences: Sequence[ScoredSequence], *, progress: Progress | None = None
  ) -> tuple[np.ndarray, Computed]:
    """Sums the log-probability of each answer, in nats; counts the tokens computed.

    Every batch has at most batch_size x sequence_length tokens, in one of a few shapes,
    so that few programs are compiled. A sequence whose sum is NaN runs again, alone in
    its packed sequence, so that it cannot spoil its neighbors.

    Returns:
      float64 [sequences], NaN if the model's output is not finite; tokens computed.
    """
    out, computed = self.scores(sequences, progress=progress)
    return out[:, 0], computed

  def scores(
    self, sequences: Sequence[ScoredSequence], *, progress: Progress | None = None
  ) -> tuple[np.ndarray, Computed]:
    """Does what `sums` does, and tells which answers greedy decoding gives.

    Returns:
      float64 [sequences, 2], the sum, and 0 for the greedy answer or less than that;
      tokens computed.
    """
    out = np.full((len(sequences), 2), np.nan)
    done, computed = 0, Computed(0, 0)

    def take(found: Iterator[tuple[np.ndarray, np.ndarray, Computed]]) -> int:
      nonlocal computed
      taken = 0
      for members, sums, tokens in found:
        out[members] = sums
        computed = computed.plus(*tokens)
        taken += len(members)
        if progress is not None:
          counts = min(done + taken, len(sequences)), len(sequences)
          progress(*counts, computed.padded)
      return taken

    lengths = np.array([sequence.length for sequence in sequences], np.int64)
    fitting = np.flatnonzero(lengths <= self.sequence_length)
    longer = np.flatnonzero(lengths > self.sequence_length)
    if len(fitting):
      prefix_trees = PrefixTrees(
        [sequences[i] for i in fitting.tolist()],
        whole_contexts=self.config.attention == 'prefix',
      )
      layout = batch_shapes.choose(
        prefix_trees,
        config=self.config,
        batch_size=self.batch_size,
        sequence_length=self.sequence_length,
        shards=self._shards,
        known=self._shapes,
      )
      self._shapes |= layout.shapes
      done += take(
        (fitting[members], sums, tokens)
        for members, sums, tokens in self._forward(prefix_trees, layout)
      )
      for lone in self._alone(prefix_trees, layout, out[fitting, 0]):
        take(
          (fitting[members], sums, tokens)
          for members, sums, tokens in self._forward(prefix_trees, lone)
        )
        if np.isnan(out[fitting, 0]).all():
          break
    take(self._in_parts(sequences, longer.tolist()))
    return out, computed

  def _alone(
    self, prefix_trees: PrefixTrees, layout: Layout, sums: np.ndarray
  ) -> Iterator[Layout]:
    """Yields layouts in which NaN sequences that had neighbors run alone.

    If every sequence is NaN, the model is broken: one batch of them, evenly drawn, is
    tried first.
    """
    order = prefix_trees.order
    crowded = [
      place
      for trees in layout.packed
      for place in layout.places(trees)
      if len(layout.places(trees)) > 1
    ]
    nan = [place for place in crowded if np.isnan(sums[order[place]])]
    if not nan:
      return
    max_size = max(layout.batches)
    parts = [nan]
    if len(nan) == len(sums) > max_size:
      step = -(-len(nan) // max_size)
      parts = [nan[::step], [place for i, place in enumerate(nan) if i % step]]
    for part in parts:
      lengths = [prefix_trees.sequences[order[place]].length for place in part]
      yield layout._replace(
        trees=[range(place, place + 1) for place in part],
        sizes=np.array(lengths),
        packed=[[i] for i in range(len(part))],
        batches=batch_shapes.in_powers(len(part), max_size, shards=self._shards),
      )

  def _forward(
    self, prefix_trees: PrefixTrees, layout: Layout
  ) -> Iterator[tuple[np.ndarray, np.ndarray, Computed]]:
    """Yields (members, their sums, tokens computed) batch by batch."""
    start = 0
    for batch_size in layout.batches:
      run = layout.packed[start : start + batch_size]
      batch = [
        [prefix_trees.tree(layout.trees[i], size=int(layout.sizes[i])) for i in trees]
        for trees in run
      ]
      start += batch_size
      packed, targets = prefix_tree.pack_trees(
        prefix_trees,
        batch,
        batch_size=batch_size,
        sequence_length=layout.sequence_length,
      )
      self.on_batch()
      packed = placed(packed, self.sharding)
      kernel = self.sharding is None and _runs_kernel(self.config)
      hidden_BxLxD = forward(self._params, packed, config=self.config, kernel=kernel)
      members, sums = _summed(targets, self._predicted(hidden_BxLxD, targets))
      text = sum(int(layout.sizes[i]) for trees in run for i in trees)
      yield members, sums, Computed(batch_size * layout.sequence_length, text)

  def _in_parts(
    self, sequences: Sequence[ScoredSequence], members: Sequence[int]
  ) -> Iterator[tuple[np.ndarray, np.ndarray, Computed]]:
    """Does what `_forward` does for longer sequences, sequence_length tokens at a time.

    Earlier parts are in a cache. The context of a prefix model, where attention is
    bidirectional, runs in one part however long it is. Each option computes its prompt
    again.
    """
    B = self._shards
    ordered = sorted(members, key=lambda i: sequences[i].length)
    for start in range(0, len(ordered), B):
      group = ordered[start : start + B]
      max_length = max(sequences[i].length for i in group)
      part = self.sequence_length
      if self.config.attention == 'prefix':
        max_context = max(len(sequences[i].context) for i in group)
        part = max(part, padded_length(max_context))
      parts = -(-max_length // part)
      tokens = np.zeros((B, parts * part), np.int32)
      prefix = np.zeros(tokens.shape, bool)
      real = np.zeros(tokens.shape, np.int32)
      for b, i in enumerate(group):
        tokens[b, : sequences[i].length] = sequences[i].inputs
        prefix[b, : len(sequences[i].context)] = True
        real[b, : sequences[i].length] = 1
      positions = np.broadcast_to(
        np.arange(tokens.shape[1], dtype=np.int32), real.shape
      )
      cache = empty_cache(
        self.config, batch=B, length=parts * part, sharding=self.sharding
      )
      total = np.zeros((len(group), 2))
      for at in range(0, tokens.shape[1], part):
        window = slice(at, at + part)
        arrays = [array[:, window] for array in (tokens, positions, real, prefix)]
        self.on_batch()
        arrays = placed(arrays, self.sharding)
        if self.config.attention != 'prefix' or at:
          arrays[3] = None
        hidden_BxLxD, cache = forward_cached(
          self._params, *arrays, cache=cache, config=self.config
        )
        targets = _targets_within(sequences, group, at, part)
        if len(targets.member):
          found, sums = _summed(targets, self._predicted(hidden_BxLxD, targets))
          total[found] += sums
      yield np.array(group), total, Computed(tokens.size, int(real.sum()))

  def _predicted(self, hidden_BxLxD: jax.Array, targets: Targets) -> np.ndarray:
    """Computes the scores of each target, float32 [E, 2]."""
    parents, nth = np.unique(targets.parent, return_inverse=True)
    order = np.argsort(nth, kind='stable')
    nth = nth[order]
    P = _predictions(len(parents), self.config.vocab_size)
    P = -(-P // self._shards) * self._shards
    E = 4 * P
    out = np.empty((len(order), 2), np.float32)
    start = 0
    while start < len(order):
      first = nth[start]
      stop = min(start + E, int(np.searchsorted(nth, first + P)))
      some = parents[first : nth[stop - 1] + 1]
      places = order[start:stop]
      found = predict(
        self._params,
        states(hidden_BxLxD, _padded(some, P), sharding=self.sharding),
        _padded(nth[start:stop] - first, E),
        _padded(targets.token[places], E),
        config=self.config,
        sharding=self.sharding,
      )
      out[places] = np.asarray(found)[: stop - start]
      start = stop
    return out


def _predictions(count: int, vocab_size: int) -> int:
  """Returns the tokens whose logits are computed together: 2, 8, 32 or 128.

  Fewer sizes are fewer programs, each of which takes longer to compile than the
  padding takes.
  """
  limit = min(_MAX_PREDICTIONS, power_of_two(_MAX_LOGITS // vocab_size))
  size = 2
  while size < min(count, limit):
    size *= 4
  return min(size, limit)


def _runs_kernel(config: DecoderConfig) -> bool:
  """Returns whether devices run the tree kernel: TPUs, v2 and v3 in float32 only."""
  device = jax.devices()[0]
  old = device.device_kind in ('TPU v2', 'TPU v3')
  return device.platform == 'tpu' and (config.dtype == 'float32' or not old)


def _targets_within(
  sequences: Sequence[ScoredSequence], group: Sequence[int], start: int, length: int
) -> Targets:
  """Targets whose parents lie in one part of a group's sequences, one each line."""
  member, parent, token = [], [], []
  for b, i in enumerate(group):
    places = np.arange(len(sequences[i].context) - 1, sequences[i].length) - start
    inside = (places >= 0) & (places < length)
    member.append(np.full(inside.sum(), b, np.int32))
    parent.append(places[inside] + b * length)
    token.append(sequences[i].answer[inside])
  return Targets(*map(np.concatenate, (member, parent, token)))


def _summed(targets: Targets, scores_Ex2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the members of the targets, and each one's sums, float64 [members, 2]."""
  members, nth = np.unique(targets.member, return_inverse=True)
  sums = [
    np.bincount(nth, weights=column, minlength=len(members)) for column in scores_Ex2.T
  ]
  return members, np.stack(sums, axis=-1)


def _padded(array: np.ndarray, length: int) -> np.ndarray:
  return np.pad(array, (0, length - len(array))).astype(np.int32)

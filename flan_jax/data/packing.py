"""Packing plan: the examples of each sequence of a run, fixed before the run starts.

Draw first, pack second. The draw is an exact schedule of the mixture: over any prefix
the number of examples drawn from a dataset differs from its share by less than one.
Packing then puts the draws of a window into sequences, so it never changes which
examples are seen. numpy only.
"""

import hashlib
import heapq
import json
import os
import pathlib
import types
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flan_jax.data import plan_files, stable_hash
from flan_jax.errors import InputError
from flan_jax.runtime import checksums

VERSION = 2

WINDOW = 8192
"""Draws packed together: enough to leave hardly any padding, few enough to be local."""

FIRST_WINDOW = 1024
"""Size of the first window; windows double up to WINDOW, so a short run draws few."""

MAX_SEQUENCES = 2**27
"""Maximum number of sequences, for memory; the paper's run has 120,000."""

_ARRAYS = ('starts', 'dataset', 'entry', 'used')


def schedule(rates: Sequence[int], order: Sequence[int]) -> np.ndarray:
  """One period of the mixture: dataset indices, int32 [sum(rates)].

  Draw k of a dataset with share p has the window [floor(k/p), ceil((k+1)/p)); the
  earliest deadline goes first. Serving every draw inside its window keeps each count
  within one of its share at all times (Baruah et al. 1996, proportionate progress),
  and one server with earliest deadlines first always can.

  Args:
    rates: number of draws of each dataset in a period; at least 1.
    order: rank of each dataset among equal deadlines.
  """
  total = sum(rates)
  future = [(0, i) for i in range(len(rates))]
  ready: list[tuple[int, int, int]] = []
  served = [0] * len(rates)
  out = np.empty(total, np.int32)
  for slot in range(total):
    while future and future[0][0] <= slot:
      i = heapq.heappop(future)[1]
      deadline = -(-(served[i] + 1) * total // rates[i])
      heapq.heappush(ready, (deadline, order[i], i))
    i = heapq.heappop(ready)[2]
    out[slot] = i
    served[i] += 1
    if served[i] < rates[i]:
      heapq.heappush(future, (served[i] * total // rates[i], i))
  return out


def best_fit(lengths: np.ndarray, sequence_length: int) -> np.ndarray:
  """Best-fit decreasing: sequence number of each example, int32 [n].

  The longest example first, each into the fullest sequence that still has room. Bit
  `room` of a mask is set if a sequence has that room, so the search is one shift.
  """
  sequences = np.empty(len(lengths), np.int32)
  order = np.argsort(-lengths.astype(np.int64), kind='stable')
  with_room: list[list[int]] = [[] for _ in range(sequence_length + 1)]
  mask = 0
  opened = 0
  for i, size in zip(order.tolist(), lengths[order].tolist(), strict=True):
    fitting = mask >> size
    if fitting:
      room = size + (fitting & -fitting).bit_length() - 1
      sequence = with_room[room].pop()
      if not with_room[room]:
        mask ^= 1 << room
    else:
      room, sequence = sequence_length, opened
      opened += 1
    sequences[i] = sequence
    room -= size
    if room:
      with_room[room].append(sequence)
      mask |= 1 << room
  return sequences


def exact_fit(lengths: np.ndarray, sequence_length: int) -> np.ndarray:
  """Packs draws in order and fills each sequence exactly: numbers, int32 [n].

  Best-fit decreasing fills sequences with examples of one length, so of few datasets.
  Here a sequence takes the draws in order until about two more fit, and then the two
  remaining draws (or the one) that fill it exactly. The remaining lengths and their
  complements are bit masks, so the search is one shift.
  """
  sizes = lengths.tolist()
  left: dict[int, list[int]] = {}
  for i in range(len(sizes) - 1, -1, -1):
    left.setdefault(sizes[i], []).append(i)
  mask = sum(1 << size for size in left)
  mirror = sum(1 << (sequence_length - size) for size in left)
  sequences = np.full(len(sizes), -1, np.int32)
  placed = bytearray(len(sizes))
  ending = 2 * int(lengths.mean())
  head = sequence = 0

  def take(size: int) -> int:
    nonlocal mask, mirror
    i = left[size].pop()
    sequences[i], placed[i] = sequence, 1
    if not left[size]:
      mask ^= 1 << size
      mirror ^= 1 << (sequence_length - size)
    return size

  while mask:
    room = sequence_length
    while True:
      head = placed.find(0, head)
      if head < 0 or sizes[head] > room:
        break
      if room < sequence_length and room - sizes[head] < ending:
        break
      room -= take(sizes[head])
    head = max(head, 0)
    while fitting := mask & ((2 << room) - 1):
      if fitting >> room:
        take(room)
        break
      pairs = fitting & (mirror >> (sequence_length - room))
      half = room // 2
      if 2 * half == room and pairs >> half & 1 and len(left[half]) == 1:
        pairs ^= 1 << half  # only one draw has this length
      if pairs:
        size = pairs.bit_length() - 1
        take(size)
        take(room - size)
        break
      room -= take(fitting.bit_length() - 1)
    sequence += 1
  return sequences


class _Draws:
  """The endless stream of draws of a mixture, by slices."""

  def __init__(
    self,
    lengths: Mapping[str, np.ndarray],
    rates: Mapping[str, int],
    rendered: Mapping[str, int],
    seed: int,
  ):
    self.names = tuple(rates)
    self._lengths = [lengths[name] for name in self.names]
    self._rendered = [rendered[name] for name in self.names]
    self._examples = [len(lengths[name]) // rendered[name] for name in self.names]
    divisor = int(np.gcd.reduce([rates[name] for name in self.names]))
    self._rates = np.array([rates[name] // divisor for name in self.names], np.int64)
    order = stable_hash.permutation(len(self.names), 'ties', seed).tolist()
    self._period = schedule(self._rates.tolist(), order)
    self._rank = np.empty(len(self._period), np.int64)
    for i in range(len(self.names)):
      self._rank[self._period == i] = np.arange(self._rates[i])
    self._seed = seed
    self._orders: dict[int, tuple[int, np.ndarray]] = {}

  def _order(self, i: int, epoch: int) -> np.ndarray:
    """Order of the examples of dataset `i` in `epoch`; caches the latest epoch."""
    known = self._orders.get(i)
    if known is None or known[0] != epoch:
      names = ('rows', self._seed, self.names[i], epoch)
      known = (epoch, stable_hash.permutation(self._examples[i], *names))
      self._orders[i] = known
    return known[1]

  def __call__(
    self, start: int, stop: int
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (dataset, entry, length) of draws [start, stop)."""
    lap, phase = np.divmod(np.arange(start, stop), len(self._period))
    dataset = self._period[phase]
    nth = self._rank[phase] + lap * self._rates[dataset]
    entry = np.empty(stop - start, np.int32)
    length = np.empty(stop - start, np.int32)
    by_dataset = np.argsort(dataset, kind='stable')
    present, first = np.unique(dataset[by_dataset], return_index=True)
    for i, at in zip(present.tolist(), np.split(by_dataset, first[1:]), strict=True):
      epoch, position = np.divmod(nth[at], self._examples[i])
      for e in range(int(epoch[0]), int(epoch[-1]) + 1):
        now = at[epoch == e]
        example = self._order(i, e)[position[epoch == e]]
        entry[now] = (e % self._rendered[i]) * self._examples[i] + example
      length[at] = self._lengths[i][entry[at]]
    return dataset, entry, length


def _bounds() -> Iterator[tuple[int, int]]:
  """Yields (start, stop) of each window of draws: short at first, then WINDOW each."""
  start, size = 0, FIRST_WINDOW
  while True:
    yield start, start + size
    start += size
    size = min(2 * size, WINDOW)


def drawn(count: int) -> int:
  """Number of draws of a plan that holds at least the first `count`: whole windows."""
  return next(stop for _, stop in _bounds() if stop >= count)


def drawn_lengths(
  lengths: Mapping[str, np.ndarray],
  rates: Mapping[str, int],
  rendered: Mapping[str, int],
  *,
  seed: int,
  count: int,
) -> np.ndarray:
  """Length in tokens of the first `count` draws, before packing, int32 [count]."""
  return _Draws(lengths, rates, rendered, seed)(0, count)[2]


def _windows(
  draws: _Draws, *, seed: int, sequence_length: int, pack: bool
) -> Iterator[tuple[np.ndarray, ...]]:
  """Yields, for each window, (examples, tokens) per sequence and (dataset, entry)."""
  for start, stop in _bounds():
    dataset, entry, length = draws(start, stop)
    if pack:
      sequence = exact_fit(length, sequence_length)
      shuffled = stable_hash.permutation(int(sequence.max()) + 1, 'pack', seed, start)
      sequence = shuffled[sequence]
      order = np.argsort(sequence, kind='stable')
      dataset, entry = dataset[order], entry[order]
      used = np.bincount(sequence, weights=length).astype(np.int32)
      yield np.bincount(sequence), used, dataset, entry
    else:
      yield np.ones(stop - start, np.int64), length, dataset, entry


class PackingPlan:
  """Packing plan of a run: sequence k is a look-up.

  Sequence k depends on the store, the seed, the sequence length and `pack`, but not on
  the number of sequences: a longer plan begins with the shorter one.

  Attributes:
    datasets: names; the arrays hold indices into them.
    seed: seed of the draws and of the packing.
    sequence_length: tokens of a sequence, padding included.
    pack: whether a sequence holds several examples.
    digest: name of the plan, from `key`.
    stream: digest without the number of sequences.
  """

  def __init__(
    self,
    meta: Mapping,
    arrays: Mapping[str, np.ndarray],
    blocks: Mapping[str, checksums.Blocks] = types.MappingProxyType({}),
  ):
    self.datasets: tuple[str, ...] = tuple(meta['datasets'])
    self.seed: int = meta['seed']
    self.sequence_length: int = meta['sequence_length']
    self.pack: bool = meta['pack']
    self.digest: str = meta['digest']
    self.stream: str = meta['stream']
    self._arrays = dict(arrays)
    self._blocks = dict(blocks)
    self._size = len(arrays['used'])

  def _read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Part of an array, whose blocks are checked.

    Raises:
      InputError: if one is damaged.
    """
    array = self._arrays[name]
    stop = len(array) if stop is None else stop
    if (blocks := self._blocks.get(name)) is not None:
      first, size = getattr(array, 'offset', 0), array.itemsize
      blocks.check(first + start * size, first + stop * size)
    return array[start:stop]

  @staticmethod
  def key(
    digest: str,
    rates: Mapping[str, int],
    *,
    seed: int,
    sequence_length: int,
    pack: bool = True,
    sequences: int | None = None,
  ) -> str:
    """Digest (hex) of a plan over a store; without `sequences`, of its stream."""
    # Hashed, so these keys never change, whatever the arguments are called.
    names = {
      'plan': VERSION,
      'windows': [FIRST_WINDOW, WINDOW],
      'store': digest,
      'rates': {name: int(rate) for name, rate in rates.items() if rate > 0},
      'seed': seed,
      'row_length': sequence_length,
      'pack': pack,
      'rows': sequences,
    }
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode()).hexdigest()[:32]

  @classmethod
  def build(
    cls,
    lengths: Mapping[str, np.ndarray],
    rates: Mapping[str, int],
    rendered: Mapping[str, int],
    *,
    seed: int,
    sequences: int,
    sequence_length: int,
    digest: str,
    pack: bool = True,
  ) -> 'PackingPlan':
    """Plans a number of sequences.

    Args:
      lengths: dataset -> int [epochs * n], tokens of each entry, epoch-major.
      rates: dataset -> mixing rate; datasets of rate 0 are left out.
      rendered: dataset -> number of epochs in `lengths`; after the last one, draws
        start again at the first.
      seed: seed of the draws and of the packing.
      sequences: number of sequences.
      sequence_length: tokens of a sequence, padding included.
      digest: digest of the store.
      pack: False to give every example a sequence of its own.

    Raises:
      InputError: if there is nothing to draw, or an example does not fit.
    """
    rates = {name: int(rate) for name, rate in rates.items() if rate > 0}
    if not rates:
      raise InputError('rates: no dataset has a rate; must be above 0 for at least 1')
    if sequences < 1:
      raise InputError(f'sequences {sequences}: must be at least 1')
    if sequences > MAX_SEQUENCES:
      raise InputError(f'sequences {sequences:,}: must be {MAX_SEQUENCES:,} or fewer')
    for name in rates:
      if not len(lengths[name]):
        raise InputError(
          f'dataset {name!r}: rate {rates[name]} and no examples; must have at least 1'
        )
      longest = int(np.max(lengths[name]))
      if longest > sequence_length:
        raise InputError(
          f'sequence_length {sequence_length}: an example of {name!r} has {longest} '
          f'tokens; must be at least {longest}, or materialize with a lower limit'
        )
    draws = _Draws(lengths, rates, rendered, seed)
    parts: list[tuple[np.ndarray, ...]] = []
    planned = 0
    for part in _windows(draws, seed=seed, sequence_length=sequence_length, pack=pack):
      parts.append(part)
      planned += len(part[0])
      if planned >= sequences:
        break
    counts, used, dataset, entry = map(np.concatenate, zip(*parts, strict=True))
    starts = np.concatenate([[0], np.cumsum(counts[:sequences])]).astype(np.int64)
    arrays = {
      'starts': starts,
      'dataset': dataset[: starts[-1]].astype(np.uint16),
      'entry': entry[: starts[-1]].astype(np.int32),
      'used': used[:sequences].astype(np.int32),
    }
    names = {'seed': seed, 'sequence_length': sequence_length, 'pack': pack}
    meta = {
      'datasets': list(rates),
      **names,
      'digest': cls.key(digest, rates, sequences=sequences, **names),
      'stream': cls.key(digest, rates, **names),
    }
    return cls(meta, arrays)

  def __len__(self) -> int:
    """Number of sequences."""
    return self._size

  @property
  def examples(self) -> int:
    """Number of examples in all sequences."""
    return int(self._read('starts', self._size)[0])

  @property
  def draws(self) -> tuple[np.ndarray, np.ndarray]:
    """(index into `datasets`, entry) of each example, in the order of the sequences."""
    return self._read('dataset'), self._read('entry')

  @property
  def fill(self) -> float:
    """Share of the tokens that are not padding."""
    return float(np.sum(self._read('used'), dtype=np.int64)) / (
      len(self) * self.sequence_length
    )

  def sequence(self, k: int) -> list[tuple[str, int]]:
    """(dataset, entry) of each example of sequence `k`, in order.

    Raises:
      InputError: if the plan has no sequence `k`.
    """
    if not 0 <= k < len(self):
      raise InputError(f'sequence {k}: must be 0 to {len(self) - 1} in this plan')
    start, stop = self._read('starts', k, k + 2).tolist()
    names = (self.datasets[i] for i in self._read('dataset', start, stop).tolist())
    return list(zip(names, self._read('entry', start, stop).tolist(), strict=True))

  def used(self, k: int) -> int:
    """Number of tokens of sequence `k` that are not padding."""
    return int(self._read('used', k, k + 1)[0])

  def lengths(self, lengths: Mapping[str, np.ndarray]) -> np.ndarray:
    """Tokens of each example in the order of the plan, int64 [examples].

    Args:
      lengths: dataset -> tokens of each entry, as in `build`.
    """
    out = np.empty(self.examples, np.int64)
    dataset, entry = self.draws
    for i, name in enumerate(self.datasets):
      at = np.flatnonzero(dataset == i)
      out[at] = lengths[name][entry[at]]
    return out

  def counts(self, sequences: int | None = None) -> dict[str, int]:
    """Dataset -> number of examples in the first `sequences`, or in all."""
    stop = len(self) if sequences is None else min(sequences, len(self))
    stop = int(self._read('starts', stop, stop + 1)[0])
    found = np.bincount(self._read('dataset', 0, stop), minlength=len(self.datasets))
    return dict(zip(self.datasets, found.tolist(), strict=True))

  def save(self, folder: str | os.PathLike) -> None:
    """Writes the plan to `folder`, whole or not at all; keeps one already there."""
    about = {
      'datasets': self.datasets,
      'seed': self.seed,
      'sequence_length': self.sequence_length,
      'pack': self.pack,
      'digest': self.digest,
      'stream': self.stream,
      'sequences': len(self),
      'examples': self.examples,
      'fill': self.fill,
    }
    plan_files.write(pathlib.Path(folder), about, self._arrays)

  def vouch_for(self, folder: str | os.PathLike) -> None:
    """Writes the checksums of a saved plan without them, if it is this one.

    Raises:
      InputError: if it is another: damaged.
    """
    plan_files.vouch_for(pathlib.Path(folder), self._arrays)

  @classmethod
  def open(cls, folder: str | os.PathLike) -> 'PackingPlan':
    """Opens a saved plan; its arrays stay on disk, mapped into memory.

    Raises:
      InputError: if the plan is missing, truncated, or damaged.
    """
    return cls(*plan_files.read(pathlib.Path(folder), _ARRAYS))

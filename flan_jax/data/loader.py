"""Loader: the sequences of a run as batches, for any number of processes.

Each process takes a contiguous slice of every global batch from the packing plan. The
global batch does not depend on the number of processes, and starting at any step is a
look-up.
"""

from collections.abc import Iterator
from typing import cast

import grain
import jax
import numpy as np

from flan_jax.data.batch import Batch, sequence_digest, stack
from flan_jax.data.packing import PackingPlan
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError


class _Steps:
  """Random access by step, for `grain.MapDataset.source`."""

  def __init__(self, loader: 'Loader'):
    self._loader = loader

  def __len__(self) -> int:
    return len(self._loader)

  def __getitem__(self, index: int) -> Batch:
    return self._loader.batch(index)


class Loader:
  """Iterates over the batches of this process, from `start_step` on.

  Each batch is a Batch of numpy arrays [batch_size / process_count, sequence_length];
  iteration ends with the plan. Iterating again starts again at `start_step`.

  Attributes:
    store: store of the examples.
    plan: packing plan; names the examples of each sequence.
    batch_size: number of sequences in the global batch.
    start_step: the first step.
    process_index, process_count: slice of each global batch that is loaded.
  """

  def __init__(
    self,
    store: Store,
    plan: PackingPlan,
    *,
    batch_size: int,
    sequence_length: int | None = None,
    start_step: int = 0,
    process_index: int | None = None,
    process_count: int | None = None,
    threads: int = 2,
    prefetch: int = 8,
  ):
    """See the class.

    Args:
      store: see the class.
      plan: see the class.
      batch_size: see the class; `process_count` must divide it.
      sequence_length: expected sequence length of the plan; None for any.
      start_step: see the class.
      process_index: None for `jax.process_index()`.
      process_count: None for `jax.process_count()`.
      threads: number of prefetch threads; 0 to read in the caller's thread.
      prefetch: number of batches read ahead.

    Raises:
      InputError: if the plan has another sequence length, or the processes do not
        divide the batch.
    """
    self.store = store
    self.plan = plan
    self.batch_size = batch_size
    self.start_step = start_step
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    self.process_index, self.process_count = index, count
    self._read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    if sequence_length not in (None, plan.sequence_length):
      raise InputError(
        f'sequence_length {sequence_length}: must be {plan.sequence_length}, '
        'the sequence length of the plan'
      )
    if batch_size < 1 or batch_size % count:
      raise InputError(
        f'batch_size {batch_size}: must be a multiple of the {count} processes; '
        f'nearest is {max(1, round(batch_size / count)) * count}'
      )
    if not 0 <= index < count:
      raise InputError(f'process_index {index}: must be 0 to {count - 1}')
    if not 0 <= start_step <= len(self):
      raise InputError(
        f'start_step {start_step}: must be 0 to {len(self)} in this plan'
      )

  def __len__(self) -> int:
    """Number of whole steps in the plan, from step 0."""
    return len(self.plan) // self.batch_size

  def __iter__(self) -> Iterator[Batch]:
    steps = grain.MapDataset.source(_Steps(self))[self.start_step :]
    return iter(steps.to_iter_dataset(self._read))

  def first_sequence(self, step: int) -> int:
    """Number of the first sequence of `step` that this process loads."""
    share = self.batch_size // self.process_count
    return step * self.batch_size + self.process_index * share

  def sequence_numbers(self, step: int) -> range:
    """Numbers of the sequences of `step` that this process loads, in batch order."""
    first = self.first_sequence(step)
    return range(first, first + self.batch_size // self.process_count)

  def batch(self, step: int) -> Batch:
    """Loads one batch, arrays [batch_size / process_count, sequence_length]."""
    return stack(self.store.sequences(self.plan, self.sequence_numbers(step)))

  def digests(self, step: int, batch: Batch[np.ndarray]) -> dict[int, str]:
    """Sequence number -> digest (hex), for this process's `batch` of `step`.

    `flan rows --digest` prints the same digests.
    """
    arrays = cast(tuple[np.ndarray, ...], batch)  # [B, L] each
    found = (sequence_digest(Batch(*row)) for row in zip(*arrays, strict=True))
    return dict(zip(self.sequence_numbers(step), found, strict=True))

  def examples_seen(self, steps: int) -> dict[str, int]:
    """Cluster -> examples that all processes together see in the first `steps`."""
    seen: dict[str, int] = {}
    for dataset, count in self.plan.counts(steps * self.batch_size).items():
      cluster = self.store.clusters[dataset]
      seen[cluster] = seen.get(cluster, 0) + count
    return seen

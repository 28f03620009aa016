"""Loader: the rows of a run as batches, for any number of hosts.

Every host asks the plan for its contiguous slice of each global batch, so what a run
sees does not depend on how many hosts feed it, and starting at any step is a look-up.
"""

from collections.abc import Iterator

import grain
import jax

from flan_jax.data.batch import Batch, sequence_digest, stack
from flan_jax.data.packing import PackingPlan
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError


class _Steps:
  """Random access by step, as `grain.MapDataset.source` wants it."""

  def __init__(self, loader: 'Loader'):
    self._loader = loader

  def __len__(self) -> int:
    return len(self._loader)

  def __getitem__(self, step: int) -> Batch:
    return self._loader.batch(step)


class Loader:
  """Iterates over the batches of this host, from `start_step` on.

  Each batch is a Batch of numpy arrays [batch_size / hosts, sequence_length]; iteration
  ends with the plan. Iterating again starts again at `start_step`.

  Attributes:
    store: where the examples are.
    plan: which of them stand in which row.
    batch_size: rows of the global batch.
    start_step: the first step.
    host, hosts: which slice of each global batch this is.
  """

  def __init__(
    self,
    store: Store,
    plan: PackingPlan,
    *,
    batch_size: int,
    sequence_length: int | None = None,
    start_step: int = 0,
    host: int | None = None,
    hosts: int | None = None,
    threads: int = 2,
    prefetch: int = 8,
  ):
    """See the class.

    Args:
      store: see the class.
      plan: see the class.
      batch_size: see the class; `hosts` must divide it.
      sequence_length: positions of a row; None for the plan's own.
      start_step: see the class.
      host: None for `jax.process_index()`.
      hosts: None for `jax.process_count()`.
      threads: that read ahead; 0 to read in the caller's.
      prefetch: batches read ahead.

    Raises:
      InputError: if the plan has other rows, or they do not divide.
    """
    self.store = store
    self.plan = plan
    self.batch_size = batch_size
    self.start_step = start_step
    self.host = jax.process_index() if host is None else host
    self.hosts = jax.process_count() if hosts is None else hosts
    self._read = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    if sequence_length not in (None, plan.sequence_length):
      raise InputError(
        f'sequence_length {sequence_length}: must be {plan.sequence_length}, as the plan has it'
      )
    if batch_size < 1 or batch_size % self.hosts:
      raise InputError(
        f'batch of {batch_size} rows: must be a multiple of the {self.hosts} hosts; '
        f'nearest is {max(1, round(batch_size / self.hosts)) * self.hosts}'
      )
    if not 0 <= self.host < self.hosts:
      raise InputError(f'host {self.host}: must be 0 to {self.hosts - 1}')
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
    """Number of the first row of `step` that this host reads."""
    return step * self.batch_size + self.host * (self.batch_size // self.hosts)

  def sequence_numbers(self, step: int) -> range:
    """Numbers of the rows of `step` that this host reads, in the batch's order."""
    first = self.first_sequence(step)
    return range(first, first + self.batch_size // self.hosts)

  def batch(self, step: int) -> Batch:
    """This host's batch of one step, arrays [batch_size / hosts, sequence_length]."""
    return stack(self.store.assembled(self.plan, self.sequence_numbers(step)))

  def digests(self, step: int, batch: Batch) -> dict[int, str]:
    """Number of each row of this host's `batch` of `step` -> digest (hex) of the row.

    The same words as `flan rows --digest`.
    """
    rows = (sequence_digest(Batch(*arrays)) for arrays in zip(*batch, strict=True))
    return dict(zip(self.sequence_numbers(step), rows, strict=True))

  def examples_seen(self, steps: int) -> dict[str, int]:
    """Cluster -> examples that all hosts together see in the first `steps` steps."""
    seen: dict[str, int] = {}
    for dataset, count in self.plan.counts(steps * self.batch_size).items():
      cluster = self.store.clusters[dataset]
      seen[cluster] = seen.get(cluster, 0) + count
    return seen

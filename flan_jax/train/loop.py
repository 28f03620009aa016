"""The training loop of one start of a run: steps, and hooks between them."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from flan_jax.data.loader import Loader
from flan_jax.data.packing import PackingPlan
from flan_jax.data.store.store import Store
from flan_jax.errors import InputError
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime.preemption import Stopped
from flan_jax.train.hook import Hook
from flan_jax.train.state import TrainState
from flan_jax.train.train_step import Metrics
from flan_jax.train.trainer import Trainer

RESERVED = ('train', 'evaluation', 'validation')
"""Groups of values that the run itself writes."""


@contextlib.contextmanager
def closing(calls: Sequence[Callable[[], None]]) -> Iterator[None]:
  """Calls every function after the block, though it or one of them fails.

  Raises:
    BaseException: the first error; later ones are its notes.
  """
  try:
    yield
  except BaseException as error:
    _call_all(calls, error)
    raise
  if (error := _call_all(calls, None)) is not None:
    raise error


def _call_all(
  calls: Sequence[Callable[[], None]], first: BaseException | None
) -> BaseException | None:
  for call in calls:
    try:
      call()
    except BaseException as error:
      if first is None:
        first = error
      else:
        first.add_note(f'then, at the end: {error}')
  return first


class Feed:
  """Batches of a run on the mesh, from one step on; each process loads its part."""

  def __init__(self, trainer: Trainer, store: Store, plan: PackingPlan, *, start: int):
    """Starts to load.

    Args:
      trainer: trainer, with the shape of a batch.
      store: source of the examples.
      plan: packing plan of the run.
      start: steps done.
    """
    settings = trainer.settings
    self._shape = settings.batch_size, settings.sequence_length
    self._sharding = mesh_lib.batch_sharding(trainer.mesh, settings.mesh.rules)
    part, parts = mesh_lib.process_share(self._sharding, self._shape)
    self._loader = Loader(
      store,
      plan,
      batch_size=settings.batch_size,
      start_step=start,
      process_index=part,
      process_count=parts,
    )
    self._batches = iter(self._loader)
    self._sequences: Any = None

  def next(self) -> Any:
    """The next batch, on the mesh."""
    self._sequences = next(self._batches)
    return mesh_lib.put_batch(self._sequences, self._sharding, shape=self._shape)

  def digests(self, step: int) -> dict[int, str]:
    """Number -> digest of the sequences of this process in the last batch.

    Args:
      step: number of steps before the batch.
    """
    return self._loader.digests(step, self._sequences)


class Loop:
  """Steps of a run from `done` to `end`, and what hooks see of them.

  Attributes:
    state: state after `done` steps.
    frozen: parameters of the frozen model, or None.
    done, end: steps done now, and in the end.
    metrics: metrics of the last step, on the device.
    digests: number -> digest of the sequences that this process fed to it.
    waited_s: seconds for which the next step waited for its batch.
    ending: whether no further step follows: the last one is done, or a hook ends the
      loop after a signal.
  """

  def __init__(
    self,
    state: TrainState,
    *,
    frozen: Any,
    start: int,
    end: int,
    hooks: Sequence[Hook],
    record: Callable[..., None] = lambda kind, seconds: None,
    write: Callable[[int, dict[str, float]], None] = lambda step, values: None,
  ):
    """Sets the loop up.

    Args:
      state: state after `start` steps.
      frozen: parameters of the frozen model, or None.
      start: steps done.
      end: steps in the end.
      hooks: called between steps, in this order.
      record: called as record(kind, seconds) for time not spent on steps.
      write: writes values by name after a number of steps, with the metric writers.
    """
    self.state, self.frozen = state, frozen
    self.done, self.end = start, end
    self.metrics: Metrics | None = None
    self.digests: Mapping[int, str] = {}
    self.waited_s = 0.0
    self.ending = False
    self._hooks = tuple(hooks)
    self._record, self._write = record, write

  def run(self, step: Callable[..., Any], feed: Feed, batch: Any) -> None:
    """Runs the steps; leaves `state` and `done` as they are after the last.

    Args:
      step: compiled train step.
      feed: source of the batches after the first.
      batch: the first batch, on the mesh.

    Raises:
      BadStep: at a bad step, if the run stops there.
      Stopped: if a signal comes before the first step.
    """
    frozen = () if self.frozen is None else (self.frozen,)
    with closing([hook.close for hook in reversed(self._hooks)]):
      for hook in self._hooks:
        hook.start(self)
      while not self.ending:
        with contextlib.ExitStack() as around:
          for hook in self._hooks:
            around.enter_context(hook.around(self.done + 1))
          self.state, self.metrics = step(self.state, batch, *frozen)
        self.digests = feed.digests(self.done)  # while the device computes
        self.done += 1
        self.ending = self.done == self.end
        waiting = time.monotonic()
        if not self.ending:
          batch = feed.next()
        self.waited_s = time.monotonic() - waiting
        try:
          for hook in self._hooks:
            hook.after(self)
        except Stopped:  # in an evaluation: the step is done
          self.ending = True
      for hook in self._hooks:
        hook.finish(self)

  def write(self, values: Mapping[str, Any]) -> None:
    """Writes values by name, as 'norms/params', after the steps that are done.

    Raises:
      InputError: if a name has no group of its own, or a value is not a number.
    """
    for name, value in values.items():
      group, slash, _ = str(name).partition('/')
      if not slash or group in RESERVED or not isinstance(name, str):
        raise InputError(
          f'loop.write: name {name!r}: must be a group of your own and a name, as '
          f"'norms/params'; {', '.join(RESERVED)} are the run's"
        )
      if np.ndim(value) or isinstance(value, (str, bytes)):
        raise InputError(f'loop.write: {name!r}: got {value!r:.40}; must be a number')
    self._write(self.done, {name: float(value) for name, value in values.items()})

  @contextlib.contextmanager
  def aside(self, kind: str) -> Iterator[None]:
    """Context of work between steps: its time is recorded as `kind`, not as steps."""
    began = time.monotonic()
    try:
      yield
    finally:
      seconds = time.monotonic() - began
      self._record(kind, seconds)
      for hook in self._hooks:
        hook.aside(seconds)

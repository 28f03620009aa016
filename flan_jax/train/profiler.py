"""A trace of a few steps for xprof: the time of a step by operation and device."""

import os
import pathlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from flan_jax.errors import InputError


def check() -> None:
  """Checks that a trace can be made here, before anything takes time.

  Raises:
    InputError: if libtpu is loaded without a TPU: its profiler then kills the process
      that starts a trace.
  """
  maps = pathlib.Path('/proc/self/maps')  # Linux only, like libtpu
  loaded = maps.is_file() and 'libtpu' in maps.read_text(errors='replace')
  if loaded and jax.default_backend() != 'tpu':
    raise InputError(
      '--profile: libtpu is loaded and there is no TPU, so its profiler would kill the '
      'process; set JAX_PLATFORMS=cpu (or cuda) in the environment'
    )


class Profile:
  """Traces `steps` steps of a run once it is warm.

  The first two steps of a start are left out: they wait for the program to be loaded
  and for the first batch.

  Attributes:
    folder: folder of the trace, which is `plugins/profile/TIME/HOST.xplane.pb` there.
    first, last: traced steps, counted from 1; last < first for none.
  """

  WARM = 2

  def __init__(
    self, folder: str | os.PathLike, *, steps: int, start: int = 0, end: int
  ):
    """Chooses up to `steps` of the steps from `start` to `end`."""
    self.folder = pathlib.Path(folder)
    self.first = min(start + self.WARM, max(start, end - steps)) + 1
    self.last = min(self.first + steps - 1, end)
    self._on = False

  @contextmanager
  def step(self, number: int) -> Iterator[None]:
    """Annotates the dispatch of one step; starts the trace at the first traced one."""
    if number == self.first and self.last >= self.first:
      jax.profiler.start_trace(self.folder)
      self._on = True
    with jax.profiler.StepTraceAnnotation('train', step_num=number):
      yield

  def after(self, number: int, outputs: Any) -> bool:
    """Ends the trace once the last traced step is computed; returns whether it did."""
    if not self._on or number < self.last:
      return False
    jax.block_until_ready(outputs)
    self.close()
    return True

  def close(self) -> None:
    """Writes the trace; a run that ends early keeps the steps it has done."""
    if self._on:
      self._on = False
      jax.profiler.stop_trace()

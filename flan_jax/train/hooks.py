"""Hooks of the training loop, from the watchdog to the evaluation.

A run has them in the order of this module: the log comes before the checkpoint, so that
no state after a bad step is ever saved.
"""

import contextlib
import datetime
import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import optax

from flan_jax.runtime.preemption import Stop
from flan_jax.runtime.progress import Bar, Progress
from flan_jax.train import metric_writer
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.evaluation import Evaluation
from flan_jax.train.goodput import GoodputLog
from flan_jax.train.hook import Hook
from flan_jax.train.loop import Loop
from flan_jax.train.metric_writer import MetricWriter
from flan_jax.train.profiler import Profile as Trace


class Watchdog(Hook):
  """Dumps the stack of every thread after a timeout without progress.

  A thread writes the dump, with the GIL: the others do not change their stacks
  meanwhile. If it does not get the GIL within a minute, as when a library hangs with
  it, a thread of faulthandler writes the dump without.
  """

  def __init__(self, timeout_s: float):
    """Sets the timeout between two steps; 0 never dumps.

    Args:
      timeout_s: seconds, at most a year; fewer than one second count as one.
    """
    self._timeout_s = max(timeout_s, 1.0) if timeout_s > 0 else 0.0
    self._changed = threading.Condition()
    self._deadline = 0.0
    self._thread: threading.Thread | None = None

  def start(self, loop: Loop) -> None:
    self._restart()
    if self._timeout_s > 0:
      self._thread = threading.Thread(target=self._watch, daemon=True, name='watchdog')
      self._thread.start()

  def after(self, loop: Loop) -> None:
    self._restart()

  def aside(self, seconds: float) -> None:
    self._restart()

  def close(self) -> None:
    thread, self._thread = self._thread, None
    if thread is not None:
      with self._changed:
        self._deadline = 0.0
        self._changed.notify()
      thread.join()
    if self._timeout_s > 0:
      faulthandler.cancel_dump_traceback_later()

  def _restart(self) -> None:
    if self._timeout_s > 0:
      self._deadline = time.monotonic() + self._timeout_s
      self._without_gil()

  def _without_gil(self) -> None:
    faulthandler.dump_traceback_later(self._timeout_s + 60, file=_stderr())

  def _watch(self) -> None:
    with self._changed:
      while self._deadline:
        left = self._deadline - time.monotonic()
        if left > 0:
          self._changed.wait(left)
          continue
        _stderr().write(f'Timeout ({datetime.timedelta(seconds=self._timeout_s)})!\n')
        faulthandler.dump_traceback(file=_stderr())
        self._restart()


def _stderr() -> Any:
  """Standard error with a descriptor, which faulthandler needs."""
  return sys.__stderr__ or sys.stderr


class Profile(Hook):
  """Traces a few steps once the run is warm."""

  def __init__(self, trace: Trace, *, progress: Progress):
    self._trace, self._progress = trace, progress

  def around(self, step: int) -> contextlib.AbstractContextManager[None]:
    return self._trace.step(step)

  def after(self, loop: Loop) -> None:
    trace = self._trace
    if trace.after(loop.done, loop.metrics):
      self._progress.line(f'steps {trace.first} to {trace.last} traced: {trace.folder}')

  def close(self) -> None:
    self._trace.close()


class Preemption(Hook):
  """Ends the loop after the step during which SIGTERM came."""

  def __init__(self, stop: Stop):
    self._stop = stop

  def after(self, loop: Loop) -> None:
    # Asked after every step, the last one too: all processes ask equally often.
    if self._stop.asked():
      loop.ending = True


class Periodic(Hook):
  """Acts every `every` steps, ahead of other hooks, and after the last step.

  Attributes:
    acted: the step at which it acted last; before that, the step of the start.
  """

  def __init__(self, every: int, *, ahead_of: Sequence[Hook] = ()):
    """Sets the steps at which to act.

    Args:
      every: steps between two of them.
      ahead_of: later hooks; this one also acts whenever one of them is due.
    """
    self.every = every
    self.acted = 0
    self._ahead_of = tuple(ahead_of)

  def due(self, loop: Loop) -> bool:
    return super().due(loop) or any(hook.due(loop) for hook in self._ahead_of)

  def start(self, loop: Loop) -> None:
    self.acted = loop.done

  def after(self, loop: Loop) -> None:
    if self.due(loop):
      self._once(loop)

  def finish(self, loop: Loop) -> None:
    if self.acted < loop.done:
      self._once(loop)

  def _once(self, loop: Loop) -> None:
    self.act(loop)
    self.acted = loop.done


class Log(Periodic):
  """Writes the metrics of the steps since the last entry, and shows them."""

  def __init__(
    self,
    writer: MetricWriter,
    *,
    every: int,
    schedule: optax.Schedule | None,
    bar: Bar,
    ahead_of: Sequence[Hook] = (),
  ):
    """Sets the log up.

    Args:
      writer: writer of the entries.
      every: steps between two entries.
      schedule: learning rate as a function of the step; None writes none.
      bar: progress bar of the steps.
      ahead_of: hooks before which an entry is written, such as a checkpoint.
    """
    super().__init__(every, ahead_of=ahead_of)
    self._writer, self._schedule, self._bar = writer, schedule, bar
    self._text = ''

  def start(self, loop: Loop) -> None:
    super().start(loop)
    self._writer.pause()

  def after(self, loop: Loop) -> None:
    assert loop.metrics is not None
    self._writer.add(loop.metrics, digests=loop.digests, wait_s=loop.waited_s)
    super().after(loop)
    self._bar.advance(1, self._text)

  def act(self, loop: Loop) -> None:
    rate = None
    if self._schedule is not None:
      rate = float(cast(float, self._schedule(loop.done - 1)))
    entry = self._writer.flush(loop.done, learning_rate=rate)
    self._text = metric_writer.summary(entry)

  def aside(self, seconds: float) -> None:
    self._writer.pause(seconds)


class Goodput(Periodic):
  """Records the time of steps, and of waits for data, since the last record."""

  def __init__(self, records: GoodputLog, *, every: int, ahead_of: Sequence[Hook] = ()):
    """Sets the records up; `every` and `ahead_of` as in Log."""
    super().__init__(every, ahead_of=ahead_of)
    self._records = records
    self._since, self._waited_s = 0.0, 0.0

  def start(self, loop: Loop) -> None:
    super().start(loop)
    self._since = time.monotonic()

  def after(self, loop: Loop) -> None:
    self._waited_s += loop.waited_s
    super().after(loop)

  def act(self, loop: Loop) -> None:
    now = time.monotonic()
    steps = {'from': self.acted, 'to': loop.done}
    self._records.add('step', now - self._since - self._waited_s, **steps)
    if self._waited_s:
      self._records.add('data wait', self._waited_s)
    self._since, self._waited_s = now, 0.0

  def aside(self, seconds: float) -> None:
    self._since += seconds


class Checkpoint(Periodic):
  """Starts to save the state, after it has sent out the log."""

  def __init__(
    self,
    checkpoints: Checkpoints,
    *,
    every: int,
    metadata: dict[str, Any],
    of_step: Callable[[int], dict[str, Any]] = lambda step: {},
    push: Callable[[], None] = lambda: None,
  ):
    """Sets the checkpoints up.

    Args:
      checkpoints: checkpoints of the run.
      every: steps between two checkpoints.
      metadata: metadata of every checkpoint.
      of_step: step -> further metadata of its checkpoint.
      push: called before a save; it sends out the log, which may be ahead.
    """
    super().__init__(every)
    self._checkpoints, self._metadata, self._push = checkpoints, metadata, push
    self._of_step = of_step

  def act(self, loop: Loop) -> None:
    with loop.aside('save'):
      self._push()
      metadata = {**self._metadata, **self._of_step(loop.done), 'step': loop.done}
      self._checkpoints.save(loop.state, step=loop.done, metadata=metadata)


class Evaluate(Hook):
  """Evaluates on dev every `every` steps, and after the last step of the run.

  If the previous process stopped before an evaluation that was due, it runs first.
  """

  def __init__(
    self,
    evaluation: Evaluation,
    *,
    every: int,
    merge: Callable[..., Any],
    stop: Stop,
    write: Callable[[int, Mapping[str, float]], None] = lambda step, values: None,
  ):
    """Sets the evaluation up.

    Args:
      evaluation: evaluation on dev.
      every: steps between two evaluations.
      merge: (state, frozen parameters) -> parameters of the tuned model.
      stop: request to stop, which an evaluation obeys at once.
      write: called with the step and the figures by name.
    """
    self.every = every
    self._write = write
    self._evaluation, self._merge, self._stop = evaluation, merge, stop

  def due(self, loop: Loop) -> bool:
    if loop.done == loop.end:
      return loop.done > 0
    return not loop.ending and loop.done > 0 and super().due(loop)

  def start(self, loop: Loop) -> None:
    if self.due(loop) and not self._evaluation.has_evaluated(loop.done):
      self.act(loop)

  def act(self, loop: Loop) -> None:
    with self._stop.at_once(), loop.aside('evaluation'):
      tuned = self._merge(loop.state, loop.frozen)
      found = self._evaluation.during(tuned, step=loop.done)
    self._write(loop.done, self._evaluation.values(found))

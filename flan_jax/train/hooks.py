"""Hooks of the training loop: log, goodput, checkpoint, evaluate, profile, preemption.

A run has them in the order of this module: the log comes before the checkpoint, so that
no state after a bad step is ever saved.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import optax

from flan_jax.runtime.preemption import Stop
from flan_jax.runtime.preemption import Watchdog as Timer
from flan_jax.runtime.progress import Bar, Progress
from flan_jax.train import metric_writer
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.evaluation import Evaluation
from flan_jax.train.goodput import GoodputLog
from flan_jax.train.loop import Hook, Loop
from flan_jax.train.metric_writer import MetricWriter
from flan_jax.train.profiler import Profile as Trace


class Watchdog(Hook):
  """Dumps every thread's stack after `timeout_s` seconds without a step; 0 never."""

  def __init__(self, timeout_s: float):
    self._timer = Timer(timeout_s)

  def start(self, loop: Loop) -> None:
    self._timer.__enter__()

  def after(self, loop: Loop) -> None:
    self._timer.beat()

  def aside(self, seconds: float) -> None:
    self._timer.beat()

  def close(self) -> None:
    self._timer.__exit__()


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


class Log(Hook):
  """Writes the metrics of the steps since the last entry, and shows them."""

  def __init__(
    self,
    writer: MetricWriter,
    *,
    every: int,
    schedule: optax.Schedule,
    bar: Bar,
    before: Sequence[Hook] = (),
  ):
    """Sets the log up.

    Args:
      writer: writer of the entries.
      every: steps between two entries.
      schedule: learning rate as a function of the step.
      bar: progress bar of the steps.
      before: hooks before which an entry is written, as before a checkpoint.
    """
    self.every = every
    self._writer, self._schedule, self._bar = writer, schedule, bar
    self._before = before
    self._logged = 0

  def due(self, loop: Loop) -> bool:
    return super().due(loop) or any(hook.due(loop) for hook in self._before)

  def start(self, loop: Loop) -> None:
    self._logged = loop.done
    self._writer.pause()

  def after(self, loop: Loop) -> None:
    assert loop.metrics is not None
    self._writer.add(loop.metrics, digests=loop.digests, wait_s=loop.waited_s)
    text = self._flush(loop) if self.due(loop) else ''
    self._bar.advance(1, text)

  def aside(self, seconds: float) -> None:
    self._writer.pause(seconds)

  def finish(self, loop: Loop) -> None:
    if self._logged < loop.done:
      self._flush(loop)

  def close(self) -> None:
    self._writer.close()

  def _flush(self, loop: Loop) -> str:
    rate = float(self._schedule(loop.done - 1))
    entry = self._writer.flush(loop.done, learning_rate=rate)
    self._logged = loop.done
    return metric_writer.summary(entry)


class Goodput(Hook):
  """Records the time of steps, and of waits for data, since the last record."""

  def __init__(self, records: GoodputLog, *, every: int, before: Sequence[Hook] = ()):
    """Sets the records up; `before` as in Log."""
    self.every = every
    self._records, self._before = records, before
    self._since, self._waited_s, self._recorded = 0.0, 0.0, 0

  def due(self, loop: Loop) -> bool:
    return super().due(loop) or any(hook.due(loop) for hook in self._before)

  def start(self, loop: Loop) -> None:
    self._since, self._recorded = time.monotonic(), loop.done

  def after(self, loop: Loop) -> None:
    self._waited_s += loop.waited_s
    super().after(loop)

  def aside(self, seconds: float) -> None:
    self._since += seconds

  def act(self, loop: Loop) -> None:
    now = time.monotonic()
    steps = {'from': self._recorded, 'to': loop.done}
    self._records.add('step', now - self._since - self._waited_s, **steps)
    if self._waited_s:
      self._records.add('data wait', self._waited_s)
    self._since, self._waited_s, self._recorded = now, 0.0, loop.done

  def finish(self, loop: Loop) -> None:
    if self._recorded < loop.done:
      self.act(loop)


class Checkpoint(Hook):
  """Starts to save the state, and sends the log out before."""

  def __init__(
    self,
    checkpoints: Checkpoints,
    *,
    every: int,
    metadata: dict[str, Any],
    push: Callable[[], None] = lambda: None,
  ):
    """Sets the checkpoints up.

    Args:
      checkpoints: checkpoints of the run.
      every: steps between two checkpoints.
      metadata: metadata of every checkpoint.
      push: called before a save; it sends out the log, which may be ahead.
    """
    self.every = every
    self._checkpoints, self._metadata, self._push = checkpoints, metadata, push
    self._saved = 0

  def start(self, loop: Loop) -> None:
    self._saved = loop.done

  def act(self, loop: Loop) -> None:
    with loop.aside('save'):
      self._push()
      metadata = {**self._metadata, 'step': loop.done}
      self._checkpoints.save(loop.state, step=loop.done, metadata=metadata)
    self._saved = loop.done

  def finish(self, loop: Loop) -> None:
    if self._saved < loop.done:
      self.act(loop)


class Evaluate(Hook):
  """Evaluates on dev of the held-out clusters.

  If the previous process stopped before an evaluation that was due, it runs first.
  """

  def __init__(
    self,
    evaluation: Evaluation,
    *,
    every: int,
    merge: Callable[..., Any],
    stop: Stop,
  ):
    """Sets the evaluation up.

    Args:
      evaluation: held-out evaluation.
      every: steps between two evaluations.
      merge: (state, frozen parameters) -> parameters of the tuned model.
      stop: request to stop, which an evaluation obeys at once.
    """
    self.every = every
    self._evaluation, self._merge, self._stop = evaluation, merge, stop

  def due(self, loop: Loop) -> bool:
    return not loop.ending and loop.done > 0 and super().due(loop)

  def start(self, loop: Loop) -> None:
    if self.due(loop) and not self._evaluation.has_evaluated(loop.done):
      self.act(loop)

  def act(self, loop: Loop) -> None:
    with self._stop.at_once(), loop.aside('evaluation'):
      tuned = self._merge(loop.state, loop.frozen)
      self._evaluation.during(tuned, step=loop.done)

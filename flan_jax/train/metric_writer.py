"""Metrics of the training steps: one entry per log period."""

import time
from collections.abc import Mapping, Sequence

import jax

from flan_jax.runtime import multihost
from flan_jax.train.run_dir import RunDir
from flan_jax.train.train_step import Metrics
from flan_jax.train.writers.fan_out import Writers
from flan_jax.train.writers.jsonl import TRAIN, JsonlFile


class MetricWriter:
  """Collects the metrics of steps and gives one entry per log period to the writers.

  Device values are fetched once per period, so that no single step is waited for.

  A line of sequences.jsonl has the digests of the period's sequences of all processes
  by their numbers, as `flan rows --digest` prints them, to compare what runs were
  trained on.
  """

  def __init__(
    self,
    folder: RunDir,
    writers: Writers,
    *,
    start_step: int,
    batch_tokens: int,
    flops_per_token: float,
    write: bool = True,
    bad_step: str = 'stop',
  ):
    self._writers = writers
    self._bad_step = bad_step
    self._sequences = None
    if write:
      self._sequences = JsonlFile(folder.sequences, step=start_step)
    self._batch_tokens = batch_tokens
    self._flops_per_token = flops_per_token
    self._metrics: list[Metrics] = []
    self._digests: dict[int, str] = {}
    self._wait_s = 0.0
    self._since = time.monotonic()

  def add(self, metrics: Metrics, *, digests: Mapping[int, str], wait_s: float) -> None:
    """Adds one step.

    Args:
      metrics: metrics of the step, on the device.
      digests: number of each sequence that this process fed -> digest (hex).
      wait_s: seconds for which the next step waited for data.
    """
    self._metrics.append(metrics)
    self._digests.update(digests)
    self._wait_s += wait_s

  def flush(self, step: int, *, learning_rate: float | None) -> dict[str, float]:
    """Writes the entry of the steps since the last one; waits for them to finish.

    Bad steps are counted, and left out of the means. Every process must call it:
    process 0 writes the digests of all.

    Returns:
      The figures of the entry.

    Raises:
      BadStep: at the first bad step, if the run stops there.
    """
    steps: Sequence[Metrics] = jax.device_get(self._metrics)
    before = step - len(steps)
    bad = [i for i, m in enumerate(steps, before + 1) if m.bad]
    if bad and self._bad_step == 'stop':
      m = steps[bad[0] - before - 1]
      raise BadStep(bad[0], float(m.loss / max(m.weight, 1.0)), float(m.gradient_norm))
    count, steps = len(steps), [m for m in steps if not m.bad]
    elapsed_s = time.monotonic() - self._since
    weight = sum(float(m.weight) for m in steps)
    tokens = self._batch_tokens * count  # padding included
    entry = {
      'loss': sum(float(m.loss) for m in steps) / max(weight, 1.0) if steps else None,
      'accuracy': sum(float(m.correct) for m in steps) / max(weight, 1.0),
      'gradient_norm': float(steps[-1].gradient_norm) if steps else 0.0,
      'learning_rate': learning_rate,
      'loss_tokens': weight,
      'tokens_per_s': sum(float(m.tokens) for m in steps) / elapsed_s,
      'step_s': elapsed_s / count,
      'model_gflop_per_s': tokens * self._flops_per_token / elapsed_s / 1e9,
      'data_wait': self._wait_s / elapsed_s,
      'bad_steps': len(bad),
    }
    digests = multihost.union(self._digests)
    if self._sequences is not None:
      self._sequences.add({'step': step, 'sequences': digests})
    self._writers.write(step, {f'{TRAIN}/{name}': x for name, x in entry.items()})
    self._metrics, self._digests = [], {}
    self._wait_s, self._since = 0.0, time.monotonic()
    return entry

  def pause(self, seconds: float | None = None) -> None:
    """Excludes the last `seconds`, which were not training; None: all until now."""
    now = time.monotonic()
    self._since = now if seconds is None else min(now, self._since + seconds)


class BadStep(Exception):
  """A step whose loss or gradient is not finite, or whose loss spikes."""

  def __init__(self, step: int, loss: float, norm: float):
    super().__init__(f'step {step:,}: loss {loss:.3g} nats, gradient norm {norm:.3g}')


def summary(entry: dict[str, float]) -> str:
  """The text of the progress bar beside its count."""
  loss = 'no good step' if entry['loss'] is None else f'loss {entry["loss"]:.3f} nats'
  bad = f', {entry["bad_steps"]:.0f} bad steps' if entry['bad_steps'] else ''
  speed = f'{entry["model_gflop_per_s"]:,.0f} GFLOP/s'
  return (
    f'{loss}, accuracy {entry["accuracy"]:.1%}, '
    f'{entry["tokens_per_s"]:,.0f} tokens/s, {speed}, '
    f'data wait {entry["data_wait"]:.1%}{bad}'
  )

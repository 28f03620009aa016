"""The log of a run: JSON lines, TensorBoard, and the note of the progress bar."""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence

import jax

from flan_jax.runtime import atomic_file, multihost
from flan_jax.train.run_dir import Folder
from flan_jax.train.train_step import Metrics


class Log:
  """Collects the metrics of steps and writes one entry per log period.

  Device values are fetched once per period, so a step is never waited for alone.

  The entry also holds "rows", the digests of all hosts' rows by their numbers, as
  `flan rows --digest` prints them: what a run has read is there to be compared.
  """

  def __init__(
    self,
    folder: Folder,
    *,
    start_step: int,
    batch_tokens: int,
    flops_per_token: float,
    write: bool = True,
    bad_step: str = 'stop',
  ):
    self._path = folder.log
    self._tensorboard = folder.tensorboard
    self._start_step = start_step
    self._write = write
    self._writer = None
    self._bad_step = bad_step
    if write:
      _forget_after(self._path, start_step)
    self._batch_tokens = batch_tokens
    self._flops_per_token = flops_per_token
    self._metrics: list[Metrics] = []
    self._rows: dict[int, str] = {}
    self._wait_s = 0.0
    self._since = time.monotonic()

  def add(self, metrics: Metrics, *, rows: Mapping[int, str], wait_s: float) -> None:
    """One step.

    Args:
      metrics: of the step, on the device.
      rows: number of each row that this host fed it -> digest (hex).
      wait_s: how long the data kept the next step waiting.
    """
    self._metrics.append(metrics)
    self._rows.update(rows)
    self._wait_s += wait_s

  def flush(self, step: int, *, learning_rate: float) -> dict[str, float]:
    """Writes the entry of the steps since the last one; waits for them to finish.

    Steps judged bad are counted, and left out of the means. With several hosts all must
    call it: the entry, host 0's to write, holds the rows of them all.

    Returns:
      Its figures, all but the rows.

    Raises:
      BadStep: at the first bad step of a run that stops there.
    """
    steps: Sequence[Metrics] = jax.device_get(self._metrics)
    before = step - len(steps)
    bad = [i for i, m in enumerate(steps, before + 1) if m.bad]
    if bad and self._bad_step == 'stop':
      m = steps[bad[0] - before - 1]
      raise BadStep(bad[0], float(m.loss / max(m.weight, 1.0)), float(m.gradient_norm))
    steps, every = [m for m in steps if not m.bad], steps
    elapsed_s = time.monotonic() - self._since
    weight = sum(float(m.weight) for m in steps)
    positions = self._batch_tokens * len(every)
    entry = {
      'step': step,
      'loss': sum(float(m.loss) for m in steps) / max(weight, 1.0) if steps else None,
      'accuracy': sum(float(m.correct) for m in steps) / max(weight, 1.0),
      'gradient_norm': float(steps[-1].gradient_norm) if steps else 0.0,
      'learning_rate': learning_rate,
      'loss_tokens': weight,
      'tokens_per_s': sum(float(m.tokens) for m in steps) / elapsed_s,
      'step_s': elapsed_s / len(every),
      'model_gflop_per_s': positions * self._flops_per_token / elapsed_s / 1e9,
      'data_wait': self._wait_s / elapsed_s,
      'bad_steps': len(bad),
    }
    rows = multihost.union(self._rows)
    if self._write:
      with self._path.open('a', encoding='utf-8') as file:
        file.write(json.dumps({**entry, 'sequences': rows}) + '\n')
      if self._writer is None:  # the package is slow to import: after the first steps
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(
          str(self._tensorboard), purge_step=self._start_step + 1
        )
      for name, value in entry.items():
        if name != 'step' and value is not None:
          self._writer.add_scalar(f'train/{name}', value, step)
    self._metrics, self._rows = [], {}
    self._wait_s, self._since = 0.0, time.monotonic()
    return entry

  def pause(self, seconds: float | None = None) -> None:
    """Leaves out the last `seconds`, which were not training; None: all till now."""
    now = time.monotonic()
    self._since = now if seconds is None else min(now, self._since + seconds)

  def close(self) -> None:
    if self._writer is not None:
      self._writer.close()


class BadStep(Exception):
  """A step whose loss or gradient is not finite, or whose loss spikes."""

  def __init__(self, step: int, loss: float, norm: float):
    super().__init__(f'step {step:,}: loss {loss:.3g} nats, gradient norm {norm:.3g}')


def note(entry: dict[str, float]) -> str:
  """What the progress bar says beside its count."""
  loss = 'no good step' if entry['loss'] is None else f'loss {entry["loss"]:.3f} nats'
  bad = f', {entry["bad_steps"]:.0f} bad steps' if entry['bad_steps'] else ''
  speed = f'{entry["model_gflop_per_s"]:,.0f} GFLOP/s'
  return (
    f'{loss}, accuracy {entry["accuracy"]:.1%}, '
    f'{entry["tokens_per_s"]:,.0f} tokens/s, {speed}, '
    f'data wait {entry["data_wait"]:.1%}{bad}'
  )


def _forget_after(path: pathlib.Path, step: int) -> None:
  """Drops the entries of steps that will be run again."""
  if not path.is_file():
    return
  lines = path.read_text(encoding='utf-8').splitlines()
  kept = [line for line in lines if _step(line) <= step]
  atomic_file.write_text(path, ''.join(f'{line}\n' for line in kept))


def _step(line: str) -> float:
  """The step of a log line; a line cut off by a kill counts as never written."""
  try:
    return json.loads(line)['step']
  except (json.JSONDecodeError, KeyError):
    return float('inf')

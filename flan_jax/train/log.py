"""The log of a run: JSON lines, TensorBoard, and the note of the progress bar."""

import json
import pathlib
import time
from collections.abc import Mapping, Sequence

import jax

from flan_jax.train.folder import Folder, write
from flan_jax.train.step import Metrics


class Log:
  """Collects the metrics of steps and writes one entry per log period.

  Device values are fetched once per period, so a step is never waited for alone.

  The entry also holds "rows", the digests of this host's rows by their numbers, as
  `flan rows --digest` prints them: what a run has read is there to be compared.
  """

  def __init__(
    self, folder: Folder, *, start_step: int, batch_tokens: int, flops_per_token: float
  ):
    from tensorboardX import SummaryWriter

    self._path = folder.log
    _forget_after(self._path, start_step)
    self._writer = SummaryWriter(str(folder.tensorboard), purge_step=start_step + 1)
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

    Returns:
      Its figures, all but the rows.
    """
    steps: Sequence[Metrics] = jax.device_get(self._metrics)
    elapsed_s = time.monotonic() - self._since
    weight = sum(float(m.weight) for m in steps)
    positions = self._batch_tokens * len(steps)
    entry = {
      'step': step,
      'loss': sum(float(m.loss) for m in steps) / max(weight, 1.0),
      'accuracy': sum(float(m.correct) for m in steps) / max(weight, 1.0),
      'gradient_norm': float(steps[-1].gradient_norm),
      'learning_rate': learning_rate,
      'loss_tokens': weight,
      'tokens_per_s': sum(float(m.tokens) for m in steps) / elapsed_s,
      'step_s': elapsed_s / len(steps),
      'model_gflop_per_s': positions * self._flops_per_token / elapsed_s / 1e9,
      'data_wait': self._wait_s / elapsed_s,
    }
    with self._path.open('a', encoding='utf-8') as file:
      file.write(json.dumps({**entry, 'rows': self._rows}) + '\n')
    for name, value in entry.items():
      if name != 'step':
        self._writer.add_scalar(f'train/{name}', value, step)
    self._metrics, self._rows = [], {}
    self._wait_s, self._since = 0.0, time.monotonic()
    return entry

  def pause(self) -> None:
    """Starts the clock anew, after something that is not training."""
    self._since = time.monotonic()

  def close(self) -> None:
    self._writer.close()


def note(entry: dict[str, float]) -> str:
  """What the progress bar says beside its count."""
  return (
    f'loss {entry["loss"]:.3f} nats, accuracy {entry["accuracy"]:.1%}, '
    f'{entry["tokens_per_s"]:,.0f} tokens/s, '
    f'{entry["model_gflop_per_s"]:,.0f} GFLOP/s, data wait {entry["data_wait"]:.1%}'
  )


def _forget_after(path: pathlib.Path, step: int) -> None:
  """Drops the entries of steps that will be run again."""
  if not path.is_file():
    return
  lines = path.read_text(encoding='utf-8').splitlines()
  kept = [line for line in lines if _step(line) <= step]
  write(path, ''.join(f'{line}\n' for line in kept))


def _step(line: str) -> float:
  """The step of a log line; a line cut off by a kill counts as never written."""
  try:
    return json.loads(line)['step']
  except (json.JSONDecodeError, KeyError):
    return float('inf')

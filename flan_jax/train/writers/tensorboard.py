"""TensorBoard: event files in MODEL_DIR/tensorboard."""

import contextlib
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from flan_jax.train.writers.writer import RunInfo, Writer, metric_writer


@metric_writer('tensorboard')
class TensorBoard(Writer):
  """Writes scalars; those of steps that are recomputed are purged."""

  def __init__(self, run: RunInfo):
    self._run = run
    self._writer: Any = None

  def write(self, step: int, values: Mapping[str, float | None]) -> None:
    writer = self._opened()
    for name, value in values.items():
      if value is not None:
        writer.add_scalar(name, value, step)
    writer.flush()

  def close(self, finished: bool) -> None:
    if self._writer is not None:
      self._writer.close()

  def _opened(self) -> Any:
    if self._writer is None:  # imported after the first steps, since it is slow
      with _absent('torch', 'boto3', 'google.cloud.storage'):
        from tensorboardX import SummaryWriter

      folder: pathlib.Path = self._run.folder / 'tensorboard'
      self._writer = SummaryWriter(
        str(folder),
        purge_step=self._run.step + 1,
        filename_suffix=f'.{self._run.step}',  # two starts in one second
      )
      self._writer.add_text('config.gin', _indented(self._run.config), self._run.step)
      if self._run.commit:
        self._writer.add_text('git commit', self._run.commit, self._run.step)
    return self._writer


@contextlib.contextmanager
def _absent(*names: str) -> Iterator[None]:
  """Makes imports of modules fail, unless they are imported already.

  tensorboardX imports them wherever they are installed, for what is not written here:
  seconds for torch alone.
  """
  names = tuple(name for name in names if name not in sys.modules)
  sys.modules.update(dict.fromkeys(names))  # pyright: ignore  # None: no such module
  try:
    yield
  finally:
    for name in names:
      del sys.modules[name]


def _indented(text: str) -> str:
  """Text as Markdown shows it unchanged: a code block."""
  return '\n'.join(f'    {line}' for line in text.splitlines())

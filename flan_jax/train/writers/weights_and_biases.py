"""Weights & Biases. Its own variables hold: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY."""

import os
import pathlib
import secrets
from collections.abc import Mapping
from typing import Any

from flan_jax.train.writers.writer import RunInfo, Writer, metric_writer

_INIT_S = 15
"""Seconds that the server has to answer at the start."""

_FINISH_S = 15
"""Seconds that an upload has at the end; `wandb sync` sends what is left."""


@metric_writer('wandb', needs={'wandb': "'flan_jax[wandb]'"})
class WandB(Writer):
  """A run of W&B in MODEL_DIR/wandb; offline if its server cannot be reached."""

  remote = True

  def __init__(self, run: RunInfo):
    os.environ.setdefault('WANDB_SILENT', 'true')
    import wandb

    self._folder = run.folder
    kept = run.saved_id('wandb') or secrets.token_hex(4)
    run.save_id('wandb', kept)
    self._alone = False
    try:
      self._run = self._init(run, kept, None)
    except wandb.Error as error:
      wandb.teardown()  # forgets the id
      self._alone = True
      self._run = self._init(run, kept, 'offline')
      lines = str(error).splitlines() or [type(error).__name__]
      folder = pathlib.Path(self._run.dir).parent
      run.warn(f'{lines[0].rstrip(".")}; offline, later `wandb sync {folder}`')
    self._run.config.update(
      {**run.settings, 'git_commit': run.commit}, allow_val_change=True
    )
    self.attach(run.folder / 'config.gin')

  def _init(self, run: RunInfo, run_id: str, mode: Any) -> Any:
    import wandb

    return wandb.init(
      id=run_id,
      resume='allow',
      name=run.name,
      project=os.environ.get('WANDB_PROJECT', 'flan_jax'),
      dir=os.environ.get('WANDB_DIR', str(run.folder)),
      mode=mode,
      reinit='create_new',
      settings=wandb.Settings(
        init_timeout=_INIT_S, finish_timeout=_FINISH_S, console='off', silent=True
      ),
    )

  def write(self, step: int, values: Mapping[str, float | None]) -> None:
    self._run.log({k: v for k, v in values.items() if v is not None}, step=step)

  def attach(self, path: pathlib.Path) -> None:
    self._run.save(str(path), base_path=str(self._folder), policy='now')

  def close(self, finished: bool) -> None:
    import wandb

    self._run.finish(exit_code=0 if finished else 1)
    if self._alone:
      wandb.teardown()  # `finish` does not wait for the process that writes

"""The end of a start of a run: its last step, a signal, or an error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from flan_jax.config.recipe import Recipe
from flan_jax.errors import InputError
from flan_jax.jobs.run import Run
from flan_jax.runtime import disk, multihost, signals
from flan_jax.runtime.preemption import Stopped
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.loop import closing
from flan_jax.train.metric_writer import BadStep


def _clip(run: Run) -> str:
  """The setting that clips the gradient, with the optimizer of the run."""
  if isinstance(run.config.optimizer, Recipe):
    return f'optax.chain.args = (@optax.clip_by_global_norm(), {run.config.optimizer})'
  return 'Optimizer.clip_global_norm'


@contextmanager
def ending(run: Run, checkpoints: Checkpoints) -> Iterator[None]:
  """Context of the stages from Restore on: a signal ends it without an exception.

  Raises:
    InputError: on a bad step or a full disk, naming the last checkpoint.
  """
  finished = False

  def close() -> None:
    # close() is a barrier: skip it if a peer has died.
    if not multihost.is_peer_loss(sys.exception()):
      checkpoints.close()

  def push() -> None:
    if multihost.is_main_process():
      run.folder.push()

  ends = (close, push, lambda: run.writers.close(finished))
  with run.stop, signals.patient(), closing(ends):
    try:
      yield
      finished = True
    except Stopped:
      where = f'step {run.done:,} is saved' if run.done else 'before the first step'
      run.progress.stage(
        f'Stopped by {run.stop.name}; {where}. Rerun the same command to resume'
      )
    except BadStep as error:
      checkpoints.wait()
      raise InputError(
        f'{error}, which is not finite or a spike; {checkpoints.describe()}: lower '
        f'the learning rate, clip the gradient ({_clip(run)}), or set '
        "Run.bad_step='skip'"
      ) from None
    except OSError as error:
      if not disk.is_full(error):
        raise
      raise InputError(
        f'MODEL_DIR {run.config.model_dir!r}: the disk is full; '
        f'{checkpoints.describe()}; free some space and rerun the same command',
        field='Run.model_dir',
      ) from None

"""The train step, compiled while the run gets its parameters or its checkpoint.

XLA compiles outside of Python's lock, and so does most of what a start waits for
meanwhile: another program's compilation, the disk.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
from jax.sharding import Mesh

from flan_jax.config import training
from flan_jax.train import train_step as train_step_lib
from flan_jax.train.state import Layout


def compile_step(
  train_step: jax.stages.Wrapped,
  *,
  run: training.TrainConfig,
  layout: Layout,
  mesh: Mesh,
  frozen: Any = None,
) -> Future[jax.stages.Compiled]:
  """Starts to compile what `step.make` made, and returns at once.

  Where the run ends before, in an error perhaps, its last words do not wait.

  Args:
    train_step: of (state, batch), or (state, batch, frozen).
    run: the settings, which know the shape of a batch.
    layout: of the train state.
    mesh: the device mesh.
    frozen: shapes of the parameters that adapters rest on, or None.
  """
  rest = () if frozen is None else (frozen,)
  batch = train_step_lib.batch_shapes(run.batch_size, run.sequence_length)

  def work():
    with train_step_lib.sharded(mesh, run.mesh.rules):
      return train_step.lower(layout.shapes, batch, *rest).compile()

  thread = ThreadPoolExecutor(1, thread_name_prefix='compile')
  future = thread.submit(work)
  thread.shutdown(wait=False)
  return future

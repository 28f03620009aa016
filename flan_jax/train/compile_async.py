"""Compiles the train step while the run loads its parameters or its checkpoint.

XLA compiles outside of Python's lock, and most of the rest of the startup runs outside
of it too: the compilation of other programs, reading from disk.
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
  """Starts to compile the step of `train_step.make`, and returns at once.

  If the run fails before, its error does not wait for the compilation.

  Args:
    train_step: jitted function of (state, batch), or (state, batch, frozen).
    run: settings of the run, with the shape of a batch.
    layout: layout of the train state.
    mesh: the device mesh.
    frozen: shapes of the frozen parameters beside adapters, or None.
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

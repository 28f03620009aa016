"""Trainer: a model's train state and train step, laid out on a mesh."""

import functools
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import jax
from flax import traverse_util
from jax.sharding import Mesh

from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.training import StepConfig
from flan_jax.model import attention_dispatch
from flan_jax.model import params as params_lib
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import loss_guard, optimizer_trial, train_step
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib
from flan_jax.train import tuning as tuning_lib
from flan_jax.train.checkpoint import Checkpoints
from flan_jax.train.state import TrainState


class Trainer:
  """Train state and train step of a model on a mesh.

  Attributes:
    config: decoder config.
    settings: settings of a step.
    mesh: the device mesh.
    tuning: strategy that names the trained parameters.
    model_shapes, model_shardings: shapes and shardings of the model's parameters.
    layout: layout of the train state; its parameters are the trained ones.
    step: jitted function of (state, batch), or of (state, batch, frozen) if the model
      is frozen; the state is donated.
  """

  def __init__(self, config: DecoderConfig, settings: StepConfig, *, mesh: Mesh):
    """Lays the state out; computes nothing.

    Raises:
      InputError: if mesh, model and batch do not divide evenly, the attention kernel
        does not support the model, or the optimizer fails.
    """
    self.config, self.settings, self.mesh = config, settings, mesh
    self.tuning = tuning_lib.of(settings.lora, freeze=settings.freeze)
    rules = settings.mesh.rules
    microbatch = settings.batch_size // settings.accumulation
    self.model_shapes, model_axes = params_lib.abstract_params(config)
    shapes, axes = self.tuning.abstract(self.model_shapes, model_axes)
    check = functools.partial(
      mesh_lib.check, mesh=mesh, rules=rules, batch_size=microbatch
    )
    check(self.model_shapes, model_axes)
    if self.tuning.freezes:
      check(shapes, axes)
    attention_dispatch.check(
      settings.attention_kernel, config, sequence_length=settings.sequence_length,
      device_kind=mesh.devices.flat[0].device_kind,
    )  # fmt: skip
    self.model_shardings = mesh_lib.shardings(model_axes, mesh=mesh, rules=rules)
    plain = optimizer_lib.make_optimizer(
      settings.optimizer, config=config, logical_axes=axes, tuning=self.tuning
    )
    optimizer_lib.check(settings.optimizer, plain, params=shapes)
    guarded = loss_guard.guard(
      plain, loss_spike=settings.loss_spike, skip=settings.bad_step == 'skip'
    )
    self._layouts = {
      guards: state_lib.layout(
        config, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=rules
      )
      for guards, optimizer in ((False, plain), (True, guarded))
    }
    self._optimizer = guarded if settings.guarded else plain
    self._plain, self._trained = plain, shapes
    self.layout = self._layouts[settings.guarded]
    self.step = train_step.make(
      config, self._optimizer, layout=self.layout, mesh=mesh, rules=rules,
      frozen_shardings=self.model_shardings, **train_step.options(settings),
    )  # fmt: skip

  def try_optimizer(self) -> None:
    """Tries the optimizer on small parameters.

    Raises:
      InputError: if its updates are not finite.
    """
    optimizer_trial.check(self.settings.optimizer, self._plain, self._trained)

  @property
  def trained_parameters(self) -> int:
    """Number of parameters that are trained."""
    flat: dict[str, Any] = traverse_util.flatten_dict(
      self.layout.shapes.params, sep='/'
    )
    return sum(leaf.size for name, leaf in flat.items() if self.tuning.trains(name))

  def sharded(self) -> AbstractContextManager[None]:
    """Context for tracing and calling programs on the mesh."""
    return train_step.sharded(self.mesh, self.settings.mesh.rules)

  def lower(self) -> jax.stages.Lowered:
    """Traces the train step."""
    batch = train_step.batch_shapes(
      self.settings.batch_size, self.settings.sequence_length
    )
    frozen = (self.model_shapes,) if self.tuning.freezes else ()
    with self.sharded():
      return self.step.lower(self.layout.shapes, batch, *frozen)

  def compile(self) -> Future[jax.stages.Compiled]:
    """Starts to compile the train step, and returns at once.

    XLA compiles outside of Python's lock, so that parameters or a checkpoint load
    meanwhile. If the run fails before, its error does not wait for the compilation.
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix='compile')
    future = thread.submit(lambda: self.lower().compile())
    thread.shutdown(wait=False)
    return future

  def create(self, params: Any) -> TrainState:
    """The state of step 0.

    Args:
      params: parameters of the initial model, on the mesh.
    """
    trained = self.tuning.init(params, self.layout, seed=self.settings.seed)
    return state_lib.create(trained, self._optimizer, layout=self.layout)

  def restore(
    self, checkpoints: Checkpoints, step: int, *, metadata: dict[str, Any]
  ) -> TrainState:
    """The state of a checkpoint; with the loss guard that this run has, or without.

    Args:
      checkpoints: checkpoints of the run.
      step: step of the checkpoint.
      metadata: metadata of the checkpoint.

    Raises:
      Corrupt: if it is torn, or its bits differ from those saved.
    """
    was_guarded = metadata.get('loss_guard', False)
    layout = self._layouts[was_guarded]
    state = checkpoints.restore(step, layout=layout, metadata=metadata)
    if was_guarded == self.settings.guarded:
      return state
    moments = loss_guard.convert_state(state.optimizer, guarded=self.settings.guarded)
    return jax.device_put(state._replace(optimizer=moments), self.layout.shardings)

  def merge(self, state: TrainState, frozen: Any) -> Any:
    """Parameters of the tuned model.

    Args:
      state: train state.
      frozen: parameters of the frozen model, or None.
    """
    return self.tuning.merge(state.params, frozen)

"""TrainState: step, parameters and optimizer state, and its layout on the mesh."""

from typing import Any, Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flan_jax.config import mesh as mesh_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import adafactor

A = TypeVar('A')


class TrainState(NamedTuple, Generic[A]):
  """State of training: a tree of arrays, or of their shapes or shardings.

  Attributes:
    step: int32 scalar, steps done.
    params: the decoder's parameters, unboxed.
    optimizer: the optax state.
  """

  step: A
  params: Any
  optimizer: Any


class Layout(NamedTuple):
  """Shapes and shardings of a whole TrainState.

  Attributes:
    shapes: TrainState of ShapeDtypeStructs.
    axes: TrainState of PartitionSpecs of logical names.
    shardings: TrainState of NamedShardings.
  """

  shapes: TrainState[jax.ShapeDtypeStruct]
  axes: TrainState[PartitionSpec]
  shardings: TrainState[NamedSharding]


def layout(
  config: DecoderConfig,
  optimizer: optax.GradientTransformation,
  *,
  axes: Any,
  shapes: Any,
  mesh: Mesh,
  rules: mesh_config.Rules,
) -> Layout:
  """The layout on the mesh of a TrainState of this model and optimizer."""
  state = jax.eval_shape(optimizer.init, shapes)
  all_shapes = TrainState(jax.ShapeDtypeStruct((), jnp.int32), shapes, state)
  state_axes = adafactor.state_logical_axes(state, params=shapes, logical_axes=axes)
  all_axes = TrainState(PartitionSpec(), axes, state_axes)
  return Layout(
    all_shapes, all_axes, mesh_lib.shardings(all_axes, mesh=mesh, rules=rules)
  )


def create(
  params: Any, optimizer: optax.GradientTransformation, *, layout: Layout
) -> TrainState[jax.Array]:
  """The state of step 0."""
  moments = jax.jit(optimizer.init, out_shardings=layout.shardings.optimizer)(params)
  step = jax.device_put(np.zeros((), np.int32), layout.shardings.step)
  return TrainState(step, params, moments)

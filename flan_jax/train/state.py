"""TrainState: step, parameters, optimizer state, and how they are sharded."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from jax.sharding import Mesh, PartitionSpec

from flan_jax.config import training
from flan_jax.config.decoder import DecoderConfig
from flan_jax.model import decoder as decoder_lib
from flan_jax.model.decoder import Decoder
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import adafactor
from flan_jax.train import lora as lora_lib


class TrainState(NamedTuple):
  """What training carries from step to step.

  Attributes:
    step: int32 scalar, steps done.
    params: the decoder's parameters, unboxed.
    optimizer: the optax state.
  """

  step: jax.Array
  params: Any
  optimizer: Any


def abstract_params(config: DecoderConfig) -> tuple[Any, Any]:
  """(shapes, logical axes) of the parameters; nothing is allocated."""
  ones = jax.ShapeDtypeStruct((1, 8), jnp.int32)

  def init(key):
    tokens = jnp.ones(ones.shape, ones.dtype)
    return Decoder(config).init(
      key, tokens, positions_BxL=tokens, segment_ids_BxL=tokens
    )['params']

  boxed = jax.eval_shape(init, jax.random.key(0))
  return nn.meta.unbox(boxed), nn.get_partition_spec(boxed)


def init_params(config: DecoderConfig, *, seed: int, shardings: Any = None) -> Any:
  """Parameters drawn from `seed`; the same on every mesh."""

  def init():
    tokens = jnp.ones((1, 8), jnp.int32)
    boxed = Decoder(config).init(
      jax.random.key(seed), tokens, positions_BxL=tokens, segment_ids_BxL=tokens
    )['params']
    return nn.meta.unbox(boxed)

  return jax.jit(init, out_shardings=shardings)()


def schedule(optimizer: training.Optimizer) -> optax.Schedule:
  """The learning rate of each step, counted from 0; of an int, without compiling."""
  peak, warmup = optimizer.learning_rate, optimizer.warmup_steps

  def rate(step):
    at = np if isinstance(step, int) else jnp
    done = at.asarray(step, at.float32) + 1
    scale = at.minimum(1.0, done / warmup) if warmup else 1.0
    if optimizer.schedule == 'rsqrt':
      scale = scale * at.sqrt(max(warmup, 1) / at.maximum(done, max(warmup, 1)))
    return peak * scale

  return rate


def make_optimizer(
  optimizer: training.Optimizer,
  *,
  config: DecoderConfig,
  logical_axes: Any,
  lora: training.Lora | None = None,
) -> optax.GradientTransformation:
  """Adafactor as t5x runs it, behind a global-norm clip where one is asked for.

  Parameters that begin at zero have no size that a step could be relative to: theirs
  is the learning rate itself.

  Args:
    optimizer: the settings.
    config: of the decoder.
    logical_axes: of what is trained.
    lora: adapters, where they are what is trained; of rank 0 or None, none are.
  """

  lora = lora or training.Lora()

  def scaled(name: str) -> bool:
    if lora.rank:
      return not lora_lib.starts_at_zero(name)
    return not decoder_lib.starts_at_zero(name, config)

  transform = adafactor.adafactor(
    schedule(optimizer),
    logical_axes=logical_axes,
    decay_rate=optimizer.decay_rate,
    clipping_threshold=optimizer.clipping_threshold,
    multiply_by_parameter_scale=scaled if optimizer.scales(lora) else False,
    momentum=optimizer.momentum,
    weight_decay=optimizer.weight_decay,
  )
  if optimizer.clip_global_norm is None:
    return transform
  return optax.chain(optax.clip_by_global_norm(optimizer.clip_global_norm), transform)


class Layout(NamedTuple):
  """Shapes and shardings of a whole TrainState.

  Attributes:
    shapes: TrainState of ShapeDtypeStructs.
    axes: TrainState of PartitionSpecs of logical names.
    shardings: TrainState of NamedShardings.
  """

  shapes: TrainState
  axes: TrainState
  shardings: TrainState


def layout(
  config: DecoderConfig,
  optimizer: optax.GradientTransformation,
  *,
  axes: Any,
  shapes: Any,
  mesh: Mesh,
  rules: training.Rules,
) -> Layout:
  """How a TrainState of this model and optimizer lies on the mesh."""
  state = jax.eval_shape(optimizer.init, shapes)
  all_shapes = TrainState(jax.ShapeDtypeStruct((), jnp.int32), shapes, state)
  state_axes = adafactor.state_logical_axes(state, params=shapes, logical_axes=axes)
  all_axes = TrainState(PartitionSpec(), axes, state_axes)
  return Layout(
    all_shapes, all_axes, mesh_lib.shardings(all_axes, mesh=mesh, rules=rules)
  )


def create(
  params: Any, optimizer: optax.GradientTransformation, *, layout: Layout
) -> TrainState:
  """The state of step 0."""
  moments = jax.jit(optimizer.init, out_shardings=layout.shardings.optimizer)(params)
  step = jax.device_put(np.zeros((), np.int32), layout.shardings.step)
  return TrainState(step, params, moments)

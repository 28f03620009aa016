"""One optimizer step: masked loss on targets, microbatches, update."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.linen import spmd
from jax.sharding import Mesh

from flan_jax.config import mesh as mesh_config
from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.training import StepConfig
from flan_jax.data.batch import Batch
from flan_jax.model import attention
from flan_jax.model.decoder import Decoder
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.train import chunked_loss, loss_guard, losses, stochastic_rounding
from flan_jax.train import tuning as tuning_lib
from flan_jax.train.losses import LossFunction
from flan_jax.train.state import Layout, TrainState
from flan_jax.train.tuning import FULL, Tuning


class Metrics(NamedTuple):
  """Sums over the loss tokens of a step; float32 scalars.

  Attributes:
    loss: the loss that is trained on: by default the negative log-likelihood in nats,
      plus the z-loss.
    correct: loss tokens whose target is the argmax.
    weight: loss tokens.
    tokens: tokens that are not padding.
    gradient_norm: norm of the gradient of the mean loss.
    bad: 1 if the loss or the gradient is not finite, or the loss spikes; else 0.
  """

  loss: jax.Array
  correct: jax.Array
  weight: jax.Array
  tokens: jax.Array
  gradient_norm: jax.Array
  bad: jax.Array


@contextlib.contextmanager
def sharded(mesh: Mesh, rules: mesh_config.Rules) -> Iterator[None]:
  """Context for tracing a model, in which its logical constraints apply to this mesh.

  It must be jax.set_mesh: in a plain `with mesh:` flax finds no mesh and silently drops
  every constraint.
  """
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    yield


def batch_shapes(batch_size: int, length: int) -> Batch[jax.ShapeDtypeStruct]:
  """Shapes of a batch of `batch_size` sequences of `length` tokens."""
  ints = jax.ShapeDtypeStruct((batch_size, length), jnp.int32)
  return Batch(
    tokens=ints,
    targets=ints,
    loss_mask=jax.ShapeDtypeStruct((batch_size, length), jnp.float32),
    segment_ids=ints,
    positions=ints,
  )


def prefix_of(batch: Batch[jax.Array]) -> jax.Array:
  """Tokens of the prefix of a prefix LM, bool [B, L]."""
  return attention.prefix_mask(
    batch.loss_mask,
    positions_BxL=batch.positions,
    segment_ids_BxL=batch.segment_ids,
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Loss:
  """The loss, and how it is computed; settings as in StepConfig.

  Attributes:
    z_loss: weight of log(Z)**2 per loss token.
    label_smoothing: share of a target's probability spread over the vocabulary.
    function: loss in place of the cross-entropy, or None.
    logits_chunk: tokens of a sequence whose logits exist at a time; None for the whole
      sequence. It must divide the sequence length.
    tuning: the strategy that names the trained parameters.
    attention_kernel: 'xla', 'splash' or 'cudnn'.
  """

  z_loss: float = 0.0
  label_smoothing: float = 0.0
  function: LossFunction | None = None
  logits_chunk: int | None = None
  tuning: Tuning = FULL
  attention_kernel: str = 'xla'

  @property
  def of_tokens(self) -> LossFunction:
    """The loss as a function of logits, targets and mask."""
    if self.function is not None:
      return self.function
    return functools.partial(
      losses.cross_entropy, z_loss=self.z_loss, label_smoothing=self.label_smoothing
    )


def loss_sums(
  params: Any,
  batch: Batch[jax.Array],
  *,
  config: DecoderConfig,
  loss: Loss = Loss(),
  frozen: Any = None,
) -> tuple[jax.Array, Metrics]:
  """Summed loss over the target tokens of a batch (FLAN section 2.4).

  Args:
    params: trained parameters: the decoder's, or adapters of `frozen`.
    batch: packed sequences, arrays [B, L].
    config: decoder config.
    loss: settings of the loss.
    frozen: the decoder's parameters if `params` are adapters.

  Returns:
    (loss in nats, Metrics); `gradient_norm` and `bad` are 0 here.
  """
  decoder = Decoder(config)
  variables = loss.tuning.variables(params, frozen)
  hidden_BxLxD = decoder.apply(
    variables,
    batch.tokens,
    positions_BxL=batch.positions,
    segment_ids_BxL=batch.segment_ids,
    prefix_BxL=prefix_of(batch) if config.attention == 'prefix' else None,
    kernel=loss.attention_kernel,
    method='hidden',
  )

  def sums(trained, frozen, hidden_BxPxD, targets_BxP, mask_BxP):
    weights = {**frozen, **trained}
    logits_BxPxV = decoder.apply({'params': weights}, hidden_BxPxD, method='head')
    logits_BxPxV = cast(jax.Array, logits_BxPxV)  # as no collection is mutable
    return chunked_loss.sums(logits_BxPxV, targets_BxP, mask_BxP, loss=loss.of_tokens)

  other = dict(variables['params'])
  trained = {}
  name = 'embedding' if config.tied_embedding else 'head'
  if not loss.tuning.freezes and loss.tuning.trains(name):
    trained = {name: other.pop(name)}
  parts = trained, other
  if loss.logits_chunk is None:
    total, correct = sums(*parts, hidden_BxLxD, batch.targets, batch.loss_mask)
  else:  # gather sequences that the mesh has sharded by length
    whole = ('activation_batch', None, None)
    hidden_BxLxD = spmd.with_logical_constraint(hidden_BxLxD, whole)
    total, correct = chunked_loss.in_chunks(
      sums,
      *parts,
      hidden_BxLxD,
      batch.targets,
      batch.loss_mask,
      chunk=loss.logits_chunk,
    )
  return total, Metrics(
    loss=total,
    correct=correct,
    weight=jnp.sum(batch.loss_mask),
    tokens=jnp.sum(batch.segment_ids > 0).astype(jnp.float32),
    gradient_norm=jnp.zeros(()),
    bad=jnp.zeros(()),
  )


def gradients(
  params: Any,
  batch: Batch[jax.Array],
  *,
  config: DecoderConfig,
  accumulation: int = 1,
  loss: Loss = Loss(),
  frozen: Any = None,
  dtype: str | None = None,
  shardings: Any = None,
) -> tuple[Any, Metrics]:
  """Gradient of the mean loss over the whole batch, in `accumulation` microbatches.

  Microbatch k takes sequences k, k + accumulation, ..., so that each stays on its
  device. Every layer adds its gradient to the sum in place, so that there is one copy
  of the gradients for any number of microbatches.

  Args:
    params, batch, config, loss, frozen: see `loss_sums`.
    accumulation: number of microbatches.
    dtype: dtype of the gradient of one microbatch; None for that of the parameters. The
      sum of several is float32.
    shardings: shardings of the parameters, or None without a mesh.
  """
  total = jnp.maximum(jnp.sum(batch.loss_mask), 1.0)

  def mean_loss(params, part):
    summed, metrics = loss_sums(params, part, config=config, loss=loss, frozen=frozen)
    return summed / total, metrics

  if dtype is not None:
    params = jax.tree.map(lambda x: x.astype(dtype), params)
  if accumulation == 1:
    return jax.grad(mean_loss, has_aux=True)(params, batch)

  def split(x):
    return x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1)

  summed = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
  if shardings is not None:
    summed = jax.lax.with_sharding_constraint(summed, shardings)
  refs = jax.tree.map(jax.new_ref, summed)

  def add(metrics, part):
    _, pull_back, new = jax.vjp(
      functools.partial(mean_loss, part=part), params, has_aux=True
    )
    pull_back.with_refs(refs)(jnp.ones(()))
    return jax.tree.map(jnp.add, metrics, new), None

  parts = jax.tree.map(split, batch)
  zeros = Metrics(*(jnp.zeros(()) for _ in Metrics._fields))
  metrics, _ = jax.lax.scan(add, zeros, parts)
  return jax.tree.map(lambda ref: ref[...], refs), metrics


def options(step: StepConfig) -> dict[str, Any]:
  """Keyword arguments of `make` from the settings of a step."""
  return {
    'accumulation': step.accumulation,
    'loss': Loss(
      z_loss=step.z_loss,
      label_smoothing=step.label_smoothing,
      function=losses.of_recipe(step.loss),
      logits_chunk=step.logits_chunk,
      tuning=tuning_lib.of(step.lora, freeze=step.freeze),
      attention_kernel=step.attention_kernel,
    ),
    'gradient_dtype': step.gradient_dtype,
    'seed': step.seed,
  }


def make(
  config: DecoderConfig,
  optimizer: optax.GradientTransformation,
  *,
  layout: Layout,
  mesh: Mesh,
  rules: mesh_config.Rules,
  accumulation: int = 1,
  loss: Loss = Loss(),
  gradient_dtype: str | None = None,
  seed: int = 0,
  frozen_shardings: Any = None,
) -> Callable[..., tuple[TrainState, Metrics]]:
  """The jitted train step, a function of (state, batch); the state is donated.

  If adapters are trained, frozen_shardings are those of the frozen model, and the step
  takes its parameters as a third argument, which is not donated. `seed` is the seed for
  stochastic rounding of bfloat16 parameters.
  """

  def step(state: TrainState, batch: Batch[jax.Array], frozen: Any = None):
    with nn.logical_axis_rules(rules):
      grads, metrics = gradients(
        state.params,
        batch,
        config=config,
        accumulation=accumulation,
        loss=loss,
        frozen=frozen,
        dtype=gradient_dtype,
        shardings=layout.shardings.params,
      )
    norm = optax.global_norm(grads)
    mean = metrics.loss / jnp.maximum(metrics.weight, 1.0)
    if isinstance(state.optimizer, loss_guard.LossGuardState):
      judging = optax.with_extra_args_support(optimizer)
      updates, moments = judging.update(
        grads, state.optimizer, state.params, loss=mean, norm=norm
      )
      assert isinstance(moments, loss_guard.LossGuardState)
      bad = moments.bad > state.optimizer.bad
    else:
      updates, moments = optimizer.update(grads, state.optimizer, state.params)
      bad = ~(jnp.isfinite(mean) & jnp.isfinite(norm))
    params = stochastic_rounding.apply_updates(
      state.params, updates, seed=seed, step=state.step
    )
    state = TrainState(state.step + 1, params, moments)
    return state, metrics._replace(gradient_norm=norm, bad=bad.astype(jnp.float32))

  batch_sharding = mesh_lib.batch_sharding(mesh, rules)
  takes = (layout.shardings, batch_sharding)
  return jax.jit(
    step,
    in_shardings=(*takes, frozen_shardings) if loss.tuning.freezes else takes,
    out_shardings=(layout.shardings, None),
    donate_argnums=0,
  )

"""One optimizer step: masked loss on targets, microbatches, update."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from flan_jax.data.rows import Batch
from flan_jax.model import attention
from flan_jax.model.config import DecoderConfig
from flan_jax.model.decoder import Decoder
from flan_jax.train import mesh as mesh_lib
from flan_jax.train import settings, spikes
from flan_jax.train.state import Layout, TrainState


class Metrics(NamedTuple):
  """Sums over the loss tokens of a step; float32 scalars.

  Attributes:
    loss: negative log-likelihood in nats, plus the z-loss.
    correct: loss tokens whose target is the argmax.
    weight: loss tokens.
    tokens: tokens that are not padding.
    gradient_norm: of the mean loss.
    bad: 1 where the loss or the gradient is not finite, or the loss spikes; else 0.
  """

  loss: jax.Array
  correct: jax.Array
  weight: jax.Array
  tokens: jax.Array
  gradient_norm: jax.Array
  bad: jax.Array


@contextlib.contextmanager
def sharded(mesh: Mesh, rules: settings.Rules) -> Iterator[None]:
  """Where a model is traced: its logical constraints mean this mesh.

  It must be jax.set_mesh: in a plain `with mesh:` flax finds no mesh, and every
  constraint is silently dropped.
  """
  with jax.set_mesh(mesh), nn.logical_axis_rules(rules):
    yield


def prefix_of(batch: Batch) -> jax.Array:
  """The tokens that a prefix-LM reads both ways, bool [B, L]."""
  return attention.prefix_mask(
    batch.loss_mask,
    positions_BxL=batch.positions,
    segment_ids_BxL=batch.segment_ids,
  )


def loss_sums(
  params: Any, batch: Batch, *, config: DecoderConfig, z_loss: float = 0.0
) -> tuple[jax.Array, Metrics]:
  """Summed loss over the target tokens of a batch (FLAN section 2.4).

  Returns:
    (loss in nats, Metrics); `gradient_norm` and `bad` are 0 here.
  """
  logits_BxLxV = Decoder(config).apply(
    {'params': params},
    batch.tokens,
    positions_BxL=batch.positions,
    segment_ids_BxL=batch.segment_ids,
    prefix_BxL=prefix_of(batch) if config.attention == 'prefix' else None,
  )
  log_z_BxL = jax.nn.logsumexp(logits_BxLxV, axis=-1)
  picked_BxL = jnp.take_along_axis(
    logits_BxLxV, batch.targets[..., None], axis=-1
  ).squeeze(-1)
  loss_BxL = log_z_BxL - picked_BxL + z_loss * jnp.square(log_z_BxL)
  loss = jnp.sum(loss_BxL * batch.loss_mask)
  right_BxL = jnp.argmax(logits_BxLxV, axis=-1) == batch.targets
  return loss, Metrics(
    loss=loss,
    correct=jnp.sum(right_BxL * batch.loss_mask),
    weight=jnp.sum(batch.loss_mask),
    tokens=jnp.sum(batch.segment_ids > 0).astype(jnp.float32),
    gradient_norm=jnp.zeros(()),
    bad=jnp.zeros(()),
  )


def gradients(
  params: Any,
  batch: Batch,
  *,
  config: DecoderConfig,
  accumulation: int = 1,
  z_loss: float = 0.0,
) -> tuple[Any, Metrics]:
  """Gradient of the mean loss over the whole batch, in `accumulation` microbatches.

  Microbatch k takes rows k, k + accumulation, ...: a row stays on its device.
  """
  total = jnp.maximum(jnp.sum(batch.loss_mask), 1.0)

  def mean_loss(params, part):
    loss, metrics = loss_sums(params, part, config=config, z_loss=z_loss)
    return loss / total, metrics

  grad = jax.grad(mean_loss, has_aux=True)
  if accumulation == 1:
    return grad(params, batch)

  def split(x):
    return x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1)

  def add(carry, part):
    return jax.tree.map(jnp.add, carry, grad(params, part)), None

  parts = jax.tree.map(split, batch)
  shapes = jax.eval_shape(grad, params, jax.tree.map(lambda x: x[0], parts))
  zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
  (summed, metrics), _ = jax.lax.scan(add, zeros, parts)
  return summed, metrics


def make(
  config: DecoderConfig,
  optimizer: optax.GradientTransformation,
  *,
  layout: Layout,
  mesh: Mesh,
  rules: settings.Rules,
  accumulation: int = 1,
  z_loss: float = 0.0,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """The jitted train step; the state it is given is donated."""

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    with nn.logical_axis_rules(rules):
      grads, metrics = gradients(
        state.params, batch, config=config, accumulation=accumulation, z_loss=z_loss
      )
    norm = optax.global_norm(grads)
    loss = metrics.loss / jnp.maximum(metrics.weight, 1.0)
    if isinstance(state.optimizer, spikes.Guarded):
      updates, moments = optimizer.update(
        grads, state.optimizer, state.params, loss=loss, norm=norm
      )
      bad = moments.bad > state.optimizer.bad
    else:
      updates, moments = optimizer.update(grads, state.optimizer, state.params)
      bad = ~(jnp.isfinite(loss) & jnp.isfinite(norm))
    params = optax.apply_updates(state.params, updates)
    state = TrainState(state.step + 1, params, moments)
    return state, metrics._replace(gradient_norm=norm, bad=bad.astype(jnp.float32))

  batch_sharding = mesh_lib.batch_sharding(mesh, rules)
  return jax.jit(
    step,
    in_shardings=(layout.shardings, batch_sharding),
    out_shardings=(layout.shardings, None),
    donate_argnums=0,
  )

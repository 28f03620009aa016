"""One optimizer step: masked loss on targets, microbatches, update."""

import contextlib
import functools
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
from flan_jax.train import settings
from flan_jax.train.state import Layout, TrainState


class Metrics(NamedTuple):
  """Sums over the loss tokens of a step; float32 scalars.

  Attributes:
    loss: negative log-likelihood in nats, plus the z-loss.
    correct: loss tokens whose target is the argmax.
    weight: loss tokens.
    tokens: tokens that are not padding.
    gradient_norm: of the mean loss.
  """

  loss: jax.Array
  correct: jax.Array
  weight: jax.Array
  tokens: jax.Array
  gradient_norm: jax.Array


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
  params: Any,
  batch: Batch,
  *,
  config: DecoderConfig,
  z_loss: float = 0.0,
  chunks: int = 1,
) -> tuple[jax.Array, Metrics]:
  """Summed loss over the target tokens of a batch (FLAN section 2.4).

  Args:
    params: of the decoder.
    batch: rows.
    config: of the decoder.
    z_loss: weight of the squared log-normaliser.
    chunks: parts of a row whose logits are computed one after the other, forwards and
      backwards: only one part's logits are ever in memory.

  Returns:
    (loss in nats, Metrics); the gradient norm is 0 here.
  """
  decoder = Decoder(config)
  inputs = {
    'positions_BxL': batch.positions,
    'segment_ids_BxL': batch.segment_ids,
    'prefix_BxL': prefix_of(batch) if config.attention == 'prefix' else None,
  }
  if chunks == 1:
    logits_BxLxV = decoder.apply({'params': params}, batch.tokens, **inputs)
    sums = _sums(logits_BxLxV, batch.targets, batch.loss_mask, z_loss=z_loss)
  else:
    hidden_BxLxD = decoder.apply(
      {'params': params}, batch.tokens, **inputs, method='hidden'
    )
    hidden_BxLxD = nn.with_logical_constraint(
      hidden_BxLxD, ('activation_batch', None, None)
    )

    @jax.checkpoint
    def part(params, hidden_BxPxD, targets_BxP, mask_BxP):
      logits_BxPxV = decoder.apply({'params': params}, hidden_BxPxD, method='head')
      return _sums(logits_BxPxV, targets_BxP, mask_BxP, z_loss=z_loss)

    def add(sums, parts):
      return jax.tree.map(jnp.add, sums, part(params, *parts)), None

    def cut(x):
      return x.reshape(x.shape[0], chunks, -1, *x.shape[2:]).swapaxes(0, 1)

    parts = jax.tree.map(cut, (hidden_BxLxD, batch.targets, batch.loss_mask))
    sums, _ = jax.lax.scan(add, (jnp.zeros(()), jnp.zeros(())), parts)
  loss, correct = sums
  return loss, Metrics(
    loss=loss,
    correct=correct,
    weight=jnp.sum(batch.loss_mask),
    tokens=jnp.sum(batch.segment_ids > 0).astype(jnp.float32),
    gradient_norm=jnp.zeros(()),
  )


def _sums(logits_BxLxV, targets_BxL, loss_mask_BxL, *, z_loss):
  """(loss, correct), summed over the loss tokens."""
  log_z_BxL = jax.nn.logsumexp(logits_BxLxV, axis=-1)
  picked_BxL = jnp.take_along_axis(
    logits_BxLxV, targets_BxL[..., None], axis=-1
  ).squeeze(-1)
  loss_BxL = log_z_BxL - picked_BxL + z_loss * jnp.square(log_z_BxL)
  right_BxL = jnp.argmax(logits_BxLxV, axis=-1) == targets_BxL
  return jnp.sum(loss_BxL * loss_mask_BxL), jnp.sum(right_BxL * loss_mask_BxL)


def gradients(
  params: Any,
  batch: Batch,
  *,
  config: DecoderConfig,
  accumulation: int = 1,
  z_loss: float = 0.0,
  chunks: int = 1,
  dtype: str | None = None,
  shardings: Any = None,
) -> tuple[Any, Metrics]:
  """Gradient of the mean loss over the whole batch, in `accumulation` microbatches.

  Microbatch k takes rows k, k + accumulation, ...: a row stays on its device. Every
  layer adds its gradient to the sum where that stands, so that there is one copy of the
  gradients, however many microbatches there are.

  Args:
    params: of the decoder.
    batch: rows.
    config: of the decoder.
    accumulation: microbatches.
    z_loss, chunks: see `loss_sums`.
    dtype: of the gradient of one microbatch; None has that of the parameters. The sum
      of several is float32.
    shardings: of the parameters, where there is a mesh.
  """
  total = jnp.maximum(jnp.sum(batch.loss_mask), 1.0)

  def mean_loss(params, part):
    loss, metrics = loss_sums(params, part, config=config, z_loss=z_loss, chunks=chunks)
    return loss / total, metrics

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
  zeros = jax.tree.map(lambda _: jnp.zeros(()), Metrics(*Metrics._fields))
  metrics, _ = jax.lax.scan(add, zeros, parts)
  return jax.tree.map(lambda ref: ref[...], refs), metrics


def options(run: settings.Run) -> dict[str, Any]:
  """What `make` takes from the settings of a run."""
  return {
    'accumulation': run.accumulation,
    'z_loss': run.z_loss,
    'chunks': run.loss_chunks,
    'gradient_dtype': run.gradient_dtype,
  }


def make(
  config: DecoderConfig,
  optimizer: optax.GradientTransformation,
  *,
  layout: Layout,
  mesh: Mesh,
  rules: settings.Rules,
  accumulation: int = 1,
  z_loss: float = 0.0,
  chunks: int = 1,
  gradient_dtype: str | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
  """The jitted train step; the state it is given is donated."""

  def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
    with nn.logical_axis_rules(rules):
      grads, metrics = gradients(
        state.params,
        batch,
        config=config,
        accumulation=accumulation,
        z_loss=z_loss,
        chunks=chunks,
        dtype=gradient_dtype,
        shardings=layout.shardings.params,
      )
    norm = optax.global_norm(grads)
    updates, moments = optimizer.update(grads, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    state = TrainState(state.step + 1, params, moments)
    return state, metrics._replace(gradient_norm=norm)

  batch_sharding = mesh_lib.batch_sharding(mesh, rules)
  return jax.jit(
    step,
    in_shardings=(layout.shardings, batch_sharding),
    out_shardings=(layout.shardings, None),
    donate_argnums=0,
  )

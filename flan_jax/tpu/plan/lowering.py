"""Lowers and compiles the programs of a run for devices that need not exist.

The train step is `flan_jax.train.train_step.make`, the function that the trainer calls,
so the compiler's results are those of the real run.
"""

import os
import re
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding

from flan_jax.config.decoder import DecoderConfig
from flan_jax.errors import InputError
from flan_jax.model import attention_dispatch, kv_cache
from flan_jax.model import params as params_lib
from flan_jax.model.decoder import Decoder
from flan_jax.model.kv_cache import Cache
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.tpu.plan.hlo import Module
from flan_jax.tpu.plan.request import PlanRequest
from flan_jax.train import loss_guard, train_step
from flan_jax.train import optimizer as optimizer_lib
from flan_jax.train import state as state_lib

KINDS = ('train', 'evaluate', 'decode')
"""A training step; a forward pass with loss; one decoding step of every sequence."""


class TooLarge(Exception):
  """The program does not fit in device memory.

  Attributes:
    wanted_gib, limit_gib: GiB per device; None if the compiler did not report them.
  """

  def __init__(self, message: str):
    super().__init__(message)
    sizes = [
      float(n) * _UNITS[u] for n, u in re.findall(r'\b([\d.]+)([KMG])\b', message)
    ]
    self.wanted_gib = sizes[0] if sizes else None
    self.limit_gib = sizes[1] if len(sizes) > 1 else None


_UNITS = {'K': 2**-20, 'M': 2**-10, 'G': 1.0}


class Lowered(NamedTuple):
  """One program of a run, before it is compiled.

  Attributes:
    kind: one of KINDS.
    config: config of the model.
    mesh: mesh of the devices.
    layout: layout of the train state.
    stage: lowered program of JAX.
    tokens: tokens that one call computes.
  """

  kind: str
  config: DecoderConfig
  mesh: Mesh
  layout: state_lib.Layout
  stage: jax.stages.Lowered
  tokens: int


class Compiled(NamedTuple):
  """A compiled program.

  Attributes:
    lowered: its source.
    seconds: compile time.
    arguments, temporaries, peak: bytes per device.
    module: parsed program; None if this libtpu cannot print it.
  """

  lowered: Lowered
  seconds: float
  arguments: int
  temporaries: int
  peak: int
  module: Module | None


def lower(request: PlanRequest, *, devices: list[Any], kind: str = 'train') -> Lowered:
  """Traces one program of a run for these devices.

  Raises:
    InputError: if mesh, model and batch do not divide evenly.
  """
  if kind not in KINDS:
    raise InputError(f'--step: got {kind!r}; must be one of {", ".join(KINDS)}')
  config, settings = request.model, request.step
  rules = settings.mesh.rules
  mesh = mesh_lib.build(settings.mesh, devices=devices)
  shapes, axes = params_lib.abstract_params(config)
  batch_size = {
    'train': settings.batch_size // settings.accumulation,
    'evaluate': request.eval_batch_size,
    'decode': request.eval_batch_size,
  }[kind]
  if kind != 'train':
    parts = mesh_lib.parts('activation_batch', mesh=mesh, rules=rules)
    batch_size = -(-batch_size // parts) * parts  # rounded up as in an evaluation
  mesh_lib.check(shapes, axes, mesh=mesh, rules=rules, batch_size=batch_size)
  attention_dispatch.check(
    settings.attention_kernel, config, sequence_length=settings.sequence_length,
    device_kind=devices[0].device_kind,
  )  # fmt: skip
  if settings.lora.rank:
    raise InputError(
      f'LORA_RANK: got {settings.lora.rank}; plans support full tuning only: must be 0',
      field='Lora.rank',
    )
  optimizer = optimizer_lib.make_optimizer(
    settings.optimizer, config=config, logical_axes=axes
  )
  if settings.guarded:
    optimizer = loss_guard.guard(
      optimizer, loss_spike=settings.loss_spike, skip=settings.bad_step == 'skip'
    )
  layout = state_lib.layout(
    config, optimizer, axes=axes, shapes=shapes, mesh=mesh, rules=rules
  )
  with train_step.sharded(mesh, rules):
    if kind == 'train':
      step = train_step.make(
        config,
        optimizer,
        layout=layout,
        mesh=mesh,
        rules=rules,
        **train_step.options(settings),
      )
      batch = train_step.batch_shapes(settings.batch_size, settings.sequence_length)
      stage = step.lower(layout.shapes, batch)
      return Lowered(kind, config, mesh, layout, stage, settings.batch_tokens)
    params = layout.shapes.params
    length = request.eval_sequence_length
    sharding = mesh_lib.batch_sharding(mesh, rules)
    if kind == 'evaluate':

      def score(params, batch):
        return train_step.loss_sums(params, batch, config=config)[1]

      forward = jax.jit(score, in_shardings=(layout.shardings.params, sharding))
      stage = forward.lower(params, train_step.batch_shapes(batch_size, length))
      return Lowered(kind, config, mesh, layout, stage, batch_size * length)
    stage = _decode(config, batch_size=batch_size, length=length, sharding=sharding,
                    layout=layout, rules=rules, mesh=mesh)  # fmt: skip
    return Lowered(kind, config, mesh, layout, stage, batch_size)


def _decode(config, *, batch_size, length, sharding, layout, rules, mesh):
  """Lowers one decoding step; each sequence has `length` tokens in the cache."""
  cache = jax.eval_shape(lambda: kv_cache.init(config, batch=batch_size, length=length))
  names = ('layers', 'activation_batch', 'kv_heads', None, 'kv')
  spread = mesh_lib.shardings(
    jax.sharding.PartitionSpec(*names), mesh=mesh, rules=rules
  )
  shardings = Cache(spread, spread, sharding)

  def advance(params, cache, tokens_Bx1, positions_Bx1):
    logits_Bx1xV, cache = Decoder(config).apply(
      {'params': params},
      tokens_Bx1,
      positions_BxL=positions_Bx1,
      segment_ids_BxL=jnp.ones_like(tokens_Bx1),
      cache=cache,
    )
    return jnp.argmax(logits_Bx1xV[:, 0], axis=-1), cache

  step = jax.jit(
    advance,
    in_shardings=(layout.shardings.params, shardings, sharding, sharding),
    out_shardings=(None, shardings),
    donate_argnums=1,
  )
  token = jax.ShapeDtypeStruct((batch_size, 1), jnp.int32)
  return step.lower(layout.shapes.params, cache, token, token)


def compile_(lowered: Lowered, *, cache: str | os.PathLike | None = None) -> Compiled:
  """Compiles a lowered program.

  Args:
    lowered: result of `lower`.
    cache: folder of JAX's compilation cache. A trainer on such a slice that uses the
      same folder finds its step there.

  Raises:
    TooLarge: when the program does not fit in device memory.
  """
  if cache is not None:
    jax.config.update('jax_compilation_cache_dir', str(cache))
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', 0)
  since = time.monotonic()
  try:
    compiled = lowered.stage.compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' in str(error):
      raise TooLarge(str(error)) from None
    raise
  seconds = time.monotonic() - since
  memory = compiled.memory_analysis()
  assert memory is not None  # XLA's backends for CPU and TPU have it
  try:
    printed = compiled.as_text()
    module = None if printed is None else Module(printed)
  except jax.errors.JaxRuntimeError:
    module = None  # libtpu fails a check of its own on some asynchronous programs
  return Compiled(
    lowered,
    seconds,
    memory.argument_size_in_bytes,
    memory.temp_size_in_bytes,
    memory.peak_memory_in_bytes,
    module,
  )


def per_device(shapes: Any, shardings: Any) -> int:
  """Bytes of a tree of arrays per device, without the padding of layouts."""
  is_sharding = lambda x: isinstance(x, NamedSharding)  # noqa: E731
  sizes = jax.tree.map(
    lambda s, x: int(np.prod(s.shard_shape(x.shape), dtype=int)) * x.dtype.itemsize,
    shardings,
    shapes,
    is_leaf=is_sharding,
  )
  return sum(jax.tree.leaves(sizes))

"""Memory of a compiled step per device, by purpose."""

import math
from typing import NamedTuple

import jax

from flan_jax.config.training import StepConfig
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.tpu.plan import lowering
from flan_jax.tpu.plan.hlo import Array, Loop
from flan_jax.tpu.plan.lowering import Compiled


class Memory(NamedTuple):
  """Bytes per device.

  `total` is the compiler's figure. Parameters and optimizer are the arrays of the train
  state; gradients, weights and activations are carried by the loop over layers, and may
  not all be live at the peak; `temporaries` is the rest of the total.

  Attributes:
    params: master parameters.
    optimizer: statistics of the optimizer.
    gradients: stacked over the layers.
    weights: copies of the parameters in the dtype of the computation.
    activations: saved for the backward pass, all layers.
    cache: keys and values (decode step only).
    logits: logits of a batch or microbatch, in float32.
    temporaries: everything else.
    total: peak.
    limit: memory available to a program.
  """

  params: int
  optimizer: int
  gradients: int
  weights: int
  activations: int
  cache: int
  logits: int
  temporaries: int
  total: int
  limit: int

  @property
  def fits(self) -> bool:
    """Returns True if the peak is within the limit."""
    return self.total <= self.limit


NAMES = Memory._fields[:-2]


def from_compiled(compiled: Compiled, *, step: StepConfig, limit: int) -> Memory:
  """Attributes the memory of a compiled program to its purposes."""
  lowered = compiled.lowered
  layout, config = lowered.layout, lowered.config
  params = lowering.per_device(layout.shapes.params, layout.shardings.params)
  train = lowered.kind == 'train'
  optimizer = cache = 0
  if train:
    optimizer = lowering.per_device(layout.shapes.optimizer, layout.shardings.optimizer)
  elif lowered.kind == 'decode':
    cache = max(0, compiled.arguments - params)
  gradients = weights = activations = 0
  if compiled.module is not None and config.scan_layers:
    param_sizes = {
      tuple(s.shard_shape(x.shape)): math.prod(s.shard_shape(x.shape))
      for s, x in zip(
        jax.tree.leaves(layout.shardings.params),
        jax.tree.leaves(layout.shapes.params),
        strict=True,
      )
      if len(x.shape) > 2 and x.shape[0] == config.num_layers
    }
    found = _stacks(
      list(compiled.module.loops()), config.num_layers, set(param_sizes.values())
    )
    weights, gradients, activations = found
  rules, mesh = step.mesh.rules, lowered.mesh
  batch_parts = mesh_lib.parts('activation_batch', mesh=mesh, rules=rules)
  vocab = mesh_lib.parts('activation_vocab', mesh=mesh, rules=rules)
  chunks = step.accumulation if train else 1
  if train and step.logits_chunk:
    chunks *= step.sequence_length // step.logits_chunk
  logits = 4 * lowered.tokens // batch_parts // chunks * -(-config.vocab_size // vocab)
  accounted = params + optimizer + gradients + weights + activations + cache + logits
  return Memory(
    params,
    optimizer,
    gradients,
    weights,
    activations,
    cache,
    logits,
    max(0, compiled.peak - accounted),
    compiled.peak,
    limit,
  )


def _stacks(
  loops: list[Loop], layers: int, param_sizes: set[int]
) -> tuple[int, int, int]:
  """Returns (weights, gradients, activations): bytes of layer stacks in loops.

  The forward loop carries the weights, in the dtype of the computation, and the saved
  activations; the backward loop carries both and the gradients.
  """
  loops = [loop for loop in loops if loop.trips == layers]
  if not loops:
    return 0, 0, 0

  def split(loop: Loop) -> tuple[list[Array], list[Array]]:
    stacks = [a for a in loop.carried if a.shape[:1] == (layers,) and len(a.shape) > 2]
    param_stacks = [a for a in stacks if math.prod(a.shape) in param_sizes]
    return param_stacks, [a for a in stacks if math.prod(a.shape) not in param_sizes]

  def size(arrays: list[Array]) -> int:
    return sum(array.bytes for array in arrays)

  forward, _ = split(loops[0])
  if len(loops) == 1:
    return size([a for a in forward if a.dtype == 'bf16']), 0, 0
  backward, saved = max((split(loop) for loop in loops[1:]), key=lambda s: size(s[1]))
  weights = size([a for a in forward if a.dtype == 'bf16'])
  return weights, max(0, size(backward) - size(forward)), size(saved)

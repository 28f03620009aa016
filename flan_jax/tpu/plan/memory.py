"""The memory of a compiled step on one device, by name."""

import math
from typing import NamedTuple

import jax

from flan_jax.config import training
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.tpu.plan import lowering
from flan_jax.tpu.plan.hlo import Array, Loop
from flan_jax.tpu.plan.lowering import Compiled


class Memory(NamedTuple):
  """Bytes of one device.

  `total` is the compiler's. Parameters and optimizer are those of the state's own
  arrays; gradients, weights and activations are what the layers' loop carries, and
  need not all live at the peak; `temporaries` is the rest of the total.

  Attributes:
    params: master parameters.
    optimizer: its statistics.
    gradients: stacked over the layers.
    weights: copies of the parameters in the dtype of the computation.
    activations: saved by the forward pass for the backward one, all layers.
    cache: keys and values (decode step only).
    logits: of a batch, or of a part of it, in float32.
    temporaries: everything else.
    total: at the peak.
    limit: what the compiler gives a program.
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
    """Whether the peak is below the limit."""
    return self.total <= self.limit


NAMES = Memory._fields[:-2]


def of(compiled: Compiled, *, run: training.TrainConfig, limit: int) -> Memory:
  """What the compiled program holds."""
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
    own = {
      tuple(s.shard_shape(x.shape)): math.prod(s.shard_shape(x.shape))
      for s, x in zip(
        jax.tree.leaves(layout.shardings.params),
        jax.tree.leaves(layout.shapes.params),
        strict=True,
      )
      if len(x.shape) > 2 and x.shape[0] == config.num_layers
    }
    found = _stacks(list(compiled.module.loops()), config.num_layers, set(own.values()))
    weights, gradients, activations = found
  rules, mesh = run.mesh.rules, lowered.mesh
  rows = mesh_lib.parts('activation_batch', mesh=mesh, rules=rules)
  vocab = mesh_lib.parts('activation_vocab', mesh=mesh, rules=rules)
  chunks = run.accumulation if train else 1
  if train and run.logits_chunk:
    chunks *= run.sequence_length // run.logits_chunk
  logits = 4 * lowered.tokens // rows // chunks * -(-config.vocab_size // vocab)
  known = params + optimizer + gradients + weights + activations + cache + logits
  return Memory(
    params,
    optimizer,
    gradients,
    weights,
    activations,
    cache,
    logits,
    max(0, compiled.peak - known),
    compiled.peak,
    limit,
  )


def _stacks(loops: list[Loop], layers: int, own: set[int]) -> tuple[int, int, int]:
  """(weights, gradients, activations): stacks of so many layers that loops carry.

  The forward loop carries the weights it reads, in the dtype of the computation, and
  the activations it saves; the backward loop carries both and the gradients.
  """
  loops = [loop for loop in loops if loop.trips == layers]
  if not loops:
    return 0, 0, 0

  def split(loop: Loop) -> tuple[list[Array], list[Array]]:
    stacks = [a for a in loop.carried if a.shape[:1] == (layers,) and len(a.shape) > 2]
    like = [a for a in stacks if math.prod(a.shape) in own]
    return like, [a for a in stacks if math.prod(a.shape) not in own]

  def size(arrays: list[Array]) -> int:
    return sum(array.bytes for array in arrays)

  forward, _ = split(loops[0])
  if len(loops) == 1:
    return size([a for a in forward if a.dtype == 'bf16']), 0, 0
  backward, saved = max((split(loop) for loop in loops[1:]), key=lambda s: size(s[1]))
  weights = size([a for a in forward if a.dtype == 'bf16'])
  return weights, max(0, size(backward) - size(forward)), size(saved)

"""The loss of a model on given examples, without a step: packed, on the run's mesh."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from flan_jax.data import batch as batch_lib
from flan_jax.data.batch import Batch, Packable
from flan_jax.partitioning import mesh as mesh_lib
from flan_jax.runtime import metering
from flan_jax.train import train_step
from flan_jax.train.train_step import Loss
from flan_jax.train.trainer import Trainer


class EvalLoss(NamedTuple):
  """Sums over the target tokens of some examples.

  Attributes:
    loss: negative log-likelihood in nats.
    correct: target tokens that are the argmax.
    tokens: target tokens, the EOS of each example included.
    examples: examples that fit in a sequence.
    too_long: examples that do not.
  """

  loss: float = 0.0
  correct: float = 0.0
  tokens: float = 0.0
  examples: int = 0
  too_long: int = 0

  def __add__(self, other: Any) -> 'EvalLoss':
    return EvalLoss(*(a + b for a, b in zip(self, other, strict=True)))

  def as_json(self) -> dict[str, Any]:
    """Returns {'loss' (mean nats per target token), 'perplexity', 'accuracy' (percent
    of the target tokens), 'target_tokens', 'examples', and 'too_long' if any}.
    """
    mean = self.loss / self.tokens if self.tokens else math.nan
    return {
      'loss': mean,
      'perplexity': math.exp(min(mean, 700.0)),
      'accuracy': 100 * self.correct / self.tokens if self.tokens else math.nan,
      'target_tokens': int(self.tokens),
      'examples': self.examples,
      **({'too_long': self.too_long} if self.too_long else {}),
    }


class LossEvaluator:
  """Computes losses in batches of one shape: it is compiled once, at the first.

  A batch is a microbatch of a step, without gradients, so it fits where a step does.
  """

  def __init__(
    self,
    trainer: Trainer,
    *,
    bos_id: int | None,
    eos_id: int,
    on_batch: Callable[[], None] = lambda: None,
  ):
    """Sets the evaluator up.

    Args:
      trainer: trainer, with the mesh and the shape of a batch.
      bos_id: id of BOS; None if the tokenizer has none.
      eos_id: id of EOS.
      on_batch: called between two batches, equally often on every process.
    """
    settings = trainer.settings
    self._trainer = trainer
    self._shape = (
      settings.batch_size // settings.accumulation,
      settings.sequence_length,
    )
    self._sharding = mesh_lib.batch_sharding(trainer.mesh, settings.mesh.rules)
    self._ids = {'bos_id': bos_id, 'eos_id': eos_id}
    self._on_batch = on_batch
    loss = Loss(
      logits_chunk=settings.logits_chunk, attention_kernel=settings.attention_kernel
    )
    self._sums = jax.jit(
      lambda params, batch: train_step.loss_sums(
        params, batch, config=trainer.config, loss=loss
      )[1],
      in_shardings=(None, self._sharding),
    )

  def __call__(self, params: Any, examples: Sequence[Packable]) -> EvalLoss:
    """The loss of a model on some examples; every process calls it alike.

    Args:
      params: parameters of the model, on the mesh.
      examples: tokenized examples.
    """
    size, length = self._shape
    part, parts = mesh_lib.process_share(self._sharding, self._shape)
    mine = slice(part * size // parts, (part + 1) * size // parts)
    fitting = [e for e in examples if self._length(e) <= length]
    sums = []
    with self._trainer.sharded():
      for count, batch in self._batches(fitting):
        local = Batch(*(array[mine] for array in batch))
        device = mesh_lib.put_batch(local, self._sharding, shape=self._shape)
        sums.append(self._sums(params, device))
        jax.block_until_ready(sums[-2:-1])  # two batches on the devices at most
        metering.computed(count, size * length)
        self._on_batch()
    found = EvalLoss(examples=len(fitting), too_long=len(examples) - len(fitting))
    for one in jax.device_get(sums):
      found += EvalLoss(float(one.loss), float(one.correct), float(one.weight))
    return found

  def _length(self, example: Packable) -> int:
    return batch_lib.packed_length(example, self._ids['bos_id'])

  def _batches(
    self, examples: Sequence[Packable]
  ) -> Iterator[tuple[int, Batch[np.ndarray]]]:
    """Yields (examples, whole batch of packed sequences); empty ones fill the last."""
    size, length = self._shape
    sequences = list(_packed(examples, [self._length(e) for e in examples], length))
    for start in range(0, len(sequences), size):
      some = sequences[start : start + size]
      count = sum(map(len, some))
      some += [[]] * (size - len(some))
      yield (
        count,
        batch_lib.stack(
          [batch_lib.assemble(s, sequence_length=length, **self._ids) for s in some]
        ),
      )


def _packed(
  examples: Sequence[Packable], lengths: Sequence[int], length: int
) -> Iterator[list[Packable]]:
  """Yields the examples of each sequence, in their order: as many as fit."""
  held, room = [], length
  for example, needed in zip(examples, lengths, strict=True):
    if needed > room:
      yield held
      held, room = [], length
    held.append(example)
    room -= needed
  if held:
    yield held

"""Settings of a run that its plan depends on."""

import dataclasses

from flan_jax.config.decoder import DecoderConfig
from flan_jax.config.training import StepConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlanRequest:
  """Settings of a run for the plan of its programs and of its duration.

  Attributes:
    model: architecture of the decoder.
    step: one training step and its mesh.
    train_steps: optimizer steps of the run.
    eval_batch_size: sequences of an evaluation or decoding batch; rounded up to a
      multiple that the mesh divides.
    eval_sequence_length: tokens of one sequence of such a batch.
  """

  model: DecoderConfig
  step: StepConfig
  train_steps: int
  eval_batch_size: int
  eval_sequence_length: int

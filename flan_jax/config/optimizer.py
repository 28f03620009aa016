"""Optimizer settings: Adafactor, its schedule, and low-rank adapters."""

import dataclasses
from typing import ClassVar

from flan_jax.config.checks import above, count, each, one_of, or_none, positive, share
from flan_jax.config.setting import check_fields, label, refusal, setting

OF_MODEL = (
  'logical_axes', 'muon_weight_dimension_numbers', 'weight_dimension_numbers',
)  # fmt: skip
"""Parameters of optimizers that only a model can give; a recipe may leave them out."""

MAX_RANK = 2**16
"""Maximum rank of an adapter."""

LORA_TARGETS = ('query', 'key', 'value', 'output', 'gate', 'up', 'down')
"""Matrices of a layer that may have an adapter."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """Adafactor (Shazeer and Stern 2018) as t5x runs it, and its schedule.

  Attributes:
    learning_rate: rate of the constant part of the schedule (FLAN section 2.4: 3e-5).
    schedule: 'constant', or 'rsqrt': learning_rate * sqrt(warmup / step) after it.
    warmup_steps: linear warm-up from 0; 0 for none.
    decay_rate: second moments decay by 1 - step ** -decay_rate.
    multiply_by_parameter_scale: scale updates by each parameter's RMS, except for
      parameters that begin at zero; None: True for full tuning, False with adapters
      (LORA_RANK).
    clipping_threshold: largest RMS of one parameter's update; None for none.
    clip_global_norm: largest norm of the whole gradient; None for none.
    momentum: decay of the first moment; None for none.
    weight_decay: decay per step, not scaled by the learning rate; None for none.
  """

  SELECTOR: ClassVar[str] = 'Optimizer'

  learning_rate: float = setting(3e-5, rule=above(0, example='3e-5'))
  schedule: str = setting('constant', rule=one_of('constant', 'rsqrt'))
  warmup_steps: int = setting(0, rule=count(0))
  decay_rate: float = setting(0.8, rule=positive)
  multiply_by_parameter_scale: bool | None = None
  clipping_threshold: float | None = setting(1.0, rule=or_none(positive))
  clip_global_norm: float | None = setting(None, rule=or_none(positive))
  momentum: float | None = setting(None, rule=or_none(share))
  weight_decay: float | None = setting(None, rule=or_none(share))

  def __post_init__(self):
    check_fields(self)

  def scales(self, *, adapters: bool) -> bool:
    """Returns whether updates are scaled by each parameter's RMS.

    Args:
      adapters: whether adapters are trained in place of the model.
    """
    if self.multiply_by_parameter_scale is None:
      return not adapters
    return self.multiply_by_parameter_scale


def _named(targets: tuple[str, ...] | None) -> str:
  if targets == ():
    return 'must name one or more, or be None'
  return each(one_of(*LORA_TARGETS))(targets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Low-rank adapters in place of full tuning (Hu et al. 2021, arXiv 2106.09685).

  Attributes:
    rank: rank of the matrix added to each weight matrix; 0 tunes the whole model.
    alpha: the added matrix is scaled by alpha / rank.
    targets: matrices of every layer that get an adapter, of query, key, value, output,
      gate, up and down; None for all that the model has.
  """

  SELECTOR: ClassVar[str] = 'Lora'

  rank: int = setting(0, macro='LORA_RANK', rule=count(0, MAX_RANK))
  alpha: float = setting(16.0, rule=above(0, example='16.0'))
  targets: tuple[str, ...] | None = setting(None, rule=_named)

  def __post_init__(self):
    check_fields(self)
    for field in dataclasses.fields(self) if not self.rank else ():
      value = getattr(self, field.name)
      if value != field.default:
        rank = label(Lora, 'rank')
        raise refusal(
          self,
          field.name,
          f'must be {field.default!r}: full tuning has no adapters; give '
          f'--gin.{rank}=8, or leave it out',
          got=f'{value!r} with {rank} 0',
        )

  @property
  def scale(self) -> float:
    """Factor of the product of an adapter's two matrices."""
    return self.alpha / self.rank

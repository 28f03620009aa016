"""Optimizer settings: Adafactor, its schedule, and low-rank adapters."""

import dataclasses
import math

from flan_jax.config.checks import check_at_least, check_one_of
from flan_jax.errors import InputError

LORA_TARGETS = ('query', 'key', 'value', 'output', 'gate', 'up', 'down')
"""Matrices of a layer that may have an adapter."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """Adafactor (Shazeer and Stern 2018) as t5x runs it, and its schedule.

  Attributes:
    learning_rate: of the constant part of the schedule (FLAN section 2.4: 3e-5).
    schedule: 'constant', or 'rsqrt': learning_rate * sqrt(warmup / step) after it.
    warmup_steps: linear warm-up from 0; 0 for none.
    decay_rate: second moments decay by 1 - step ** -decay_rate.
    multiply_by_parameter_scale: updates relative to each parameter's RMS, but for
      parameters that begin at zero; None: so where the whole model is tuned, and not
      where adapters are (LORA_RANK).
    clipping_threshold: largest RMS of one parameter's update; None for none.
    clip_global_norm: largest norm of the whole gradient; None for none.
    momentum: decay of the first moment; None for none.
    weight_decay: decay per step, not scaled by the learning rate; None for none.
  """

  learning_rate: float = 3e-5
  schedule: str = 'constant'
  warmup_steps: int = 0
  decay_rate: float = 0.8
  multiply_by_parameter_scale: bool | None = None
  clipping_threshold: float | None = 1.0
  clip_global_norm: float | None = None
  momentum: float | None = None
  weight_decay: float | None = None

  def __post_init__(self):
    known = ('constant', 'rsqrt')
    check_one_of('Optimizer.schedule', self.schedule, known, field='schedule')
    check_at_least('Optimizer.warmup_steps', self.warmup_steps, 0, field='warmup_steps')
    if not 0 < self.learning_rate < math.inf:
      raise InputError(
        f'Optimizer.learning_rate: got {self.learning_rate}; must be above 0, as 3e-5',
        field='learning_rate',
      )

  def scales(self, lora: 'Lora') -> bool:
    """Whether updates are relative to each parameter's RMS, beside these adapters."""
    if self.multiply_by_parameter_scale is None:
      return not lora.rank
    return self.multiply_by_parameter_scale


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
  """Low-rank adapters in place of full tuning (Hu et al. 2021, arXiv 2106.09685).

  Attributes:
    rank: of the matrix that is added to each weight matrix; 0 tunes the whole model.
    alpha: what is added is scaled by alpha / rank.
    targets: matrices of every layer that get an adapter, of query, key, value, output,
      gate, up and down; None for all that the model has.
  """

  rank: int = 0
  alpha: float = 16.0
  targets: tuple[str, ...] | None = None

  def __post_init__(self):
    check_at_least('LORA_RANK', self.rank, 0, field='rank')
    if self.alpha <= 0:
      message = f'Lora.alpha: got {self.alpha}; must be above 0'
      raise InputError(message, field='alpha')
    for name in self.targets or ():
      check_one_of('Lora.targets', name, LORA_TARGETS, field='targets')
    if self.targets == ():
      message = 'Lora.targets: got (); must name one or more, or be None'
      raise InputError(message, field='targets')
    for setting in dataclasses.fields(self) if not self.rank else ():
      got = getattr(self, setting.name)
      if got != setting.default:
        raise InputError(
          f'Lora.{setting.name}: got {got!r} with LORA_RANK 0, which tunes every '
          'weight and has no adapters; give --gin.LORA_RANK=8, or leave it out',
          field=setting.name,
        )

  @property
  def scale(self) -> float:
    """What the product of an adapter's two matrices is multiplied by."""
    return self.alpha / self.rank

"""The interface of evaluation during training, as the hook calls it."""

from collections.abc import Mapping
from typing import Any, Protocol


class Evaluation(Protocol):
  """An evaluation on dev, at some steps of a run.

  `flan_jax.jobs.held_out.HeldOutEvaluation` and `flan_jax.jobs.validation.Validation`
  implement it.
  """

  def during(self, params: Any, *, step: int) -> dict[str, Any]:
    """Evaluates on dev after `step` steps."""
    ...

  def values(self, found: Mapping[str, Any]) -> dict[str, float]:
    """Name -> figure, for the metric writers, of what `during` returned."""
    ...

  def has_evaluated(self, step: int) -> bool:
    """Returns whether `during` has run at this step."""
    ...

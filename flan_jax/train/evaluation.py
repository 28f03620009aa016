"""The interface of evaluation during training, as the trainer calls it."""

from collections.abc import Mapping
from typing import Any, Protocol


class Evaluation(Protocol):
  """A held-out evaluation before, during and after training.

  `flan_jax.jobs.held_out.HeldOutEvaluation` implements it.
  """

  def before(self, params: Any) -> dict[str, Any]:
    """Evaluates the model that training starts from."""
    ...

  def during(self, params: Any, *, step: int) -> dict[str, Any]:
    """Evaluates on dev after `step` steps."""
    ...

  def has_evaluated(self, step: int) -> bool:
    """Returns whether `during` has run at this step."""
    ...

  def after(
    self, params: Any, *, base: Any | None, metadata: Mapping[str, Any]
  ) -> dict[str, Any]:
    """Evaluates the trained model beside the base and writes the report."""
    ...

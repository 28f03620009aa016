"""Hook: something that happens between the steps of a run. Standard library only."""

import contextlib
from typing import Any

from flan_jax.errors import InputError


class Hook:
  """Something that happens between steps; subclasses override what they need.

  Hooks are called in their order, on every process, with the `train.loop.Loop`.

  ```python
  @flan_jax.configurable
  class Norms(flan_jax.Hook):
    def act(self, loop):
      loop.write({'norms/params': optax.global_norm(loop.state.params)})
  ```

  and in gin `Run.hooks = (@Norms(),)`, `Norms.every = 100`.

  Attributes:
    every: number of steps between two calls of `act`; None calls it after the last
      step alone.
  """

  every: int | None = None

  def __init__(self, every: int | None = None):
    """Sets the steps at which to act.

    Args:
      every: steps between two of them; None for those of the class.

    Raises:
      InputError: if it is less than 1.
    """
    if every is not None:
      if not isinstance(every, int) or every < 1:
        raise InputError(f'every: got {every}; must be 1 or more, a whole number')
      self.every = every

  def due(self, loop: Any) -> bool:
    """Returns whether to act after the step that was just done."""
    return loop.ending or bool(self.every) and loop.done % self.every == 0

  def start(self, loop: Any) -> None:
    """Called once before the first step."""

  def around(self, step: int) -> contextlib.AbstractContextManager[None]:
    """Context of the dispatch of a step, counted from 1."""
    return contextlib.nullcontext()

  def after(self, loop: Any) -> None:
    """Called after each step; acts if it is due."""
    if self.due(loop):
      self.act(loop)

  def act(self, loop: Any) -> None:
    """Called after a step at which the hook is due."""

  def aside(self, seconds: float) -> None:
    """Called after `seconds` spent on something else, such as a save."""

  def finish(self, loop: Any) -> None:
    """Called after the last step, even if SIGTERM interrupted the hooks after it."""

  def close(self) -> None:
    """Called at the end, also after an error."""

"""Hooks of a user's own, made of the recipes of `Run.hooks`."""

import contextlib
from collections.abc import Iterator, Sequence

from flan_jax.config.recipe import Recipe
from flan_jax.errors import InputError, failure
from flan_jax.runtime.preemption import Stopped
from flan_jax.train.hook import Hook
from flan_jax.train.loop import Loop
from flan_jax.train.metric_writer import BadStep


def of(recipes: Sequence[Recipe]) -> list[Hook]:
  """Makes the hooks of a run.

  Raises:
    InputError: if one is no hook, or cannot be made.
  """
  return [Guarded(recipe) for recipe in recipes]


class Guarded(Hook):
  """A hook whose error ends the run in one line that names it."""

  def __init__(self, recipe: Recipe):
    """Makes the hook.

    Raises:
      InputError: if the recipe does not build, or makes something else.
    """
    super().__init__()
    self._name = str(recipe)
    made = recipe.build()
    if not isinstance(made, Hook):
      raise InputError(
        f'Run.hooks: {recipe} returns {type(made).__name__}; must return a '
        'flan_jax.Hook',
        field='Run.hooks',
      )
    self._hook = made

  def due(self, loop: Loop) -> bool:
    with self._stated():
      return self._hook.due(loop)

  def start(self, loop: Loop) -> None:
    with self._stated():
      self._hook.start(loop)

  def around(self, step: int) -> contextlib.AbstractContextManager[None]:
    with self._stated():
      return self._hook.around(step)

  def after(self, loop: Loop) -> None:
    with self._stated():
      self._hook.after(loop)

  def act(self, loop: Loop) -> None:
    with self._stated():
      self._hook.act(loop)

  def aside(self, seconds: float) -> None:
    with self._stated():
      self._hook.aside(seconds)

  def finish(self, loop: Loop) -> None:
    with self._stated():
      self._hook.finish(loop)

  def close(self) -> None:
    with self._stated():
      self._hook.close()

  @contextlib.contextmanager
  def _stated(self) -> Iterator[None]:
    try:
      yield
    except (InputError, Stopped, BadStep):
      raise
    except Exception as error:  # any, of a class of the user's
      raise failure(f'hook {self._name}', error) from error

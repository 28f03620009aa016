"""The protocol of a metric writer, and the writers by name. Standard library only.

What ships and what a user brings come in by the same `metric_writer`.
"""

import dataclasses
import importlib
import importlib.util
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from flan_jax.errors import InputError, did_you_mean
from flan_jax.runtime import atomic_file, json_lines, modules
from flan_jax.runtime.named import check_name

SHIPPED = (
  'flan_jax.train.writers.jsonl',
  'flan_jax.train.writers.tensorboard',
  'flan_jax.train.writers.weights_and_biases',
  'flan_jax.train.writers.mlflow_tracking',
)
"""Modules that register the writers that ship."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunInfo:
  """One start of a run, as its writers see it.

  Attributes:
    name: name of the run.
    folder: MODEL_DIR, or its copy on this machine.
    step: steps done; those after it may have been written by an earlier start.
    settings: name of a setting, as 'optimizer.learning_rate' -> its JSON value.
    config: resolved configuration with its origins, as in config.gin.
    commit: git commit of the code; '' if unknown.
    warn: shows a line of text; of one writer, the first alone.
  """

  name: str
  folder: pathlib.Path
  step: int = 0
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  config: str = ''
  commit: str = ''
  warn: Callable[[str], None] = print

  def saved_id(self, writer: str) -> str | None:
    """The id that `save_id` kept for a writer, at this start or an earlier one."""
    return self._ids().get(writer)

  def save_id(self, writer: str, value: str) -> None:
    """Keeps an id in MODEL_DIR/writers.json, so that a resumed run continues it."""
    atomic_file.write_json(self._path, {**self._ids(), writer: value})

  @property
  def _path(self) -> pathlib.Path:
    return self.folder / 'writers.json'

  def _ids(self) -> dict[str, str]:
    if not self._path.is_file():
      return {}
    return json_lines.read_object(self._path)


class Writer:
  """A place for the metrics of a run; subclasses override what they need.

  Only process 0 has writers. An exception of a writer is one warning, and the run goes
  on; a full disk ends the run.

  Attributes:
    remote: whether it talks to a server. Such a writer has a thread of its own, and
      the run never waits for it but for a moment at its end.
  """

  remote: ClassVar[bool] = False

  def __init__(self, run: RunInfo):
    """Opens the writer, before the first step."""

  def write(self, step: int, values: Mapping[str, float | None]) -> None:
    """Writes values after `step` steps.

    Args:
      step: number of steps done.
      values: name -> value, or None if it has none, as the loss of a period in which
        every step was bad. 'train/loss' stands beside 'train/accuracy'.
    """

  def attach(self, path: pathlib.Path) -> None:
    """Takes a file of the report once it is complete."""

  def close(self, finished: bool) -> None:
    """Called at the end, also after an error.

    Args:
      finished: False if SIGTERM or an error ended the run.
    """


@dataclasses.dataclass(frozen=True)
class _Entry:
  make: type[Writer]
  needs: Mapping[str, str]
  place: str


_entries: dict[str, _Entry] = {}
_W = TypeVar('_W', bound=type[Writer])


def metric_writer(
  name: str, *, needs: Mapping[str, str] | None = None
) -> Callable[[_W], _W]:
  """Decorator of a subclass of `Writer`: registers it for the setting WRITERS.

  Args:
    name: its name in WRITERS.
    needs: module that it imports -> what `pip install` is given for it.

  Raises:
    InputError: if it is no subclass, or the name belongs to another.

  >>> @metric_writer('null')
  ... class Null(Writer):
  ...   '''Writes nothing.'''
  """

  if isinstance(name, type):
    raise InputError(
      f'metric writer: got {name!r} as its name; must be a text, as in '
      f'@flan_jax.metric_writer({name.__name__.lower()!r})'
    )
  check_name('metric writer', name)
  if not isinstance(needs, Mapping | None):
    raise InputError(
      f'metric writer {name!r}: needs {needs!r:.80}; must be a dictionary, as '
      "{'wandb': 'wandb>=0.17'}"
    )

  def register(cls: _W) -> _W:
    if not (isinstance(cls, type) and issubclass(cls, Writer)):
      raise InputError(
        f'metric writer {name!r}: got {cls!r}; must be a subclass of flan_jax.Writer'
      )
    place = f'{cls.__module__}.{cls.__qualname__}'
    old = _entries.get(name)
    if old is not None and old.place != place:
      raise InputError(
        f'metric writer {name!r}: registered twice, as {old.place} and as {place}; '
        'must have another name'
      )
    _entries[name] = _Entry(cls, dict(needs or {}), place)
    modules.note(place)
    return cls

  return register


def names() -> tuple[str, ...]:
  """Names of the registered writers, sorted."""
  for module in SHIPPED:
    importlib.import_module(module)
  modules.load()
  return tuple(sorted(_entries))


def check(wanted: Iterable[str]) -> None:
  """Checks that writers are registered.

  Raises:
    InputError: if one is not; names the nearest.
  """
  known = names()
  for name in wanted:
    if name not in known:
      raise InputError(
        f'WRITERS: got {name!r}; must be one of {", ".join(known)}, or registered by '
        f'a module (--module){did_you_mean(str(name), known)}',
        field='Run.writers',
      )


def check_installed(wanted: Iterable[str]) -> None:
  """Checks that the packages of registered writers are installed.

  Raises:
    InputError: if one is not; names the command that installs it.
  """
  for name in wanted:
    for module, package in _entries[name].needs.items():
      if importlib.util.find_spec(module) is None:
        raise InputError(
          f'WRITERS: got {name!r}; {module!r} is not installed; pip install {package}',
          field='Run.writers',
        )


def get(name: str) -> type[Writer]:
  """The writer of a name that `check` has passed."""
  return _entries[name].make

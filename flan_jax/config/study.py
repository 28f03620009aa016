"""Settings of a study: a grid of runs and evaluations as data, and its cells."""

import dataclasses
import itertools
import pathlib
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from flan_jax.config.checks import count, folder
from flan_jax.config.setting import check_fields, qualified, refusal, setting
from flan_jax.config.written import written
from flan_jax.errors import InputError, did_you_mean

OUTPUT = {'train': 'MODEL_DIR', 'eval': 'OUTPUT_DIR'}
"""Verb of a cell -> macro of the folder that the study gives it."""

MEASURED = (
  'HELD_OUT', 'Run.held_out', 'CLUSTERS', 'Evaluation.clusters', 'DATASETS',
  'Evaluation.datasets',
)  # fmt: skip
"""Settings of what is evaluated: cells that differ in them are rows of one column."""

SEEDS = ('SEED', 'Run.seed')
"""Settings of the seed: cells that differ in them are one column."""

MAX_PROCESSES = 1024
"""Maximum number of cells that run at a time."""

_KEYS = (*OUTPUT, 'settings', 'axes')
_NAME = re.compile(r'[A-Za-z0-9][\w.-]*')
_PLACEHOLDER = re.compile(r'\{(\w+)\}')
_BARE = re.compile(r'[A-Za-z][\w./-]*')


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyConfig:
  """A study: grids of training runs and evaluations.

  Attributes:
    study_dir: folder of the study: a folder for each cell, the shared stores, the page.
    grids: name of a grid -> {'train' or 'eval': its gin file or files, 'settings':
      {NAME: value} of all its cells, 'axes': {NAME: (value, ...)}}. A cell is one
      choice of each axis. An axis may also be {label: {NAME: value, ...}}, or
      {(NAME, NAME): ((value, value), ...)} for settings that change together. `{AXIS}`
      in a value is the label of the cell on that axis, `{STUDY_DIR}` the folder.
    compare: pairs of columns of the page, (('tuned', 'continuation'),): the first minus
      the second, on the same examples. A model and its base are compared anyway.
    reports_dir: folder for a copy of each finished cell's report.json, to be committed;
      a cell whose report is there is finished. None for no copies.
    processes: cells that run at a time, each in a process of its own.
  """

  SELECTOR: ClassVar[str] = 'Study'

  study_dir: str = setting(macro='STUDY_DIR', rule=folder)
  grids: Mapping[str, Mapping[str, Any]] = setting(macro='STUDY')
  compare: tuple[tuple[str, str], ...] = setting((), macro='COMPARE')
  reports_dir: str | None = setting(None, macro='REPORTS_DIR')
  processes: int = setting(1, macro='PROCESSES', rule=count(1, MAX_PROCESSES))

  def __post_init__(self):
    check_fields(self)
    columns = dict.fromkeys(cell.column for cell in self.cells())
    for name in itertools.chain.from_iterable(self.compare):
      if name not in columns:
        raise refusal(
          self,
          'compare',
          f'must be columns of the page: {", ".join(columns)}'
          + did_you_mean(name, columns),
          got=repr(name),
        )

  def cells(self) -> list['Cell']:
    """Returns the cells of all grids, in their order.

    Raises:
      InputError: if a grid has a wrong key, an axis is empty, or two cells have one
        name.
    """
    if not self.grids:
      raise _refusal('is empty; must be {GRID: {...}}')
    found: dict[str, Cell] = {}
    for name, grid in self.grids.items():
      for cell in _Grid(name, grid, self.study_dir).cells():
        if cell.name in found:
          raise _refusal(f'{name!r}: two cells are named {cell.name!r}')
        found[cell.name] = cell
    return list(found.values())


class Cell(NamedTuple):
  """One run or evaluation of a study.

  Attributes:
    name: its name, and its folder in STUDY_DIR: `tuned/nli-s0`.
    verb: 'train' or 'eval'.
    files: gin files.
    settings: NAME -> value, which override the files.
    column: name of its column on the page.
    seed: SEED.
  """

  name: str
  verb: str
  files: tuple[str, ...]
  settings: Mapping[str, Any]
  column: str
  seed: int

  @property
  def bindings(self) -> list[str]:
    """`NAME=VALUE` of each setting."""
    return [f'{name}={_text(value)}' for name, value in self.settings.items()]

  def arguments(self, *more: str) -> list[str]:
    """Arguments of `flan` that run the cell; `more` are further NAME=VALUE."""
    files = [f'--gin_file={file}' for file in self.files]
    return [self.verb, *files, *(f'--gin.{each}' for each in (*self.bindings, *more))]


def command(arguments: list[str]) -> str:
  """Writes a command as a shell reads it."""
  return shlex.join(['flan', *arguments])


class _Value(NamedTuple):
  """One value of an axis: its label, and what it sets."""

  label: str
  settings: Mapping[str, Any]


class _Grid:
  """One grid of a study, read and checked."""

  def __init__(self, name: str, given: Mapping[str, Any], study_dir: str):
    self.name, self._study_dir = name, study_dir
    if not _NAME.fullmatch(name):
      raise _refusal(f'grid {name!r}: must be letters, digits, `_`, `.` and `-`')
    for key in given:
      if key not in _KEYS:
        raise self._refusal(
          f'got key {key!r}; must be one of {", ".join(_KEYS)}'
          + did_you_mean(str(key), _KEYS)
        )
    verbs = [verb for verb in OUTPUT if verb in given]
    if len(verbs) != 1:
      raise self._refusal(
        f"must have one of 'train' and 'eval', a gin file; has {len(verbs)}"
      )
    self.verb = verbs[0]
    files = given[self.verb]
    self.files = (files,) if isinstance(files, str) else tuple(files)
    several = given.get('settings', {})
    self.settings: dict[str, Any] = {}
    for some in several if isinstance(several, (list, tuple)) else (several,):
      self.settings |= self._mapping(some, "'settings'")
    axes = self._mapping(given.get('axes', {}), "'axes'")
    self.axes = {_axis_name(axis): self._axis(axis, axes[axis]) for axis in axes}

  def cells(self) -> Iterator[Cell]:
    """Yields the cells: the last axis changes first."""
    seeds = {axis for axis in self.axes if self._sets(axis, SEEDS)}
    rows = {axis for axis in self.axes if self._sets(axis, MEASURED)}
    for values in itertools.product(*self.axes.values()):
      labels = {
        axis: value.label for axis, value in zip(self.axes, values, strict=True)
      }
      settings = dict(self.settings)
      for value in values:
        settings |= value.settings
      settings = {n: self._filled(value, labels) for n, value in settings.items()}
      out = OUTPUT[self.verb]
      if out in settings:
        raise self._refusal(f'sets {out}, which STUDY_DIR gives to each cell')
      own = '-'.join(labels.values())
      beside = [labels[axis] for axis in labels if axis not in seeds | rows]
      yield Cell(
        name=f'{self.name}/{own}' if own else self.name,
        verb=self.verb,
        files=self.files,
        settings=settings,
        column=' '.join([self.name, *beside]),
        seed=next((settings[name] for name in SEEDS if name in settings), 0),
      )

  def _sets(self, axis: str, names: tuple[str, ...]) -> bool:
    return any(name in value.settings for value in self.axes[axis] for name in names)

  def _filled(self, value: Any, labels: Mapping[str, str]) -> Any:
    """Replaces `{AXIS}` and `{STUDY_DIR}` in texts; other braces stay."""
    known = {'STUDY_DIR': self._study_dir, **labels}
    if isinstance(value, str):
      return _PLACEHOLDER.sub(lambda m: known.get(m[1], m[0]), value)
    if isinstance(value, (list, tuple)):
      return type(value)(self._filled(item, labels) for item in value)
    return value

  def _mapping(self, given: Any, what: str) -> dict[Any, Any]:
    if not isinstance(given, Mapping):
      raise self._refusal(f'{what}: got {written(given)}; must be {{NAME: value}}')
    return dict(given)

  def _axis(self, axis: Any, given: Any) -> list[_Value]:
    """Reads the values of an axis."""
    name = _axis_name(axis)
    if isinstance(given, str) or not isinstance(given, (list, tuple, Mapping)):
      raise self._refusal(
        f'axis {name}: got {written(given)}; must be (value, ...) or '
        '{label: {NAME: value}}'
      )
    if not given:
      raise self._refusal(f'axis {name}: is empty; must have a value')
    if isinstance(given, Mapping):
      values = [
        _Value(str(label), self._mapping(settings, f'axis {name}, {label!r}'))
        for label, settings in given.items()
      ]
    elif isinstance(axis, tuple):
      values = [self._together(axis, value) for value in given]
    else:
      values = [_Value(_label(name, value), {name: value}) for value in given]
    labels = [value.label for value in values]
    for label in labels:
      if not _NAME.fullmatch(label) or labels.count(label) > 1:
        wrong = 'twice' if labels.count(label) > 1 else 'no name of a folder'
        raise self._refusal(
          f'axis {name}: label {label!r} is {wrong}; name the values: {{label: '
          '{NAME: value}}'
        )
    return values

  def _together(self, names: tuple[str, ...], value: Any) -> _Value:
    if not isinstance(value, (list, tuple)) or len(value) != len(names):
      raise self._refusal(
        f'axis {_axis_name(names)}: got {written(value)}; must be {len(names)} values'
      )
    return _Value(_label(names[0], value[0]), dict(zip(names, value, strict=True)))

  def _refusal(self, wrong: str) -> InputError:
    return _refusal(f'grid {self.name!r}: {wrong}')


def _refusal(wrong: str) -> InputError:
  return InputError(f'STUDY: {wrong}', field=qualified(StudyConfig, 'grids'))


def _axis_name(axis: Any) -> str:
  return '+'.join(axis) if isinstance(axis, tuple) else str(axis)


def _label(name: str, value: Any) -> str:
  """Labels a value of an axis: `nli`, `gemma3_270m`, `s0`, `num_fewshot5`."""
  if isinstance(value, str):
    return re.sub(r'[^\w.-]+', '_', pathlib.PurePath(value).name)
  if isinstance(value, (list, tuple)):
    return '+'.join(_label(name, item) for item in value) or 'none'
  short = 's' if name == 'SEED' else name.rpartition('.')[2].lower()
  return f'{short}{value}'.lower()


def _text(value: Any) -> str:
  """Writes a value as on the command line: a name or a path without quotes."""
  plain = isinstance(value, str) and _BARE.fullmatch(value)
  if plain and value not in ('None', 'True', 'False'):
    return value
  return written(value)

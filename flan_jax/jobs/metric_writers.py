"""The metric writers of a run: checked, opened, and given the report."""

import dataclasses
import json
from typing import Any

from flan_jax.config.training import TrainConfig
from flan_jax.jobs.run import Run
from flan_jax.runtime import git_commit, multihost
from flan_jax.runtime.progress import Progress
from flan_jax.train.writers import writer
from flan_jax.train.writers.fan_out import Writers

REPORT = ('report.json', 'report.html', 'report.csv', 'templates.csv', 'report.tex')
"""Files of the report that the writers get."""


def names(config: TrainConfig) -> tuple[str, ...]:
  """Names of the writers of a run."""
  given = config.writers
  return (given,) if isinstance(given, str) else tuple(given)


def of(config: TrainConfig, *, progress: Progress) -> Writers:
  """The writers of a run, not yet opened; none on processes other than 0.

  Raises:
    InputError: if one is not registered.
  """
  writer.check(names(config))
  main = multihost.is_main_process()
  return Writers(names(config) if main else (), warn=progress.line)


def check_installed(config: TrainConfig) -> None:
  """Checks that the packages of the writers are installed, on process 0."""
  writer.check_installed(names(config))


def start(run: Run) -> None:
  """Opens the writers, after the state of `run.done` steps is restored."""
  main = multihost.is_main_process()
  run.writers.start(
    writer.RunInfo(
      name=run.folder.name,
      folder=run.folder.path,
      step=run.done,
      settings=_flat(json.loads(json.dumps(dataclasses.asdict(run.given)))),
      config=run.text,
      commit=git_commit.commit() if main else '',
    )
  )


def attach_report(run: Run) -> None:
  """Gives the files of the report to the writers."""
  for name in REPORT:
    path = run.folder.report / name
    if path.is_file():
      run.writers.attach(path)


def _flat(settings: Any, prefix: str = '') -> dict[str, Any]:
  """Settings by dotted names: 'optimizer.learning_rate'."""
  found = {}
  for name, value in settings.items():
    if isinstance(value, dict):
      found |= _flat(value, f'{prefix}{name}.')
    else:
      found[prefix + name] = value
  return found

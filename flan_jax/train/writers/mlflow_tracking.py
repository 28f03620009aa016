"""MLflow. Its own variables hold: MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME."""

import os
import pathlib
import re
import time
from collections.abc import Mapping
from typing import Any

from flan_jax.train.writers.writer import RunInfo, Writer, metric_writer

_VARIABLES = {
  'MLFLOW_DISABLE_TELEMETRY': 'true',
  'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '0',  # by default it tries for minutes
  'MLFLOW_HTTP_REQUEST_TIMEOUT': '10',
  'MLFLOW_LOGGING_LEVEL': 'WARNING',
}
"""Variables of MLflow, unless the user has set them."""

_BATCH = 100
"""Values of one request; MLflow takes no more parameters at a time."""


@metric_writer('mlflow', needs={'mlflow': "'flan_jax[mlflow]'"})
class MlFlow(Writer):
  """A run of MLflow. Values that its server did not take are sent with the next."""

  remote = True

  def __init__(self, run: RunInfo):
    for name, value in _VARIABLES.items():
      os.environ.setdefault(name, value)
    import mlflow

    self._folder = run.folder
    self._client = mlflow.MlflowClient()
    self._unsent: list[Any] = []
    self._last: dict[str, int] = {}
    kept = self._kept(run)
    self._resumed = kept is not None
    self._id = kept or self._create(run)
    self._client.update_run(self._id, status='RUNNING')
    self._client.set_tag(self._id, 'mlflow.source.git.commit', run.commit)
    self.attach(run.folder / 'config.gin')

  def _kept(self, run: RunInfo) -> str | None:
    """The id of the run that an earlier start created, if the server has it."""
    from mlflow.exceptions import MlflowException

    kept = run.saved_id('mlflow')
    if kept is None:
      return None
    try:
      found = self._client.get_run(kept)
    except MlflowException as error:
      if error.error_code != 'RESOURCE_DOES_NOT_EXIST':
        raise
      return None
    return kept if found.info.lifecycle_stage == 'active' else None

  def _create(self, run: RunInfo) -> str:
    from mlflow.entities import Param

    name = os.environ.get('MLFLOW_EXPERIMENT_NAME', 'flan_jax')
    experiment = self._client.get_experiment_by_name(name)
    where = experiment.experiment_id if experiment else None
    where = where or self._client.create_experiment(name)
    created = self._client.create_run(where, run_name=run.name).info.run_id
    run.save_id('mlflow', created)
    params = [Param(name, str(value)) for name, value in run.settings.items()]
    for first in range(0, len(params), _BATCH):
      self._client.log_batch(created, params=params[first : first + _BATCH])
    return created

  def write(self, step: int, values: Mapping[str, float | None]) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    self._unsent += [
      Metric(_legal(name), value, now, step)
      for name, value in values.items()
      if value is not None and step > self._last_step(_legal(name))
    ]
    self._send()

  def attach(self, path: pathlib.Path) -> None:
    inside = path.relative_to(self._folder).parent.as_posix()
    self._client.log_artifact(self._id, str(path), None if inside == '.' else inside)

  def close(self, finished: bool) -> None:
    self._send()
    self._client.set_terminated(self._id, 'FINISHED' if finished else 'KILLED')

  def _send(self) -> None:
    while self._unsent:
      self._client.log_batch(self._id, metrics=self._unsent[:_BATCH])
      del self._unsent[:_BATCH]

  def _last_step(self, name: str) -> int:
    """The last step that an earlier start wrote, which is not written twice."""
    if not self._resumed:
      return -1
    if name not in self._last:
      history = self._client.get_metric_history(self._id, name)
      self._last[name] = max((metric.step for metric in history), default=-1)
    return self._last[name]


def _legal(name: str) -> str:
  """The name with '_' for characters that MLflow refuses."""
  return re.sub(r'[^\w\-. :/]', '_', name, flags=re.ASCII)

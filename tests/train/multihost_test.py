"""Several hosts, as processes of this machine that talk over gloo.

Four simulated devices each. What they compute is compared with one process, and what
they are fed with `flan rows --digest`.
"""

import pathlib
import re
import shutil
import signal
import time

import numpy as np
import pytest

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.config import gin
from flan_jax.data.store import materialize
from flan_jax.errors import InputError
from flan_jax.jobs import train_and_evaluate
from flan_jax.runtime import multihost
from flan_jax.runtime.progress import Progress
from flan_jax.train import trainer

pytestmark = pytest.mark.usefixtures('compiled_once')

TASK = 'microworld_mini_arc'
ROWS = 8
"""Rows of a step."""


@pytest.fixture(scope='module')
def store(tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture(TASK), out=out, tokenizer='bytes', epochs=1, sequence_length=256
  )
  return out


@pytest.fixture
def settings(store) -> dict:
  return {'MIXTURE_OR_TASK_NAME': TASK, 'STORE': store, 'TRAIN_STEPS': 2_000}


@pytest.fixture
def alone(runs, settings):
  """Trains in this process, on eight devices, to a step."""

  def train(out: pathlib.Path, *, to: int, **more) -> None:
    flags = runs.flags(out, **{**settings, 'TRAIN_STEPS': to, **more})
    files = ['gin/runs/base.gin', 'gin/models/tiny.gin']
    train_and_evaluate.train_and_evaluate(
      gin.load(files, flags).build('Run'), progress=Progress()
    )

  return train


@pytest.fixture
def printed(store, capsys):
  """The rows of the first steps, as `flan rows --digest` prints them."""

  def rows(steps: int) -> dict[str, str]:
    capsys.readouterr()
    options = ['--digest', '--sequence-length=256', f'--count={steps * ROWS}']
    assert dispatch.main(['rows', str(store), *options]) == 0
    return dict(line.split() for line in capsys.readouterr().out.splitlines())

  return rows


def assert_same(log: list[dict], whole: list[dict], printed) -> None:
  """Rows bit for bit, each fed once; losses as near as another order of sums leaves."""
  assert [entry['step'] for entry in log] == [entry['step'] for entry in whole]
  losses = [[entry['loss'] for entry in entries] for entries in (log, whole)]
  np.testing.assert_allclose(*losses, rtol=2e-6)
  fed = {k: digest for entry in log for k, digest in entry['sequences'].items()}
  assert fed == printed(len(log))
  assert [len(entry['sequences']) for entry in log] == [ROWS] * len(log)


def interrupted(runs, entries, out, *, count: int, to: int, by: dict, **settings):
  """`count` hosts to step `to`, where some are sent a signal; all have ended."""
  among = runs.start(out, count=count, **settings)
  there = runs.wait(among, lambda: len(entries(out)) >= to)
  assert there, among[0].stderr
  for host, number in by.items():
    among[host].process.send_signal(number)
  sent = time.monotonic()
  for host in among:
    host.end(60)
  assert time.monotonic() - sent < 60
  return among


def test_sigterm_saves_and_other_hosts_on_another_mesh_go_on(
  runs, alone, entries, printed, settings, tmp_path
):
  """To one of two hosts, then to both, then one process goes on alone."""
  out, mesh = tmp_path / 'run', {'Mesh.fsdp': 2}
  term = signal.SIGTERM
  one = interrupted(runs, entries, out, count=2, to=3, by={1: term}, **settings)
  assert [h.process.returncode for h in one] == [trainer.INTERRUPTED] * 2, one[0].stderr
  first = entries(out)[-1]['step']
  assert (out / 'checkpoints' / str(first)).is_dir()

  both = {0: term, 1: term}
  two = interrupted(
    runs, entries, out, count=2, to=first + 2, by=both, **settings, **mesh
  )
  assert [h.process.returncode for h in two] == [trainer.INTERRUPTED] * 2, two[0].stderr
  assert f'Resuming at step {first:,}' in two[0].stderr
  done = entries(out)[-1]['step']
  assert (out / 'checkpoints' / str(done)).is_dir()

  alone(out, to=done + 2)
  alone(tmp_path / 'whole', to=done + 2)
  assert (out / 'model' / 'model.safetensors').is_file()
  assert_same(entries(out), entries(tmp_path / 'whole'), printed)


@pytest.mark.parametrize('dies', [1, pytest.param(0, marks=pytest.mark.slow)])
def test_when_one_host_dies_the_other_ends_within_a_minute(
  dies, runs, entries, settings, tmp_path
):
  """By our own word, or by JAX, whose coordination service may be the first to see."""
  out = tmp_path / 'run'
  by = {dies: signal.SIGKILL}
  among = interrupted(runs, entries, out, count=2, to=5, by=by, **settings)
  left = among[1 - dies]
  codes = [trainer.INTERRUPTED, -signal.SIGABRT]
  assert left.process.returncode in codes
  assert re.search('lost another process|[Cc]oordination', left.stderr)


@pytest.mark.slow
@pytest.mark.parametrize('counts', [(4, 2, 1), (2, 4, 1)])
def test_any_number_of_hosts_and_any_mesh_see_the_same(
  counts, runs, alone, entries, printed, settings, tmp_path
):
  """Killed in turn: four hosts have 16 devices, and a mesh of their own."""
  out = tmp_path / 'run'
  meshes = {4: {'Mesh.fsdp': 2, 'Mesh.model': 2}, 2: {'Mesh.fsdp': 4}}
  to = 5
  for count in counts[:-1]:
    by = {count - 1: signal.SIGKILL}
    interrupted(
      runs, entries, out, count=count, to=to, by=by, **settings, **meshes[count]
    )
    to = entries(out)[-1]['step'] + 3
  alone(out, to=to)
  alone(tmp_path / 'whole', to=to)
  assert_same(entries(out), entries(tmp_path / 'whole'), printed)


def test_hosts_with_other_settings_or_versions_are_named(runs, settings, tmp_path):
  """All that differs, on every host, before the first step."""
  out = tmp_path / 'run'
  other = {
    'settings': {'Optimizer.learning_rate': 0.02, 'Run.keep': 3},
    'before': "from flan_jax.runtime import multihost; multihost.__version__ = '9.9'",
  }
  both = runs.start(out, count=2, apart={1: other}, **settings)
  assert [host.end() for host in both] == [2, 2]
  for host in both:
    last = host.stderr.strip().splitlines()[-1]
    assert (
      'processes disagree: the version of process 1 is not that of process 0' in last
    )
    assert 'flan_jax 9.9' in last
    assert 'Run.keep of process 1 is not that of process 0 (3, not 2)' in last
    assert '(learning_rate=0.02, not learning_rate=0.01)' in last
    assert 'Run.seed' not in last
  assert not (out / 'run.json').exists()


def test_hosts_with_other_data_are_named(runs, settings, store, tmp_path):
  """A store of the same name on the disk of each, and one of them is another."""
  places = [tmp_path / 'a', tmp_path / 'b']
  shutil.copytree(store, places[0] / 'store')
  materialize.materialize(
    registry.mixture(TASK),
    out=places[1] / 'store',
    tokenizer='bytes',
    epochs=1,
    sequence_length=256,
    seed=1,
  )
  apart = {i: {'cwd': place} for i, place in enumerate(places)}
  both = runs.start(
    tmp_path / 'run', count=2, apart=apart, **{**settings, 'STORE': "'store'"}
  )
  assert [host.end() for host in both] == [2, 2], both[0].stderr
  for host in both:
    last = host.stderr.strip().splitlines()[-1]
    assert 'processes disagree: the data of process 1 is not that of process 0' in last
  assert not (tmp_path / 'run' / 'log.jsonl').exists()


def test_a_folder_of_another_run_is_refused_by_all_hosts(runs, settings, tmp_path):
  """Host 0 alone looks at it; the others do not take it for dead."""
  out = tmp_path / 'run'
  out.mkdir()
  (out / 'run.json').write_text('{"mixture": "flan_rte"}')
  (out / 'log.jsonl').touch()  # it had begun
  both = runs.start(out, count=2, **settings)
  assert [host.end(120) for host in both] == [2, 2], both[0].stderr
  for host in both:
    assert "mixture was 'flan_rte', is" in host.stderr.strip().splitlines()[-1]


def test_every_difference_is_found():
  every = np.zeros((4, 3, 4), np.int32)
  every[1, 0] = every[3, 0] = 7
  every[2, 2, 1] = 1
  names = ('Run.seed', 'Run.mesh', 'the data')
  assert multihost.disagreements(every, names) == {'Run.seed': (1, 3), 'the data': (2,)}
  assert multihost.assert_same_on_all({'alone': 1}) == []


@pytest.mark.parametrize(
  ('ours', 'theirs', 'said'),
  [
    ('3', '2', '2, not 3'),
    ('Mesh(data=8, fsdp=1)', 'Mesh(data=8, fsdp=2)', 'fsdp=2, not fsdp=1'),
    ('Mesh(data=8)', 'Mesh(data=8, fsdp=2)', 'fsdp=2, not nothing'),
    ('None', 'None', ''),
  ],
)
def test_what_differs_is_the_first_part_that_does(ours, theirs, said):
  assert multihost.first_difference(ours, theirs) == said


def test_one_host_s_rows_are_its_own():
  assert multihost.union({3: 'ff' * 32}) == {3: 'ff' * 32}


@pytest.mark.parametrize('where', ['localhost:1,2', 'a,b,c', ''])
def test_bad_addresses_are_refused(where):
  with pytest.raises(InputError, match='must be ADDRESS:PORT,HOSTS,HOST'):
    multihost.initialize(where)

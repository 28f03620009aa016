"""Runs of several processes on this machine, which communicate over gloo.

Each has one or four simulated devices. Their results are compared with those of one
process, and their sequences with `flan rows --digest`.
"""

import pathlib
import re
import shutil
import signal
import time

import numpy as np
import pytest
import small_run

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.config import gin
from flan_jax.data.store import materialize
from flan_jax.errors import InputError
from flan_jax.jobs import train_and_evaluate
from flan_jax.runtime import multihost, preemption
from flan_jax.runtime.progress import Progress
from tests.run_log import read_lines

TASK = 'microworld_mini_arc'
SEQUENCES = 8
"""Sequences of a step."""


@pytest.fixture(scope='module')
def store(tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(tokenizer='bytes', epochs=1, sequence_length=256),
    out=out,
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
    train_and_evaluate.train_and_evaluate(
      gin.load(small_run.FILES, flags).build('Run'), progress=Progress()
    )

  return train


@pytest.fixture
def printed(store, capsys):
  """Digests of the first steps' sequences, as `flan rows --digest` prints them."""

  def digests(steps: int) -> dict[str, str]:
    capsys.readouterr()
    options = ['--digest', '--sequence-length=256', f'--count={steps * SEQUENCES}']
    assert dispatch.main(['rows', str(store), *options]) == 0
    return dict(line.split() for line in capsys.readouterr().out.splitlines())

  return digests


def assert_same(out: pathlib.Path, whole_out: pathlib.Path, printed) -> None:
  """Checks that sequences are equal and fed once, and losses up to order of sums."""
  log, whole = (read_lines(d / 'log.jsonl') for d in (out, whole_out))
  sequences = read_lines(out / 'sequences.jsonl')
  assert [entry['step'] for entry in log] == [entry['step'] for entry in whole]
  losses = [[entry['loss'] for entry in entries] for entries in (log, whole)]
  np.testing.assert_allclose(*losses, rtol=2e-6)
  fed = {k: digest for entry in sequences for k, digest in entry['sequences'].items()}
  assert fed == printed(len(log))
  assert [len(entry['sequences']) for entry in sequences] == [SEQUENCES] * len(log)


def interrupted(runs, entries, out, *, count: int, to: int, by: dict, **settings):
  """Runs `count` processes to step `to`, signals some, and waits until all ended."""
  among = runs.start(out, count=count, **settings)
  there = runs.wait(among, lambda: len(entries(out)) >= to)
  assert there, among[0].stderr
  for index, number in by.items():
    among[index].process.send_signal(number)
  sent = time.monotonic()
  for process in among:
    process.end(60)
  assert time.monotonic() - sent < 60
  return among


def test_sigterm_to_one_process_saves_and_one_alone_on_another_mesh_resumes(
  runs, alone, entries, printed, settings, tmp_path
):
  """The two have one device each, the one alone has eight."""
  out, apart = tmp_path / 'run', dict.fromkeys((0, 1), {'devices': 1})
  by = {1: signal.SIGTERM}
  both = interrupted(runs, entries, out, count=2, to=3, by=by, apart=apart, **settings)
  codes = [each.process.returncode for each in both]
  assert codes == [preemption.INTERRUPTED] * 2, both[0].stderr
  done = entries(out)[-1]['step']
  assert (out / 'checkpoints' / str(done)).is_dir()

  rarely = {'Run.checkpoint_period': 1_000}
  alone(out, to=done + 2, **rarely)
  alone(tmp_path / 'whole', to=done + 2, **rarely)
  assert_same(out, tmp_path / 'whole', printed)


@pytest.mark.slow  # the test above ends one run of two processes
def test_signals_save_and_other_processes_on_another_mesh_resume(
  runs, alone, entries, printed, settings, tmp_path
):
  """Ctrl-C in one of two processes, then SIGTERM to both; then one resumes alone."""
  out, mesh = tmp_path / 'run', {'Mesh.fsdp': 2}
  term = signal.SIGTERM
  one = interrupted(
    runs, entries, out, count=2, to=3, by={1: signal.SIGINT}, **settings
  )
  assert [each.process.returncode for each in one] == [preemption.INTERRUPTED] * 2, one[
    0
  ].stderr
  first = entries(out)[-1]['step']
  assert (out / 'checkpoints' / str(first)).is_dir()

  both = {0: term, 1: term}
  two = interrupted(
    runs, entries, out, count=2, to=first + 2, by=both, **settings, **mesh
  )
  assert [each.process.returncode for each in two] == [preemption.INTERRUPTED] * 2, two[
    0
  ].stderr
  assert f'Resuming at step {first:,}' in two[0].stderr
  done = entries(out)[-1]['step']
  assert (out / 'checkpoints' / str(done)).is_dir()

  alone(out, to=done + 2)
  alone(tmp_path / 'whole', to=done + 2)
  assert (out / 'model' / 'model.safetensors').is_file()
  assert_same(out, tmp_path / 'whole', printed)


@pytest.mark.slow
@pytest.mark.parametrize('dies', [1, 0])
def test_when_one_process_dies_the_other_ends_within_a_minute(
  dies, runs, entries, settings, tmp_path
):
  """By our own error, or by JAX, whose coordination service may notice first."""
  out = tmp_path / 'run'
  by = {dies: signal.SIGKILL}
  among = interrupted(runs, entries, out, count=2, to=5, by=by, **settings)
  left = among[1 - dies]
  codes = [preemption.INTERRUPTED, -signal.SIGABRT]
  assert left.process.returncode in codes
  assert re.search('lost another process|[Cc]oordination', left.stderr)


@pytest.mark.slow
@pytest.mark.parametrize('counts', [(4, 2, 1), (2, 4, 1)])
def test_any_number_of_processes_and_any_mesh_train_the_same(
  counts, runs, alone, entries, printed, settings, tmp_path
):
  """Killed in turn; four processes have 16 devices, and another mesh."""
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
  assert_same(out, tmp_path / 'whole', printed)


def test_processes_with_other_settings_or_versions_are_named(runs, settings, tmp_path):
  """Every process reports all differences before the first step."""
  out = tmp_path / 'run'
  other = {
    'settings': {'Optimizer.learning_rate': 0.02, 'Run.keep': 3},
    'before': "from flan_jax.runtime import multihost; multihost.__version__ = '9.9'",
  }
  both = runs.start(out, count=2, apart={1: other}, **settings)
  assert [process.end() for process in both] == [2, 2]
  for process in both:
    last = process.stderr.strip().splitlines()[-1]
    assert (
      'processes disagree: the version of process 1 is not that of process 0' in last
    )
    assert 'flan_jax 9.9' in last
    assert 'Run.keep of process 1 is not that of process 0 (3, not 2)' in last
    assert '(learning_rate=0.02, not learning_rate=0.01)' in last
    assert 'Run.seed' not in last
  assert not (out / 'run.json').exists()


@pytest.mark.slow
def test_processes_with_other_data_are_named(runs, settings, store, tmp_path):
  """Each has a store of the same name on its disk, and one of them differs."""
  places = [tmp_path / 'a', tmp_path / 'b']
  shutil.copytree(store, places[0] / 'store')
  materialize.materialize(
    registry.mixture(TASK),
    materialize.StoreConfig(tokenizer='bytes', epochs=1, sequence_length=256, seed=1),
    out=places[1] / 'store',
  )
  apart = {i: {'cwd': place} for i, place in enumerate(places)}
  both = runs.start(
    tmp_path / 'run', count=2, apart=apart, **{**settings, 'STORE': "'store'"}
  )
  assert [process.end() for process in both] == [2, 2], both[0].stderr
  for process in both:
    last = process.stderr.strip().splitlines()[-1]
    assert 'processes disagree: the data of process 1 is not that of process 0' in last
  assert not (tmp_path / 'run' / 'log.jsonl').exists()


@pytest.mark.slow  # other settings are refused above
def test_a_folder_of_another_run_is_refused_by_all_processes(runs, settings, tmp_path):
  """Process 0 alone reads it; the others do not report it dead."""
  out = tmp_path / 'run'
  out.mkdir()
  (out / 'run.json').write_text('{"mixture": "flan_rte"}')
  (out / 'log.jsonl').touch()  # it had begun
  both = runs.start(out, count=2, **settings)
  assert [process.end(120) for process in both] == [2, 2], both[0].stderr
  for process in both:
    assert "mixture was 'flan_rte', is" in process.stderr.strip().splitlines()[-1]


def test_every_difference_is_found():
  every = np.zeros((4, 3, 4), np.int32)
  every[1, 0] = every[3, 0] = 7
  every[2, 2, 1] = 1
  names = ('Run.seed', 'Run.mesh', 'the data')
  assert multihost.disagreements(every, names) == {'Run.seed': (1, 3), 'the data': (2,)}
  assert multihost.assert_same_on_all({'alone': 1}) == []


@pytest.mark.parametrize(
  ('local', 'other', 'difference'),
  [
    ('3', '2', '2, not 3'),
    ('Mesh(data=8, fsdp=1)', 'Mesh(data=8, fsdp=2)', 'fsdp=2, not fsdp=1'),
    ('Mesh(data=8)', 'Mesh(data=8, fsdp=2)', 'fsdp=2, not nothing'),
    ('None', 'None', ''),
  ],
)
def test_the_first_difference_is_named(local, other, difference):
  assert multihost.first_difference(local, other) == difference


def test_the_union_of_one_process_is_its_own_digests():
  assert multihost.union({3: 'ff' * 32}) == {3: 'ff' * 32}


@pytest.mark.parametrize('where', ['localhost:1,2', 'a,b,c', ''])
def test_bad_addresses_are_refused(where):
  with pytest.raises(InputError, match='must be ADDRESS:PORT,HOSTS,HOST'):
    multihost.initialize(where)

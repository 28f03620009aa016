"""Several hosts, as processes of this machine that talk over gloo.

Four simulated devices each; what they compute is compared with one process.
"""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from flan_jax import catalogue, config
from flan_jax.data import materialize
from flan_jax.data import rows as rows_lib
from flan_jax.data import store as store_lib
from flan_jax.errors import InputError
from flan_jax.progress import Progress
from flan_jax.train import hosts, loop

TASK = 'microworld_mini_arc'
FILES = ['gin/runs/base.gin', 'gin/models/tiny.gin']
ROWS = 8

# Every host writes down the digest of each row that it feeds.
RECORDS = """
import json, os, sys
from flan_jax import cli
from flan_jax.data import rows
from flan_jax.train import steps
class Recording(steps.Loader):
  def batch(self, step):
    found = super().batch(step)
    with open(os.environ['ROWS_FED'], 'a') as file:
      for k, row in zip(self.global_rows(step), zip(*found)):
        file.write(json.dumps([k, rows.row_digest(rows.Batch(*row))]) + chr(10))
    return found
steps.Loader = Recording
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(scope='module')
def store(tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('data') / 'store'
  materialize.materialize(
    catalogue.mixture(TASK), out=out, tokenizer='bytes', epochs=1, row_length=256
  )
  return out


def flags(model_dir: pathlib.Path, store: pathlib.Path, **more) -> list[str]:
  values = {
    'MODEL_DIR': model_dir,
    'MIXTURE_OR_TASK_NAME': TASK,
    'STORE': store,
    'TRAIN_STEPS': 40,
    'VOCAB_SIZE': 512,
    'NUM_LAYERS': 1,
    'DecoderConfig.d_model': 16,
    'DecoderConfig.d_ff': 32,
    'DecoderConfig.head_dim': 4,
    'ROW_LENGTH': 256,
    'BATCH_TOKENS': ROWS * 256,
    'Optimizer.learning_rate': 0.01,
    'Run.checkpoint_period': 2,
    'Run.log_period': 1,
    **more,
  }
  return [f'{name}={value}' for name, value in values.items()]


class Host:
  """One process of a run."""

  def __init__(self, model_dir, store, *, where: str, devices: int, **more):
    self.fed = model_dir.parent / f'fed-{where.rpartition(",")[2]}.jsonl'
    command = [sys.executable, '-c', RECORDS, 'train', f'--multihost={where}']
    command += [f'--gin_file={file}' for file in FILES]
    command += [f'--gin.{flag}' for flag in flags(model_dir, store, **more)]
    self._said = self.fed.with_suffix('.log')
    with self._said.open('w') as file:
      self.process = subprocess.Popen(
        command,
        stderr=file,
        env={
          **os.environ,
          'ROWS_FED': str(self.fed),
          'JAX_PLATFORMS': 'cpu',
          'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices} '
          '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true',
        },
      )

  def end(self, timeout: float = 300) -> int:
    return self.process.wait(timeout)

  @property
  def said(self) -> str:
    return self._said.read_text()

  def rows(self) -> dict[int, str]:
    return dict(json.loads(line) for line in self.fed.read_text().splitlines())


def start(
  model_dir, store, *, count: int, more: dict[int, dict] | None = None, **common
):
  with socket.socket() as free:
    free.bind(('localhost', 0))
    port = free.getsockname()[1]
  model_dir.parent.mkdir(exist_ok=True)
  return [
    Host(
      model_dir,
      store,
      where=f'localhost:{port},{count},{i}',
      devices=4,
      **common,
      **(more or {}).get(i, {}),
    )
    for i in range(count)
  ]


@pytest.fixture(autouse=True)
def nothing_stays():
  """Whatever a test does, its processes end with it."""
  made: list[Host] = []
  init = Host.__init__

  def kept(self, *args, **kwargs):
    init(self, *args, **kwargs)
    made.append(self)

  Host.__init__ = kept
  yield
  Host.__init__ = init
  for host in made:
    if host.process.poll() is None:
      host.process.kill()
      host.process.wait()


def log(model_dir: pathlib.Path) -> list[dict]:
  path = model_dir / 'log.jsonl'
  lines = path.read_text().splitlines() if path.is_file() else []
  return [json.loads(line) for line in lines]


def wait_for_step(model_dir: pathlib.Path, step: int, among: list[Host]) -> None:
  deadline = time.monotonic() + 300
  while len(log(model_dir)) < step:
    assert time.monotonic() < deadline, among[0].said
    assert all(host.process.poll() is None for host in among), among[0].said
    time.sleep(0.02)


@pytest.fixture(scope='module')
def alone(store, tmp_path_factory) -> pathlib.Path:
  """Ten steps of one process on eight devices."""
  out = tmp_path_factory.mktemp('alone') / 'run'
  settings = config.load(FILES, flags(out, store, TRAIN_STEPS=10)).build('Run')
  loop.train(settings, progress=Progress(quiet=True))
  return out


def same_losses(one: list[dict], other: list[dict]) -> None:
  assert [e['step'] for e in one] == [e['step'] for e in other]
  losses = [[e['loss'] for e in entries] for entries in (one, other)]
  np.testing.assert_allclose(*losses, rtol=2e-6)


def killed_then_gone_on_alone(alone, store, tmp_path, *, count: int, dies: int) -> None:
  """`count` hosts train and save; one is killed; one process goes on, another mesh."""
  out = tmp_path / 'run'
  all_hosts = start(out, store, count=count)
  wait_for_step(out, 5, all_hosts)
  victim = all_hosts[dies]
  victim.process.send_signal(signal.SIGKILL)
  died = time.monotonic()
  for host in all_hosts:
    host.end(60)
  assert time.monotonic() - died < 60
  for host in all_hosts:
    if host is victim:
      continue
    assert host.process.returncode not in (0, None)
    assert re.search('another host does not answer|[Cc]oordination', host.said)

  kept = store_lib.Store.open(store)
  plan = kept.plan(seed=0, rows=40 * ROWS, row_length=256)
  fed = [host.rows() for host in all_hosts]
  for row, digest in {k: v for rows in fed for k, v in rows.items()}.items():
    assert digest == rows_lib.row_digest(kept.row(plan, row))
  for row in range(5 * ROWS):
    assert sum(row in rows for rows in fed) == 1, 'each row is fed by one host'

  mesh = {'Mesh.fsdp': 2}
  settings = config.load(FILES, flags(out, store, TRAIN_STEPS=10, **mesh)).build('Run')
  loop.train(settings, progress=Progress())
  same_losses(log(out), log(alone))


def test_two_hosts_then_one(alone, store, tmp_path):
  killed_then_gone_on_alone(alone, store, tmp_path, count=2, dies=1)


@pytest.mark.slow
def test_two_hosts_then_one_when_the_first_dies(alone, store, tmp_path):
  """Host 0 keeps the others together: without it they end too."""
  killed_then_gone_on_alone(alone, store, tmp_path, count=2, dies=0)


@pytest.mark.slow
def test_four_hosts_then_one(alone, store, tmp_path):
  killed_then_gone_on_alone(alone, store, tmp_path, count=4, dies=3)


def test_sigterm_to_one_host_saves_on_all(store, tmp_path):
  """They agree on a step, save it, and both ask to be started again; then they end."""
  out = tmp_path / 'run'
  both = start(out, store, count=2, TRAIN_STEPS=2_000)
  wait_for_step(out, 3, both)
  both[1].process.send_signal(signal.SIGTERM)
  assert [host.end() for host in both] == [loop.INTERRUPTED] * 2
  done = log(out)[-1]['step']
  assert (out / 'checkpoints' / str(done)).is_dir()
  both = start(out, store, count=2, TRAIN_STEPS=done + 2)
  assert [host.end() for host in both] == [0, 0], both[0].said
  assert f'Resuming at step {done:,}' in both[0].said
  assert (out / 'model' / 'model.safetensors').is_file()


def test_hosts_that_were_started_differently_are_named(store, tmp_path):
  """Before the first step, on every host, with what differs."""
  out = tmp_path / 'run'
  both = start(out, store, count=2, more={1: {'Optimizer.learning_rate': 0.02}})
  assert [host.end() for host in both] == [2, 2]
  for host in both:
    last = host.said.strip().splitlines()[-1]
    assert 'hosts disagree: Run.optimizer of host 1 is not that of host 0' in last
  assert not (out / 'run.json').exists()


def test_every_difference_is_named():
  every = np.zeros((4, 3, 4), np.int32)
  every[1, 0] = every[3, 0] = 7
  every[2, 2, 1] = 1
  assert hosts.disagreements(every, ('Run.seed', 'Run.mesh', 'the data')) == [
    'Run.seed of host 1, 3 is not that of host 0',
    'the data of host 2 is not that of host 0',
  ]
  assert hosts.agree({'alone': 1}) == []


@pytest.mark.parametrize('where', ['localhost:1,2', 'a,b,c', ''])
def test_bad_addresses_are_refused(where):
  with pytest.raises(InputError, match='must be ADDRESS:PORT,HOSTS,HOST'):
    hosts.initialize(where)

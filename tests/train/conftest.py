"""Small runs, alone in a process or on several hosts: processes that talk over gloo."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import pytest

ROOT = pathlib.Path(__file__).parents[2]
FILES = [str(ROOT / 'gin' / name) for name in ('runs/base.gin', 'models/tiny.gin')]
SMALL = {
  'VOCAB_SIZE': 512,
  'NUM_LAYERS': 1,
  'DecoderConfig.d_model': 16,
  'DecoderConfig.d_ff': 32,
  'DecoderConfig.head_dim': 4,
  'ROW_LENGTH': 256,
  'BATCH_TOKENS': 2048,
  'Optimizer.learning_rate': 0.01,
  'Evaluate.row_length': 256,
  'Run.checkpoint_period': 2,
  'Run.log_period': 1,
}
MAIN = 'import sys; from flan_jax import cli; sys.exit(cli.main(sys.argv[1:]))'


@pytest.fixture(scope='module')
def compiled_once(tmp_path_factory):
  """The same programs in every test and process: compiled once, then read."""
  names = ('jax_compilation_cache_dir', 'jax_persistent_cache_min_compile_time_secs')
  before = [getattr(jax.config, name) for name in names]
  folder = tmp_path_factory.mktemp('compiled')
  for name, value in zip(names, (str(folder), 0.0), strict=True):
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)
  yield
  for name, value in zip(names, before, strict=True):
    jax.config.update(name, value)
    del os.environ[name.upper()]
  os.environ['JAX_COMPILATION_CACHE_DIR'] = ''


class Host:
  """One process of a run."""

  def __init__(self, out, flags, *, where='', devices=4, before='pass', cwd=None):
    """Starts `flan train`.

    Args:
      out: MODEL_DIR.
      flags: of gin.
      where: for --multihost; '' for a run that is alone.
      devices: simulated.
      before: a line of Python that runs before.
      cwd: where it runs.
    """
    command = [sys.executable, '-c', f'{before}\n{MAIN}', 'train']
    command += [f'--multihost={where}'] if where else []
    command += [f'--gin_file={file}' for file in FILES]
    command += [f'--gin.{flag}' for flag in flags]
    out.parent.mkdir(parents=True, exist_ok=True)
    self._said = out.parent / f'{out.name}-{where.rpartition(",")[2] or 0}.said'
    with self._said.open('w') as file:
      self.process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=file,
        cwd=cwd,
        env={
          **os.environ,
          'JAX_PLATFORMS': 'cpu',
          'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices} '
          '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true',
        },
      )

  @property
  def said(self) -> str:
    return self._said.read_text()

  def end(self, timeout: float = 1_200) -> int:
    return self.process.wait(timeout)


class Runs:
  """Starts runs; none of their processes outlives the test."""

  def __init__(self):
    self._made: list[Host] = []

  def flags(self, out: pathlib.Path, **settings) -> list[str]:
    values = {'MODEL_DIR': out, **SMALL, **settings}
    return [f'{name}={value}' for name, value in values.items()]

  def start(self, out, *, count: int = 1, apart=None, **settings) -> list[Host]:
    """Starts `count` hosts.

    Args:
      out: MODEL_DIR.
      count: of hosts.
      apart: host -> arguments of Host that it alone has; `settings` are added to its.
      settings: of all.
    """
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    hosts = []
    for i in range(count):
      more = dict((apart or {}).get(i, {}))
      flags = self.flags(out, **{**settings, **more.pop('settings', {})})
      where = f'localhost:{port},{count},{i}' if count > 1 else ''
      hosts.append(Host(out, flags, where=where, **more))
      self._made.append(hosts[-1])
    return hosts

  def wait(self, among: list[Host], ready) -> bool:
    """Until `ready()`; False where all of them have ended before."""
    deadline = time.monotonic() + 1_200
    while not ready():
      assert time.monotonic() < deadline, among[0].said
      if all(host.process.poll() is not None for host in among):
        return False
      time.sleep(0.002)
    return True

  def end(self) -> None:
    for host in self._made:
      if host.process.poll() is None:
        host.process.kill()
        host.process.wait()


@pytest.fixture
def runs():
  made = Runs()
  yield made
  made.end()


def read_lines(path: pathlib.Path) -> list[dict]:
  """The whole lines of a file of JSON objects; [] where there is none."""
  text = path.read_text() if path.is_file() else ''
  return [json.loads(x) for x in text.splitlines(keepends=True) if x.endswith('\n')]


@pytest.fixture
def entries():
  """MODEL_DIR -> what its log says."""
  return lambda out: read_lines(out / 'log.jsonl')

"""Eight simulated CPU devices for every test, and processes of runs beside it.

Commands run alone, or as several hosts: processes that talk over gloo.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

# Set before jax is imported.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', '')  # none in the user's home
# The programs of tests are small: compiling them well takes longer than running them.
os.environ['XLA_FLAGS'] = ' '.join([
  os.environ.get('XLA_FLAGS', ''),
  '--xla_force_host_platform_device_count=8',
  '--xla_backend_optimization_level=0',
  '--xla_llvm_disable_expensive_passes=true',
])  # fmt: skip

import hypothesis
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # modules that tests share

pytest_plugins = ['run_log', 'tiny_datasets', 'tiny_model']

# The same cases on every machine, however slow it is.
hypothesis.settings.register_profile('tests', deadline=None, derandomize=True)
hypothesis.settings.load_profile('tests')


def pytest_addoption(parser):
  parser.addoption(
    '--update-golden', action='store_true', help='write the golden files anew'
  )


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
  """Tables are as wide as they need, whatever the width of who runs the tests."""
  monkeypatch.delenv('COLUMNS', raising=False)


@pytest.fixture
def update_golden(request) -> bool:
  return request.config.getoption('--update-golden')


@pytest.fixture(scope='session')
def kinds(tmp_path_factory):
  """kind -> a small tokenizer of that kind."""
  import small_tokenizers

  return {
    kind: small_tokenizers.of(kind, tmp_path_factory.mktemp(kind))
    for kind in small_tokenizers.KINDS
  }


EXAMPLES = pathlib.Path(__file__).parent / 'examples'


@pytest.fixture
def own_examples():
  """Dataset -> its two examples of our own writing, in the shape of its records.

  They stand in `examples/<builder>/<config>/<split>.jsonl`, the layout that
  `flan fetch --from` takes; datasets of one TFDS name share them.
  """

  def read(dataset):
    name = dataset.tfds.rpartition(':')[0]
    folder = EXAMPLES / (name if '/' in name else f'{name}/default')
    (path,) = folder.glob('*.jsonl')
    lines = path.read_text(encoding='utf-8').splitlines()
    return [dataset.read(json.loads(x), f'own-{i}') for i, x in enumerate(lines, 1)]

  return read


ROOT = pathlib.Path(__file__).parents[1]
FILES = {
  'train': ('gin/runs/base.gin', 'gin/models/tiny.gin'),
  'eval': ('gin/evaluate/zero_shot.gin',),
}
SMALL = {
  'VOCAB_SIZE': 512,
  'NUM_LAYERS': 1,
  'DecoderConfig.d_model': 16,
  'DecoderConfig.d_ff': 32,
  'DecoderConfig.head_dim': 4,
  'SEQUENCE_LENGTH': 256,
  'BATCH_TOKENS': 2048,
  'Optimizer.learning_rate': 0.01,
  'Evaluate.sequence_length': 256,
  'Run.checkpoint_period': 2,
  'Run.log_period': 1,
}
MAIN = 'import runpy; runpy.run_module("flan_jax", run_name="__main__")'


@pytest.fixture(scope='module')
def compiled_once(tmp_path_factory):
  """The same programs in every test and process: compiled once, then read."""
  import jax

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

  def __init__(self, verb, out, flags, *, where='', devices=4, before='pass', cwd=None):
    """Starts `flan VERB`.

    Args:
      verb: `train` or `eval`.
      out: MODEL_DIR or OUTPUT_DIR.
      flags: of gin.
      where: for --multihost; '' for a run that is alone.
      devices: simulated.
      before: a line of Python that runs before.
      cwd: where it runs.
    """
    command = [sys.executable, '-c', f'{before}\n{MAIN}', verb]
    command += [f'--multihost={where}'] if where else []
    command += [f'--gin_file={ROOT / file}' for file in FILES[verb]]
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

  def flags(self, out: pathlib.Path, *, verb='train', **settings) -> list[str]:
    values = {'MODEL_DIR': out, **SMALL} if verb == 'train' else {'OUTPUT_DIR': out}
    return [f'{name}={value}' for name, value in {**values, **settings}.items()]

  def start(
    self, out, *, count: int = 1, apart=None, verb='train', **settings
  ) -> list[Host]:
    """Starts `count` hosts.

    Args:
      out: MODEL_DIR or OUTPUT_DIR.
      count: of hosts.
      apart: host -> arguments of Host that it alone has; `settings` are added to its.
      verb: of the command.
      settings: of all.
    """
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    hosts = []
    for i in range(count):
      more = dict((apart or {}).get(i, {}))
      flags = self.flags(out, verb=verb, **{**settings, **more.pop('settings', {})})
      where = f'localhost:{port},{count},{i}' if count > 1 else ''
      hosts.append(Host(verb, out, flags, where=where, **more))
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

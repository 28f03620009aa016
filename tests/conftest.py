"""Fixtures: eight simulated CPU devices, and runs in processes of their own.

A command runs in one process or in several, which communicate over gloo.
"""

import ctypes
import gc
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # modules that tests share

from compile_flags import QUICK

# A shell lets its background jobs ignore SIGINT, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
  signal.signal(signal.SIGINT, signal.default_int_handler)

# Set before jax is imported.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
# Else every operation of a program notes the stack of Python that it was traced in.
os.environ.setdefault('JAX_TRACEBACK_IN_LOCATIONS_LIMIT', '0')
os.environ.setdefault('OMP_NUM_THREADS', '1')  # torch's threads spin as they wait
# One cache for all workers, which inherit its name, and for the processes they start:
# not the user's, and removed at the end.
os.environ['JAX_COMPILATION_CACHE_DIR'] = os.environ.get(
  'JAX_COMPILATION_CACHE_DIR'
) or tempfile.mkdtemp(prefix='flan_jax-compiled-')
os.environ['XLA_FLAGS'] = ' '.join(
  [os.environ.get('XLA_FLAGS', ''), '--xla_force_host_platform_device_count=8', QUICK]
)

import hypothesis
import pytest
import small_run

pytest_plugins = ['run_log', 'tiny_datasets', 'tiny_model']

# The same cases on every machine, even a slow one.
hypothesis.settings.register_profile('tests', deadline=None, derandomize=True)
hypothesis.settings.load_profile('tests')


def pytest_addoption(parser):
  parser.addoption(
    '--update-golden', action='store_true', help='rewrite the golden files'
  )
  parser.addoption(
    '--tensorflow',
    choices=('only', 'without'),
    help='test files that import TensorFlow, or the others; default: all',
  )


_TENSORFLOW = re.compile(
  r"importorskip\(\s*'(seqio|tensorflow|flan_jax\.data\.fetch|flan_jax\.interop\.t5x)"
)


def pytest_ignore_collect(collection_path, config):
  """Keeps TensorFlow, with its 600 MB, out of the processes of the other tests."""
  wanted = config.getoption('--tensorflow')
  if wanted is None or not collection_path.name.endswith('_test.py'):
    return None
  uses = _TENSORFLOW.search(collection_path.read_text(encoding='utf-8')) is not None
  return True if uses != (wanted == 'only') else None


def pytest_unconfigure(config):
  folder = pathlib.Path(os.environ['JAX_COMPILATION_CACHE_DIR'])
  ours = folder.name.startswith('flan_jax-compiled-')
  if ours and 'PYTEST_XDIST_WORKER' not in os.environ:
    shutil.rmtree(folder, ignore_errors=True)


FIRST = {'tests': 0, 'train': 1, 'jobs': 1, 'launch': 1, 'plan': 1}
"""Folders with the longest files: a long one at the end leaves a core idle."""


def pytest_collection_modifyitems(items):
  items.sort(key=lambda item: FIRST.get(item.path.parent.name, 2))


def pytest_collection_finish():
  """Collects garbage less often: searching what is never garbage took a tenth of all.

  Nothing that was imported is searched again.
  """
  gc.collect()
  gc.freeze()
  gc.set_threshold(20_000, 20, 100)


@pytest.fixture(scope='module', autouse=True)
def forgets_programs():
  """Frees the compiled programs of a module: all of them together take gigabytes.

  A command that ran in this process has set the C library to keep what is freed.
  """
  yield
  if 'jax' in sys.modules:
    sys.modules['jax'].clear_caches()
    gc.collect()
    gc.freeze()  # what is left was imported, or is used again
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
      trim(0)


@pytest.fixture(scope='module', autouse=True)
def forgets_registrations():
  """Forgets what a module's tests registered, and the modules that they named."""
  named = {name: os.environ.get(name) for name in ('FLAN_JAX_MODULES', 'PYTHONPATH')}
  path = list(sys.path)
  before = {kind: dict(entries) for kind, entries in _registered().items()}
  yield
  for kind, entries in _registered().items():
    kept = before.get(kind) or {
      name: entry for name, entry in entries.items() if _ships(entry.place)
    }
    entries.clear()
    entries.update(kept)
  if declared := getattr(sys.modules.get(FILE_TASK), '_declared', None):
    declared.clear()
  sys.path[:] = path
  for name, value in named.items():
    os.environ.pop(name, None)
    if value is not None:
      os.environ[name] = value


FILE_TASK = 'flan_jax.data.sources.file_task'


def _registered() -> dict:
  """Kind -> name -> entry of the registry; {} if nothing has imported it."""
  registry = sys.modules.get('flan_jax.catalog.registry')
  return {} if registry is None else registry._entries


def _ships(place: str) -> bool:
  path = pathlib.Path(place.rpartition(':')[0])
  folders = ('flan_jax', 'tasks', 'mixtures')
  inside = any(path.is_relative_to(ROOT / folder) for folder in folders)
  return inside and path.stem != 'file_task'


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch):
  """Makes tables as wide as they need, independent of the terminal."""
  monkeypatch.delenv('COLUMNS', raising=False)


@pytest.fixture
def update_golden(request) -> bool:
  return request.config.getoption('--update-golden')


@pytest.fixture(scope='session')
def kinds(tmp_path_factory):
  """Kind -> a small tokenizer of that kind."""
  import small_tokenizers

  return {
    kind: small_tokenizers.of(kind, tmp_path_factory.mktemp(kind))
    for kind in small_tokenizers.KINDS
  }


EXAMPLES = pathlib.Path(__file__).parent / 'examples'


@pytest.fixture
def own_examples():
  """Returns a function: dataset -> its two handwritten examples.

  They are in `examples/<builder>/<config>/<split>.jsonl`, the layout of
  `flan fetch --from`; datasets with the same TFDS name share them.
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
  'train': small_run.FILES,
  'eval': ('gin/evaluate/zero_shot.gin',),
  'infer': ('gin/infer.gin',),
}
SMALL = {**small_run.SETTINGS, 'Run.checkpoint_period': 2, 'Run.log_period': 1}
MAIN = 'import runpy; runpy.run_module("flan_jax", run_name="__main__")'


class Process:
  """One process of a run."""

  def __init__(self, verb, out, flags, *, where='', devices=4, before='pass', cwd=None):
    """Starts `flan VERB`.

    Args:
      verb: `train`, `eval` or `infer`.
      out: MODEL_DIR or OUTPUT_DIR.
      flags: gin bindings, NAME=VALUE.
      where: value of --multihost; '' for a run of one process.
      devices: number of simulated devices.
      before: line of Python to run first.
      cwd: working directory.
    """
    command = [sys.executable, '-c', f'{before}\n{MAIN}', verb]
    command += [f'--multihost={where}'] if where else []
    command += [f'--gin_file={ROOT / file}' for file in FILES[verb]]
    command += [f'--gin.{flag}' for flag in flags]
    out.parent.mkdir(parents=True, exist_ok=True)
    self._stderr = out.parent / f'{out.name}-{where.rpartition(",")[2] or 0}.stderr'
    with self._stderr.open('w') as file:
      self.process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=file,
        cwd=cwd,
        env={
          **os.environ,
          'JAX_PLATFORMS': 'cpu',
          'XLA_FLAGS': f'--xla_force_host_platform_device_count={devices} {QUICK}',
        },
      )

  @property
  def stderr(self) -> str:
    return self._stderr.read_text()

  def end(self, timeout: float = 1_200) -> int:
    return self.process.wait(timeout)


class Runs:
  """Starts runs, and kills their processes at the end of the test."""

  def __init__(self):
    self._started: list[Process] = []

  def flags(self, out: pathlib.Path, *, verb='train', **settings) -> list[str]:
    values = {'MODEL_DIR': out, **SMALL} if verb == 'train' else {'OUTPUT_DIR': out}
    return [f'{name}={value}' for name, value in {**values, **settings}.items()]

  def start(
    self, out, *, count: int = 1, apart=None, verb='train', **settings
  ) -> list[Process]:
    """Starts `count` processes.

    Args:
      out: MODEL_DIR or OUTPUT_DIR.
      count: number of processes.
      apart: process index -> arguments of Process for it alone; its `settings` are
        added to those of all.
      verb: `train` or `eval`.
      settings: gin bindings of all processes.
    """
    with socket.socket() as free:
      free.bind(('localhost', 0))
      port = free.getsockname()[1]
    processes = []
    for i in range(count):
      more = dict((apart or {}).get(i, {}))
      flags = self.flags(out, verb=verb, **{**settings, **more.pop('settings', {})})
      where = f'localhost:{port},{count},{i}' if count > 1 else ''
      processes.append(Process(verb, out, flags, where=where, **more))
      self._started.append(processes[-1])
    return processes

  def wait(self, processes: list[Process], ready) -> bool:
    """Waits until `ready()`; returns False if all processes ended before."""
    deadline = time.monotonic() + 1_200
    while not ready():
      assert time.monotonic() < deadline, processes[0].stderr
      if all(one.process.poll() is not None for one in processes):
        return False
      time.sleep(0.005)
    return True

  def end(self) -> None:
    for one in self._started:
      if one.process.poll() is None:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def runs():
  made = Runs()
  yield made
  made.end()

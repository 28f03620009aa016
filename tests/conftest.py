"""Eight simulated CPU devices for every test, set before jax is imported."""

import json
import os
import pathlib

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

# The same cases on every machine, however slow it is.
hypothesis.settings.register_profile('tests', deadline=None, derandomize=True)
hypothesis.settings.load_profile('tests')


def pytest_addoption(parser):
  parser.addoption(
    '--update-golden', action='store_true', help='write the golden files anew'
  )


@pytest.fixture
def update_golden(request) -> bool:
  return request.config.getoption('--update-golden')


ROWS = pathlib.Path(__file__).parent / 'rows'


@pytest.fixture
def own_rows():
  """Dataset -> its two rows of our own writing, in the shape of its records.

  They stand in `rows/<builder>/<config>/<split>.jsonl`, the layout that
  `flan fetch --from` takes; datasets of one TFDS name share them.
  """

  def read(dataset):
    name = dataset.tfds.rpartition(':')[0]
    folder = ROWS / (name if '/' in name else f'{name}/default')
    (path,) = folder.glob('*.jsonl')
    lines = path.read_text(encoding='utf-8').splitlines()
    return [dataset.read(json.loads(x), f'own-{i}') for i, x in enumerate(lines, 1)]

  return read

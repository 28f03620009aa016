"""Compiled programs are cached between runs, unless the user set otherwise."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from flan_jax.runtime import compilation_cache

PROGRAM = """
import os
from flan_jax.runtime import compilation_cache
os.environ.pop('JAX_COMPILATION_CACHE_DIR')
os.environ.update(compilation_cache.environment(os.environ))
os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
import jax
compilation_cache.seal()
seen = []
jax.monitoring.register_event_listener(lambda event, **_: seen.append(event))
x = jax.numpy.arange(64.0).reshape(8, 8)
print(jax.jit(lambda x: (jax.numpy.tanh(x) @ x.T).sum())(x).item().hex())
print(seen.count('/jax/compilation_cache/cache_hits'))
"""


def compute(cache: pathlib.Path) -> tuple[str, int]:
  """Computes in a fresh process: (result, cache hits)."""
  done = subprocess.run(
    [sys.executable, '-c', PROGRAM], check=True, capture_output=True, text=True,
    env={**os.environ, 'XDG_CACHE_HOME': str(cache)},
  )  # fmt: skip
  value, hits = done.stdout.split()
  return value, int(hits)


@pytest.fixture(scope='module')
def computed(tmp_path_factory) -> tuple[pathlib.Path, str]:
  """A cache with a compiled program, and the program's result."""
  cache = tmp_path_factory.mktemp('cache')
  value, hits = compute(cache)
  assert not hits
  return cache, value


def test_a_cached_program_computes_the_same(computed):
  cache, value = computed
  again, hits = compute(cache)
  assert again == value
  assert hits


def test_a_program_that_is_damaged_or_another_is_compiled_again(computed, tmp_path):
  """A program under another's name is machine code that JAX would run."""
  cache, value = computed
  shutil.copytree(cache, tmp_path / 'cache')
  kept = sorted((tmp_path / 'cache').rglob('*-cache'))
  contents = [path.read_bytes() for path in kept]
  assert len(contents) > 1
  contents = [*contents[1:], contents[0]]
  contents[0] = contents[0][: len(contents[0]) // 2]
  for path, content in zip(kept, contents, strict=True):
    path.write_bytes(content)
  assert compute(tmp_path / 'cache') == (value, 0)


def test_the_folder_is_that_of_the_machine(tmp_path, monkeypatch):
  given = {'XDG_CACHE_HOME': str(tmp_path)}
  found = compilation_cache.environment(given)
  folder = pathlib.Path(found['JAX_COMPILATION_CACHE_DIR'])
  assert folder.is_dir()
  assert folder.parent == tmp_path / 'flan_jax' / 'xla'
  monkeypatch.setattr(compilation_cache.platform, 'machine', lambda: 'another')
  assert compilation_cache.environment(given) != found


@pytest.mark.parametrize(
  'setting',
  [
    {'JAX_COMPILATION_CACHE_DIR': '/mine'},
    {'JAX_COMPILATION_CACHE_DIR': ''},
    {'JAX_ENABLE_COMPILATION_CACHE': '0'},
    {'JAX_ENABLE_COMPILATION_CACHE': 'False'},
  ],
)
def test_settings_of_the_user_win(setting, tmp_path):
  assert (
    compilation_cache.environment({'XDG_CACHE_HOME': str(tmp_path), **setting}) == {}
  )
  assert not list(tmp_path.iterdir())


def test_without_a_writable_folder_the_cache_is_off(tmp_path):
  (tmp_path / 'file').touch()
  assert compilation_cache.environment({'XDG_CACHE_HOME': str(tmp_path / 'file')}) == {}


def folder_of(root: pathlib.Path) -> pathlib.Path:
  found = compilation_cache.environment({'XDG_CACHE_HOME': str(root)})
  return pathlib.Path(found['JAX_COMPILATION_CACHE_DIR'])


def test_the_folder_is_the_users_alone(tmp_path):
  folder = folder_of(tmp_path)
  assert folder.stat().st_mode & 0o777 == 0o700
  folder.chmod(0o755)  # of an earlier version: nobody else could write there
  assert folder_of(tmp_path) == folder
  assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize('level', [0, 1, 2, 3])
@pytest.mark.parametrize('mode', [0o777, 0o770])
def test_a_folder_that_others_write_to_is_not_used(tmp_path, caplog, level, mode):
  root = tmp_path / 'cache'
  folder = folder_of(root)
  opened = [folder, *folder.parents][level]
  opened.chmod(mode)
  assert compilation_cache.environment({'XDG_CACHE_HOME': str(root)}) == {}
  (warning,) = caplog.messages
  assert str(opened) in warning
  assert f'{mode:04o}' in warning


@pytest.mark.skipif(os.geteuid() != 0, reason='changes the owner')
def test_a_folder_of_somebody_else_is_not_used(tmp_path, caplog):
  folder = folder_of(tmp_path)
  os.chown(folder.parent, 65534, -1)
  assert compilation_cache.environment({'XDG_CACHE_HOME': str(tmp_path)}) == {}
  assert 'belongs to user 65534' in caplog.text

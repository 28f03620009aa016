"""A server that accepts and never answers: a line within seconds, then an end."""

import os
import socket
import subprocess
import sys
import time

import pytest

from flan_jax.errors import InputError
from flan_jax.runtime import network


@pytest.fixture
def silent():
  """The address of a server that accepts and never answers."""
  with socket.create_server(('127.0.0.1', 0), backlog=64) as server:
    yield f'127.0.0.1:{server.getsockname()[1]}'  # the kernel accepts


def read(address: str) -> bytes:
  host, port = address.split(':')
  with socket.create_connection((host, int(port))) as connection:
    return connection.recv(1)


def test_a_wait_says_what_it_waits_for_and_ends(silent, monkeypatch, capsys):
  monkeypatch.setattr(network, 'FIRST_S', 0.05)
  monkeypatch.setenv(network.SETTING, '0.3')
  with pytest.raises(network.NoAnswer) as error:
    network.within('the store', lambda: read(silent))
  assert str(error.value) == 'the store: no answer in 0.3 s (FLAN_NETWORK_TIMEOUT_S)'
  found = capsys.readouterr()
  assert found.out == ''
  (line,) = found.err.splitlines()
  assert line.strip().startswith('waiting for the store: 0 s; ends after 0.3 s')


def test_an_answer_or_an_error_is_passed_on(capsys):
  assert network.within('it', lambda: 5) == 5
  with pytest.raises(KeyError, match='x'):
    network.within('it', lambda: {}['x'])
  assert capsys.readouterr().err == ''


def test_the_setting_is_checked(monkeypatch):
  assert (network.limit_s(), network.limit_s(300)) == (60, 300)
  for value in ('soon', '0', 'nan', '-1'):
    monkeypatch.setenv(network.SETTING, value)
    with pytest.raises(InputError, match=f"got '{value}'; must be a positive number"):
      network.limit_s()


WAITS = {
  'coordinator': (
    'from flan_jax.runtime import multihost; multihost.initialize("ADDRESS,2,1")',
    {},
    '--multihost: process 1 of 2 at the coordinator ADDRESS: no answer in 4 s',
  ),
  'hub': (
    'from flan_jax.data.sources import huggingface as hub\n'
    'hub._look_up(("some/data", None, None))',
    {'HF_ENDPOINT': 'http://ADDRESS'},
    'some/data of the Hugging Face hub: no answer in 4 s',
  ),
  'object store': (
    'from flan_jax.runtime.object_store import Bucket\n'
    'Bucket("MODEL_DIR", "gs://bucket/run").pull()',
    {'STORAGE_EMULATOR_HOST': 'http://ADDRESS'},
    "MODEL_DIR 'gs://bucket/run': no answer in 4 s",
  ),
}
"""Wait -> program, its environment, its last line; ADDRESS is the server's."""


@pytest.mark.parametrize(
  'name',
  [
    'coordinator',
    pytest.param('hub', marks=pytest.mark.slow),
    pytest.param('object store', marks=pytest.mark.slow),
  ],
)
def test_every_wait_ends_with_one_line(name, silent, tmp_path):
  program, environment, message = WAITS[name]
  settings = {
    key: value.replace('ADDRESS', silent) for key, value in environment.items()
  }
  caches = dict.fromkeys(('XDG_CACHE_HOME', 'HF_HOME'), str(tmp_path))
  began = time.monotonic()
  done = subprocess.run(
    [sys.executable, '-c', program.replace('ADDRESS', silent)],
    env={**os.environ, **settings, **caches, network.SETTING: '4'},
    capture_output=True, text=True, timeout=60,
  )  # fmt: skip
  assert done.returncode == 1, done.stderr
  assert time.monotonic() - began < 50
  assert done.stdout == ''
  message = message.replace('ADDRESS', silent)
  assert message in done.stderr.splitlines()[-1]
  assert 'waiting for ' + message.partition(': no answer')[0] in done.stderr

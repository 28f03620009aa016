"""`flan fetch` names the cause of a missing dataset, and its remedy.

The causes are real: a builder downloads from a server that the test runs.
"""

import dataclasses
import functools
import hashlib
import http.server
import pathlib
import socket
import threading

import pytest

from flan_jax.catalog import registry
from flan_jax.catalog.source import Tfds
from flan_jax.runtime.progress import Progress

fetch_lib = pytest.importorskip(
  'flan_jax.data.fetch', reason='needs tensorflow-datasets', exc_type=ImportError
)
import tensorflow_datasets as tfds  # noqa: E402

TEXT = b'a line\nanother line\n'


class Lines(tfds.core.GeneratorBasedBuilder):
  """Two examples, downloaded from wherever `url` points at the time."""

  VERSION = tfds.core.Version('1.0.0')
  url = ''
  checksum = hashlib.sha256(TEXT).hexdigest()

  @property
  def url_infos(self):
    info = tfds.download.checksums.UrlInfo(
      size=len(TEXT), checksum=type(self).checksum, filename='lines.txt'
    )
    return {type(self).url: info}

  def _info(self):
    features = tfds.features.FeaturesDict({'text': tfds.features.Text()})
    return self.dataset_info_from_configs(features=features)

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples(dl_manager.download(type(self).url))}

  def _generate_examples(self, path):
    for i, line in enumerate(pathlib.Path(path).read_text().splitlines()):
      yield i, {'text': line}


class ByHand(Lines):
  """The same, with an archive that must be downloaded by hand."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = 'Ask the authors for lines.zip.'

  def _split_generators(self, dl_manager):
    return {'train': self._generate_examples(dl_manager.manual_dir / 'lines.txt')}


class Handler(http.server.SimpleHTTPRequestHandler):
  def log_message(self, *_):
    pass


@pytest.fixture
def server(tmp_path, monkeypatch):
  """Serves one file, `lines.txt`; yields the URL."""
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  (tmp_path / 'served').mkdir()
  (tmp_path / 'served' / 'lines.txt').write_bytes(TEXT)
  handler = functools.partial(Handler, directory=str(tmp_path / 'served'))
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as found:
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{found.server_address[1]}'
    found.shutdown()


@pytest.fixture
def run(tmp_path, monkeypatch):
  def fetch(tfds_name, train='train', examples=2):
    dataset = dataclasses.replace(
      registry.get('rte'), source=Tfds(tfds_name), sizes={'train': examples},
      train=train,
      dev='', test='',
    )  # fmt: skip
    monkeypatch.setattr(registry, 'get', lambda name: dataset)
    (found,) = fetch_lib.fetch(
      [dataset], data_dir=str(tmp_path / 'tfds'), progress=Progress(quiet=True)
    )
    return found

  return fetch


def test_a_download_that_works_is_ready(server, run, monkeypatch):
  monkeypatch.setattr(Lines, 'url', f'{server}/lines.txt')
  found = run('lines:1.0.0')
  assert (found.standing, found.state, found.examples) == (
    'ready',
    'prepared',
    {'train': 2},
  )
  assert (found.cause, found.note) == ('', '')
  assert run('lines:1.0.0').state == 'ready'


def test_fewer_examples_than_declared_are_partial(server, run, monkeypatch):
  monkeypatch.setattr(Lines, 'url', f'{server}/lines.txt')
  found = run('lines:1.0.0', examples=5)
  assert found.standing == 'partial'
  assert '2 of 5 examples' in found.note


def test_a_dead_link_is_named(server, run, monkeypatch):
  monkeypatch.setattr(Lines, 'url', f'{server}/gone.txt')
  found = run('lines:1.0.0')
  assert (found.standing, found.state, found.cause) == (
    'missing',
    'failed',
    'dead link',
  )
  assert 'gone.txt' in found.note
  assert '404' in found.note
  assert '--from DIR' in found.note


def test_a_server_that_does_not_answer_is_the_network(run, monkeypatch):
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  monkeypatch.setattr(Lines, 'url', 'http://127.0.0.1:9/lines.txt')
  found = run('lines:1.0.0')
  assert found.cause == 'network'
  assert 'rerun' in found.note


def test_a_server_that_accepts_and_never_answers_is_the_network(run, monkeypatch):
  monkeypatch.setenv('NO_PROXY', '127.0.0.1')
  monkeypatch.setenv('no_proxy', '127.0.0.1')
  monkeypatch.setenv('FLAN_NETWORK_TIMEOUT_S', '0.5')
  with socket.create_server(('127.0.0.1', 0)) as server:
    address = f'127.0.0.1:{server.getsockname()[1]}'
    monkeypatch.setattr(Lines, 'url', f'http://{address}/lines.txt')
    found = run('lines:1.0.0')
  assert found.cause == 'network'
  assert 'Read timed out' in found.note


def test_a_checksum_mismatch_is_named(server, run, monkeypatch):
  monkeypatch.setattr(Lines, 'url', f'{server}/lines.txt')
  monkeypatch.setattr(Lines, 'checksum', '0' * 64)
  found = run('lines:1.0.0')
  assert found.cause == 'checksum'
  assert 'lines.txt' in found.note


def test_a_manual_download_says_what_to_do(run):
  found = run('by_hand:1.0.0')
  assert found.cause == 'manual'
  assert 'Ask the authors for lines.zip.' in found.note
  assert 'then rerun' in found.note


@pytest.mark.parametrize('name', ['super_glue/rte:9.9.9', 'no_such_dataset:1.0.0'])
def test_a_version_that_is_gone_is_named(run, name):
  found = run(name)
  assert (found.standing, found.cause) == ('missing', 'version')
  assert 'install a tensorflow-datasets that has that version' in found.note


@pytest.mark.parametrize('workers', [1, pytest.param(2, marks=pytest.mark.slow)])
def test_one_that_fails_does_not_stop_the_others(workers, tmp_path):
  """Several processes can share the work."""
  datasets = [
    dataclasses.replace(registry.get(name), source=Tfds(f'{name}_of_nobody:1.0.0'))
    for name in ('rte', 'cb', 'copa')
  ]
  found = fetch_lib.fetch(
    datasets, data_dir=str(tmp_path), workers=workers, progress=Progress(quiet=True)
  )
  assert [one.tfds for one in found] == [dataset.tfds for dataset in datasets]
  assert {one.cause for one in found} == {'version'}

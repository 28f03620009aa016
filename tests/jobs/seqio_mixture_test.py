"""The seqio mixture of docs/howto/seqio.md: its store, its training, another mesh."""

import json
import pathlib
import re
import shutil
import sys

import pytest
import small_run

from flan_jax.catalog import registry
from flan_jax.cli import dispatch

seqio = pytest.importorskip('seqio', reason='needs seqio', exc_type=ImportError)

PAGE = (pathlib.Path(__file__).parents[2] / 'docs' / 'howto' / 'seqio.md').read_text()


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """An empty folder with the module of the page in it."""
  (code,) = re.findall(r'```python\n(import functools.*?)```', PAGE, re.DOTALL)
  (tmp_path / 'page_of_sums.py').write_text(code)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setenv('FLAN_JAX_MODULES', '')
  monkeypatch.setenv('PYTHONPATH', '')
  monkeypatch.setattr(sys, 'path', [*sys.path])
  with registry.restored():
    yield tmp_path
  sys.modules.pop('page_of_sums', None)
  seqio.TaskRegistry.reset()
  seqio.MixtureRegistry.reset()


def train(out, **settings):
  values = {
    'MODEL_DIR': out, 'MIXTURE_OR_TASK_NAME': 'arithmetic', 'TRAIN_STEPS': 2,
    'Run.checkpoint_period': 1, 'Run.log_period': 1, **settings,
  }  # fmt: skip
  arguments = ['train', '--module', 'page_of_sums']
  arguments += [f'--gin_file={file}' for file in small_run.FILES]
  arguments += [f'--gin.{flag}' for flag in small_run.flags(values)]
  assert dispatch.main(arguments) == 0
  lines = (out / 'log.jsonl').read_text().splitlines()
  return {one['step']: one for one in map(json.loads, lines) if 'sequences' in one}


def check(store: pathlib.Path) -> None:
  manifest = json.loads((store / 'manifest.json').read_text())
  assert manifest['tokenizer']['name'] == 'bytes'
  assert manifest['datasets']['sums']['examples'] == 50
  assert manifest['trained_on'] == ['sums']


def test_the_seqio_mixture_of_the_page_makes_a_store(folder):
  """tests/tutorials_test.py trains on another page's seqio tasks."""
  command = ['materialize', '--module', 'page_of_sums', '--mixture', 'arithmetic']
  assert dispatch.main([*command, '--epochs=1', '--workers=1', '--out=store']) == 0
  check(folder / 'store')


@pytest.mark.slow
def test_the_seqio_mixture_of_the_page_trains(folder):
  train(folder / 'run', TRAIN_STEPS=1)
  check(folder / 'run' / 'store')


@pytest.mark.slow
def test_a_seqio_mixture_resumes_on_another_mesh(folder):
  whole = train(folder / 'whole')[2]
  resumed = folder / 'resumed'
  shutil.copytree(folder / 'whole', resumed)
  for after in (resumed / 'checkpoints' / '2', resumed / 'model'):
    shutil.rmtree(after)
  (resumed / 'log.jsonl').unlink()
  again = train(resumed, **{'Mesh.data': 4, 'Mesh.model': 2})
  assert list(again) == [2]
  assert again[2]['sequences'] == whole['sequences']
  assert again[2]['loss'] == pytest.approx(whole['loss'], abs=2e-6)

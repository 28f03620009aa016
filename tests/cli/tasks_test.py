"""`flan tasks` lists the datasets of one's own beside FLAN's."""

import json

import pytest

import flan_jax as flan
from flan_jax.catalog import registry
from flan_jax.cli import dispatch


@pytest.fixture
def own(tmp_path):
  """A dataset of files, and one whose files are not there, registered."""
  (tmp_path / 'own.jsonl').write_text('{"text": "a"}\n' * 4)
  shared = {
    'cluster': 'mine',
    'fields': {'text': 'text'},
    'answer': flan.Text('{text}'),
    'metric': 'exact_match',
    'templates': (flan.Template('Say it.'),),
  }
  with registry.restored():
    for name in ('own', 'gone'):
      source = flan.Json(f'{name}.jsonl', folder=str(tmp_path))
      flan.register(flan.Dataset(name=name, source=source, **shared))
    yield


def test_a_dataset_of_ones_own_is_listed_with_its_source(own, capsys):
  assert dispatch.main(['tasks', '--json']) == 0
  found = {entry['dataset']: entry for entry in json.loads(capsys.readouterr().out)}
  assert (found['own']['source'], found['own']['rate']) == ('own.jsonl', 4)
  assert found['own']['splits'] == {'train': 'train'}
  assert "no file 'gone.jsonl'" in found['gone']['missing']
  assert 'rte' in found
  assert 'mini_rte' not in found


def test_the_table_says_what_is_missing(own, capsys):
  assert dispatch.main(['tasks']) == 0
  lines = capsys.readouterr().out.splitlines()
  assert any('own.jsonl' in line and ' mine ' in line for line in lines)
  assert any(line.startswith("gone: Json: no file 'gone.jsonl'") for line in lines)

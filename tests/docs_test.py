"""The committed pages agree with the declarations."""

import pathlib
import re

import page_script
import pytest

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.runtime.progress import Progress

DOCS = pathlib.Path(__file__).parents[1] / 'docs'
DATASETS = registry.datasets('flan')


@pytest.fixture(scope='module')
def page():
  return page_script.load('catalog')


def test_the_catalog_page_is_current(page):
  committed = (DOCS / 'reference' / 'catalog.md').read_text(encoding='utf-8')
  assert page.render(page.load()) == committed, '`make docs` writes it anew'


def test_what_was_seen_is_of_the_datasets_declared_and_of_their_pins(page):
  seen = page.load()
  assert set(seen) == set(DATASETS)
  for name, dataset in DATASETS.items():
    assert seen[name]['name'] == dataset.tfds, 'docs/generate/catalog.py --look'
    assert dataset.tfds.rpartition(':')[2] in seen[name]['versions']


def test_rows_that_were_not_seen_are_not_claimed(page):
  seen = page.load()
  seen['rte'].pop('read')
  line = next(x for x in page.render(seen).splitlines() if x.startswith('| `rte` |'))
  assert line.endswith('| no |')
  assert (
    'yes'
    in next(
      x for x in page.render(seen).splitlines() if x.startswith('| `snli` |')
    ).rpartition(' | ')[2]
  )


def test_looking_where_nothing_is_prepared_forgets_nothing_but_old_pins(page):
  old = page.load()
  nothing = {
    name: {key: entry[key] for key in ('name', 'tfds', 'versions')}
    for name, entry in old.items()
  }
  assert page.merged(old, nothing) == old
  nothing['rte']['name'] = 'super_glue/rte:9.0.0'
  assert 'read' not in page.merged(old, nothing)['rte']


def test_looking_finds_what_is_prepared_and_nothing_else(page, tmp_path):
  fetch = pytest.importorskip('flan_jax.data.fetch', exc_type=ImportError)
  examples = str(pathlib.Path(__file__).parent / 'examples')
  fetch.fetch(
    [DATASETS['snli'], DATASETS['wsc273']],
    data_dir=str(tmp_path),
    folder=examples,
    progress=Progress(quiet=True),
  )
  seen = page.look(str(tmp_path))
  assert {name for name in seen if 'read' in seen[name]} == {'snli', 'wsc273'}
  assert seen['wsc273']['prepared'] == {'test': 2}
  assert (seen['wsc273']['read'], seen['wsc273']['dropped']) == (2, 0)


DEMO = (DOCS / 'start' / 'demo.md').read_text(encoding='utf-8')
ADD_TASK = (DOCS / 'tutorials' / 'add_task.md').read_text(encoding='utf-8')


def test_the_error_that_the_demo_page_quotes_is_what_is_printed(capsys, monkeypatch):
  """Up to the list of known macros, which the page leaves out."""
  monkeypatch.chdir(DOCS.parent)
  command, quoted = re.search(
    r'\$ flan (train [^\n]*TRAIN_STPES[^\n]*)\n(.+?)\.\.\.\n', DEMO, re.DOTALL
  ).groups()
  assert dispatch.main(command.split()) == 2
  printed = capsys.readouterr().err.splitlines()[-1]
  assert printed.startswith(' '.join(quoted.split()))


def test_the_declaration_that_the_tutorial_shows_is_the_repositorys():
  (shown,) = re.findall(r'```python\n(_RTE.*?)```', ADD_TASK, re.DOTALL)
  source = (DOCS.parent / 'tasks' / 'nli.py').read_text(encoding='utf-8')
  there = [line.strip() for line in source.splitlines()]
  lines = [
    line.strip() for line in shown.splitlines() if line.strip() not in ('', '...')
  ]
  assert DATASETS['rte'].templates[0].inputs.encode('unicode_escape').decode() in shown
  assert not set(lines) - set(there)
  (field,) = re.findall(r"`('premise': Field\(.*?\))`", ADD_TASK)
  assert f'{field},' in there

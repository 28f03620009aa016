"""`flan fetch` of sources that are not TFDS, and what it says that --from serves."""

import json

import pytest

import flan_jax as flan
from flan_jax.catalog import registry
from flan_jax.cli import dispatch, fetch
from flan_jax.data.fetched import Fetched


@pytest.fixture
def own(tmp_path):
  """A dataset of two files, registered."""
  for split, count in (('train', 3), ('dev', 2)):
    text = ''.join(json.dumps({'text': f'{i}'}) + '\n' for i in range(count))
    (tmp_path / f'own.{split}.jsonl').write_text(text)
  with registry.restored():
    flan.register(
      flan.Dataset(
        name='own',
        cluster='own',
        source=flan.Json('own.{split}.jsonl', folder=str(tmp_path)),
        fields={'text': 'text'},
        answer=flan.Text('{text}'),
        metric='exact_match',
        templates=(flan.Template('Say it.'),),
      )
    )
    yield tmp_path


def test_files_are_counted_where_they_are(own, capsys):
  assert dispatch.main(['fetch', 'own', '--json']) == 0
  (found,) = json.loads(capsys.readouterr().out)
  assert (found['standing'], found['examples']) == ('ready', {'train': 3, 'dev': 2})
  (own / 'own.train.jsonl').unlink()
  (own / 'own.dev.jsonl').unlink()
  assert dispatch.main(['fetch', 'own', '--json']) == 1
  (found,) = json.loads(capsys.readouterr().out)
  assert found['standing'] == 'missing'
  assert "no file 'own.train.jsonl'" in found['note']


@pytest.mark.parametrize(
  ('standing', 'state', 'code'),
  [
    ('ready', 'ready', 0),
    ('partial', 'prepared', 0),
    ('missing', 'absent', 1),  # not in the folder of --from
    ('missing', 'failed', 1),  # a manual download, too
  ],
)
def test_the_exit_code_tells_missing_from_ready(
  standing, state, code, monkeypatch, capsys
):
  found = Fetched(('rte',), 'super_glue/rte:1.0.2', standing, state, {}, '', '')
  monkeypatch.setattr(fetch, '_prepare', lambda *_: [found])
  for flags in ([], ['--json']):
    assert dispatch.main(['fetch', 'rte', *flags]) == code
  assert standing in capsys.readouterr().out


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    (
      'own',
      "'own': its source is own.{split}.jsonl; --from '.' serves datasets of TFDS",
    ),
    ('owm', "'owm': not registered; .*did you mean 'own'.*; declare other files with"),
  ],
)
def test_from_says_which_builders_it_serves(own, name, message, capsys):
  import re

  assert dispatch.main(['fetch', name, '--from', '.']) == 2
  assert re.search(message.replace('{', r'\{'), capsys.readouterr().err)


def test_a_folder_that_nothing_reads_is_named(own):
  for place in ('mine/default', 'super_glue/rte'):
    (own / place).mkdir(parents=True)
    (own / place / 'train.jsonl').write_text('{}\n')
  (line,) = fetch._not_served(str(own))
  assert line.startswith(f'{own}/mine/default: no declared dataset reads')
  assert line.endswith(
    "declare it with source=Json('" + f"{own}/mine/default/{{split}}.jsonl')"
  )

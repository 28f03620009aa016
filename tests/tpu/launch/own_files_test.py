"""Files of a command: gin files with their includes, and data that settings name."""

import pathlib
import tarfile

import pytest

import flan_jax as flan
from flan_jax.catalog import registry
from flan_jax.errors import InputError
from flan_jax.tpu.launch import own_files, wheels


@pytest.fixture
def folder(tmp_path, monkeypatch):
  here = tmp_path / 'here'
  here.mkdir()
  monkeypatch.chdir(here)
  return here


def write(folder: pathlib.Path, files: dict[str, str]) -> None:
  for name, text in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def find(*words: str) -> own_files.Files:
  return own_files.find(
    ('flan', 'train', *words), ships=lambda name: name == 'gin/runs/demo.gin'
  )


def test_a_gin_file_travels_with_its_includes(folder, tmp_path):
  """Shipped ones stay; the archive holds the others in their places."""
  write(
    folder,
    {
      'own.gin': "include 'gin/runs/demo.gin'\ninclude 'parts/a.gin'\n",
      'parts/a.gin': 'include "b.gin"\n',
      'parts/b.gin': "# include 'nothing.gin'\n",
    },
  )
  found = find('--gin_file', 'own.gin', '--gin_file=gin/runs/demo.gin')
  assert found.words[2:] == ('--gin_file', 'own.gin', '--gin_file=gin/runs/demo.gin')
  with tarfile.open(found.write(tmp_path)) as archive:
    assert archive.getnames() == ['own.gin', 'parts/a.gin', 'parts/b.gin']
  before = found.digest
  write(folder, {'parts/b.gin': 'TRAIN_STEPS = 3\n'})
  assert find('--gin_file=own.gin').digest != before


def test_gin_files_of_another_folder_keep_their_places_to_each_other(folder, tmp_path):
  write(
    tmp_path,
    {
      'there/runs/a.gin': "include '../base.gin'\n",
      'there/base.gin': '',
      'here/runs/a.gin': '',
    },
  )
  found = find('--gin_file=../there/runs/a.gin', '--gin_file=runs/a.gin')
  assert found.words[2:] == ('--gin_file=outside/runs/a.gin', '--gin_file=runs/a.gin')
  assert set(found.places) == {'outside/runs/a.gin', 'outside/base.gin', 'runs/a.gin'}


def test_gin_files_of_one_name_stay_apart(folder, tmp_path):
  write(
    tmp_path,
    {
      'here/g1/x.gin': '',
      'here/g2/x.gin': '',
      'here/x.gin': '',
      'here/outside/x.gin': '',
      'there/x.gin': '',
    },
  )
  names = ('g1/x.gin', 'g2/x.gin', 'x.gin', 'outside/x.gin', '../there/x.gin')
  found = find(*(f'--gin_file={name}' for name in names))
  places = [word.partition('=')[2] for word in found.words[2:]]
  assert places == [*names[:4], 'outside/outside/x.gin']
  for name, place in zip(names, places, strict=True):
    assert found.places[place].samefile(name)


@pytest.mark.parametrize(
  ('place', 'local', 'message'),
  [
    ('own.gin', 'b.jsonl', "'b.jsonl' and .*own.gin' would have one place"),
    ('own.gin/b', 'b.jsonl', 'would have one place'),
    ('log', 'b.jsonl', "'log' would be in the place of a file of the launcher"),
    ('a\nb', 'b.jsonl', 'a name with characters that cannot be printed; rename it'),
  ],
)
def test_a_file_never_takes_the_place_of_another(place, local, message, folder):
  write(folder, {'own.gin': '', 'b.jsonl': '{}'})
  with pytest.raises(InputError, match=message):
    own_files.find(
      ('flan', 'train', '--gin_file=own.gin'),
      ships=lambda name: False,
      data=[(place, pathlib.Path(local))],
    )
  same = own_files.find(
    ('flan', 'train', '--gin_file=own.gin'),
    ships=lambda name: False,
    data=[('own.gin', pathlib.Path('own.gin'))],
  )
  assert list(same.places) == ['own.gin']


def test_a_gin_file_of_the_shipped_folder_that_is_not_shipped_travels(folder):
  from flan_jax.config import gin

  path = gin.shipped() / 'runs' / 'base.gin'  # as if it had just been written
  assert find(f'--gin_file={path}').words[2] != 'gin/runs/base.gin'
  path = gin.shipped() / 'runs' / 'demo.gin'
  assert find(f'--gin_file={path}').words[2] == '--gin_file=gin/runs/demo.gin'


@pytest.mark.parametrize(
  'flags',
  [('--gin_search_paths=other,ours',),
   ('--gin_search_paths', 'other', '--gin_search_paths', 'ours')],
)  # fmt: skip
def test_a_file_of_a_search_path_is_named_where_it_is(flags, folder):
  """The hosts need no search path, and an include must be found without one."""
  write(folder, {'ours/a.gin': "include 'b.gin'\n", 'ours/b.gin': '', 'other/c': ''})
  found = find('--gin_file=a.gin', *flags, '--gin_bindings', 'TRAIN_STEPS = 3')
  assert found.words == (
    'flan', 'train', '--gin_file=ours/a.gin', '--gin_bindings', 'TRAIN_STEPS = 3'
  )  # fmt: skip
  assert sorted(found.places) == ['ours/a.gin', 'ours/b.gin']
  write(folder, {'other/a.gin': "include 'b.gin'\n"})
  with pytest.raises(
    InputError, match=r"include of 'b.gin', which the hosts would not"
  ):
    find('--gin_file=a.gin', *flags)
  with pytest.raises(InputError, match="--gin_search_paths: 'our': no such folder"):
    find('--gin_file=a.gin', '--gin_search_paths=our')


def test_an_include_that_the_hosts_would_not_find_is_refused(folder, tmp_path):
  write(tmp_path, {'base.gin': '', 'here/own.gin': "include '../base.gin'\n"})
  with pytest.raises(InputError, match=r"own.gin: include of '../base.gin', which"):
    find('--gin_file=own.gin')


def test_files_that_settings_name_travel(folder):
  write(folder, {'data/train.jsonl': '{}', 'data/dev.jsonl': '{}', 'models/x/a': ''})
  files, warnings = own_files.data_files(
    [
      ('MIXTURE_OR_TASK_NAME', './data/*.jsonl'),
      ('STORE', 'gs://bucket/store'),
      ('MODEL_DIR', 'runs/new'),
      ('INITIAL_CHECKPOINT_PATH', 'models/x'),
      ('TOKENIZER', str(folder / 'data' / 'dev.jsonl')),
    ]
  )
  assert [place for place, _ in files] == ['data/dev.jsonl', 'data/train.jsonl']
  assert len(warnings) == 2
  assert (
    "INITIAL_CHECKPOINT_PATH: 'models/x' is a folder of this machine" in warnings[0]
  )
  assert warnings[1].startswith('warning: TOKENIZER:')


def test_a_file_outside_of_the_current_folder_is_refused(folder, tmp_path):
  write(tmp_path, {'train.jsonl': '{}'})
  with pytest.raises(InputError, match=r"'../train.jsonl' is not in the current"):
    own_files.data_files([('MIXTURE_OR_TASK_NAME', '../train.jsonl')])


def test_files_of_datasets_travel_unless_their_package_holds_them(folder):
  write(folder, {'a.jsonl': '{}', 'acme/b.jsonl': '{}'})
  places = {
    'own_a': flan.Json('a.jsonl', folder='elsewhere'),
    'own_b': flan.Json('b.jsonl', folder=str(folder / 'acme')),
    'own_c': flan.Json('/nowhere/c.jsonl'),
    'own_d': flan.Json('d.jsonl'),
    'own_e': flan.Json('gs://bucket/e.jsonl'),
  }
  with registry.restored():
    for name, source in places.items():
      flan.register(
        flan.Dataset(
          name=name,
          cluster='own',
          source=source,
          answer=flan.Text('{targets}'),
          metric='accuracy',
          templates=(flan.Template('{inputs}'),),
          fields={'inputs': 'inputs', 'targets': 'targets'},
        )
      )
    wheel = wheels.pack('acme', '1', {'acme/b.jsonl': folder / 'acme' / 'b.jsonl'})
    files, warnings = own_files.declared([wheel])
  assert files == [('a.jsonl', pathlib.Path('a.jsonl'))]
  assert [line.partition(':')[2].split("'")[1] for line in warnings] == [
    'own_c', 'own_d'
  ]  # fmt: skip

"""The user's packages: what is shipped of them, and what is refused."""

import json
import pathlib
import sys
import zipfile

import pytest

from flan_jax.cli import launch
from flan_jax.errors import InputError
from flan_jax.runtime import modules
from flan_jax.tpu.launch import own_code, wheels


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder; what is imported and named inside is forgotten.

  Installed distributions are not on the path: reading all of them takes a second.
  """
  monkeypatch.chdir(tmp_path)
  path = [entry for entry in sys.path if not entry.endswith('site-packages')]
  monkeypatch.setattr(sys, 'path', path)
  monkeypatch.setenv('PYTHONPATH', '')
  monkeypatch.setenv('FLAN_JAX_MODULES', '')
  before = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - before:
    del sys.modules[name]


def write(folder: pathlib.Path, files: dict[str, str]) -> None:
  for name, text in files.items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def find(*names: str) -> dict[str, own_code.Package]:
  modules.admit(names)
  return {package.wheel.name: package for package in own_code.find(names)}


def content(package: own_code.Package) -> set[str]:
  return {name for name in package.wheel.files if '.dist-info/' not in name}


def test_a_package_of_the_current_folder_travels_with_its_data(folder):
  """And without caches and hidden files; `__init__.py` may be absent."""
  write(
    folder,
    {
      'acme_a/tasks.py': 'from . import words\n',
      'acme_a/words.py': '',
      'acme_a/data/train.jsonl': '{}\n',
      'acme_a/.git/config': '',
      'acme_a/__pycache__/tasks.cpython-311.pyc': '',
      'unrelated.py': '',
    },
  )
  (package,) = find('acme_a.tasks').values()
  assert content(package) == {
    'acme_a/tasks.py', 'acme_a/words.py', 'acme_a/data/train.jsonl'
  }  # fmt: skip
  assert package.data == ['acme_a/data/train.jsonl']
  line, plain = package.describe()
  assert 'data: acme_a/data/train.jsonl' in line
  assert 'no requirement of it' in plain
  before = package.wheel.version
  write(folder, {'acme_a/data/train.jsonl': '{"a": 1}\n'})
  (package,) = find('acme_a.tasks').values()
  assert package.wheel.version != before, 'the version tells the contents'


def test_what_it_imports_from_the_current_folder_travels_too(folder):
  write(
    folder,
    {
      'acme_b.py': 'def later():\n  import acme_c.inner\nimport json, numpy\n',
      'acme_c/__init__.py': 'import acme_d',
      'acme_c/inner.py': '',
      'acme_e/run.log': '',
      'acme_d.py': 'try:\n  import acme_e\nexcept ImportError:\n  pass\n',
    },
  )
  found = find('acme_b')
  assert set(found) == {'acme_b', 'acme_c', 'acme_d'}
  assert content(found['acme_b']) == {'acme_b.py'}


def test_requirements_that_the_hosts_lack_are_named(folder):
  sys.path.append(str(pathlib.Path(pytest.__file__).parents[1]))
  write(folder, {'acme_f.py': 'import numpy\ndef f():\n  import hypothesis\n'})
  (package,) = find('acme_f').values()
  assert package.missing == ('hypothesis',)
  line = package.describe()[-1]
  assert 'imports hypothesis, which the hosts do not get: give --extra test' in line
  (package,) = own_code.find(['acme_f'], extras=['tpu', 'test'])
  assert not package.missing


def test_an_installed_distribution_is_repacked(folder):
  site = folder / 'site-packages'
  site.mkdir()
  made = wheels.pack('acme-g', '2.0', {'acme_g/__init__.py': b'', 'acme_g/a': b'a'})
  with zipfile.ZipFile(made.write(folder)) as archive:
    archive.extractall(site)
  sys.path.append(str(site))
  (package,) = find('acme_g').values()
  assert (package.wheel.version, package.wheel.digest) == ('2.0', made.digest)
  assert package.describe() == ['Ships acme-g 2.0 as installed: 4 files, 128 B']


def test_a_package_that_an_entry_point_admits_is_shipped(folder):
  site = folder / 'site-packages'
  points = '[flan_jax]\nacme = acme_l.tasks\n'
  files = {'acme_l/__init__.py': b'', 'acme_l/tasks.py': b''}
  made = wheels.pack('acme-l', '1', files, entry_points=points)
  with zipfile.ZipFile(made.write(folder)) as archive:
    archive.extractall(site)
  sys.path.append(str(site))
  for command in (['flan', 'tasks'], ['bash', 'run.sh']):
    request = launch.read_command(command)
    assert request.modules == ('acme_l.tasks',)
  (package,) = own_code.find(request.modules)
  assert package.wheel.digest == made.digest


def test_an_editable_distribution_is_packed_with_its_metadata(folder):
  """Several top-level names of one distribution are one wheel."""
  root = folder / 'project'
  write(
    root / 'src',
    {'acme_h/__init__.py': 'import acme_i\n', 'acme_h/t.py': '', 'acme_i.py': ''},
  )
  metadata = (
    'Metadata-Version: 2.1\nName: acme-h\nVersion: 3.1\nRequires-Dist: pandas\n'
  )
  about = {'url': root.as_uri(), 'dir_info': {'editable': True}}
  write(
    folder / 'site' / 'acme_h-3.1.dist-info',
    {
      'METADATA': metadata,
      'RECORD': 'acme_h-3.1.dist-info/METADATA,,\n',
      'top_level.txt': 'acme_h\nacme_i\n',
      'entry_points.txt': '[flan_jax]\nacme = acme_h.t\n',
      'direct_url.json': json.dumps(about),
    },
  )
  sys.path += [str(folder / 'site'), str(root / 'src')]
  (package,) = find('acme_h.t').values()
  assert content(package) == {'acme_h/__init__.py', 'acme_h/t.py', 'acme_i.py'}
  info = f'acme_h-{package.wheel.version}.dist-info'
  assert package.wheel.version.startswith('3.1+sha')
  assert b'Requires-Dist: pandas' in package.wheel.files[f'{info}/METADATA']
  assert b'acme_h.t' in package.wheel.files[f'{info}/entry_points.txt']
  assert len(package.describe()) == 1


def test_a_namespace_package_in_two_folders_is_refused(folder):
  write(folder, {'acme_j/tasks.py': '', 'other/acme_j/more.py': ''})
  sys.path.append(str(folder / 'other'))
  with pytest.raises(InputError, match='acme_j is a namespace package in 2 folders'):
    find('acme_j.tasks')


def test_too_many_bytes_are_refused_with_the_largest_file(folder, monkeypatch):
  monkeypatch.setattr(own_code, 'MAX_BYTES', 2000)
  write(
    folder, {'acme_k/__init__.py': '', 'acme_k/b': '1' * 1500, 'acme_k/c': 'x' * 600}
  )
  with pytest.raises(
    InputError, match=r"3 files of 2 kB; at most 2 kB.*acme_k/b'.*gs:"
  ):
    find('acme_k')

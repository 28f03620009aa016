"""Wheels: an installed distribution gives back the wheel that it came from."""

import importlib.metadata
import os
import pathlib
import re
import zipfile

import pytest

from flan_jax.errors import InputError
from flan_jax.tpu.launch import wheels

FILES = {
  'acme/__init__.py': b'',
  'acme/tasks.py': b'VALUE = 3\n',
  'acme/data/train.jsonl': b'{"inputs": "1", "targets": "2"}\n',
}
POINTS = '[console_scripts]\nacme = acme.tasks:main\n\n[flan_jax]\nacme = acme.tasks\n'
METADATA = """\
Metadata-Version: 2.1
Name: Acme-Tasks
Version: 0
Requires-Dist: pandas>=2

Version: as in the text
"""


def made() -> wheels.Wheel:
  return wheels.pack('Acme-Tasks', '1.2', FILES, metadata=METADATA, entry_points=POINTS)


def install(wheel: wheels.Wheel, site: pathlib.Path) -> importlib.metadata.Distribution:
  """Installs a wheel as pip does, with a script, bytecode and an INSTALLER."""
  site.mkdir(parents=True)
  with zipfile.ZipFile(wheel.write(site.parent)) as archive:
    archive.extractall(site)
  (info,) = site.glob('*.dist-info')
  (info / 'INSTALLER').write_text('pip\n')
  script = site.parents[2] / 'bin' / 'acme'
  script.parent.mkdir()
  script.write_text('#!/here/bin/python\n')
  with (info / 'RECORD').open('a') as record:
    hash = wheels.record_hash(script.read_bytes())
    record.write(f'../../../bin/acme,sha256={hash},19\n')
    record.write(f'{info.name}/INSTALLER,,\nacme/__pycache__/tasks.cpython-311.pyc,,\n')
  return importlib.metadata.Distribution.at(info)


@pytest.fixture
def site(tmp_path):
  return tmp_path / 'lib' / 'python3' / 'site-packages'


def test_the_same_files_give_the_same_bytes(tmp_path):
  first = pathlib.Path(made().write(tmp_path)).read_bytes()
  assert pathlib.Path(made().write(tmp_path)).read_bytes() == first


def test_an_installed_distribution_gives_back_its_wheel(site, tmp_path):
  """To the byte: no file of the installer, no script, no date of a file."""
  wheel = made()
  distribution = install(wheel, site)
  before = pathlib.Path(wheel.write(tmp_path)).read_bytes()
  os.utime(site / 'acme' / 'tasks.py', (0, 0))
  (tmp_path / 'again').mkdir()
  again = wheels.repack(distribution)
  after = pathlib.Path(again.write(tmp_path / 'again'))
  assert after.name == 'acme_tasks-1.2-py3-none-any.whl'
  assert after.read_bytes() == before
  assert again.digest == wheel.digest


def test_the_metadata_keeps_requirements_and_gets_the_version():
  text = made().files['acme_tasks-1.2.dist-info/METADATA'].decode()
  assert 'Version: 1.2\nRequires-Dist: pandas>=2' in text
  assert text.endswith('Version: as in the text\n')


@pytest.mark.parametrize(
  ('harm', 'message'),
  [
    (lambda site: (site / 'acme/tasks.py').write_text(''), 'acme/tasks.py.*changed'),
    (lambda site: (site / 'acme/data/train.jsonl').unlink(), 'train.jsonl.*is missing'),
  ],
)
def test_a_changed_or_missing_file_is_named(harm, message, site):
  distribution = install(made(), site)
  harm(site)
  with pytest.raises(InputError, match=message):
    wheels.repack(distribution)


def test_compiled_code_is_refused(site):
  wheel = made()
  about = wheel.files['acme_tasks-1.2.dist-info/WHEEL']
  compiled = about.replace(b'py3-none-any', b'cp311-cp311-linux_x86_64')
  files = {**wheel.files, 'acme_tasks-1.2.dist-info/WHEEL': compiled}
  with pytest.raises(InputError, match='compiled code for cp311-cp311-linux_x86_64'):
    wheels.repack(install(wheels.Wheel('Acme-Tasks', '1.2', files), site))


def test_scripts_and_shared_files_are_where_a_wheel_has_them(site):
  distribution = install(made(), site)
  root = site.parents[2]
  record = site / 'acme_tasks-1.2.dist-info' / 'RECORD'
  for path, text in (('bin/run-acme', '#!/here/bin/python3 -s\n1\n'), ('share/a', 'a')):
    (root / path).parent.mkdir(exist_ok=True)
    (root / path).write_text(text)
    with record.open('a') as file:
      hash = wheels.record_hash(text.encode())
      file.write(f'../../../{path},sha256={hash},{len(text)}\n')
  files = wheels.repack(distribution).files
  assert files['acme_tasks-1.2.data/scripts/run-acme'] == b'#!python\n1\n'
  assert files['acme_tasks-1.2.data/data/share/a'].read_text() == 'a'
  assert not any(re.search('bin/|INSTALLER|pyc', name) for name in files)

"""The user's modules: found, refused with their own error, in every process."""

import importlib.metadata
import os
import subprocess
import sys

import pytest

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.errors import InputError
from flan_jax.evaluate import metrics
from flan_jax.runtime import modules
from flan_jax.train.writers import writer


@pytest.fixture
def folder(tmp_path, monkeypatch):
  """The current folder; what is imported and named inside is forgotten."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, 'path', list(sys.path))
  monkeypatch.setenv('PYTHONPATH', '')
  monkeypatch.setenv('FLAN_JAX_MODULES', '')
  before = set(sys.modules)
  yield tmp_path
  for name in set(sys.modules) - before:
    del sys.modules[name]


def test_a_module_of_the_current_folder_is_imported(folder):
  (folder / 'mine').mkdir()
  (folder / 'mine' / 'things.py').write_text('VALUE = 3\n')
  modules.admit(['mine.things'])
  assert sys.modules['mine.things'].VALUE == 3
  assert 'mine.things' in modules.named()


def test_a_process_that_this_one_starts_imports_it_too(folder):
  (folder / 'mine_too.py').write_text('')
  modules.admit(['mine_too'])
  code = (
    'import sys; from flan_jax.runtime import modules; modules.load();'
    "print('mine_too' in sys.modules)"
  )
  elsewhere = folder / 'elsewhere'
  elsewhere.mkdir()
  done = subprocess.run(
    [sys.executable, '-c', code], cwd=elsewhere, capture_output=True, text=True
  )
  assert done.stdout.split() == ['True'], done.stderr


def test_what_it_is_made_from_is_recorded(folder):
  (folder / 'recorded.py').write_text("__version__ = '1.2'\n")
  modules.admit(['recorded'])
  (entry,) = [e for e in modules.provenance() if e['module'] == 'recorded']
  assert entry['version'] == '1.2'
  assert len(entry['sha256']) == 64


@pytest.mark.parametrize(
  ('module', 'distribution'),
  [('gin.config', 'gin-config'), ('_pytest.mark', 'pytest'), ('six', 'six')],
)
def test_an_installed_module_has_the_version_of_its_distribution(module, distribution):
  assert modules._version(module) == importlib.metadata.version(distribution)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('1 / 0\n', r'cannot be imported: ZeroDivisionError: division by zero \(.*:1\)'),
    ('x = = 2\n', r'cannot be imported: SyntaxError: .* \(.*broken.py:1\)'),
    ('import not_installed_here\n', 'cannot be imported: ModuleNotFoundError'),
    ('raise SystemExit(3)\n', 'cannot be imported: SystemExit'),
  ],
)
def test_one_that_raises_is_refused_with_its_own_error(text, message, folder):
  (folder / 'broken.py').write_text(text)
  with pytest.raises(InputError, match=f"--module 'broken': {message}"):
    modules.admit(['broken'])
  assert 'broken' not in modules.named()


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('my_task', "no module 'my_task'.*did you mean 'my_tasks'"),
    ('my_tasks.py', 'must be the dotted name.*the nearest is my_tasks'),
    ('./sub/own', 'must be the dotted name.*the nearest is sub.own'),
  ],
)
def test_a_name_that_is_none_names_the_nearest(name, message, folder):
  (folder / 'my_tasks.py').write_text('')
  with pytest.raises(InputError, match=message):
    modules.admit([name])


@pytest.mark.parametrize(
  ('name', 'file', 'other'),
  [
    ('statistics', 'statistics.py', 'statistics.py'),
    ('yaml_of_mine', 'yaml_of_mine.py', ''),
    ('clu.tasks', 'clu/tasks.py', 'clu/__init__.py'),
    ('clu', 'clu/__init__.py', 'clu/__init__.py'),
    ('sys', 'sys.py', 'built-in'),
  ],
)
def test_a_name_that_another_module_has_is_refused_with_both_places(
  name, file, other, folder
):
  path = folder / file
  path.parent.mkdir(exist_ok=True)
  path.write_text('')
  if not other:
    modules.admit([name])
    return
  rename = f'{path} of the current folder.*rename {file.partition("/")[0]}'
  with pytest.raises(InputError, match=f'{name!r}: .*{other}, and not {rename}'):
    modules.admit([name])
  assert name not in modules.named()


@pytest.mark.parametrize(
  'text',
  [
    '@flan_jax.metric\ndef counted(reference, prediction):\n  return 1.0\n',
    '@flan_jax.configurable\ndef counted():\n  return 1.0\n',
    '@flan_jax.metric_writer("counted")\nclass Counted(flan_jax.Writer):\n  pass\n',
    'flan_jax.register(flan_jax.Cluster("counted"))\n',
    'import gin\n@gin.configurable\ndef counted_by_gin():\n  return 1.0\n',
  ],
)
def test_one_that_registers_something_is_not_warned_of(
  text, folder, capsys, monkeypatch
):
  for module, names in ((metrics, ('METRICS', '_places')), (writer, ('_entries',))):
    for name in names:
      monkeypatch.setattr(module, name, dict(getattr(module, name)))
  (folder / 'counted.py').write_text(f'import flan_jax\n{text}')
  (folder / 'counted_first.py').write_text('import counted\n')
  with registry.restored():
    modules.admit(['counted_first', 'counted'])
  assert 'registered nothing' not in capsys.readouterr().err


@pytest.mark.parametrize('name', ['json', 'nothing'])
def test_one_that_registers_nothing_is_a_warning(name, folder, capsys):
  (folder / 'nothing.py').write_text(
    'import gin.config, flan_jax\nfrom flan_jax.evaluate import metrics\nx = 1\n'
  )
  modules.admit([name])
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith(f'warning: --module {name}: registered nothing')


def test_a_file_may_name_only_what_is_admitted(folder):
  (folder / 'sleeper.py').write_text('raise RuntimeError("ran")\n')
  with pytest.raises(InputError, match="'sleeper': not admitted.*--module sleeper"):
    modules.require(['sleeper'], setting='run.gin:1: import of')
  assert 'sleeper' not in os.environ['FLAN_JAX_MODULES']


def test_a_command_says_nothing_of_the_modules_of_one_before(capsys):
  modules.expect(['acme.gone'], of="the run in 'old'")
  assert dispatch.main(['tasks', '--mixture', 'nothing_like_it']) == 2
  assert 'acme.gone' not in capsys.readouterr().err

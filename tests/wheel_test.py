"""The wheel has every file of the package, and runs from it need nothing else."""

import os
import pathlib
import subprocess
import sys
import venv
import zipfile

import pytest
from compile_flags import QUICK

ROOT = pathlib.Path(__file__).parents[1]
PLACES = {
  'flan_jax/': 'flan_jax/',
  'tasks/': 'flan_jax/tasks/',
  'mixtures/': 'flan_jax/mixtures/',
  'gin/': 'flan_jax/configs/',
}
"""Folder of the repository -> folder of an installation."""


def run(*command, cwd=None, **environment) -> str:
  done = subprocess.run(
    [str(word) for word in command],
    cwd=cwd,
    env={**os.environ, 'XLA_FLAGS': QUICK, **environment},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
  return done.stdout


@pytest.fixture(scope='module')
def clone(tmp_path_factory) -> pathlib.Path:
  """A clone of the last commit."""
  if not (ROOT / '.git').exists():
    pytest.skip('not a git checkout: nothing to clone')
  out = tmp_path_factory.mktemp('clean') / 'clone'
  run('git', 'clone', '--quiet', ROOT, out)
  return out


@pytest.fixture(scope='module')
def wheel(clone, tmp_path_factory) -> pathlib.Path:
  out = tmp_path_factory.mktemp('wheel')
  build = f'from setuptools import build_meta; build_meta.build_wheel({str(out)!r})'
  run(sys.executable, '-c', build, cwd=clone)
  (found,) = out.glob('*.whl')
  return found


@pytest.fixture(scope='module')
def python(wheel, tmp_path_factory) -> pathlib.Path:
  """Python of a fresh environment with the wheel; dependencies are borrowed."""
  folder = tmp_path_factory.mktemp('fresh') / 'venv'
  venv.create(folder)
  python = folder / 'bin' / 'python'
  pip = (sys.executable, '-m', 'pip', '--python', python)
  run(*pip, 'install', '--quiet', '--no-deps', '--no-index', wheel)
  (site,) = folder.glob('lib/python*/site-packages')
  borrowed = [
    path for path in sys.path if path.endswith(('site-packages', 'dist-packages'))
  ]
  (site / 'borrowed.pth').write_text('\n'.join(borrowed) + '\n')
  return python


def test_the_wheel_holds_every_file_of_the_package(clone, wheel):
  """Code and data alike."""
  expected = {
    place + name.removeprefix(folder)
    for name in run('git', 'ls-files', cwd=clone).splitlines()
    for folder, place in PLACES.items()
    if name.startswith(folder)
  }
  assert 'flan_jax/microworld/base/model.safetensors' in expected
  assert 'flan_jax/configs/runs/demo.gin' in expected
  expected.add('flan_jax/constraints.txt')
  with zipfile.ZipFile(wheel) as file:
    held = {name for name in file.namelist() if '.dist-info/' not in name}
  assert held == expected


def test_the_shipped_model_is_evaluated_from_the_wheel_in_an_empty_folder(
  python, tmp_path
):
  """It needs no checkout: shipped files are found."""
  settings = {
    'CHECKPOINT': 'microworld',
    'FAMILY': 'microworld',
    'DATASETS': 'mini_copa',
    'OUTPUT_DIR': 'out',
    'TEMPLATES': 1,
    'MAX_EXAMPLES': 2,
    'Evaluate.sequence_length': 256,
  }
  flags = [f'--gin.{name}={value}' for name, value in settings.items()]
  flan = python.with_name('flan')
  run(flan, 'eval', '--gin_file=gin/evaluate/zero_shot.gin', *flags, cwd=tmp_path)
  report = tmp_path / 'out' / 'report.html'
  assert 'Commonsense' in report.read_text(encoding='utf-8')
  where = 'import flan_jax; print(flan_jax.__file__)'
  found = pathlib.Path(run(python, '-c', where, cwd=tmp_path).strip())
  assert found.is_relative_to(python.parents[1])


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_in_an_empty_folder(python, tmp_path):
  flan = python.with_name('flan')
  few = ('--gin.Evaluate.max_examples=4', '--gin.Evaluate.templates=1')
  command = ('train', '--gin_file=gin/runs/demo.gin', '--gin.TRAIN_STEPS=2')
  run(flan, *command, '--gin.Optimizer.warmup_steps=1', *few, cwd=tmp_path)
  made = tmp_path / 'runs' / 'demo'
  assert (made / 'model' / 'model.safetensors').is_file()
  assert 'Commonsense' in (made / 'report' / 'report.html').read_text(encoding='utf-8')


def test_a_clone_works_beside_an_installed_wheel(python, clone):
  """The clone's `flan_jax`, `tasks` and `mixtures` come first."""
  code = 'import flan_jax.tasks, flan_jax.mixtures; print(flan_jax.tasks.__file__)'
  found = run(python, '-c', code, cwd=clone).strip()
  assert pathlib.Path(found) == clone / 'tasks' / '__init__.py'

"""The wheel has every file of the package, and runs from it need nothing else."""

import ast
import json
import os
import pathlib
import re
import subprocess
import sys
import venv
import zipfile

import pytest
from compile_flags import QUICK

import flan_jax

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


NOTEBOOK = ROOT / 'docs' / 'tutorials' / 'quickstart.ipynb'
EXECUTE = """
import nbclient, nbformat, pathlib, sys
text = pathlib.Path(sys.argv[1]).read_text(encoding='utf-8')
notebook = nbformat.reads(text, as_version=4)
nbclient.NotebookClient(notebook, timeout=600).execute()
print(notebook.cells[-1].outputs[0].data['text/plain'])
"""


def test_the_notebook_names_what_there_is():
  """Functions of `flan_jax`, and settings that load; the next test runs its cells."""
  cells = json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']
  lines = ''.join(
    ''.join(cell['source']) + '\n' for cell in cells if cell['cell_type'] == 'code'
  )
  configs = []
  for node in ast.walk(ast.parse(lines)):
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == 'flan':
      assert hasattr(flan_jax, node.attr), node.attr
    if isinstance(node, ast.Call) and ast.unparse(node.func) == 'flan.load_config':
      configs.append(flan_jax.load_config(*map(ast.literal_eval, node.args)))
  assert [type(config).__name__ for config in configs] == [
    'TrainConfig', 'EvalJobConfig',
  ]  # fmt: skip


@pytest.mark.slow
def test_the_notebook_runs_from_the_wheel_in_an_empty_folder(python, tmp_path):
  """It needs no checkout: shipped files are found."""
  out = run(python, '-c', EXECUTE, NOTEBOOK, cwd=tmp_path)
  assert out.strip() == '(15, 2048)'
  report = tmp_path / 'runs' / 'notebook' / 'report' / 'report.html'
  assert 'Commonsense' in report.read_text(encoding='utf-8')


def test_an_evaluation_runs_from_the_wheel_in_an_empty_folder(python, tmp_path):
  """Its gin file, datasets, model and page are those of the wheel."""
  code = 'import runpy; runpy.run_module("flan_jax", run_name="__main__")'
  where = f'import flan_jax, sys; print(flan_jax.__file__, flush=True); {code}'
  settings = (
    'CHECKPOINT=microworld', 'FAMILY=microworld', 'DATASETS=mini_copa',
    'MAX_EXAMPLES=2', 'TEMPLATES=1', 'OUTPUT_DIR=out',
    'Evaluate.sequence_length=256', 'Evaluate.batch_size=4',
  )  # fmt: skip
  found, *_ = run(
    python, '-c', where, 'eval', '--gin_file=gin/evaluate/zero_shot.gin',
    *(f'--gin.{setting}' for setting in settings), cwd=tmp_path,
  ).splitlines()  # fmt: skip
  assert pathlib.Path(found).is_relative_to(python.parents[1])
  assert 'Commonsense' in (tmp_path / 'out' / 'report.html').read_text(encoding='utf-8')


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


ACME = """
import flan_jax as flan

flan.register(
  flan.Dataset(
    name='tickets', cluster='support', source=flan.Json('data/{split}.jsonl'),
    fields={'body': 'text'}, answer=flan.Label('queue', ('billing', 'bug')),
    metric='accuracy', templates=(flan.Template('{body}\\n\\n{OPTIONS}'),),
  ),
  flan.Mixture(name='mine', datasets=('tickets', 'mini_rte')),
)
"""
LAUNCH = ('launch', '--tpu=pod', '--zone=us-central1-a', '--type=v3-8')
TRAIN = ('flan', 'train', '--module=acme.tasks', '--gin_file=own.gin')


@pytest.fixture
def own(tmp_path):
  """A folder with a package, its data, and a gin file that includes another."""
  data = tmp_path / 'own' / 'acme' / 'data'
  data.mkdir(parents=True)
  (data.parent / 'tasks.py').write_text(ACME)
  for split in ('train', 'test'):
    lines = (json.dumps({'text': f'{split} {i}', 'queue': i % 2}) for i in range(20))
    (data / f'{split}.jsonl').write_text('\n'.join(lines))
  folder = data.parents[1]
  own = "include 'gin/runs/demo.gin'\ninclude 'steps.gin'\nMODEL_DIR = 'run'\n"
  (folder / 'own.gin').write_text(f"{own}MIXTURE_OR_TASK_NAME = 'mine'\n")
  (folder / 'steps.gin').write_text('TRAIN_STEPS = 2\nBATCH_TOKENS = 2048\n')
  return folder


def test_a_dry_run_from_the_wheel_names_what_would_be_shipped(python, own):
  """No checkout is needed, and nothing is built."""
  done = subprocess.run(
    [python.with_name('flan'), *LAUNCH, '--dry-run', '--', *TRAIN],
    cwd=own,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  log = done.stderr.splitlines()
  assert re.search(r'Ships flan_jax: version 0.2.0 \(digest [0-9a-f]{12}\)', log[0])
  assert 'Ships acme 0+sha' in log[1]
  assert 'data: acme/data/test.jsonl, acme/data/train.jsonl' in log[1]
  assert 'Ships files beside it: own.gin, steps.gin' in log[3]
  assert '# flan_jax-0.2.0-py3-none-any.whl: of the installed files' in done.stdout
  assert 'git' not in done.stdout.replace('github', '')


UV = """#!/bin/sh
# `uv venv` and `uv pip install` by the test's own Python, without dependencies.
set -e
if [ "$1" = venv ]; then
  {python} -m venv --without-pip venv
  cp {borrowed} "$(echo venv/lib/python*/site-packages)"
else
  for word; do
    case "$word" in *file://*) set -- "$@" "${{word##*file://}}";; esac
    shift
  done
  {python} -m pip --python venv/bin/python install --quiet --no-deps --no-index "$@"
fi
"""


@pytest.mark.slow
def test_a_package_is_launched_from_the_wheel(python, own, wheel, tmp_path):
  """Wheels are made, installed on a host, and the package trains there."""
  (borrowed,) = python.parents[1].glob('lib/python*/site-packages/borrowed.pth')
  uv = tmp_path / 'image' / '.local' / 'bin' / 'uv'
  gcloud = tmp_path / 'bin' / 'gcloud'
  stand_in = ROOT / 'tests' / 'tpu' / 'launch' / 'gcloud_stand_in.py'
  for path, text in (
    (uv, UV.format(python=sys.executable, borrowed=borrowed)),
    (gcloud, f'#!/bin/sh\nexec {sys.executable} -S {stand_in} "$@"\n'),
  ):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    path.chmod(0o755)
  state = {'nodes': {}, 'queue': {}, 'faults': [], 'queue_goes': ['ACTIVE']}
  (tmp_path / 'state.json').write_text(json.dumps(state))
  few = ('--gin.Evaluate.max_examples=4', '--gin.Evaluate.templates=1')
  run(
    python.with_name('flan'), *LAUNCH, '--', *TRAIN, *few, '--gin.HELD_OUT=commonsense',
    cwd=own, STAND_IN=str(tmp_path), PATH=f'{gcloud.parent}:{os.environ["PATH"]}',
  )  # fmt: skip
  host = tmp_path / 'hosts' / '0' / 'flan'
  report = json.loads((host / 'run' / 'run' / 'report' / 'report.json').read_text())
  (module,) = report['provenance']['modules']
  assert module['module'] == 'acme.tasks'
  assert module['version'].startswith('0+sha')
  (made,) = host.glob('*/flan_jax-*.whl')
  with zipfile.ZipFile(made) as one, zipfile.ZipFile(wheel) as other:
    assert set(one.namelist()) == set(other.namelist())
    for name in one.namelist():
      same = sorted(one.read(name).split()) == sorted(other.read(name).split())
      assert same if name.endswith('RECORD') else one.read(name) == other.read(name)

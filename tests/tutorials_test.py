"""The tutorials: every command and every piece of code on the pages is run."""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from compile_flags import QUICK

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.config import gin as gin_lib

DOCS = pathlib.Path(__file__).parents[1] / 'docs' / 'tutorials'


class Page:
  """A page of docs/tutorials.

  Attributes:
    python: blocks of Python code.
    gin: blocks of gin.
    commands: arguments of the `flan` commands, in order.
  """

  def __init__(self, name: str):
    text = (DOCS / name).read_text(encoding='utf-8')
    self.python = re.findall(r'```python\n(.*?)```', text, re.DOTALL)
    self.gin = re.findall(r'```gin\n(.*?)```', text, re.DOTALL)
    joined = text.replace('\\\n', '')
    lines = re.findall(r'^    (flan .*)$', joined, re.MULTILINE)
    self.commands = [shlex.split(line)[1:] for line in lines]

  def command(self, verb: str, *, number: int = 0) -> list[str]:
    """The arguments of the `number`th command of a verb."""
    return [words for words in self.commands if words[0] == verb][number]


def start(folder, words, *changes, **streams):
  """Starts `flan` in a folder; later settings replace earlier ones."""
  flags = f'{QUICK} --xla_force_host_platform_device_count=8'
  return subprocess.Popen(
    [sys.executable, '-m', 'flan_jax', *words, *changes],
    cwd=folder,
    env={**os.environ, 'XLA_FLAGS': flags},
    text=True,
    **streams,
  )


def flan(folder, words, *changes) -> str:
  """Runs `flan` in a folder; returns what it printed."""
  pipes = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
  out, err = (process := start(folder, words, *changes, **pipes)).communicate()
  assert process.returncode == 0, err
  return out + err


def report(folder) -> dict:
  return json.loads((folder / 'report.json').read_text(encoding='utf-8'))


@pytest.fixture
def here(monkeypatch, capfd):
  """Returns a function: folder -> `flan` in it and in this process.

  That one takes arguments, and returns what was printed.
  """
  monkeypatch.setattr(sys, 'path', [*sys.path])
  monkeypatch.setenv('PYTHONPATH', os.environ.get('PYTHONPATH', ''))
  monkeypatch.setenv('FLAN_JAX_MODULES', '')

  def call(words, *changes) -> str:
    code = dispatch.main([*words, *changes])
    out, err = capfd.readouterr()
    assert code == 0, err
    return out + err

  def at(folder):
    monkeypatch.chdir(folder)
    return call

  with registry.restored():
    yield at


@pytest.mark.parametrize(
  'name',
  ['../start/install.md', '../start/demo.md', 'add_task.md', 'real_model.md',
   'evaluate_huggingface.md'],
)  # fmt: skip
def test_commands_of_pages_that_need_models_and_data_are_understood(name, monkeypatch):
  """Arguments and settings are those that exist; the commands are not run."""
  monkeypatch.chdir(DOCS.parents[1])
  page = Page(name)
  assert page.commands
  for words in page.commands:
    words = words[: words.index('#')] if '#' in words else words
    if words[0] not in ('train', 'eval'):
      if words != ['--version']:
        dispatch.parser().parse_args(words)
      continue
    files = [x.partition('=')[2] for x in words if x.startswith('--gin_file=')]
    settings = [x.removeprefix('--gin.') for x in words if x.startswith('--gin.')]
    parsed = gin_lib.load(files, settings)
    assert parsed.build({'train': 'Run', 'eval': 'Evaluation'}[words[0]])
    parsed.refuse_unused(words[0])


FEW = ('TRAIN_STEPS=2', 'EVAL_PERIOD=1', 'Optimizer.warmup_steps=1',
       'Run.log_period=1', 'Evaluate.max_examples=4', 'Evaluate.eval_examples=2',
       'Evaluate.max_decode=4')  # fmt: skip
AS_IN_TRAINING = ('--gin.Evaluate.sequence_length=256', '--gin.Evaluate.batch_size=16')
"""Shapes of `flan eval` for which training has compiled."""


@pytest.mark.slow  # tests/own_package_test.py trains on a file by default
@pytest.mark.parametrize('few', [FEW, ()], ids=['few', 'whole'])
def test_a_file_is_tuned_on_and_measured(few, tmp_path, here):
  """docs/tutorials/own_file.md, as it stands and with fewer steps."""
  page, flan = Page('own_file.md'), here(tmp_path)
  (code,) = page.python
  subprocess.run([sys.executable, '-c', code], cwd=tmp_path, check=True)
  assert 'Which comes first in the alphabet' in flan(page.command('show'))
  changes = [f'--gin.{setting}' for setting in few]
  log = flan(page.command('train'), *changes)
  assert 'perplexity' in log
  run = tmp_path / 'runs' / 'animals'
  manifest = json.loads((run / 'store' / 'manifest.json').read_text())
  assert manifest['datasets']['animals']['examples'] == 180
  assert 'exact_match' in flan(page.command('report'))
  evaluation = [change for change in changes if '.Evaluate.m' in change]
  evaluation += AS_IN_TRAINING if few else ()
  flan(page.command('eval'), *evaluation)
  (result,) = report(run / 'more')['results']
  assert (result['dataset'], result['metric']) == ('more_animals', 'exact_match')


@pytest.fixture(scope='module')
def desk(tmp_path_factory):
  """The folder of docs/tutorials/own_package.md."""
  out = tmp_path_factory.mktemp('desk')
  page = Page('own_package.md')
  (data, code), (gin,) = page.python, page.gin
  subprocess.run([sys.executable, '-c', data], cwd=out, check=True)
  (out / 'acme' / 'tasks.py').write_text(code)
  (out / 'desk.gin').write_text(gin)
  return out


TINY = ('--gin.NUM_LAYERS=1', '--gin.DecoderConfig.d_model=32')


@pytest.fixture
def at_desk(desk, here):
  """Runs `flan` in that folder; what the module of the page registers is forgotten."""
  seqio = pytest.importorskip('seqio')
  yield here(desk)
  for name in [name for name in sys.modules if name.startswith('acme')]:
    del sys.modules[name]
  seqio.TaskRegistry.remove('sums')


def test_a_package_of_seqio_tasks_and_its_own_data(desk, at_desk):
  """docs/tutorials/own_package.md: two steps on one mesh, the others on another."""
  page = Page('own_package.md')
  assert 'What is 0 and one?' in at_desk(page.command('show'))
  assert 'sums' in at_desk(page.command('tasks'))
  first, again = (page.command('train', number=n) for n in (0, 1))
  at_desk(first, *TINY, '--gin.TRAIN_STEPS=2')
  assert 'Resuming at step 2' in at_desk(again, *TINY, '--gin.TRAIN_STEPS=4')
  at_desk(page.command('eval'))
  check_sums(desk)


def check_sums(desk) -> None:
  (result,) = report(desk / 'runs' / 'desk' / 'sums')['results']
  assert (result['dataset'], result['metric'], result['n']) == ('sums', 'near', 8)
  low, high = result['ci95']
  assert low <= result['mean'] <= high


@pytest.mark.slow
def test_the_package_is_killed_and_resumed(desk):
  """Its sequences are those of a run that was never interrupted."""
  pytest.importorskip('seqio')
  shutil.rmtree(desk / 'runs', ignore_errors=True)
  page = Page('own_package.md')
  first, again = (page.command('train', number=n) for n in (0, 1))
  process = start(desk, first, *TINY)
  checkpoint = desk / 'runs' / 'desk' / 'checkpoints' / '2'
  while process.poll() is None and not checkpoint.is_dir():
    time.sleep(0.05)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert 'Resuming at step' in flan(desk, again, *TINY)
  flan(desk, first, *TINY, '--gin.MODEL_DIR=runs/whole')
  killed, whole = (
    (desk / 'runs' / name / 'sequences.jsonl').read_text() for name in ('desk', 'whole')
  )
  assert killed == whole
  flan(desk, page.command('eval'))
  check_sums(desk)


@pytest.mark.slow
def test_the_package_goes_to_a_slice(desk):
  pytest.importorskip('seqio')
  page = Page('own_package.md')
  launch, command = page.command('launch'), page.command('launch').index('--')
  words = [*launch[:command], '--dry-run', *launch[command:]]
  assert 'Ships acme' in flan(desk, words)

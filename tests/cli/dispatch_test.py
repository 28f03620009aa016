"""`flan VERB`: instant help, one line per mistake, exit code 2."""

import json
import os
import subprocess
import sys

import pytest

from flan_jax.cli import dispatch, lm_eval
from flan_jax.runtime import platform


def flan(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, '-m', 'flan_jax', *arguments],
    capture_output=True,
    text=True,
    env={**os.environ, **environment},
  )


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['trian'], "verb 'trian': must be one of .*did you mean 'train'"),
    (['rows'], 'required: STORE'),
    (['show', 'flan_rtee'], "task 'flan_rtee': not registered.*'flan_rte'"),
    (['show', 'flan_rte', '--n', '0'], '--n: got 0; must be 1 or more'),
    (['tasks', '--mixture', 'flan_al'], "mixture 'flan_al'.*'flan_all'"),
    (['tasks', '--gin.X=1'], 'takes no gin settings'),
    (['train'], '--gin_file: not given'),
    (['train', '--gin_file=gin/runs/dem.gin'], "no such file.*'gin/runs/demo.gin'"),
    (['train', '--gin_file=gin/runs/demo.gin', '--gin.TRAIN_STPES=3'], 'TRAIN_STEPS'),
    (['train', '--gin_file=gin/runs/demo.gin', "--gin.TRAIN_STEPS='x'"], 'an integer'),
    (['rows', 'x', '--start', '-4'], '--start: got -4; must be 0 or more'),
    (['rows', 'x', '--count', '0'], '--count: got 0; must be 1 or more'),
    (['rows', 'x', '--hosts', '0'], '--hosts: got 0; must be 1 or more'),
    (['rows', 'x', '--batch-size', '-2'], '--batch-size: got -2; must be 1 or more'),
    (['show', 'flan_all'], "task 'flan_all': a mixture.*tasks --mixture flan_all"),
    (
      ['show', 'microworld_mini_rte', '--html', 'setup.py/x.html'],
      "'setup.py': File exists|Not a directory",
    ),
    (
      ['materialize', '--mixture=m', '--out=x', '--vocab-size=-1'],
      '--vocab-size: got -1; must be 1 or more',
    ),
    (
      [
        'materialize',
        '--mixture=m',
        '--out=x',
        '--steps=3',
        '--sequence-length=256',
        '--batch-tokens=300',
      ],
      r'--batch-tokens: got 300; must be sequences x .*\(256\).* is 256',
    ),
    (
      ['plan', '--gin_file=gin/runs/demo.gin', '--topology=v3:2x2', '--pue=0.5'],
      '--pue: got 0.5; must be 1 or more',
    ),
    (['eval', '--gin.CHECKPOINT=x', '--gin.OUTPUT_DIR='], "OUTPUT_DIR: got ''"),
    (
      [
        'eval',
        '--gin.CHECKPOINT=microworld',
        '--gin.CLUSTERS=nli',
        '--gin.OUTPUT_DIR=s3://b/x',
      ],
      "OUTPUT_DIR: got 's3://b/x'; must be a folder or gs://BUCKET/PATH",
    ),
    (['rows', 'nowhere'], "store 'nowhere': no such directory"),
    (['rows', 'x', '--step=0'], '--step: got 0; must be 1 or more'),
    (['rows', 'x', '--step=2'], "'x' is a store; a step needs the MODEL_DIR of a run"),
    (['export', '--out=x', '--sampled=0'], '--sampled: got 0; must be 1 or more'),
    (['export', '--out=x'], '--mixture: not given, nor --store'),
    (['export', '--out=x', '--mixture=flan_al'], "'flan_al'.*'flan_all'"),
    (
      ['export', '--out=x', '--store=y', '--template-seed=3'],
      '--template-seed: the store of --store has its own; leave it out',
    ),
    (['report', 'nowhere'], 'no report.json'),
    (['fetch'], 'give the names of datasets, or --all'),
    (['fetch', 'ret'], "dataset 'ret': not registered.*did you mean 'rte'"),
    (['eval', '--gin.CHECKPOINT=x', '--gin.OUTPUT_DIR=y'], 'CLUSTERS: not set'),
    (
      ['eval', '--gin.CHECKPOINT=x', '--gin.OUTPUT_DIR=y', '--gin.CLUSTERS=nlu'],
      "no such cluster.*did you mean 'nli'",
    ),
    (
      ['eval', '--gin.CHECKPOINT=x', '--gin.OUTPUT_DIR=y', '--gin.CLUSTERS=nli'],
      "checkpoint 'x': no such folder",
    ),
  ],
)
def test_a_mistake_is_one_line_and_exit_code_two(arguments, message, capsys):
  import re

  assert dispatch.main(arguments) == 2
  captured = capsys.readouterr()
  lines = [line for line in captured.err.splitlines() if not line.startswith(' ')]
  errors = [line for line in lines if line.startswith('flan: error: ')]
  assert len(errors) == 1
  assert re.search(message, errors[0]), errors[0]
  assert captured.out == ''


@pytest.mark.parametrize(
  ('error', 'code', 'message'),
  [
    (PermissionError(13, 'Permission denied', 'a/b'), 2, "'a/b': Permission denied"),
    (OSError(28, 'No space left on device', 'a/b'), 1, "'a/b': No space left"),
    (
      RuntimeError('RESOURCE_EXHAUSTED: 27 GB'),
      1,
      'out of memory.*BATCH_TOKENS',
    ),
  ],
  ids=['path', 'disk', 'memory'],
)
def test_an_error_of_the_machine_is_one_line(error, code, message, monkeypatch, capsys):
  import re

  from flan_jax.cli import lint

  def refused(options):
    raise error

  monkeypatch.setattr(lint, 'run', refused)
  assert dispatch.main(['lint']) == code
  (line,) = capsys.readouterr().err.splitlines()
  assert re.search(message, line), line


def test_a_bug_is_not_reported_as_bad_input(monkeypatch):
  from flan_jax.cli import lint

  def broken(options):
    raise RuntimeError('a bug')

  monkeypatch.setattr(lint, 'run', broken)
  with pytest.raises(RuntimeError, match='a bug'):
    dispatch.main(['lint'])


def test_help_names_every_verb():
  done = flan('--help')
  assert done.returncode == 0
  for verb in dispatch.VERBS:
    assert f'    {verb}' in done.stdout


def test_tasks_as_json_is_json_alone():
  done = flan('tasks', '--json')
  datasets = json.loads(done.stdout)
  rte = next(d for d in datasets if d['dataset'] == 'rte')
  assert rte['cluster'] == 'nli'
  assert rte['rate'] == 2290
  assert len(rte['templates']) >= 10
  assert {'inputs', 'targets', 'inverted'} <= rte['templates'][0].keys()


@pytest.mark.parametrize(
  ('mixture', 'datasets', 'total'),
  [('flan_all', 69, 188_371), ('flan_held_out_nli', 55, 152_276)],
)
def test_mixture_totals_are_the_reference_s(mixture, datasets, total):
  found = json.loads(flan('tasks', '--mixture', mixture, '--json').stdout)
  assert (len(found['datasets']), found['total_rate']) == (datasets, total)


def test_templates_are_clean():
  done = flan('lint')
  assert done.returncode == 0, done.stdout


def test_show_prints_prompt_options_and_counts():
  done = flan('show', 'microworld_mini_rte', '--n', '2')
  assert done.returncode == 0, done.stderr
  assert done.stdout.count('template ') == 2
  assert 'OPTIONS:' in done.stdout
  assert '(right)' in done.stdout
  assert 'tokens)' in done.stdout


def test_a_machine_without_accelerators_stays_on_its_cpu(monkeypatch):
  monkeypatch.setattr(platform.glob, 'glob', lambda _: [])
  monkeypatch.setattr(dispatch.os.path, 'exists', lambda _: False)
  assert platform.accelerator_environment()['JAX_PLATFORMS'] == 'cpu'
  monkeypatch.setattr(platform.glob, 'glob', lambda _: ['/dev/accel0'])
  assert platform.accelerator_environment() == {}


def test_a_platform_that_the_user_set_wins():
  code = (
    'import os; from flan_jax.cli import dispatch; dispatch.main(["lint", "rte"]); '
    'print(os.environ["JAX_PLATFORMS"])'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    capture_output=True,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'tpu,cpu'},
  )
  assert done.stdout.strip() == 'tpu,cpu'


def test_a_missing_checkpoint_is_named_before_any_warning(capsys):
  arguments = ['eval', '--gin.CHECKPOINT=x', '--gin.OUTPUT_DIR=y']
  assert dispatch.main([*arguments, '--gin.CLUSTERS=nli']) == 2
  printed = capsys.readouterr().err
  assert "checkpoint 'x': no such folder" in printed
  assert 'warning' not in printed


@pytest.mark.parametrize(
  ('arguments', 'passed', 'modules'),
  [
    (
      ['--tasks', 'piqa', '--', '--gin.X=1'],
      ['--tasks', 'piqa', '--', '--gin.X=1'],
      [],
    ),
    (['--module', 'json', 'ls', 'tasks'], ['ls', 'tasks'], ['json']),
    (['run', '--module=json', '--help'], ['run', '--help'], ['json']),
    ([], [], []),
  ],
)
def test_lm_eval_gets_its_arguments_as_they_are(
  arguments, passed, modules, monkeypatch
):
  seen = []
  monkeypatch.setattr(lm_eval, 'run', lambda options: seen.append(options) or 0)
  assert dispatch.main(['lm-eval', *arguments]) == 0
  (options,) = seen
  assert (options.passed, options.module) == (passed, modules)


def test_lm_eval_that_is_not_installed_is_one_line(monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'lm_eval', None)
  monkeypatch.setitem(sys.modules, 'lm_eval.__main__', None)
  assert dispatch.main(['lm-eval', '--tasks', 'piqa']) == 2
  assert "pip install 'flan_jax[lm-eval]'" in capsys.readouterr().err

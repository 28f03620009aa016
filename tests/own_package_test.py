"""A package of a user's own, in an empty folder: docs/howto/own_tasks.md."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
import small_run

from flan_jax.catalog import registry
from flan_jax.cli import dispatch

PAGE = (
  pathlib.Path(__file__).parents[1] / 'docs' / 'howto' / 'own_tasks.md'
).read_text()
SMALL = [
  *(f'--gin_file={file}' for file in small_run.FILES),
  *(
    f'--gin.{setting}'
    for setting in small_run.flags({
      'TRAIN_STEPS': 2, 'TOKENIZER': 'bytes', 'Run.log_period': 1,
      'Evaluate.base': False, 'Evaluate.max_examples': 4, 'Evaluate.templates': 1,
    })
  ),
]  # fmt: skip
QUEUES = (('invoice', 'refund'), ('crash', 'error'), ('hello', 'thanks'))


def flan(folder, *arguments):
  return subprocess.run(
    [sys.executable, '-m', 'flan_jax', *arguments],
    cwd=folder,
    capture_output=True,
    text=True,
  )


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with the package of the page, and its data beside the module."""
  out = tmp_path_factory.mktemp('own')
  (code,) = re.findall(r'```python\n(import flan_jax.*?)```', PAGE, re.DOTALL)
  data = out / 'acme' / 'data'
  data.mkdir(parents=True)
  (out / 'acme' / 'tasks.py').write_text(code)
  for split, n in (('train', 60), ('valid', 6), ('test', 9)):
    with (data / f'tickets.{split}.jsonl').open('w') as file:
      for i in range(n):
        text = f'{split} {i}: {QUEUES[i % 3][i % 2]}'
        file.write(json.dumps({'text': text, 'queue': i % 3}) + '\n')
  with (out / 'train.jsonl').open('w') as file:
    for i in range(60):
      text = json.dumps({'inputs': f'Which is more, {i} or 7?', 'targets': str(i)})
      file.write(f'{text}\n')
  return out


@pytest.fixture
def here(folder, monkeypatch):
  """Runs each `flan` in that folder, in this process, which forgets the package."""
  monkeypatch.chdir(folder)

  def run(arguments):
    with pytest.MonkeyPatch.context() as patch, registry.restored():
      patch.setattr(sys, 'path', [*sys.path])
      patch.setenv('PYTHONPATH', os.environ.get('PYTHONPATH', ''))
      patch.setenv('FLAN_JAX_MODULES', '')
      code = dispatch.main(arguments)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'acme']:
      del sys.modules[name]
    return code

  return run


def test_a_dataset_of_a_package_trains_beside_ours_and_is_measured(
  folder, here, capsys
):
  train = ['train', *SMALL, '--gin.MODEL_DIR=run', '--gin.MIXTURE_OR_TASK_NAME=mine']
  code = here([*train, '--module', 'acme.tasks', '--gin.HELD_OUT=commonsense'])
  assert code == 0, capsys.readouterr().err
  manifest = json.loads((folder / 'run' / 'store' / 'manifest.json').read_text())
  assert manifest['datasets']['tickets']['rate'] == 500
  report = json.loads((folder / 'run' / 'report' / 'report.json').read_text())
  assert [result['dataset'] for result in report['results']] == ['mini_copa']
  assert set(report['trained_on']) == {'support', 'nli', 'misc'}
  (module,) = report['provenance']['modules']
  assert module['module'] == 'acme.tasks'

  evaluate = ['eval', '--gin.CHECKPOINT=run', '--gin.DATASETS=tickets']
  for arguments, of in (
    (train, "the run in 'run'"),
    ([*evaluate, '--gin.OUTPUT_DIR=eval'], "CHECKPOINT 'run'"),
  ):
    assert here(arguments) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert f'{of} was made with acme.tasks, which is absent: give --module' in line

  code = here(
    [*evaluate, '--module', 'acme.tasks', '--gin.OUTPUT_DIR=eval',
     '--gin.ALLOW_OVERLAP=support', '--gin.Evaluate.sequence_length=256']
  )  # fmt: skip
  assert code == 0, capsys.readouterr().err
  report = json.loads((folder / 'eval' / 'report.json').read_text())
  (result,) = report['results']
  assert (result['cluster'], result['split'], result['n']) == ('support', 'test', 9)
  assert report['data']['sources'] == {'tickets': 'data/tickets.{split}.jsonl'}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['show', 'tickets'], "task 'tickets': not registered"),
    (['show', 'ticket', '--module', 'acme.tasks'], "did you mean 'tickets'"),
    (['tasks', '--module', 'acme.task'], "no module 'acme.task'.*'acme.tasks'"),
  ],
)
def test_a_mistake_is_one_line(arguments, message, folder):
  done = flan(folder, *arguments)
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert re.search(message, line), line


@pytest.mark.parametrize(
  ('setting', 'message'),
  [
    ('INPUTS=input', r"train.jsonl:1: no column 'input'.*did you mean 'inputs'"),
    ('VALIDATION=1.0', 'has 60 examples, of which one or more must be set aside'),
    ('VALIDATION=other.csv', 'must be a file of the same format'),
    ('VALIDATION=nowhere.jsonl', "no file 'nowhere.jsonl'"),
  ],
)
def test_a_file_that_does_not_fit_is_one_line(
  setting, message, folder, monkeypatch, capsys
):
  monkeypatch.chdir(folder)
  with registry.restored():
    code = dispatch.main(
      ['train', *SMALL, '--gin.MODEL_DIR=bad', f'--gin.{setting}',
       '--gin.MIXTURE_OR_TASK_NAME=train.jsonl']
    )  # fmt: skip
  assert code == 2
  assert re.search(message, capsys.readouterr().err.splitlines()[-1])
  assert not (folder / 'bad').exists()

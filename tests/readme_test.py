"""README: every command in it is run, and its links work wherever it is read."""

import functools
import json
import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import jax
import pytest
import setuptools

from flan_jax.catalog import registry
from flan_jax.cli import dispatch
from flan_jax.partitioning import mesh
from flan_jax.tpu.launch.source_bundle import Commit

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text(encoding='utf-8')
BLOCKS = '\n'.join(re.findall(r'^    (.*)$', README, re.MULTILINE))
LINES = [
  line.partition(' # ')[0].strip() for line in BLOCKS.replace('\\\n', ' ').splitlines()
]
COMMANDS = [shlex.split(line) for line in LINES if re.match(r'flan |make |git ', line)]
"""Words of each command, in order."""

OUTPUT = [line for line in LINES if line.startswith('Commonsense of')]

FEW = (
  'TRAIN_STEPS=2',
  'BATCH_TOKENS=512',
  'Optimizer.warmup_steps=1',
  'Run.log_period=1',
  'Evaluate.max_examples=4',
  'Evaluate.templates=1',
  'Evaluate.max_decode=4',
)
SMALL = ('MIXTURE_OR_TASK_NAME=microworld_mini_rte', 'HELD_OUT=commonsense')
EVALUATION = ('MAX_EXAMPLES=4', 'TEMPLATES=1', 'Evaluate.sequence_length=256',
              'Evaluate.batch_size=16')  # fmt: skip
CHANGES = {
  'train': FEW,
  'eval': EVALUATION,
  'infer': ('MAX_TOKENS=4', 'Evaluate.sequence_length=256', 'Evaluate.batch_size=16'),
}
"""Verb -> settings that make its command quick."""

ELSEWHERE = {
  ('git', 'clone'): 'wheel_test.py::clone',
  ('make', 'demo'): 'wheel_test.py::test_the_demo_runs_from_the_wheel',
  ('make', 'test'): 'readme_test.py::test_make_runs_what_is_promised',
  ('flan', 'plan'): 'tpu/plan/plan_test.py::test_the_papers_run_on_its_slice',
  ('flan', 'launch'): 'readme_test.py::test_the_launch_is_a_command_for_a_slice',
  ('flan', 'lm-eval'): 'interop/lm_eval/model_test.py::test_answers_are_those_of_hf',
}
"""First words of a command -> the test that covers it, as FILE::NAME."""


def command(verb: str, number: int = 0) -> list[str]:
  """The arguments of the `number`th command of a verb, as `flan` takes them."""
  return [words[1:] for words in COMMANDS if words[:2] == ['flan', verb]][number]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder with the files that the commands name."""
  out = tmp_path_factory.mktemp('readme')
  pairs = [
    {'inputs': f'Which is more, {n} or 7?', 'targets': str(max(n, 7))}
    for n in range(40)
  ]
  for name in ('train.jsonl', 'prompts.jsonl'):
    lines = pairs if name == 'train.jsonl' else pairs[:2]
    (out / name).write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
  return out


@pytest.fixture(scope='module')
def flan(folder):
  """Returns a function: runs a command of README there, quickly, in this process."""
  done = set()

  def call(verb: str, number: int = 0) -> None:
    if (verb, number) in done:
      return
    done.add((verb, number))
    words = command(verb, number)
    changes = CHANGES.get(verb, ())
    if verb == 'train' and not any('MIXTURE' in word for word in words):
      changes += SMALL
    assert dispatch.main([*words, *(f'--gin.{change}' for change in changes)]) == 0

  one_device = functools.partial(mesh.build, devices=jax.devices()[:1])
  with pytest.MonkeyPatch.context() as patch, registry.restored():
    patch.setattr(mesh, 'build', one_device)
    patch.chdir(folder)
    yield call


def test_every_line_is_a_command_that_a_test_runs():
  run_here = {'train', 'report', 'show', 'eval', 'ask', 'infer', 'export', 'convert'}
  for words in COMMANDS:
    if words[0] == 'flan' and words[1] in run_here:
      continue
    file, _, name = ELSEWHERE[tuple(words[:2])].partition('::')
    assert f'def {name}' in (ROOT / 'tests' / file).read_text(encoding='utf-8')
  assert len(COMMANDS) + len(OUTPUT) == len([line for line in LINES if line])
  assert README.count('\n') <= 120
  assert '```' not in README, 'its blocks are indented'


def test_a_run_is_trained_reported_and_asked(flan, capsys):
  flan('train')
  flan('report')
  assert 'Commonsense of the microworld' in ''.join(capsys.readouterr())
  flan('ask')
  out = capsys.readouterr().out
  assert 'yes' in out
  assert 'no' in out


@pytest.mark.slow
def test_a_file_of_prompts_is_answered(flan, folder):
  flan('train')
  flan('infer')
  lines = (folder / 'answers' / 'predictions.jsonl').read_text().splitlines()
  assert len(lines) == 2


def test_an_evaluation_is_compared_with_the_run_s(flan, folder, capsys):
  flan('train')
  flan('eval')
  capsys.readouterr()
  flan('report', 1)
  assert 'mini_copa' in ''.join(capsys.readouterr())
  assert (folder / 'runs' / 'again' / 'report.html').is_file()


def test_a_file_is_shown(flan, capsys):
  flan('show')
  assert 'Which is more' in capsys.readouterr().out


@pytest.mark.slow
def test_a_file_trains(flan, folder):
  """Also in tutorials_test.py, with the file of a tutorial."""
  flan('train', 1)
  assert (folder / 'runs' / 'own' / 'report' / 'report.html').is_file()


@pytest.mark.slow
def test_examples_and_model_are_exported(flan, folder):
  flan('train')
  flan('export')
  assert list((folder / 'data' / 'data').glob('train-*.jsonl'))
  flan('convert')
  transformers = pytest.importorskip('transformers')
  model = transformers.AutoModelForCausalLM.from_pretrained(folder / 'exported')
  assert model.num_parameters() == 1_115_264


def test_the_launch_is_a_command_for_a_slice(monkeypatch, capsys):
  git = Commit._git

  def clean(self, *words):
    found = git(self, *words)
    return found._replace(out='') if words[0] == 'status' else found

  monkeypatch.setattr(Commit, '_git', clean)
  monkeypatch.chdir(ROOT)
  assert dispatch.main(['launch', '--dry-run', *command('launch')[1:]]) == 0
  assert 'gcloud compute tpus tpu-vm create my-slice' in capsys.readouterr().out


@pytest.mark.skipif(not shutil.which('make'), reason='needs make')
def test_make_runs_what_is_promised():
  """What `make` would do; `make test` is the command that runs this test."""
  environment = {name: x for name, x in os.environ.items() if name != 'MAKEFLAGS'}
  for target, expected in (
    ('demo', 'flan train --gin_file=gin/runs/demo.gin'),
    ('test', 'python -m pytest'),
  ):
    done = subprocess.run(
      ['make', '-n', target], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert expected in done.stdout


def test_links_lead_to_files_of_the_repository():
  found = re.findall(r'\]\(([^)#]+)', README)
  assert len(found) > 20
  for link in found:
    assert link.startswith('https://') or (ROOT / link).is_file(), link


def test_the_wheel_s_description_has_no_link_into_the_repository(monkeypatch):
  """An index of packages has no files to link to: pages are named there."""
  settings = {}
  monkeypatch.setattr(setuptools, 'setup', settings.update)
  monkeypatch.setattr(sys, 'argv', ['setup.py'])
  runpy.run_path(str(ROOT / 'setup.py'))
  text = settings['long_description']
  links = re.findall(r'\]\((.*?)\)', text)
  assert links
  assert all(link.startswith('https://') for link in links)
  assert 'Tune a real model (docs/tutorials/real_model.md)' in ' '.join(text.split())

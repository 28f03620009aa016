"""A study end to end: its commands, what is finished, and a kill in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import small_run

from flan_jax.cli import dispatch
from flan_jax.config.study import StudyConfig
from flan_jax.errors import InputError
from flan_jax.jobs.study import Study
from flan_jax.report import study as page
from flan_jax.train import initial_model

SETTINGS = {
  'MIXTURE_OR_TASK_NAME': 'microworld_mini_arc',
  'TOKENIZER': 'bytes',
  'TRAIN_STEPS': 4,
  **small_run.SETTINGS,
  'Run.checkpoint_period': 1,
  'Evaluate.max_examples': 3,
  'Evaluate.templates': 1,
}


def grids(**changes):
  axes = {'HELD_OUT': ('nli', 'commonsense'), 'SEED': (0, 1)}
  train = {'train': small_run.FILES, 'settings': SETTINGS, 'axes': axes}
  few = {
    'eval': 'gin/evaluate/zero_shot.gin',
    'settings': {
      'CHECKPOINT': '{STUDY_DIR}/tuned/{CLUSTERS}-s0', 'FAMILY': 'microworld',
      'NUM_FEWSHOT': 1, 'MAX_EXAMPLES': 3,
    },
    'axes': {'CLUSTERS': ('nli', 'commonsense')},
  }  # fmt: skip
  return {'tuned': {**train, **changes}, 'few': few}


@pytest.fixture
def build(tmp_path):
  def made(given=None, **settings):
    return Study(
      StudyConfig(study_dir=str(tmp_path / 'out'), grids=given or grids(), **settings)
    )

  return made


def finish(study: Study, name: str, **changes) -> None:
  """Writes the report of a cell, as if it had been run."""
  (one,) = [each for each in study.checked if each.cell.name == name]
  inside = 'report' if one.cell.verb == 'train' else '.'
  folder = study.folder / name / inside
  folder.mkdir(parents=True)
  settings = {**one.resolved, **changes}
  config = ''.join(f'{key} = {value}  # x\n' for key, value in settings.items())
  report = {'schema': 2, 'results': [], 'provenance': {'config': config}, 'data': {}}
  (folder / 'report.json').write_text(json.dumps(report | {'data_digest': ''}))


def test_seeds_share_a_store_and_each_command_waits_for_what_it_reads(build):
  jobs = {job.name: job for job in build().jobs}
  stores = [job for job in jobs.values() if job.is_store]
  assert len(stores) == 2
  assert [name for name in jobs if not name.startswith('stores/')] == [
    'tuned/nli-s0', 'tuned/commonsense-s0', 'few/nli', 'few/commonsense',
    'tuned/nli-s1', 'tuned/commonsense-s1',
  ]  # fmt: skip
  assert list(jobs)[0] == stores[0].name
  for seed in (0, 1):
    job = jobs[f'tuned/nli-s{seed}']
    assert job.needs == (stores[0].name,)
    assert f'--gin.STORE={stores[0].folder}' in job.arguments
    assert f'--gin.SEED={seed}' in job.arguments
  assert not any('SEED' in argument for argument in stores[0].arguments)
  assert jobs['few/nli'].needs == ('tuned/nli-s0',)


def test_all_that_is_given_to_the_study_goes_to_its_cells(tmp_path):
  config = StudyConfig(study_dir=str(tmp_path), grids=grids())
  study = Study(config, search_paths=['gin'], modules=['acme.tasks'])
  for job in study.jobs:
    assert job.arguments[-3:] == ['--gin_search_paths=gin', '--module', 'acme.tasks']


def test_what_is_left_are_the_cells_without_a_report(build, tmp_path):
  study = build()
  assert len(study.left()) == 8
  finish(study, 'tuned/nli-s0')
  assert 'tuned/nli-s0' not in [job.name for job in study.left()]
  assert [job.name for job in study.left(['few/nli'])] == ['few/nli']
  assert [job.name for job in study.left(['few/commonsense'])][1:] == [
    'tuned/commonsense-s0', 'few/commonsense',
  ]  # fmt: skip
  ended = study.folder / 'tuned/nli-s1' / 'cell.json'  # a run without held-out clusters
  ended.parent.mkdir()
  ended.write_text(json.dumps({'starts': [{'code': 143}, {'code': 0}]}))
  assert study.left(['tuned/nli-s1']) == []
  kept = build(reports_dir=str(tmp_path / 'out'))
  assert kept.report(kept.checked[0].cell) == tmp_path / 'out/tuned/nli-s0/report'


def test_a_cell_that_was_finished_with_other_settings_is_refused(build):
  study = build()
  finish(study, 'tuned/nli-s0', **{'Run.train_steps': '5'})
  with pytest.raises(InputError, match='tuned/nli-s0: Run.train_steps is 4 now, .* 5'):
    build()


def test_a_base_that_was_replaced_is_noticed(build):
  given = grids(settings={**SETTINGS, 'INITIAL_CHECKPOINT_PATH': 'microworld'})
  study = build(given)
  for name, digest in (('s0', None), ('s1', 'another')):
    finish(study, f'tuned/nli-{name}')
    path = study.folder / f'tuned/nli-{name}' / 'report' / 'report.json'
    report = json.loads(path.read_text())
    own = initial_model.lineage('microworld').as_json()
    own[0]['digest'] = digest or own[0]['digest']
    path.write_text(json.dumps(report | {'lineage': [*own, *own]}))
  with pytest.raises(InputError, match='cell tuned/nli-s1: INITIAL_.* other weights'):
    study.check_inputs()
  study.check_inputs(['tuned/nli-s0'])  # nothing is left


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'TRAIN_STPES': 3}, "tuned/nli-s0: --gin.TRAIN_STPES: .*'TRAIN_STEPS'"),
    ({'TRAIN_STEPS': 'a'}, 'tuned/nli-s0: --gin.TRAIN_STEPS: .* must be an integer'),
    ({'MIXTURE_OR_TASK_NAME': 'flan_rtte'}, 'tuned/nli-s0: .*flan_rtte'),
    ({'INITIAL_CHECKPOINT_PATH': 'nowhere'}, 'tuned/nli-s0: .*nowhere'),
    ({'MIXTURE_OR_TASK_NAME': 'microworld_mini_rte'}, 'tuned/nli-s0: .*rte'),
  ],
)
def test_bad_cells_are_named_before_the_first_begins(build, settings, message):
  with pytest.raises(InputError, match=message) as error:
    build(grids(settings={**SETTINGS, **settings})).check_inputs()
  assert '\n' not in str(error.value)


def test_the_store_of_a_run_has_the_mixture_of_the_run(tmp_path, capsys):
  arguments = ['materialize', '--gin_file=gin/runs/demo.gin', f'--out={tmp_path}/x']
  assert dispatch.main([*arguments, '--mixture', 'microworld_all']) == 2
  assert '--mixture: is MIXTURE_OR_TASK_NAME of --gin_file' in capsys.readouterr().err


def test_a_dry_run_prints_the_commands(tmp_path, capsys):
  flags = [f'--gin.STUDY_DIR={tmp_path}', '--gin.CLUSTERS=("nli",)']
  arguments = ['study', 'gin/studies/microworld_small.gin', '--dry-run', *flags]
  assert dispatch.main([*arguments, '--only', 'tuned/*-s1']) == 0
  store, cell = capsys.readouterr().out.splitlines()
  assert store.startswith('flan materialize --gin_file=gin/runs/demo.gin ')
  assert cell.startswith('flan train ')
  assert f'MODEL_DIR={tmp_path}/tuned/nli-s1' in cell
  assert list(tmp_path.iterdir()) == []
  assert dispatch.main([*arguments, '--only', 'tuned/nli-s7']) == 2
  assert "did you mean 'tuned/nli-s1'" in capsys.readouterr().err


FILE = """
include 'gin/studies/base.gin'
STUDY_DIR = 'out'
STUDY = {
  'tuned': {
    'train': %s,
    'settings': %s,
    'axes': {'HELD_OUT': ('commonsense',), 'SEED': (0, 1)},
  },
}
"""


def started(folder, *flags):
  """Starts the study of two cells in a folder of its own."""
  folder.mkdir(exist_ok=True)
  file = folder / 'two.gin'
  file.write_text(FILE % (repr(tuple(small_run.FILES)), repr(SETTINGS)))
  command = [sys.executable, '-P', '-m', 'flan_jax', 'study', 'two.gin', *flags]
  return subprocess.Popen(
    command, cwd=folder, stderr=subprocess.PIPE, text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip


def wait(process, ready, *, seconds=600):
  end = time.monotonic() + seconds
  while not ready():
    assert process.poll() is None, process.communicate()[1]
    assert time.monotonic() < end
    time.sleep(0.01)


def without_costs(folder):
  """The content of the page, and the page, without what the cells took."""
  content = json.loads((folder / 'out' / page.FILE).read_text())
  for cell in content['study']['cells']:
    assert cell.pop('cost')['seconds'] > 0
  text = (folder / 'out' / page.PAGE).read_text()
  return content, re.sub(r'<h2 id="cells">.*<h2 id="commands">', '', text, flags=re.S)


@pytest.mark.slow
def test_two_cells_killed_in_the_middle_and_resumed_give_the_same_page(tmp_path):
  whole = started(tmp_path / 'whole')
  assert whole.wait() == 0, whole.communicate()[1]
  out = tmp_path / 'killed' / 'out'
  log = out / 'tuned' / 'commonsense-s0' / 'log.jsonl'
  # SIGTERM in the first cell: it saves, and goes on from there.
  process = started(tmp_path / 'killed')
  wait(process, log.is_file)
  process.send_signal(signal.SIGTERM)
  said = process.communicate()[1]
  assert process.returncode == 143, said
  assert 'Stopped; rerun the same command to go on' in said
  # kill -9 in the second: the next start waits for the process that is left.
  process = started(tmp_path / 'killed')
  wait(process, (out / 'tuned' / 'commonsense-s1' / 'run.json').is_file)
  process.kill()
  process.communicate()
  process = started(tmp_path / 'killed')
  said = process.communicate()[1]
  assert process.returncode == 0, said
  assert 'tuned/commonsense-s0' not in re.sub('Done.*', '', said)
  assert without_costs(tmp_path / 'killed') == without_costs(tmp_path / 'whole')
  assert len(list((out / 'stores').iterdir())) == 1
  # A finished study only writes its page again.
  before = {path: path.stat().st_mtime_ns for path in out.rglob('report.json')}
  again = started(tmp_path / 'killed')
  assert again.wait() == 0, again.communicate()[1]
  assert before == {path: path.stat().st_mtime_ns for path in before}
